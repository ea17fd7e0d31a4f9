//! `skald evaluate player`: what comes next, and who leaves.

use super::{Evaluated, ReportArgs};
use crate::Common;
use bevy_skald::Result;
use bevy_skald::evaluation::{Gated, RANKING_GATE};
use bevy_skald::player::{Histories, PlayerModel, Protocol, evaluate_churn, evaluate_next};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// The last event of each player among all subjects, what they had before left out.
    Full,
    /// The same, with what they had before.
    FullUnmasked,
    /// The last event of each player among 100 drawn ones (SASRec's protocol).
    #[value(name = "sampled-100")]
    Sampled100,
    /// Who leaves.
    Churn,
}

/// What the gate looks at.
const CHURN_GATE: &[Gated] = RANKING_GATE;

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
    };
    let report = evaluate_next(&model, &histories, protocol, common.seed(), common.threads)?;
    Ok(evaluated(args, report, RANKING_GATE, None))
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
