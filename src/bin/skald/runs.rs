//! `skald runs`: past trainings beside each other.

use crate::Common;
use crate::plot::{Look, RUNS, plot};
use bevy_skald::training::runs::{Comparison, Run, compare, find};
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

/// Its options.
#[derive(Args)]
pub struct RunsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the runs in a folder and below it.
    List {
        /// The folder.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Set runs beside each other: what differs in their settings, and how far they came, the best first.
    Compare {
        /// The runs' directories.
        #[arg(value_name = "RUN", num_args = 2.., required = true)]
        runs: Vec<PathBuf>,
    },
    /// Draw the loss curves of runs.
    Plot(PlotArgs),
}

#[derive(Args)]
struct PlotArgs {
    /// The runs' directories, at most seven.
    #[arg(value_name = "RUN", num_args = 1.., required = true)]
    runs: Vec<PathBuf>,
    /// The picture to write.
    #[arg(long, value_name = "F.svg")]
    out: PathBuf,
    /// Which axes are logarithmic.
    #[arg(long, value_name = "AXIS", value_delimiter = ',')]
    log: Vec<LogAxis>,
    /// How much of the smoothed training loss stays from one step to the next: 0 to 0.9999.
    #[arg(long, default_value_t = 0.9, value_name = "SHARE")]
    smooth: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogAxis {
    /// The steps; step 0 is left out.
    Step,
    /// The losses.
    Loss,
}

pub fn run(args: &RunsArgs, common: &Common) -> Result<()> {
    match &args.action {
        Action::List { dir } => {
            let found = find(dir)?;
            for folder in &found.unreadable {
                eprintln!("warning: {} could not be searched, check the permissions", folder.display());
            }
            if common.json {
                return found.runs.iter().try_for_each(|run| say(&json_line(run)?));
            }
            if found.runs.is_empty() {
                eprintln!("there are no runs in {}", dir.display());
                return Ok(());
            }
            say(list(&found.runs).trim_end())
        }
        Action::Compare { runs } => {
            let compared = compare(open(runs)?);
            if common.json {
                return say(&json_line(&compared)?);
            }
            say(beside(&compared).trim_end())?;
            if !compared.same_data {
                eprintln!(
                    "warning: the runs did not learn from the same data, so their losses do not compare"
                );
            }
            Ok(())
        }
        Action::Plot(args) => draw(args, common),
    }
}

fn draw(args: &PlotArgs, common: &Common) -> Result<()> {
    let refuse = |option: &str, reason: &str, remedy: &str| {
        Err(Error::config("options", option, reason.to_owned(), remedy.to_owned()))
    };
    if args.out.extension().is_none_or(|extension| extension != "svg") {
        return refuse("--out", "pictures are SVG", "choose a name that ends in .svg");
    }
    if args.runs.len() > RUNS {
        return refuse(
            "RUN",
            "these are more runs than colours that can be told apart",
            "choose at most seven",
        );
    }
    if !(0.0..=0.9999).contains(&args.smooth) {
        return refuse("--smooth", "the value is out of range", "choose 0 to 0.9999");
    }
    let runs = open(&args.runs)?;
    let log = |axis| args.log.contains(&axis);
    let look = Look { log_step: log(LogAxis::Step), log_loss: log(LogAxis::Loss), smooth: args.smooth };
    plot(&runs, &look, &args.out)?;
    if common.json {
        return say(&json!({ "out": args.out, "runs": runs.len() }).to_string());
    }
    eprintln!("drawn: {}", args.out.display());
    Ok(())
}

/// Opens runs, and says what is wrong with them. They are called by the last parts of their paths where those differ.
fn open(paths: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs = paths.iter().map(|path| Run::open(path)).collect::<Result<Vec<_>>>()?;
    for (run, fault) in runs.iter().flat_map(|run| run.faults.iter().map(move |fault| (run, fault))) {
        eprintln!("warning: {}: {fault}", run.name);
    }
    let last = |run: &Run| run.path.file_name().map(|name| name.to_string_lossy().into_owned());
    let short: BTreeSet<_> = runs.iter().filter_map(last).collect();
    if short.len() == runs.len() {
        runs.iter_mut().for_each(|run| run.name = last(run).unwrap_or_default());
    }
    Ok(runs)
}

/// The runs as a table, what is wrong with each below it.
fn list(runs: &[Run]) -> String {
    let head = [
        "name",
        "domain",
        "network",
        "parameters",
        "steps",
        "best val",
        "at",
        "train",
        "data",
        "seed",
        "updated",
        "state",
    ];
    let rows = runs.iter().map(cells);
    let mut lines =
        table(std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect()).into_iter();
    let mut out = lines.next().unwrap_or_default() + "\n";
    for (line, run) in lines.zip(runs) {
        out += &format!("{line}\n");
        run.faults.iter().for_each(|fault| out += &format!("  ! {fault}\n"));
    }
    out
}

fn cells(run: &Run) -> Vec<String> {
    vec![
        run.name.clone(),
        text(run.domain.as_ref()),
        text(run.architecture.as_ref()),
        run.parameters.map_or_else(nothing, short),
        run.planned_steps.map_or_else(|| run.steps.to_string(), |planned| format!("{}/{planned}", run.steps)),
        run.best_val_loss.map_or_else(nothing, |loss| format!("{loss:.4}")),
        text(run.best_step.as_ref()),
        run.train_loss.map_or_else(nothing, |loss| format!("{loss:.4}")),
        run.data_hash.as_ref().map_or_else(nothing, |hash| hash.chars().take(8).collect()),
        text(run.seed.as_ref()),
        run.updated.as_ref().map_or_else(nothing, |time| time.replace('T', " ").replace('Z', "")),
        run.status.name().to_owned(),
    ]
}

/// Runs as the columns of a table: their figures, then the settings that differ.
fn beside(compared: &Comparison) -> String {
    let row = |name: &str, of: &dyn Fn(&Run) -> String| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(compared.runs.iter().map(of)).collect()
    };
    let loss = |loss: Option<f64>| loss.map_or_else(nothing, |loss| format!("{loss:.4}"));
    let mut rows = vec![
        row("", &|run| run.name.clone()),
        row("best validation loss", &|run| loss(run.best_val_loss)),
        row("  at step", &|run| text(run.best_step.as_ref())),
        row("last training loss", &|run| loss(run.train_loss)),
        row("steps", &|run| run.steps.to_string()),
        row("parameters", &|run| text(run.parameters.as_ref())),
        row("network", &|run| text(run.architecture.as_ref())),
        row("data", &|run| {
            run.data_hash.as_ref().map_or_else(nothing, |hash| hash.chars().take(8).collect())
        }),
        row("seconds", &|run| run.seconds.map_or_else(nothing, |seconds| format!("{seconds:.0}"))),
        row("state", &|run| run.status.name().to_owned()),
    ];
    for (name, values) in &compared.differing {
        let value = |value: &Value| match value {
            Value::Null => nothing(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rows.push(std::iter::once(name.clone()).chain(values.iter().map(value)).collect());
    }
    table(rows).join("\n")
}

/// Rows with their cells in columns.
fn table(rows: Vec<Vec<String>>) -> Vec<String> {
    let width = |column: usize| {
        let widths = rows.iter().filter_map(|row| Some(row.get(column)?.chars().count()));
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn nothing() -> String {
    "-".to_owned()
}

fn text(value: Option<&impl ToString>) -> String {
    value.map_or_else(nothing, ToString::to_string)
}

/// A large number in three digits.
fn short(value: u64) -> String {
    let value = value as f64;
    match value {
        1e9.. => format!("{:.2} G", value / 1e9),
        1e6.. => format!("{:.2} M", value / 1e6),
        1e3.. => format!("{:.1} k", value / 1e3),
        _ => format!("{value}"),
    }
}

fn json_line(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::backend("writing JSON", e))
}

/// One or more lines on stdout. A reader that went away (`| head`) is no failure.
fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write the answer", "stdout", error))
        }
        _ => Ok(()),
    }
}
