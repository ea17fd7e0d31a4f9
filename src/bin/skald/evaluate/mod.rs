//! `skald evaluate`: a file per thing that is measured; what they share is here.

mod dialogue;
mod level;
mod player;
mod quest;
mod ranking;
mod text;

use crate::Common;
use bevy_skald::evaluation::{Gated, Page, Regression, ReliabilityBin, Report, SampleLine};
use bevy_skald::files::{read_text, write_atomic};
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Its options.
#[derive(Args)]
pub struct EvaluateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A dialogue model on held-out dialogues, beside a 5-gram.
    Dialogue(dialogue::DialogueArgs),
    /// A player model on what players did last, or on who left, beside simple baselines.
    Player(player::PlayerArgs),
    /// Generated quests: whether they can be finished, and whether choosing them for players pays.
    Quest(quest::QuestArgs),
    /// A level model: its levels beside people's, a Markov chain's and `WaveFunctionCollapse`'s.
    Level(level::LevelArgs),
    /// Generated texts beside references: BLEU, chrF2, ROUGE, variety.
    #[command(after_help = text::FORMAT)]
    Text(text::TextArgs),
    /// Plain scores of any ranker or classifier: HR, NDCG, MRR, AUC, calibration.
    #[command(after_help = ranking::FORMAT)]
    Ranking(ranking::RankingArgs),
}

/// What is done with a report.
#[derive(Args)]
struct ReportArgs {
    /// Writes the figures with plots as one HTML file.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
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

/// An evaluation, and how to speak of it.
struct Evaluated {
    report: Report,
    title: &'static str,
    /// What `n` counts.
    units: &'static str,
    /// What was evaluated: a model, a file.
    source: String,
    /// What the gate looks at.
    gated: &'static [Gated],
    reliability: Option<Vec<ReliabilityBin>>,
    samples: Vec<SampleLine>,
    /// SVG, for the page.
    pictures: String,
}

/// How many lines a page shows, at most.
const SAMPLES: usize = 50;

pub fn run(args: &EvaluateArgs, common: &Common) -> Result<()> {
    match &args.what {
        What::Dialogue(args) => args.report.after(common, || dialogue::evaluate(args, common)),
        What::Player(args) => args.report.after(common, || player::evaluate(args, common)),
        What::Quest(args) => args.report.after(common, || quest::evaluate(args, common)),
        What::Level(args) => args.report.after(common, || level::evaluate(args, common)),
        What::Text(args) => args.report.after(common, || text::evaluate(args, common)),
        What::Ranking(args) => args.report.after(common, || ranking::evaluate(args, common)),
    }
}

impl ReportArgs {
    /// Evaluates, shows, writes and compares. What was asked for wrongly is told before the work begins.
    fn after(&self, common: &Common, evaluate: impl FnOnce() -> Result<Evaluated>) -> Result<()> {
        if !(0.0..=1.0).contains(&self.tolerance) {
            let reason = "the value is out of range";
            return Err(Error::config("options", "--tolerance", reason, "choose 0 to 1"));
        }
        let before = match &self.baseline {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let text = read_text(path, 1 << 24, "read the baseline")?;
                Some((Report::from_json(&text, &name)?, name))
            }
        };
        let evaluated = evaluate()?;
        show(&evaluated, common)?;
        if let Some(path) = &self.html {
            let page = Page {
                title: evaluated.title,
                units: evaluated.units,
                report: &evaluated.report,
                before: before.as_ref().map(|(report, name)| (name.as_str(), report)),
                reliability: evaluated.reliability.as_deref(),
                samples: &evaluated.samples[..evaluated.samples.len().min(SAMPLES)],
            };
            let mut html = page.to_html();
            if !evaluated.pictures.is_empty()
                && let Some(end) = html.rfind("</body>")
            {
                html.insert_str(end, &format!("<h2>Some levels</h2>{}", evaluated.pictures));
            }
            write_atomic(path, html.as_bytes())?;
        }
        let Some((before, name)) = before else { return Ok(()) };
        let worse = evaluated.report.regressions(&before, &name, self.tolerance, evaluated.gated)?;
        for Regression { figure, was, is } in &worse {
            eprintln!("{figure} is worse: {was:.4} before, {is:.4} now");
        }
        if !self.gate || worse.is_empty() {
            return Ok(());
        }
        let figures: Vec<&str> = worse.iter().map(|r| r.figure.as_str()).collect();
        Err(Error::Data {
            source_name: evaluated.source,
            reason: format!("this is worse than the baseline: {}", figures.join(", ")),
            remedy: "keep the old model, or raise --tolerance".into(),
        })
    }
}

fn show(evaluated: &Evaluated, common: &Common) -> Result<()> {
    let report = &evaluated.report;
    if common.json {
        let line = serde_json::to_string(report).map_err(|e| Error::backend("writing the report", e))?;
        println!("{line}");
        return Ok(());
    }
    println!("{} {}\n{}", report.n, evaluated.units, report.protocol);
    for (name, figure) in report.in_order() {
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
