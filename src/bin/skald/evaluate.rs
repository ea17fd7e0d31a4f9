//! `skald evaluate`.

use crate::Common;
use bevy_skald::decode::LoadedModel;
use bevy_skald::dialogue::evaluate::evaluate;
use bevy_skald::evaluation::{Regression, Report};
use bevy_skald::files::read_text;
use bevy_skald::model::Checkpoint;
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::sync::Arc;

/// Its options.
#[derive(Args)]
pub struct EvaluateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A dialogue model on held-out dialogues, beside a 5-gram.
    Dialogue(DialogueArgs),
}

#[derive(Args)]
struct DialogueArgs {
    /// The model: a checkpoint directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The written corpus it was trained on; one dialogue in twenty of it was kept for this.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// The world that generated lines speak of (default: that of the village example).
    #[arg(long, value_name = "F.ron")]
    world: Option<PathBuf>,
    /// How many lines to generate, at most.
    #[arg(long, default_value_t = 300)]
    lines: usize,
    /// What `--json` printed for an older model, to compare with.
    #[arg(long, value_name = "F.json")]
    baseline: Option<PathBuf>,
    /// Fails if a figure is worse than the baseline's by more than the tolerance.
    #[arg(long, requires = "baseline")]
    gate: bool,
    /// How much worse a figure may be, as a share of the baseline's.
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    tolerance: f64,
}

pub fn run(args: &EvaluateArgs, common: &Common) -> Result<()> {
    let What::Dialogue(args) = &args.what;
    let (corpus, _) = crate::data::read(&args.data)?;
    let world = crate::data::world(args.world.as_deref())?;
    let model = Arc::new(LoadedModel::new(&Checkpoint::load(&args.model)?)?);
    let report = evaluate(&model, &corpus, &world, args.lines, common.seed())?;
    let worse = match &args.baseline {
        None => Vec::new(),
        Some(path) => {
            if !(0.0..=1.0).contains(&args.tolerance) {
                let reason = "the value is out of range";
                return Err(Error::config("options", "--tolerance", reason, "choose 0 to 1"));
            }
            let name = path.display().to_string();
            let text = read_text(path, 1 << 24, "read the baseline")?;
            report.regressions(&Report::from_json(&text, &name)?, &name, args.tolerance)?
        }
    };
    show(&report, common)?;
    for Regression { figure, was, is } in &worse {
        eprintln!("{figure} is worse: {was:.4} before, {is:.4} now");
    }
    if args.gate && !worse.is_empty() {
        let figures: Vec<&str> = worse.iter().map(|r| r.figure.as_str()).collect();
        return Err(Error::Data {
            source_name: args.model.display().to_string(),
            reason: format!("the model is worse than the baseline: {}", figures.join(", ")),
            remedy: "keep the old model, or raise --tolerance".into(),
        });
    }
    Ok(())
}

fn show(report: &Report, common: &Common) -> Result<()> {
    if common.json {
        let line = serde_json::to_string(report).map_err(|e| Error::backend("writing the report", e))?;
        println!("{line}");
        return Ok(());
    }
    println!("{} held-out dialogues\n{}", report.n, report.protocol);
    for (name, figure) in &report.figures {
        let beside: Vec<String> = report
            .baselines
            .iter()
            .filter_map(|(baseline, figures)| Some(format!("{baseline} {:.4}", figures.get(name)?)))
            .collect();
        let interval =
            report.ci95.get(name).map_or_else(String::new, |[lo, hi]| format!(" [{lo:.4}, {hi:.4}]"));
        println!("{name:>18} {figure:.4}{interval}   {}", beside.join(", "));
    }
    Ok(())
}
