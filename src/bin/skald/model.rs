//! `skald model`.

use crate::Common;
use bevy_skald::files::{read_limited, write_atomic};
use bevy_skald::model::gguf::{
    GgufFile, GgufVocabulary, Metadata, Quantization, model_to_gguf, vocabulary_to_metadata,
};
use bevy_skald::model::{
    Adapter, CARD, Card, Checkpoint, Decoder, FILES, ModelConfig, Row, Scratch, StoredAs, TransformerConfig,
    Weights, weights_from_dir, weights_to_files,
};
use bevy_skald::text::SpecialTokens;
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
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
        /// The model: a checkpoint or Hugging Face directory, or a GGUF file.
        #[arg(long, value_name = "PATH")]
        model: PathBuf,
    },
    /// The logits that follow some tokens.
    Logits {
        /// The model: a checkpoint or Hugging Face directory, or a GGUF file.
        #[arg(long, value_name = "PATH")]
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
        /// The model: a checkpoint or Hugging Face directory, in one file or in shards, or a GGUF file.
        #[arg(long, value_name = "PATH")]
        model: PathBuf,
        /// What to write: a directory that `transformers` loads, or a file that llama.cpp loads.
        #[arg(long, value_parser = ["hf", "gguf"])]
        to: String,
        /// Where to: a directory, or with `--to gguf` a file.
        #[arg(long, value_name = "PATH")]
        out: PathBuf,
        /// An adapter (PEFT's files) to merge into it.
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
        /// How to store the weights (default: as the checkpoint does; else f32).
        #[arg(long, value_parser = ["f16", "f32"])]
        stored_as: Option<String>,
    },
    /// Write a model as GGUF with smaller weights.
    Quantize {
        /// The model: a checkpoint or Hugging Face directory, or a GGUF file.
        #[arg(long, value_name = "PATH")]
        model: PathBuf,
        /// How to store the weights, by llama.cpp's names.
        #[arg(long, value_parser = ["f32", "f16", "q8_0", "q4_0", "q4_k_m"], ignore_case = true)]
        r#type: String,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// An adapter (PEFT's files) to merge into it.
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
    },
}

pub fn run(args: &ModelArgs, common: &Common) -> Result<()> {
    let line = match &args.action {
        Action::Inspect { model } => inspect(model)?,
        Action::Logits { model, tokens, greedy } => logits(model, tokens, *greedy)?,
        Action::Convert { model, to, out, adapter, stored_as } => {
            let stored_as =
                stored_as.as_deref().map(|name| if name == "f16" { StoredAs::F16 } else { StoredAs::F32 });
            if to == "gguf" {
                to_gguf(model, out, adapter.as_deref(), stored_as.map(as_quantization))?
            } else {
                convert(model, out, adapter.as_deref(), stored_as)?
            }
        }
        Action::Quantize { model, r#type, out, adapter } => {
            to_gguf(model, out, adapter.as_deref(), Quantization::from_name(&r#type.to_lowercase()))?
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
    if is_gguf(dir) {
        let (config, weights) = GgufFile::open(dir)?.model()?;
        return Ok((config.into(), weights, None));
    }
    if dir.join(CARD).exists() {
        let checkpoint = Checkpoint::load(dir)?;
        return Ok((checkpoint.config, checkpoint.weights, Some(checkpoint.card)));
    }
    let (config, weights) = weights_from_dir(dir)?;
    Ok((config.into(), weights, None))
}

/// A model laid out for decoding; a GGUF file's blocks stay as they are.
pub fn decoder(model: &Path) -> Result<Decoder> {
    if is_gguf(model) {
        return Decoder::from_gguf(&GgufFile::open(model)?);
    }
    let (config, weights, _) = read(model)?;
    Decoder::new(&config, &weights)
}

/// A file, then, and no directory.
fn is_gguf(model: &Path) -> bool {
    model.is_file() || model.extension().is_some_and(|end| end == "gguf")
}

/// The vocabulary that lies with a model, if there is one.
pub fn vocabulary(model: &Path) -> Result<Option<GgufVocabulary>> {
    if is_gguf(model) { GgufFile::open(model)?.vocabulary() } else { GgufVocabulary::from_dir(model) }
}

fn inspect(model: &Path) -> Result<Value> {
    if is_gguf(model) {
        return inspect_gguf(model);
    }
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

fn inspect_gguf(model: &Path) -> Result<Value> {
    let file = GgufFile::open(model)?;
    let (config, weights) = file.model()?;
    let config = ModelConfig::from(config);
    let (mut types, mut bytes) = (BTreeMap::new(), 0);
    for (_, tensor) in file.tensors() {
        *types.entry(tensor.kind.name()).or_insert(0) += 1;
        bytes += tensor.data.len();
    }
    let mut line = json!({
        "architecture": config.architecture(),
        "parameters": weights.parameters(),
        "bytes": bytes,
        "tensor_types": types,
        "config": config,
        "weights_hash": weights.hash(),
    });
    if let Some(vocabulary) = file.vocabulary()? {
        line["vocabulary"] = json!({
            "tokens": vocabulary.tokenizer.vocab_size(),
            "bos": vocabulary.special.bos,
            "eos": vocabulary.special.eos,
            "chat_template": vocabulary.chat_template.is_some(),
        });
    }
    Ok(line)
}

/// Whether a file is part of a model's size.
fn weighs(file: &str) -> bool {
    FILES.contains(&file) || file.ends_with(".safetensors") && file.starts_with("model-")
}

fn logits(model: &Path, tokens: &[u32], greedy: Option<usize>) -> Result<Value> {
    let decoder = decoder(model)?;
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
    let (config, weights, card) = merged(model, adapter)?;
    let stored_as = stored_as.unwrap_or_else(|| card.map_or(StoredAs::F32, |card| card.stored_as));
    let mut files = weights_to_files(&config, &weights, stored_as)?;
    let theirs = if is_gguf(model) {
        let vocabulary = vocabulary(model)?;
        let special = vocabulary.as_ref().map(|vocabulary| &vocabulary.special);
        if let Some(vocabulary) = &vocabulary {
            files.extend(vocabulary.to_files()?);
        }
        // What is not known is said to be nothing.
        let id = |of: fn(&SpecialTokens) -> Option<u32>| json!(special.and_then(of));
        let ends = json!({
            "bos_token_id": id(|s| s.bos), "eos_token_id": id(|s| s.eos), "pad_token_id": id(|s| s.pad),
        });
        ends.to_string().into_bytes()
    } else {
        read_limited(&model.join(FILES[0]), 1 << 20, "read the model's config")?
    };
    for (_, bytes) in files.iter_mut().filter(|(name, _)| name == FILES[0]) {
        *bytes = config_over(&theirs, bytes)?;
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

/// A transformer with an adapter merged into it.
fn merged(model: &Path, adapter: Option<&Path>) -> Result<(TransformerConfig, Weights, Option<Card>)> {
    let (config, mut weights, card) = read(model)?;
    if let Some(adapter) = adapter {
        weights = Adapter::load(adapter)?.merge_into(&weights)?;
    }
    let ModelConfig::Transformer(config) = config else {
        let reason = format!("other software has no {}", config.architecture());
        return Err(Error::config(model.display().to_string(), "model_type", reason, "give a transformer"));
    };
    Ok((config, weights, card))
}

fn as_quantization(stored_as: StoredAs) -> Quantization {
    if stored_as == StoredAs::F16 { Quantization::F16 } else { Quantization::F32 }
}

fn to_gguf(model: &Path, out: &Path, adapter: Option<&Path>, to: Option<Quantization>) -> Result<Value> {
    let file = out.display().to_string();
    if out.exists() {
        return Err(Error::config(file, "--out", "there is a file already", "choose another name"));
    }
    let (config, weights, card) = merged(model, adapter)?;
    let to = to.unwrap_or_else(|| card.map_or(Quantization::F32, |card| as_quantization(card.stored_as)));
    let mut metadata = Metadata::new(file);
    if let Some(name) = model.file_stem().and_then(|name| name.to_str()) {
        metadata.insert("general.name", name.into());
    }
    vocabulary_to_metadata(vocabulary(model)?.as_ref(), config.vocab_size, &mut metadata)?;
    if let Some(parent) = out.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Error::io("make the directory", parent, e))?;
    }
    let bytes = model_to_gguf(out, &config, &weights, to, metadata)?;
    Ok(json!({ "done": true, "file": out, "parameters": weights.parameters(), "bytes": bytes }))
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
