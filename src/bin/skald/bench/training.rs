//! `skald bench training`.

use super::range;
use crate::Common;
use bevy_skald::files::{parse_ron, read_text};
use bevy_skald::job::Job;
use bevy_skald::model::Card;
use bevy_skald::nn::DeviceChoice;
use bevy_skald::seed::{Seed, Stream};
use bevy_skald::text::Tokenizer;
use bevy_skald::training::{DataNotes, DataSets, Fit, RunSetup, Sample, SampleSource, TrainingConfig};
use bevy_skald::{Error, Result};
use clap::Args;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

/// Its options.
#[derive(Args)]
pub struct TrainingArgs {
    /// The run's config, RON: that of `skald train`.
    #[arg(long, value_name = "F.ron")]
    config: PathBuf,
    /// Steps that are timed, after three that are not.
    #[arg(long, default_value_t = 20)]
    steps: u64,
    /// Tokens of the vocabulary.
    #[arg(long, default_value_t = 65)]
    vocab: usize,
}

/// A config of `skald train text`, or one of `skald train dialogue`.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum AnyConfig {
    Plain(Box<TrainingConfig>),
    Within { training: Box<TrainingConfig> },
}

/// Rows of random tokens.
struct Noise {
    vocab: usize,
    length: usize,
    rows: usize,
}

impl SampleSource for Noise {
    fn len(&self) -> usize {
        self.rows
    }

    fn sample(&self, _index: usize, noise: &mut Stream) -> Sample {
        let ids: Vec<u32> = (0..=self.length).map(|_| noise.below(self.vocab) as u32).collect();
        let mut loss = vec![1.0; ids.len()];
        loss[0] = 0.0;
        Sample::new(ids, loss)
    }

    fn fixed(&self, index: usize) -> Sample {
        self.sample(index, &mut Seed::new(index as u64).stream())
    }

    fn hash(&self) -> String {
        format!("random tokens {} {} {}", self.vocab, self.length, self.rows)
    }
}

pub fn run(args: &TrainingArgs, common: &Common) -> Result<()> {
    range((1..=100_000).contains(&args.steps), "--steps", "1 to 100000")?;
    range((2..=1 << 17).contains(&args.vocab), "--vocab", "2 to 131072")?;
    let file = args.config.display().to_string();
    let text = read_text(&args.config, 1 << 20, "read the config")?;
    let config = match parse_ron::<AnyConfig>(&text, &file)? {
        AnyConfig::Plain(config) | AnyConfig::Within { training: config } => *config,
    };
    let warm = 3;
    let config = TrainingConfig {
        steps: args.steps + warm,
        warmup_steps: 0,
        // No validation and no saving in between.
        validate_every: u64::MAX,
        checkpoint_every: u64::MAX,
        ..config
    };
    config.validate(&file)?;
    // Characters of the private planes stand for the tokens; a few special tokens come on top.
    let characters: String = (0..args.vocab as u32).filter_map(|n| char::from_u32(0xF_0000 + n)).collect();
    let tokenizer = Tokenizer::characters(&characters)?;
    let source = |rows| Box::new(Noise { vocab: args.vocab, length: config.sequence, rows });
    let data = DataSets { train: source(config.rows * 4), validation: source(1) };
    let dir = std::env::temp_dir().join(format!("skald-bench-{}", std::process::id()));
    let compute = common.device.parse::<DeviceChoice>()?.compute(common.threads)?;
    let Some(model) = &config.model else {
        return Err(Error::config(file, "model", "there is no shape", "give a config with a `model`"));
    };
    let shape = model.config(tokenizer.vocab_size());
    let setup = RunSetup {
        config: config.clone(),
        tokenizer,
        data,
        card: Card::new("text"),
        base: None,
        notes: DataNotes::default(),
    };
    let timed = time(Fit::new(setup, &dir, &compute), warm);
    let _ = std::fs::remove_dir_all(&dir);
    let mut seconds = timed?;
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let line = serde_json::json!({
        "config": file,
        "architecture": shape.architecture(),
        "parameters": shape.parameters(),
        "threads": compute.threads,
        "ms_per_step": median * 1e3,
        "fastest_ms": seconds[0] * 1e3,
        "tokens_per_s": (config.rows * config.sequence) as f64 / median,
        "peak_rss_bytes": peak_rss(),
    });
    if common.json {
        println!("{line}");
    } else {
        println!("{line:#}");
    }
    Ok(())
}

/// The seconds of each step but the first `warm`.
fn time(fit: Result<Fit>, warm: u64) -> Result<Vec<f64>> {
    let mut fit = fit?;
    let mut seconds = Vec::new();
    loop {
        let (before, begun) = (fit.standing().step, Instant::now());
        match fit.step()? {
            // The last step is followed by a validation, which is another step of the job.
            ControlFlow::Continue(_) if fit.standing().step > before && before >= warm => {
                seconds.push(begun.elapsed().as_secs_f64());
            }
            ControlFlow::Continue(_) => {}
            ControlFlow::Break(_) => break,
        }
    }
    if seconds.is_empty() {
        return Err(Error::config("options", "--steps", "no step was timed", "choose more"));
    }
    Ok(seconds)
}

/// The most memory this process ever held, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
