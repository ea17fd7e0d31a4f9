//! `skald`: the command line. A file per subcommand; progress and messages go to stderr,
//! with `--json` one JSON object per line goes to stdout and nothing else.

#![expect(clippy::print_stdout, reason = "stdout is where a command line answers")]

mod bench;
mod data;
mod evaluate;
mod generate;
#[cfg(feature = "inspector")]
mod inspect;
mod level;
mod model;
mod plot;
mod progress;
mod recordings;
mod runs;
mod train;

use bevy_skald::Result;
use bevy_skald::seed::Seed;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// Trains, evaluates and runs the models of `bevy_skald`.
///
/// Exit code: 0 done, 1 failed with one line on stderr, 2 wrong usage, 130 stopped by Ctrl-C.
#[derive(Parser)]
#[command(name = "skald", version, propagate_version = true)]
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
    /// Compute threads (0: one for each core in training; one elsewhere).
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda, metal, or cuda:1 for the second GPU.
    #[arg(long, global = true, default_value = "auto")]
    pub device: String,
}

impl Common {
    fn seed(&self) -> Seed {
        Seed::new(self.seed.unwrap_or(0))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Train a model.
    Train(train::TrainArgs),
    /// Measure a model.
    Evaluate(evaluate::EvaluateArgs),
    /// Let a model speak.
    Generate(generate::GenerateArgs),
    /// Solve, show, mend and convert levels.
    Level(level::LevelArgs),
    /// Say what a model is.
    Model(model::ModelArgs),
    /// Look at recordings, trainings and models in a window.
    #[cfg(feature = "inspector")]
    Inspect(inspect::InspectArgs),
    /// Look after a playtest store.
    Recordings(recordings::RecordingsArgs),
    /// Set past trainings beside each other.
    Runs(runs::RunsArgs),
    /// Measure what the crate costs.
    Bench(bench::BenchArgs),
}

/// How a command ended well.
pub enum Ended {
    /// Done.
    Done,
    /// Stopped by Ctrl-C, with everything saved.
    Stopped,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended: Result<Ended> = match cli.command {
        Command::Train(args) => train::run(&args, &cli.common),
        Command::Evaluate(args) => evaluate::run(&args, &cli.common).map(|()| Ended::Done),
        Command::Generate(args) => generate::run(&args, &cli.common).map(|()| Ended::Done),
        Command::Level(args) => level::run(&args, &cli.common).map(|()| Ended::Done),
        Command::Model(args) => model::run(&args, &cli.common).map(|()| Ended::Done),
        #[cfg(feature = "inspector")]
        Command::Inspect(args) => inspect::run(args).map(|()| Ended::Done),
        Command::Recordings(args) => recordings::run(&args, &cli.common).map(|()| Ended::Done),
        Command::Runs(args) => runs::run(&args, &cli.common).map(|()| Ended::Done),
        Command::Bench(args) => bench::run(&args, &cli.common).map(|()| Ended::Done),
    };
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Stopped) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}
