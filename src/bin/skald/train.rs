//! `skald train`: data and config in, a checkpoint directory out.
//!
//! Ctrl-C stops at the next step, saves, says how to go on, and the exit code is 130. `kill -9` loses at most
//! the steps since the last resume point: `--resume` then gives the very run that was not killed.

use crate::progress::Screen;
use crate::{Common, Ended};
use bevy_skald::dialogue::{
    DialogueData, DialogueTraining, Preferences, data_sets, preference_samples, read_talks,
};
use bevy_skald::files::read_text;
use bevy_skald::job::Job;
use bevy_skald::level::LevelTraining;
use bevy_skald::model::{Base, Card, Checkpoint};
use bevy_skald::nn::DeviceChoice;
use bevy_skald::player::PlayerTraining;
use bevy_skald::seed::Seed;
use bevy_skald::training::{
    Claim, DataNotes, DataSets, DataSource, Fit, HoldOut, Objective, Pairs, Rehearsed, RunSetup,
    SampleSource, Shares, SplitMethod, TextCorpus, TextSets, TrainingConfig,
};
use bevy_skald::{Error, Result};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
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
    /// What players do next, or who leaves, from playtest stores.
    Player,
    /// Levels of a tile game: the config names the game's file.
    Level,
    /// A dialogue model's taste, from what players read and clicked away (stores) and from picked pairs (JSONL).
    Preference,
}

struct Prepared {
    setup: RunSetup,
    /// UTF-8 bytes for each held-out token, of plain text.
    bytes_a_token: Option<f64>,
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
        Domain::Player => {
            let parsed = PlayerTraining::from_ron(&config, &file)?;
            let (training, claim) = claim(parsed.training)?;
            let setup = PlayerTraining { training, ..parsed }.prepare(&args.data)?;
            Prepared { setup, bytes_a_token: None, claim }
        }
        Domain::Level => {
            let parsed = LevelTraining::from_ron(&config, &args.config)?;
            let (training, claim) = claim(parsed.training)?;
            let setup = LevelTraining { training, ..parsed }.prepare(&args.data)?;
            Prepared { setup, bytes_a_token: None, claim }
        }
        Domain::Dialogue => {
            let parsed = DialogueTraining::from_ron(&config, &file)?;
            let (training, claim) = claim(parsed.training)?;
            let setup = DialogueTraining { training, ..parsed }.prepare(&args.data)?;
            Prepared { setup, bytes_a_token: None, claim }
        }
    };
    prepared.setup.card.provenance.command = command(args);
    let Prepared { setup, bytes_a_token, claim } = prepared;
    let mut fit = Fit::begin(setup, claim, &compute)?;
    eprintln!("data: {}", fit.data_card());
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
        Some(Base { config, weights, tokenizer, .. }) => (tokenizer, Some((config, weights))),
        None => (corpus.tokenizer(config.tokenizer, held)?, None),
    };
    let TextSets { data, held_bytes } = corpus.sets(&tokenizer, config.sequence, held, &args.out)?;
    let counted = |i| data.validation.fixed(i).loss.iter().filter(|weight| **weight > 0.0).count();
    let tokens: usize = (0..data.validation.len()).map(counted).sum();
    let bytes_a_token = Some(held_bytes as f64 / tokens as f64);
    let shares = Shares { train: 0.9, validation: 0.1, test: 0.0 };
    let split = match held {
        HoldOut::Tail => SplitMethod::InOrder { shares },
        HoldOut::TenthLine => SplitMethod::EveryTenthLine,
    };
    let notes = DataNotes { split, dropped: corpus.dropped(), details: corpus.report(), ..sources(args)? };
    let setup = RunSetup { config, tokenizer, data, card: Card::new("text"), base, notes };
    Ok(Prepared { setup, bytes_a_token, claim })
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
    let source =
        |samples, weighed| Pairs::new(samples, (&shape, &weights), config.sequence, threads, &name, weighed);
    let (train, validation) = (source(train?, true)?, source(held?, false)?);
    let too_long = (pairs - train.len() - validation.len()) as u64;
    let notes = DataNotes {
        split: SplitMethod::ByGroup {
            group: "player".to_owned(),
            seed: config.seed,
            shares: Shares { train: 0.8, validation: 0.2, test: 0.0 },
        },
        dropped: BTreeMap::from([
            ("too long".to_owned(), too_long),
            ("also compared in the training part".to_owned(), doubles as u64),
        ]),
        details: serde_json::json!({ "players": players, "undecided_lines": undecided }),
        ..sources(args)?
    };
    let validation = Box::new(validation);
    let corpora: Vec<PathBuf> = args.data.iter().filter(|path| path.is_dir()).cloned().collect();
    let data = if corpora.is_empty() {
        DataSets { train: Box::new(train), validation }
    } else {
        let (corpus, _) = read_talks(&corpora)?;
        let corpus =
            data_sets(&corpus, Vec::new(), &Arc::new(tokenizer.clone()), &DialogueData::default(), false)?
                .0
                .train;
        DataSets { train: Box::new(Rehearsed::new(train, corpus)), validation }
    };
    let card = Card { provenance: Card::new("dialogue").provenance, ..card };
    let setup = RunSetup { config, tokenizer, data, card, base: Some((shape, weights)), notes };
    Ok(Prepared { setup, bytes_a_token: None, claim })
}

/// Where the data came from.
fn sources(args: &TrainArgs) -> Result<DataNotes> {
    let sources = args.data.iter().map(|path| DataSource::of(path)).collect::<Result<_>>()?;
    Ok(DataNotes { sources, ..DataNotes::default() })
}

/// The command as it could be typed again, with paths as they were given.
fn command(args: &TrainArgs) -> String {
    let name = |path: &Path| path.display().to_string();
    let domain = match args.domain {
        Domain::Text => "text",
        Domain::Dialogue => "dialogue",
        Domain::Level => "level",
        Domain::Preference => "preference",
        Domain::Player => "player",
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
