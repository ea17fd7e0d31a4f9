//! `skald bench`: what things cost on this machine.

#[cfg(feature = "bevy")]
mod crowd;
#[cfg(feature = "bevy")]
mod frame;
mod inference;
mod level;
mod training;

use crate::Common;
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};

/// Its options.
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How long a crowd takes to say a line each, what that costs a frame, and what silence costs.
    #[cfg(feature = "bevy")]
    Crowd(crowd::CrowdArgs),
    /// What talking NPCs cost a frame: the same app with talk off and on, in alternating stretches.
    #[cfg(feature = "bevy")]
    Frame(frame::FrameArgs),
    /// How fast a model reads and speaks: prefill, and decoding of one and of many sequences.
    Inference(inference::InferenceArgs),
    /// How long a level takes, checked and with its solution, beside the baselines' levels, and columns of an endless one.
    Level(level::LevelArgs),
    /// What a training step costs: forward, backward and update of a config's network on random tokens.
    Training(training::TrainingArgs),
}

pub fn run(args: &BenchArgs, common: &Common) -> Result<()> {
    match &args.what {
        #[cfg(feature = "bevy")]
        What::Crowd(args) => crowd::run(args, common),
        #[cfg(feature = "bevy")]
        What::Frame(args) => frame::run(args, common),
        What::Inference(args) => inference::run(args, common),
        What::Level(args) => level::run(args, common),
        What::Training(args) => training::run(args, common),
    }
}

pub fn range(holds: bool, field: &str, range: &str) -> Result<()> {
    let error = || Error::config("options", field, "the value is out of range", format!("choose {range}"));
    if holds { Ok(()) } else { Err(error()) }
}
