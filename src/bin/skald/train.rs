//! `skald train`.

use crate::{Common, Ended};
use bevy_skald::dialogue::{DialogueData, data_sets, prompt, tokenizer_lines};
use bevy_skald::files::{parse_ron, read_text, write_atomic};
use bevy_skald::job::Job;
use bevy_skald::model::Card;
use bevy_skald::nn::DeviceChoice;
use bevy_skald::text::Tokenizer;
use bevy_skald::training::{DataSets, Fit, Progress, TokenizerKind, TrainingConfig, text_sets};
use bevy_skald::{Error, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
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
    /// Go on with the run in `--out`.
    #[arg(long)]
    resume: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Domain {
    /// Plain text.
    Text,
    /// NPC dialogue, from corpora and recordings.
    Dialogue,
}

/// A config of `skald train dialogue`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DialogueTraining {
    training: TrainingConfig,
    #[serde(default)]
    data: DialogueData,
}

struct Prepared {
    config: TrainingConfig,
    tokenizer: Tokenizer,
    sets: DataSets,
    card: Card,
    report: serde_json::Value,
}

pub fn run(args: &TrainArgs, common: &Common) -> Result<Ended> {
    let device = common.device.parse::<DeviceChoice>()?.open()?;
    let mut prepared = match args.domain {
        Domain::Text => text(args, common)?,
        Domain::Dialogue => dialogue(args, common)?,
    };
    prepared.card.provenance.command = command(args);
    let start = if args.resume { Fit::resume } else { Fit::new };
    let Prepared { config, tokenizer, sets, card, report } = prepared;
    let mut fit = start(config, tokenizer, sets, card, &args.out, &device)?;
    let pretty =
        serde_json::to_vec_pretty(&report).map_err(|e| Error::backend("writing the data report", e))?;
    write_atomic(&args.out.join("data.json"), &pretty)?;
    eprintln!("data: {report}");
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    // Without a handler Ctrl-C ends the process at once, and the last resume point stands.
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    let screen = Screen::new(common.json);
    loop {
        if stopped.load(Ordering::Relaxed) {
            fit.save()?;
            let step = fit.standing().step;
            screen.bar.abandon();
            eprintln!(
                "stopped at step {step}; everything is saved, go on with the same command and --resume"
            );
            if common.json {
                println!("{}", serde_json::json!({"done": false, "steps": step, "checkpoint": args.out}));
            }
            return Ok(Ended::Stopped);
        }
        match fit.step()? {
            ControlFlow::Continue(progress) => screen.show(&progress),
            ControlFlow::Break(fitted) => {
                screen.bar.finish();
                let mut line =
                    serde_json::to_value(&fitted).map_err(|e| Error::backend("writing the result", e))?;
                line["done"] = true.into();
                if common.json {
                    println!("{line}");
                }
                let early = if fitted.early { ", stopped early" } else { "" };
                eprintln!(
                    "done: {} steps{early} in {:.0} s, validation loss {:.4} -> {:.4} (best, step {}), model in {}",
                    fitted.steps,
                    fitted.seconds,
                    fitted.first_val_loss,
                    fitted.best_val_loss,
                    fitted.best_step,
                    fitted.checkpoint.display()
                );
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

fn text(args: &TrainArgs, common: &Common) -> Result<Prepared> {
    let (config, file) = read_config(args)?;
    let config = with_options(TrainingConfig::from_ron(&config, &file)?, args, common)?;
    let mut text = String::new();
    for path in &args.data {
        text += &read_text(path, 1 << 32, "read the text")?;
    }
    let tokenizer = match config.tokenizer {
        TokenizerKind::Characters => Tokenizer::characters(&text)?,
        TokenizerKind::Bpe(size) => {
            let characters = text.chars().count();
            let learned: String = text.chars().take(characters * 9 / 10).collect();
            Tokenizer::train(learned.lines(), size, &[])?
        }
    };
    let sets = text_sets(&text, &tokenizer, config.sequence)?;
    let report = serde_json::json!({
        "characters": text.chars().count(), "tokens": tokenizer.vocab_size(),
        "train": sets.train.len(), "validation": sets.validation.len(),
    });
    Ok(Prepared { config, tokenizer, sets, card: Card::new("text"), report })
}

fn dialogue(args: &TrainArgs, common: &Common) -> Result<Prepared> {
    let (text, file) = read_config(args)?;
    let parsed: DialogueTraining = parse_ron(&text, &file)?;
    parsed.data.validate(&file)?;
    let config = with_options(parsed.training, args, common)?;
    let TokenizerKind::Bpe(size) = config.tokenizer else {
        let reason = "dialogue has special tokens, which characters cannot be";
        return Err(Error::config(file, "training.tokenizer", reason, "choose Bpe(2048)"));
    };
    let (corpus, recorded) = crate::data::read(&args.data)?;
    let voices = corpus.voices();
    let tokenizer =
        Tokenizer::train(tokenizer_lines(&corpus).iter(), size, &prompt::special_tokens(&voices))?;
    let (sets, report) = data_sets(&corpus, recorded, &Arc::new(tokenizer.clone()), &parsed.data)?;
    let mut card = Card::new("dialogue");
    card.conditioning.insert("voice".into(), voices);
    card.conditioning.insert("quest".into(), prompt::QUESTS.map(str::to_owned).into());
    let acts = bevy_skald::dialogue::Act::ALL.iter().map(|act| act.name().to_owned());
    card.conditioning.insert("act".into(), acts.collect());
    let report = serde_json::to_value(&report).map_err(|e| Error::backend("writing the data report", e))?;
    Ok(Prepared { config, tokenizer, sets, card, report })
}

/// The command as it could be typed again, with paths as they were given.
fn command(args: &TrainArgs) -> String {
    let name = |path: &Path| path.display().to_string();
    let domain = match args.domain {
        Domain::Text => "text",
        Domain::Dialogue => "dialogue",
    };
    let data: Vec<String> = args.data.iter().map(|path| name(path)).collect();
    let steps = args.steps.map_or_else(String::new, |steps| format!(" --steps {steps}"));
    format!(
        "skald train {domain} --config {} --data {} --out {}{steps}",
        name(&args.config),
        data.join(" "),
        name(&args.out)
    )
}

/// What is seen while it trains: a bar on a terminal, a line at each validation elsewhere, JSON on stdout.
struct Screen {
    json: bool,
    bar: ProgressBar,
}

impl Screen {
    fn new(json: bool) -> Self {
        let bar = ProgressBar::new(0);
        let style = "{bar:30} {pos}/{len} {msg} {elapsed} (left {eta})";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { json, bar }
    }

    fn show(&self, progress: &Progress) {
        if self.json
            && let Ok(line) = serde_json::to_string(progress)
        {
            println!("{line}");
        }
        if self.bar.length() != Some(progress.steps) {
            self.bar.set_length(progress.steps);
            self.bar.set_position(progress.step);
            self.bar.reset_eta();
        }
        self.bar.set_position(progress.step);
        if let Some(loss) = progress.train_loss {
            self.bar.set_message(format!("loss {loss:.4}, {:.0} tokens/s", progress.tokens_per_s));
        }
        if let Some(loss) = progress.val_loss {
            let line = format!("step {}: validation loss {loss:.4}", progress.step);
            if self.bar.is_hidden() {
                eprintln!("{line}");
            } else {
                self.bar.println(line);
            }
        }
    }
}
