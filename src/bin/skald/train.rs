//! `skald train`: data and config in, a checkpoint directory out.
//!
//! Ctrl-C stops at the next step, saves, says how to go on, and the exit code is 130. `kill -9` loses at most
//! the steps since the last resume point: `--resume` then gives the very run that was not killed.

use crate::progress::Screen;
use crate::{Common, Ended};
use bevy_skald::dialogue::{DialogueTraining, Preferences, preference_samples};
use bevy_skald::files::{read_limited, read_text};
use bevy_skald::job::Job;
use bevy_skald::model::{Card, Checkpoint, ModelConfig, Weights};
use bevy_skald::nn::DeviceChoice;
use bevy_skald::seed::Seed;
use bevy_skald::text::Tokenizer;
use bevy_skald::training::{
    Claim, DataSets, Fit, HoldOut, Objective, Pairs, RunSetup, SampleSource, TextCorpus, TrainingConfig,
};
use bevy_skald::{Error, Result};
use clap::{Args, ValueEnum};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Its options.
#[derive(Args)]
pub struct TrainArgs {
    /// What is learned.
    domain: Domain,
    /// The run's config, RON.
    #[arg(long, value_name = "F.ron")]
    config: PathBuf,
    /// What to learn from: corpora (files or folders) and playtest stores.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// The run's directory, which becomes a checkpoint.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Optimiser steps, instead of the config's.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Of plain text, what is held out.
    #[arg(long, value_enum, default_value_t = Held::Tail)]
    hold_out: Held,
    /// Of recorded play, how many more must have read a line than clicked it away, or the other way round, for it to be
    /// compared with others.
    #[arg(long, value_name = "N", default_value_t = AGREE)]
    agree: usize,
    /// Go on with the run in `--out`.
    #[arg(long)]
    resume: bool,
}

/// The default of `--agree`.
const AGREE: usize = 2;

#[derive(Clone, Copy, ValueEnum)]
enum Held {
    /// The last tenth of the characters.
    Tail,
    /// Every tenth line.
    TenthLine,
}

#[derive(Clone, Copy, ValueEnum)]
enum Domain {
    /// Plain text.
    Text,
    /// NPC dialogue, from corpora and recordings.
    Dialogue,
    /// A dialogue model's taste, from what players read and clicked away (stores) and from picked pairs (JSONL).
    Preference,
}

struct Prepared {
    setup: RunSetup,
    /// UTF-8 bytes for each held-out token, of plain text.
    bytes_a_token: Option<f64>,
    report: serde_json::Value,
    claim: Claim,
}

pub fn run(args: &TrainArgs, common: &Common) -> Result<Ended> {
    let compute = common.device.parse::<DeviceChoice>()?.compute(common.threads)?;
    let (config, file) = read_config(args)?;
    // The directory is claimed before the data is read and tokenised, which may be long.
    let claim = |config| -> Result<(TrainingConfig, Claim)> {
        let config = with_options(config, args, common)?;
        Ok((config, Claim::take(&args.out, args.resume)?))
    };
    let mut prepared = match args.domain {
        Domain::Text => {
            let (config, claim) = claim(TrainingConfig::from_ron(&config, &file)?)?;
            text(args, config, claim)?
        }
        Domain::Preference => {
            let (config, claim) = claim(TrainingConfig::from_ron(&config, &file)?)?;
            preference(args, config, claim, compute.threads)?
        }
        Domain::Dialogue => {
            let parsed = DialogueTraining::from_ron(&config, &file)?;
            let (training, claim) = claim(parsed.training)?;
            let ready = DialogueTraining { training, ..parsed }.prepare(&args.data)?;
            Prepared { setup: ready.setup, bytes_a_token: None, report: ready.report, claim }
        }
    };
    prepared.setup.card.provenance.command = command(args);
    let Prepared { setup, bytes_a_token, report, claim } = prepared;
    eprintln!("data: {report}");
    let mut fit = Fit::begin(setup, claim, &compute)?;
    fit.save_data_report(&report)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    // Without a handler Ctrl-C ends the process at once, and the last resume point stands; as does a second
    // Ctrl-C for whoever cannot wait for the step to end.
    let _ = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    let mut screen = Screen::new(common.json);
    loop {
        if stop.load(Ordering::Relaxed) {
            fit.save()?;
            screen.stopped(fit.standing().step, &args.out);
            return Ok(Ended::Stopped);
        }
        match fit.step()? {
            ControlFlow::Continue(progress) => screen.show(&progress),
            ControlFlow::Break(fitted) => {
                screen.done(&fitted, bytes_a_token);
                return Ok(Ended::Done);
            }
        }
    }
}

fn with_options(mut config: TrainingConfig, args: &TrainArgs, common: &Common) -> Result<TrainingConfig> {
    config.steps = args.steps.unwrap_or(config.steps);
    config.seed = common.seed.unwrap_or(config.seed);
    config.warmup_steps = config.warmup_steps.min(config.steps.saturating_sub(1));
    config.validate(&args.config.display().to_string())?;
    Ok(config)
}

fn read_config(args: &TrainArgs) -> Result<(String, String)> {
    Ok((read_text(&args.config, 1 << 20, "read the config")?, args.config.display().to_string()))
}

fn text(args: &TrainArgs, config: TrainingConfig, claim: Claim) -> Result<Prepared> {
    let held = match args.hold_out {
        Held::Tail => HoldOut::Tail,
        Held::TenthLine => HoldOut::TenthLine,
    };
    let corpus = TextCorpus::read(&args.data)?;
    let base = config.base.as_deref().map(|base| Base::read(Path::new(base))).transpose()?;
    let (tokenizer, base) = match base {
        Some(Base { config, weights, tokenizer }) => (tokenizer, Some((config, weights))),
        None => (corpus.tokenizer(config.tokenizer, held)?, None),
    };
    let data = corpus.sets(&tokenizer, config.sequence, held)?;
    let counted = |i| data.validation.fixed(i).loss.iter().filter(|weight| **weight > 0.0).count();
    let tokens: usize = (0..data.validation.len()).map(counted).sum();
    let bytes_a_token = Some(corpus.held_bytes(held) as f64 / tokens as f64);
    let report = corpus.report();
    let setup = RunSetup { config, tokenizer, data, card: Card::new("text"), base };
    Ok(Prepared { setup, bytes_a_token, report, claim })
}

fn preference(args: &TrainArgs, config: TrainingConfig, claim: Claim, threads: usize) -> Result<Prepared> {
    let file = args.config.display().to_string();
    let (Some(base), Objective::Preference { .. }) = (&config.base, config.objective) else {
        let reason = "taste is learned by a `base` with the objective `Preference`";
        return Err(Error::config(file, "objective", reason, "see assets/training/preference.ron"));
    };
    let Checkpoint { config: shape, weights, tokenizer, card } = Checkpoint::load(Path::new(base))?;
    let seed = Seed::new(config.seed);
    let Preferences { train, held, players, undecided, doubles } =
        crate::data::preferences(&args.data, args.agree, seed)?;
    let pairs = train.len() + held.len();
    let [train, held] = [train, held].map(|pairs| preference_samples(&pairs, &tokenizer));
    let name = args.data.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let source = |samples| Pairs::new(samples, (&shape, &weights), config.sequence, threads, &name);
    let (train, validation) = (source(train?)?, source(held?)?);
    let report = serde_json::json!({
        "pairs": pairs,
        "players": players,
        "pairs_train": train.len(),
        "pairs_validation": validation.len(),
        "dropped": { "too_long": pairs - train.len() - validation.len(), "doubles": doubles },
        "undecided_lines": undecided,
        "split": "by player",
    });
    let data = DataSets { train: Box::new(train), validation: Box::new(validation) };
    let card = Card { provenance: Card::new("dialogue").provenance, ..card };
    let setup = RunSetup { config, tokenizer, data, card, base: Some((shape, weights)) };
    Ok(Prepared { setup, bytes_a_token: None, report, claim })
}

/// A model to begin with.
struct Base {
    config: ModelConfig,
    weights: Weights,
    tokenizer: Tokenizer,
}

impl Base {
    /// Reads a checkpoint or Hugging Face directory.
    fn read(dir: &Path) -> Result<Self> {
        let (config, weights, _) = crate::model::read(dir)?;
        let file = dir.join("tokenizer.json");
        let bytes = read_limited(&file, 1 << 28, "read the base's tokenizer")?;
        let tokenizer = Tokenizer::from_bytes(&bytes, &file.display().to_string())?;
        Ok(Self { config, weights, tokenizer })
    }
}

/// The command as it could be typed again, with paths as they were given.
fn command(args: &TrainArgs) -> String {
    let name = |path: &Path| path.display().to_string();
    let domain = match args.domain {
        Domain::Text => "text",
        Domain::Dialogue => "dialogue",
        Domain::Preference => "preference",
    };
    let data: Vec<String> = args.data.iter().map(|path| name(path)).collect();
    let steps = args.steps.map_or_else(String::new, |steps| format!(" --steps {steps}"));
    let held = if matches!(args.hold_out, Held::TenthLine) { " --hold-out tenth-line" } else { "" };
    let agree = if args.agree == AGREE { String::new() } else { format!(" --agree {}", args.agree) };
    format!(
        "skald train {domain} --config {} --data {} --out {}{steps}{held}{agree}",
        name(&args.config),
        data.join(" "),
        name(&args.out)
    )
}
