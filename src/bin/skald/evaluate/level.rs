//! `skald evaluate level`.

use super::{Evaluated, ReportArgs};
use crate::Common;
use bevy_skald::evaluation::Gated;
use bevy_skald::level::evaluate::LevelEvaluation;
use bevy_skald::level::{LevelModel, LevelRequest, Limits, read_levels, svg};
use bevy_skald::{Error, Result};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args)]
pub struct LevelArgs {
    /// The model: a checkpoint directory of `skald train level`.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The levels it was trained on; what it held out is told apart.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Levels that are generated.
    #[arg(long, default_value_t = 100)]
    levels: usize,
    /// Columns and rows (default: as usual in the levels that were learned).
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// Levels for each knob and each of five settings (0: no knob is turned).
    #[arg(long, default_value_t = 10)]
    control_levels: usize,
    /// What each solving may spend, in states.
    #[arg(long, default_value_t = LevelRequest::default().limits.nodes)]
    nodes: usize,
    #[command(flatten)]
    pub(super) report: ReportArgs,
}

/// What must not get worse.
const GATE: &[Gated] = &[
    ("solvable", true),
    ("searched_solvable", true),
    ("new_levels", true),
    ("copied_within", true),
    ("tpkl_2", false),
    ("tpkl_3", false),
    ("tpkl_4", false),
    ("novelty", true),
    ("diversity", true),
    ("control_within_all", true),
];

pub fn evaluate(args: &LevelArgs, common: &Common) -> Result<Evaluated> {
    let model = Arc::new(LevelModel::load(&args.model)?);
    let human = read_levels(model.game(), &args.data)?;
    let options = LevelEvaluation {
        levels: args.levels,
        size: args.size.as_deref().map(crate::generate::level::size).transpose()?,
        control_levels: args.control_levels,
        seed: common.seed(),
        limits: Limits { nodes: args.nodes },
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(common.threads)
        .build()
        .map_err(|e| Error::backend("starting threads", e))?;
    let found = pool.install(|| bevy_skald::level::evaluate::evaluate(&model, &human, &options))?;
    // The best, the median and the worst: by how much of them is copied.
    let mut order: Vec<usize> = (0..found.levels.len()).collect();
    let run = |n: &usize| found.copied[*n];
    order.sort_by_key(run);
    let chosen =
        [("least copied", 0), ("median", order.len() / 2), ("most copied", order.len().saturating_sub(1))];
    let mut pictures = String::new();
    for (name, at) in chosen {
        let Some(level) = order.get(at).map(|n| &found.levels[*n]) else { continue };
        let drawn = svg(model.game(), &level.grid, Some(&level.report.solution));
        pictures += &format!(
            "<h3>{name}: at most {} slices in a row</h3><div class=\"wide\">{drawn}</div>",
            run(&order[at])
        );
    }
    Ok(Evaluated {
        report: found.report,
        title: "A level model",
        units: "generated levels",
        source: args.model.display().to_string(),
        gated: GATE,
        reliability: None,
        samples: Vec::new(),
        pictures,
    })
}
