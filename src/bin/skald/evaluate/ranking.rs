//! `skald evaluate ranking`.

use super::{Evaluated, ReportArgs};
use crate::Common;
use bevy_skald::Result;
use bevy_skald::evaluation::{RANKING_GATE, Scores};
use clap::Args;
use std::path::PathBuf;

/// What a file of scores looks like.
pub const FORMAT: &str = "\
Format: a JSON object a line; a file may hold rows of both kinds.

  {\"scores\": [0.1, 2.5, -1.0], \"target\": 1}   what a user was offered, higher is better, and
                                              which of it (from 0) was right: hr, ndcg, mrr
  {\"label\": 1, \"probability\": 0.8}            whether it came true, and how likely it was said
                                              to be: auc, log_loss, brier, ece
  {\"label\": 0, \"score\": -3.2}                 the same with a score that is no probability: auc";

#[derive(Args)]
pub struct RankingArgs {
    /// The scores: a .jsonl file.
    #[arg(long, value_name = "F")]
    scores: PathBuf,
    #[command(flatten)]
    pub(super) report: ReportArgs,
}

pub fn evaluate(args: &RankingArgs, common: &Common) -> Result<Evaluated> {
    let scores = Scores::read(&args.scores)?;
    let report = scores.report(common.seed());
    if let Some(tied) = report.figures.get("tied").filter(|tied| **tied > 0.1) {
        eprintln!(
            "warning: in {:.0} % of the rows the right item is tied with others; look at what guessing gets",
            100.0 * tied
        );
    }
    Ok(Evaluated {
        report,
        title: "A ranking",
        units: "rows",
        source: args.scores.display().to_string(),
        gated: RANKING_GATE,
        reliability: scores.reliability(),
        samples: Vec::new(),
        pictures: String::new(),
    })
}
