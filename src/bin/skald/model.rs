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
    // The words and phrases of a corpus are counted, not listed.
    let mut conditioning = checkpoint.card.conditioning.clone();
    let counts = ["word", "phrase"].map(|name| conditioning.remove(name).map_or(0, |listed| listed.len()));
    let line = serde_json::json!({
        "domain": checkpoint.card.domain,
        "architecture": "Transformer (Llama)",
        "parameters": checkpoint.weights.parameters(),
        "bytes": bytes,
        "stored_as": checkpoint.card.stored_as,
        "config": checkpoint.config,
        "conditioning": conditioning,
        "words": counts[0],
        "phrases": counts[1],
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
