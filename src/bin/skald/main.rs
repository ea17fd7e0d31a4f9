//! `skald`: the command line. A file per subcommand; progress and messages go to stderr,
//! with `--json` one JSON object per line goes to stdout and nothing else.

mod recordings;
mod train;

use bevy_skald::Result;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// Trains, evaluates and runs the models of `bevy_skald`.
#[derive(Parser)]
#[command(name = "skald", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// One JSON object per line on stdout, and nothing else there.
    #[arg(long, global = true)]
    pub json: bool,
    /// The seed every random stream derives from.
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Compute threads (0: as many as there are cores).
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda, metal, or cuda:1 for the second GPU.
    #[arg(long, global = true, default_value = "auto")]
    pub device: String,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model.
    Train(train::TrainArgs),
    /// Look after a playtest store.
    Recordings(recordings::RecordingsArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done: Result<()> = match cli.command {
        Command::Train(args) => train::run(&args, &cli.common),
        Command::Recordings(args) => recordings::run(&args, &cli.common),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}
