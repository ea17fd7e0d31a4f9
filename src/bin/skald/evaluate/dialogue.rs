//! `skald evaluate dialogue`.

use super::{Evaluated, ReportArgs};
use crate::Common;
use bevy_skald::Result;
use bevy_skald::decode::LoadedModel;
use bevy_skald::dialogue::evaluate::Evaluation;
use bevy_skald::dialogue::read_talks;
use bevy_skald::evaluation::LANGUAGE_GATE;
use bevy_skald::model::Checkpoint;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args)]
pub struct DialogueArgs {
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
    #[command(flatten)]
    pub(super) report: ReportArgs,
}

pub fn evaluate(args: &DialogueArgs, common: &Common) -> Result<Evaluated> {
    let (corpus, _) = read_talks(&args.data)?;
    let world = crate::data::world(args.world.as_deref())?;
    let model = Arc::new(LoadedModel::new(&Checkpoint::load(&args.model)?)?);
    let Evaluation { report, samples } =
        bevy_skald::dialogue::evaluate::evaluate(&model, &corpus, &world, args.lines, common.seed())?;
    Ok(Evaluated {
        report,
        title: "A dialogue model",
        units: "held-out dialogues",
        source: args.model.display().to_string(),
        gated: LANGUAGE_GATE,
        reliability: None,
        samples,
        pictures: String::new(),
    })
}
