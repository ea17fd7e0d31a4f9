//! `skald model`.

use crate::Common;
use bevy_skald::files::{read_limited, write_atomic};
use bevy_skald::model::{
    Adapter, CARD, Card, Checkpoint, Decoder, FILES, ModelConfig, Row, Scratch, StoredAs, Weights,
    weights_from_dir, weights_to_files,
};
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

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
        /// The model: a checkpoint or Hugging Face directory.
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
    },
    /// The logits that follow some tokens.
    Logits {
        /// The model: a checkpoint or Hugging Face directory.
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// Token ids.
        #[arg(long, value_name = "ID,ID..", value_delimiter = ',', required = true)]
        tokens: Vec<u32>,
        /// Also take the likeliest token this many times.
        #[arg(long, value_name = "N")]
        greedy: Option<usize>,
    },
    /// Write a model for other software.
    Convert {
        /// The model: a checkpoint or Hugging Face directory, in one file or in shards.
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// What to write: a directory that `transformers` loads.
        #[arg(long, value_parser = ["hf"])]
        to: String,
        /// Where to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// An adapter (PEFT's files) to merge into it.
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
        /// How to store the weights (default: as the checkpoint does; else f32).
        #[arg(long, value_parser = ["f16", "f32"])]
        stored_as: Option<String>,
    },
}

pub fn run(args: &ModelArgs, common: &Common) -> Result<()> {
    let line = match &args.action {
        Action::Inspect { model } => inspect(model)?,
        Action::Logits { model, tokens, greedy } => logits(model, tokens, *greedy)?,
        Action::Convert { model, out, adapter, stored_as, .. } => {
            let stored_as =
                stored_as.as_deref().map(|name| if name == "f16" { StoredAs::F16 } else { StoredAs::F32 });
            convert(model, out, adapter.as_deref(), stored_as)?
        }
    };
    if common.json {
        println!("{line}");
    } else {
        println!("{line:#}");
    }
    Ok(())
}

/// A model, with its card if it has one.
pub fn read(dir: &Path) -> Result<(ModelConfig, Weights, Option<Card>)> {
    if dir.join(CARD).exists() {
        let checkpoint = Checkpoint::load(dir)?;
        return Ok((checkpoint.config, checkpoint.weights, Some(checkpoint.card)));
    }
    let (config, weights) = weights_from_dir(dir)?;
    Ok((config.into(), weights, None))
}

fn inspect(model: &Path) -> Result<Value> {
    let (config, weights, card) = read(model)?;
    let bytes: u64 = std::fs::read_dir(model)
        .map_err(|e| Error::io("list the model's files", model, e))?
        .filter_map(|file| Some(file.ok()?).filter(|file| weighs(&file.file_name().to_string_lossy())))
        .filter_map(|file| Some(std::fs::metadata(file.path()).ok()?.len()))
        .sum();
    let mut line = json!({
        "architecture": config.architecture(),
        "parameters": weights.parameters(),
        "bytes": bytes,
        "config": config,
        "weights_hash": weights.hash(),
    });
    if let Some(mut card) = card {
        // The lines that a model's sentences are made of are counted, not listed.
        line["lines"] = card.conditioning.remove("line").map_or(0, |listed| listed.len()).into();
        line["domain"] = card.domain.into();
        line["stored_as"] = json!(card.stored_as);
        line["conditioning"] = json!(card.conditioning);
        line["provenance"] = json!(card.provenance);
    }
    Ok(line)
}

/// Whether a file is part of a model's size.
fn weighs(file: &str) -> bool {
    FILES.contains(&file) || file.ends_with(".safetensors") && file.starts_with("model-")
}

fn logits(model: &Path, tokens: &[u32], greedy: Option<usize>) -> Result<Value> {
    let (config, weights, _) = read(model)?;
    let decoder = Decoder::new(&config, &weights)?;
    let (mut cache, mut scratch, mut logits) = (decoder.cache(), Scratch::default(), Vec::new());
    let mut feed = |tokens: &[u32]| -> Result<Vec<f32>> {
        let row = Row { cache: &mut cache, tokens, logits: &mut logits, all: false, adapter: None };
        decoder.forward(&mut [row], &mut scratch)?;
        Ok(logits.clone())
    };
    let last = feed(tokens)?;
    let mut line = json!({ "logits": last });
    if let Some(count) = greedy {
        let (mut ids, mut logits) = (Vec::new(), last);
        while ids.len() < count {
            // The first of the largest.
            let best = (0..logits.len())
                .reduce(|best, i| if logits[i] > logits[best] { i } else { best })
                .unwrap_or(0);
            ids.push(best as u32);
            if ids.len() < count {
                logits = feed(&[best as u32])?;
            }
        }
        line["greedy"] = json!(ids);
    }
    Ok(line)
}

/// What goes along with the weights, where it is there.
const COMPANIONS: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
];

fn convert(model: &Path, out: &Path, adapter: Option<&Path>, stored_as: Option<StoredAs>) -> Result<Value> {
    let same = out.canonicalize().is_ok_and(|out| model.canonicalize().is_ok_and(|model| model == out));
    // A card's hashes would no longer be those of the files.
    if same || out.join(CARD).exists() {
        let reason = "there is a model already";
        return Err(Error::config(out.display().to_string(), "--out", reason, "choose another directory"));
    }
    let (config, mut weights, card) = read(model)?;
    if let Some(adapter) = adapter {
        weights = Adapter::load(adapter)?.merge_into(&weights)?;
    }
    let stored_as = stored_as.unwrap_or_else(|| card.map_or(StoredAs::F32, |card| card.stored_as));
    let ModelConfig::Transformer(config) = config else {
        let reason = format!("`transformers` has no {}", config.architecture());
        return Err(Error::config(model.display().to_string(), "model_type", reason, "give a transformer"));
    };
    let mut files = weights_to_files(&config, &weights, stored_as)?;
    for (name, bytes) in files.iter_mut().filter(|(name, _)| name == FILES[0]) {
        *bytes = config_over(&read_limited(&model.join(name), 1 << 20, "read the model's config")?, bytes)?;
    }
    for name in COMPANIONS.into_iter().filter(|name| model.join(name).exists()) {
        files
            .push((name.to_owned(), read_limited(&model.join(name), 1 << 28, "read the model's tokenizer")?));
    }
    std::fs::create_dir_all(out).map_err(|e| Error::io("make the directory", out, e))?;
    for (name, bytes) in &files {
        write_atomic(&out.join(name), bytes)?;
    }
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    Ok(json!({ "done": true, "files": names, "parameters": weights.parameters(), "stored_as": stored_as }))
}

/// The config that a model came with, under ours: the tokens that begin and end a text stay its own.
fn config_over(theirs: &[u8], ours: &[u8]) -> Result<Vec<u8>> {
    let read = |bytes: &[u8]| serde_json::from_slice::<Map<String, Value>>(bytes);
    let wrong = |e| Error::backend("writing config.json", e);
    let (mut all, ours) = (read(theirs).map_err(wrong)?, read(ours).map_err(wrong)?);
    all.remove("dtype");
    for (key, value) in ours {
        if !(key.ends_with("_token_id") && all.contains_key(&key)) {
            all.insert(key, value);
        }
    }
    serde_json::to_vec_pretty(&all).map_err(wrong)
}
