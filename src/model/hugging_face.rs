//! Hugging Face directories in and out: the names, layouts and files of `transformers`.
//!
//! Inside the crate every family's tensors have Llama's names. In a file GPT-2's have their own: its linear layers are
//! `[in, out]`, and one matrix, `c_attn`, holds queries, keys and values.

use super::config::{Family, TransformerConfig};
use super::weights::{StoredAs, Weights, decoded};
use crate::error::{Error, Result};
use crate::files::read_limited;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

const CONFIG: &str = "config.json";
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOGETHER: &str = "check that config.json and the weights belong together";

/// Reads a directory that `transformers` saved: `config.json`, and `model.safetensors` or its shards. No other file is
/// needed. Names may lack their prefix (`model.`, `transformer.`), buffers are passed over, and a tied head may be there
/// if it equals the embedding. A tensor that is missing, too many or of another shape is an error naming it and its file.
pub fn weights_from_dir(dir: &Path) -> Result<(TransformerConfig, Weights)> {
    let path = dir.join(CONFIG);
    let json = read_limited(&path, 1 << 20, "read the model's config")?;
    let config = TransformerConfig::from_json(&json, &path.display().to_string())?;
    let (files, index) = shards(dir)?;
    let mut length = 0u64;
    for file in &files {
        let path = dir.join(file);
        let meta = std::fs::metadata(&path).map_err(|e| Error::io("read the model's weights", &path, e))?;
        length = length.saturating_add(meta.len());
    }
    // Nothing is read from files that cannot be this model's.
    let name = dir.join(if index.is_some() { INDEX } else { WHOLE }).display().to_string();
    let (least, most) = sizes(&config);
    if !(least..=most).contains(&length) {
        let reason = format!("{length} bytes of weights, where the config makes {least} to {most}");
        return Err(Error::weights(name, "", reason, TOGETHER));
    }
    let mut found = Found::default();
    for file in &files {
        let path = dir.join(file);
        let bytes = read_limited(&path, most, "read the model's weights")?;
        found.add(&config, &bytes, &path.display().to_string())?;
    }
    if let Some(index) = index {
        found.check_index(&config, &index, dir, &name)?;
    }
    Ok((config.clone(), found.into_weights(&config, &name)?))
}

/// The files of a directory that `transformers` loads: `config.json` and `model.safetensors`. A GPT-2 without biases
/// (`skald_bias: false`) is written with biases of zero, which compute the same.
pub fn weights_to_files(
    config: &TransformerConfig,
    weights: &Weights,
    stored_as: StoredAs,
) -> Result<Vec<(String, Vec<u8>)>> {
    let json = config.to_json(stored_as == StoredAs::F16)?;
    let named = to_named(config, weights)?.to_safetensors(stored_as)?;
    Ok(vec![(CONFIG.to_owned(), json), (WHOLE.to_owned(), named)])
}

/// Reads one safetensors file with all of a model's tensors as `transformers` names them. `file` is its name, for messages.
pub fn weights_from_bytes(config: &TransformerConfig, bytes: &[u8], file: &str) -> Result<Weights> {
    let mut found = Found::default();
    found.add(config, bytes, file)?;
    found.into_weights(config, file)
}

/// The model's tensors as `transformers` names and lays them out.
pub(super) fn to_named(config: &TransformerConfig, weights: &Weights) -> Result<Weights> {
    weights.check(&config.tensors(), "weights")?;
    let stored = |stored: Stored| {
        let each = stored.shape.iter().product::<usize>() / stored.holds.len();
        let parts = stored.holds.iter().map(|name| weights.get(name).map(|(_, values)| values));
        let values: Vec<f32> =
            parts.flat_map(|part| part.map_or_else(|| vec![0.0; each], <[f32]>::to_vec)).collect();
        let values = if stored.turned { turned(&values, stored.shape[0]) } else { values };
        (prefixed(config, &stored.name), (stored.shape, values))
    };
    Weights::new(layout(config).into_iter().map(stored).collect())
}

/// One tensor of a file.
struct Stored {
    /// Without prefix.
    name: String,
    /// In the file.
    shape: Vec<usize>,
    /// Which of ours it holds, one above the other.
    holds: Vec<String>,
    /// Whether it is the transpose of ours.
    turned: bool,
}

/// What a file holds. A GPT-2's biases are among them even where ours has none.
fn layout(config: &TransformerConfig) -> Vec<Stored> {
    let gpt2 = config.family == Family::Gpt2;
    let config = TransformerConfig { bias: config.bias || gpt2, ..config.clone() };
    let mut all = Vec::new();
    for (ours, mut shape) in config.tensors() {
        let name = ours.strip_prefix("model.").unwrap_or(&ours);
        if !gpt2 {
            all.push(Stored { name: name.to_owned(), shape, holds: vec![ours], turned: false });
            continue;
        }
        let Some(name) = theirs(name) else { continue };
        let fused = ours.contains("q_proj");
        let holds = if fused {
            ["q_proj", "k_proj", "v_proj"].map(|part| ours.replace("q_proj", part)).into()
        } else {
            vec![ours]
        };
        shape[0] *= holds.len();
        let turned = name.starts_with("h.") && shape.len() == 2;
        if turned {
            shape.reverse();
        }
        all.push(Stored { name, shape, holds, turned });
    }
    all
}

/// What GPT-2's parts are called here and there.
const NAMES: [(&str, &str); 9] = [
    ("embed_tokens", "wte"),
    ("embed_positions", "wpe"),
    ("input_layernorm", "ln_1"),
    ("post_attention_layernorm", "ln_2"),
    ("self_attn.q_proj", "attn.c_attn"),
    ("self_attn.o_proj", "attn.c_proj"),
    ("mlp.up_proj", "mlp.c_fc"),
    ("mlp.down_proj", "mlp.c_proj"),
    ("norm.", "ln_f."),
];

/// What GPT-2 calls one of our tensors, both without prefix. Keys and values have no name of their own.
pub(super) fn theirs(ours: &str) -> Option<String> {
    if ours.starts_with("lm_head") {
        return Some(ours.to_owned());
    }
    let (from, to) = NAMES.iter().find(|(from, _)| ours.contains(from))?;
    Some(ours.replacen("layers.", "h.", 1).replacen(from, to, 1))
}

/// What we call one of GPT-2's tensors: of queries, keys and values, the queries.
pub(super) fn ours(theirs: &str) -> Option<String> {
    let (to, from) = NAMES.iter().find(|(_, from)| theirs.contains(from))?;
    let layers = theirs.strip_prefix("h.").map(|rest| format!("layers.{rest}"));
    Some(layers.unwrap_or_else(|| theirs.to_owned()).replacen(from, to, 1))
}

fn prefix(config: &TransformerConfig) -> &'static str {
    if config.family == Family::Gpt2 { "transformer." } else { "model." }
}

/// A tensor's name in a file.
pub(super) fn prefixed(config: &TransformerConfig, name: &str) -> String {
    let prefix = if name.starts_with("lm_head") { "" } else { prefix(config) };
    format!("{prefix}{name}")
}

/// Whether a tensor is no weight: masks and frequencies that are computed.
fn is_buffer(config: &TransformerConfig, name: &str) -> bool {
    let mask = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    name.ends_with("rotary_emb.inv_freq") || (config.family == Family::Gpt2 && mask)
}

/// The fewest and the most bytes that the weights of a model take: two to four for each, with room for a head that is tied, for
/// buffers and for names.
fn sizes(config: &TransformerConfig) -> (u64, u64) {
    let parameters = config.parameters() as u64;
    let head = (config.vocab_size as u64).saturating_mul(config.hidden_size as u64);
    let context = config.max_position_embeddings as u64;
    let masks = if config.rotary() {
        0
    } else {
        context.saturating_mul(context).saturating_mul(config.num_hidden_layers as u64)
    };
    let most = parameters.saturating_add(head).saturating_add(masks).saturating_mul(4);
    (parameters.saturating_mul(2), most.saturating_add(1 << 24))
}

/// Rows become columns: `[rows, width]` -> `[width, rows]`.
fn turned(values: &[f32], width: usize) -> Vec<f32> {
    /// Columns at a time, so that what is read and what is written stay in the cache.
    const BLOCK: usize = 16;
    let rows = values.len().checked_div(width).unwrap_or(0);
    let mut out = vec![0.0; values.len()];
    for first in (0..width).step_by(BLOCK) {
        for (row, values) in values.chunks_exact(width).enumerate() {
            for column in first..width.min(first + BLOCK) {
                out[column * rows + row] = values[column];
            }
        }
    }
    out
}

type Index = BTreeMap<String, String>;

/// The files that hold the weights, and the index that says so.
fn shards(dir: &Path) -> Result<(BTreeSet<String>, Option<Index>)> {
    #[derive(Deserialize)]
    struct Disk {
        weight_map: Index,
    }
    let path = dir.join(INDEX);
    if dir.join(WHOLE).exists() || !path.exists() {
        return Ok(([WHOLE.to_owned()].into(), None));
    }
    let bytes = read_limited(&path, 1 << 26, "read the index of the weights")?;
    let file = path.display().to_string();
    let disk: Disk = serde_json::from_slice(&bytes).map_err(|e| Error::Syntax {
        file: file.clone(),
        line: e.line(),
        column: e.column(),
        reason: e.to_string().split(" at line ").next().unwrap_or("not JSON").to_owned(),
        remedy: "copy the whole model again".into(),
    })?;
    for (tensor, shard) in &disk.weight_map {
        let mut parts = Path::new(shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || shard.contains(['/', '\\', ':']) {
            let reason = format!("`{shard}` is not the name of a file beside it");
            return Err(Error::config(
                file,
                format!("weight_map.{tensor}"),
                reason,
                "name files of the same directory",
            ));
        }
    }
    let files: BTreeSet<String> = disk.weight_map.values().cloned().collect();
    if files.is_empty() {
        return Err(Error::config(file, "weight_map", "no file is named", "copy the whole model again"));
    }
    Ok((files, Some(disk.weight_map)))
}

/// Tensors read so far, by their names without prefix.
#[derive(Default)]
struct Found(BTreeMap<String, Read>);

/// A tensor as it was read.
struct Read {
    file: String,
    /// With its prefix, if it has one.
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Found {
    fn add(&mut self, config: &TransformerConfig, bytes: &[u8], file: &str) -> Result<()> {
        let parsed = SafeTensors::deserialize(bytes).map_err(|e| {
            let remedy = "check that the file is whole and is a safetensors file";
            Error::weights(file, "", format!("the weights cannot be read: {e}"), remedy)
        })?;
        for (name, view) in parsed.iter().filter(|(name, _)| !is_buffer(config, name)) {
            let bare = name.strip_prefix(prefix(config)).unwrap_or(name);
            match self.0.entry(bare.to_owned()) {
                Entry::Occupied(before) => {
                    let reason = format!("the tensor is also in {}", before.get().file);
                    return Err(Error::weights(file, name, reason, "keep one of them"));
                }
                Entry::Vacant(free) => {
                    let values = decoded(name, &view, file)?;
                    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                        let reason = format!("value {at} is {}", values[at]);
                        return Err(Error::weights(file, name, reason, "use another checkpoint"));
                    }
                    free.insert(Read {
                        file: file.to_owned(),
                        name: name.to_owned(),
                        shape: view.shape().to_vec(),
                        values,
                    });
                }
            }
        }
        Ok(())
    }

    /// Every tensor is in the file that the index says.
    fn check_index(&self, config: &TransformerConfig, index: &Index, dir: &Path, file: &str) -> Result<()> {
        for (name, shard) in index.iter().filter(|(name, _)| !is_buffer(config, name)) {
            let bare = name.strip_prefix(prefix(config)).unwrap_or(name);
            let path = dir.join(shard).display().to_string();
            if self.0.get(bare).is_none_or(|read| read.file != path) {
                let reason = format!("the tensor is not in {shard}");
                return Err(Error::weights(file, name, reason, "copy the whole model again"));
            }
        }
        Ok(())
    }

    /// `whole` is where a missing tensor should have been.
    fn into_weights(mut self, config: &TransformerConfig, whole: &str) -> Result<Weights> {
        let expected: BTreeMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        let mut ours = BTreeMap::new();
        for stored in layout(config) {
            let wanted = expected.contains_key(&stored.holds[0]);
            let Some(Read { file, name, shape, values }) = self.0.remove(&stored.name) else {
                if wanted {
                    let name = prefixed(config, &stored.name);
                    return Err(Error::weights(whole, name, "a tensor is missing", TOGETHER));
                }
                continue;
            };
            if shape != stored.shape {
                let reason = format!("the shape is {shape:?} and should be {:?}", stored.shape);
                return Err(Error::weights(file, name, reason, TOGETHER));
            }
            if !wanted {
                if values.iter().any(|value| *value != 0.0) {
                    let reason = "the bias is not zero, and config.json says `skald_bias: false`";
                    return Err(Error::weights(file, name, reason, "remove `skald_bias` from config.json"));
                }
                continue;
            }
            let values = if stored.turned { turned(&values, stored.shape[1]) } else { values };
            let parts = match stored.holds.len() {
                1 => vec![values],
                count => values.chunks_exact(values.len() / count).map(<[f32]>::to_vec).collect(),
            };
            for (hold, part) in stored.holds.into_iter().zip(parts) {
                let shape = expected[&hold].clone();
                ours.insert(hold, (shape, part));
            }
        }
        self.check_rest(config, &ours)?;
        Weights::new(ours)
    }

    /// What is left over may only be a tied head.
    fn check_rest(
        &self,
        config: &TransformerConfig,
        ours: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ) -> Result<()> {
        for (bare, Read { file, name, values, .. }) in &self.0 {
            if bare != "lm_head.weight" || !config.tie_word_embeddings {
                return Err(Error::weights(file, name, "the model has no such tensor", TOGETHER));
            }
            if ours.get("model.embed_tokens.weight").is_none_or(|(_, embedding)| embedding != values) {
                let reason =
                    "the head is not the embedding, and config.json says `tie_word_embeddings: true`";
                return Err(Error::weights(file, name, reason, "set `tie_word_embeddings: false`"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
