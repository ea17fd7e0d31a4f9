//! `skald model`.

use crate::Common;
use bevy_skald::Result;
use bevy_skald::model::Checkpoint;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Its options.
#[derive(Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say what a model is: its shape, what it can be conditioned on, where it came from.
    Inspect {
        /// The model: a checkpoint directory.
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
    },
}

pub fn run(args: &ModelArgs, common: &Common) -> Result<()> {
    let Action::Inspect { model } = &args.action;
    let checkpoint = Checkpoint::load(model)?;
    let bytes: u64 = bevy_skald::model::FILES
        .iter()
        .filter_map(|file| Some(std::fs::metadata(model.join(file)).ok()?.len()))
        .sum();
    // The lines that a model's sentences are made of are counted, not listed.
    let mut conditioning = checkpoint.card.conditioning.clone();
    let lines = conditioning.remove("line").map_or(0, |listed| listed.len());
    let line = serde_json::json!({
        "domain": checkpoint.card.domain,
        "architecture": checkpoint.config.architecture(),
        "parameters": checkpoint.weights.parameters(),
        "bytes": bytes,
        "stored_as": checkpoint.card.stored_as,
        "config": checkpoint.config,
        "conditioning": conditioning,
        "lines": lines,
        "provenance": checkpoint.card.provenance,
        "weights_hash": checkpoint.weights.hash(),
    });
    if common.json {
        println!("{line}");
    } else {
        println!("{line:#}");
    }
    Ok(())
}
