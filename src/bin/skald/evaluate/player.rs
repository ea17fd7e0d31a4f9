//! `skald evaluate player`: what comes next, and who leaves.

use super::{Evaluated, ReportArgs};
use crate::Common;
use bevy_skald::Result;
use bevy_skald::evaluation::{Gated, RANKING_GATE};
use bevy_skald::player::{
    Happened, Held, Histories, PlayerModel, PlayerProfile, Protocol, evaluate_churn, evaluate_next,
    evaluate_outcome,
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Instant;

/// Its options.
#[derive(Args)]
pub struct PlayerArgs {
    /// The model's checkpoint directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Playtest stores.
    #[arg(long, value_name = "STORE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// How it is measured (default: `full`, or `churn` for a model that was trained for that).
    #[arg(long, value_enum)]
    protocol: Option<Measure>,
    /// Measure on the events that settings are chosen by, not on the test's.
    #[arg(long)]
    validation: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// The last event of each player among all subjects, what they had before left out.
    Full,
    /// The same, with what they had before.
    FullUnmasked,
    /// The last event of each player among 100 drawn ones (the protocol of `SASRec`).
    #[value(name = "sampled-100")]
    Sampled100,
    /// Who leaves.
    Churn,
    /// How held-out events go: of a model whose events have outcomes.
    Outcome,
}

/// What the gate looks at.
const CHURN_GATE: &[Gated] = RANKING_GATE;
const OUTCOME_GATE: &[Gated] =
    &[("accuracy", true), ("log_loss", false), ("auc", true), ("ece", false), ("mae", false)];

pub fn evaluate(args: &PlayerArgs, common: &Common) -> Result<Evaluated> {
    let model = PlayerModel::load(&args.model)?;
    let asked = if model.task().starts_with("Churn") { Measure::Churn } else { Measure::Full };
    let histories = Histories::read(&args.data, model.vocabulary().view())?;
    let protocol = match args.protocol.unwrap_or(asked) {
        Measure::Full => Protocol::Full { masked: true },
        Measure::FullUnmasked => Protocol::Full { masked: false },
        Measure::Sampled100 => Protocol::Sampled100,
        Measure::Churn => {
            let (report, diagram) = evaluate_churn(&model, &histories, common.seed(), common.threads)?;
            return Ok(evaluated(args, report, CHURN_GATE, Some(diagram)));
        }
        Measure::Outcome => {
            let report = evaluate_outcome(&model, &histories, common.seed(), common.threads)?;
            return Ok(evaluated(args, report, OUTCOME_GATE, None));
        }
    };
    let held = if args.validation { Held::Validation } else { Held::Test };
    let mut report = evaluate_next(&model, &histories, protocol, held, common.seed(), common.threads)?;
    speed(&model, &histories, &mut report)?;
    Ok(evaluated(args, report, RANKING_GATE, None))
}

/// What a game pays: the 99th percentile of the time an event takes, and of ranking 1,000 subjects by name, in ms.
fn speed(
    model: &PlayerModel,
    histories: &Histories,
    report: &mut bevy_skald::evaluation::Report,
) -> Result<()> {
    let mut state = model.begin()?;
    let mut profile = PlayerProfile::default();
    let (mut updates, mut rankings) = (Vec::new(), Vec::new());
    let names: Vec<&str> = histories.subjects.iter().map(String::as_str).take(1000).collect();
    let events = histories.players.iter().flat_map(|history| &history.events).take(2200);
    for (at, event) in events.enumerate() {
        let subject = event.subject.map(|subject| histories.subjects[subject as usize].as_str());
        let kind = histories.kinds[event.kind as usize].as_str();
        let happened = Happened { kind, subject, value: event.value, word: None, at_ms: event.at_ms };
        let begun = Instant::now();
        profile.update(model, &mut state, &happened)?;
        if at >= 200 {
            updates.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        if at % 10 == 0 && names.len() == 1000 {
            let begun = Instant::now();
            std::hint::black_box(model.affinities(&state, names.iter().copied()));
            rankings.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    for (name, mut times) in [("update_ms", updates), ("rank_1000_ms", rankings)] {
        times.sort_by(f64::total_cmp);
        for (member, share) in [("p50", 0.5), ("p99", 0.99)] {
            let at = (times.len() as f64 * share) as usize;
            report.set(&format!("{name}@{member}"), times.get(at).copied());
        }
    }
    Ok(())
}

fn evaluated(
    args: &PlayerArgs,
    report: bevy_skald::evaluation::Report,
    gated: &'static [Gated],
    reliability: Option<Vec<bevy_skald::evaluation::ReliabilityBin>>,
) -> Evaluated {
    Evaluated {
        report,
        title: "A player model",
        units: "players",
        source: args.model.display().to_string(),
        gated,
        reliability,
        samples: Vec::new(),
        pictures: String::new(),
    }
}
