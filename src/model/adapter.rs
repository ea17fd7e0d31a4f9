//! [`Adapter`]: low-rank changes to a model's weights (`LoRA`, Hu et al. 2022), in the files of `peft`.
//!
//! A weight `W [out, in]` becomes `W + alpha / rank * B A`, with `A [rank, in]` and `B [out, rank]`. Inside the crate names are
//! those of [`super::TransformerConfig::tensors`]; in a file GPT-2's queries, keys and values share one pair.

use super::config::{Family, TransformerConfig};
use super::hugging_face::{ours, prefixed, theirs};
use super::weights::{StoredAs, Weights};
use crate::error::{Error, Result};
use crate::files::{read_limited, write_atomic};
use crate::nn::{Matrix, matmul};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// What `peft` puts before each name.
const PREFIX: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// The largest rank.
const MOST: usize = 1 << 14;

/// A `LoRA` adapter. See the module's documentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Rows of each `A`, columns of each `B`.
    pub rank: usize,
    /// Divided by the rank, how much of `B A` is added.
    pub alpha: f32,
    /// The base model: [`Weights::hash`], which [`Adapter::merge_into`] checks, or a name or path, or nothing.
    pub base_model: String,
    /// `NAME.lora_A.weight [rank, in]` and `NAME.lora_B.weight [out, rank]` for each adapted `NAME.weight`.
    tensors: Tensors,
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// `adapter_config.json`; of what is not here, `peft`'s defaults hold.
#[derive(Serialize, Deserialize)]
struct Disk {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    lora_dropout: f32,
    target_modules: Value,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f32>,
    #[serde(default)]
    inference_mode: bool,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Fields that change what is computed. None of them may be set.
const VARIANTS: [&str; 10] = [
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
];

fn none() -> String {
    "none".into()
}

fn wrong(file: &str, tensor: &str, reason: impl Into<String>) -> Error {
    Error::weights(file, tensor, reason, "check that the adapter's files belong together and to this model")
}

impl Adapter {
    /// From its tensors. Fails where a pair is not whole or a shape is not of this rank.
    pub fn new(rank: usize, alpha: f32, base_model: impl Into<String>, tensors: Tensors) -> Result<Self> {
        Self::checked(Self { rank, alpha, base_model: base_model.into(), tensors }, "adapter")
    }

    fn checked(self, file: &str) -> Result<Self> {
        if !(1..=MOST).contains(&self.rank) || !self.alpha.is_finite() {
            let reason = format!("rank {} and alpha {} make no adapter", self.rank, self.alpha);
            return Err(Error::config(file, "r", reason, "use a rank of at least 1 and a finite alpha"));
        }
        if self.tensors.is_empty() {
            return Err(wrong(file, "", "the adapter has no tensor"));
        }
        for (name, (shape, values)) in &self.tensors {
            let (other, side) = match (name.strip_suffix(A), name.strip_suffix(B)) {
                (Some(target), _) => (format!("{target}{B}"), 0),
                (_, Some(target)) => (format!("{target}{A}"), 1),
                _ => return Err(wrong(file, name, "the tensor is no `lora_A.weight` or `lora_B.weight`")),
            };
            if !self.tensors.contains_key(&other) {
                return Err(wrong(file, &other, "a tensor is missing"));
            }
            if shape.len() != 2 || shape[side] != self.rank {
                let reason = format!("the shape is {shape:?}, and the rank {}", self.rank);
                return Err(wrong(file, name, reason));
            }
            if shape[0].checked_mul(shape[1]) != Some(values.len())
                || values.iter().any(|value| !value.is_finite())
            {
                return Err(wrong(file, name, "its values do not fit its shape, or are not all finite"));
            }
        }
        Ok(self)
    }

    /// The tensors, `NAME.lora_A.weight` and `NAME.lora_B.weight`.
    pub fn tensors(&self) -> &BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        &self.tensors
    }

    /// The parts that are adapted, without layers: `q_proj`, `down_proj`, ..
    pub fn targets(&self) -> BTreeSet<&str> {
        self.tensors.keys().filter_map(|name| name.strip_suffix(A)?.rsplit('.').next()).collect()
    }

    fn states_hash(&self) -> bool {
        self.base_model.len() == 64 && self.base_model.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// Whether it was made for weights of this hash ([`Weights::hash`]), where it says so.
    pub fn check_base(&self, hash: &str) -> Result<()> {
        if self.states_hash() && self.base_model != hash {
            let remedy = "use it with the model that it was trained on";
            return Err(Error::weights("adapter", "", "the adapter was made for other weights", remedy));
        }
        Ok(())
    }

    /// The weights with the adapter added. Fails if it adapts what they do not have, or not in this shape, or was made for
    /// weights of another hash.
    pub fn merge_into(&self, base: &Weights) -> Result<Weights> {
        if self.states_hash() {
            self.check_base(&base.hash())?;
        }
        let scale = self.alpha / self.rank as f32;
        let mut merged: Tensors =
            base.iter().map(|(name, s, v)| (name.to_owned(), (s.to_vec(), v.to_vec()))).collect();
        for (name, (a_shape, a)) in &self.tensors {
            let Some(target) = name.strip_suffix(A) else { continue };
            let (b_shape, b) = &self.tensors[&format!("{target}{B}")];
            let weight = format!("{target}.weight");
            let Some((shape, values)) = merged.get_mut(&weight) else {
                return Err(wrong("adapter", name, format!("the model has no `{weight}` to adapt")));
            };
            if *shape != [b_shape[0], a_shape[1]] {
                let reason =
                    format!("it is for {:?}, and the model's weight is {shape:?}", [b_shape[0], a_shape[1]]);
                return Err(wrong("adapter", name, reason));
            }
            let [out, inputs] = [shape[0], shape[1]];
            let (b, a) = (Matrix::new(b, self.rank), Matrix::new(a, inputs));
            matmul((values, inputs), [out, self.rank, inputs], b, a, [1.0, scale], true);
        }
        Weights::new(merged)
    }

    /// Reads `adapter_config.json` and `adapter_model.safetensors`. What this crate does not compute (`DoRA`, biases, whole
    /// modules) is refused by field.
    pub fn load(dir: &Path) -> Result<Self> {
        let (config, tensors) = (dir.join(CONFIG), dir.join(TENSORS));
        let config_bytes = read_limited(&config, 1 << 20, "read the adapter's config")?;
        let bytes = read_limited(&tensors, 1 << 32, "read the adapter's weights")?;
        let names = [config.display().to_string(), tensors.display().to_string()];
        Self::from_bytes(&config_bytes, &bytes, [&names[0], &names[1]])
    }

    fn from_bytes(config: &[u8], tensors: &[u8], [file, tensors_file]: [&str; 2]) -> Result<Self> {
        let disk: Disk = serde_json::from_slice(config).map_err(|e| Error::Syntax {
            file: file.into(),
            line: e.line(),
            column: e.column(),
            reason: e.to_string().split(" at line ").next().unwrap_or("not JSON").to_owned(),
            remedy: "give the adapter_config.json of a LoRA adapter".into(),
        })?;
        disk.check(file)?;
        let read = Weights::from_safetensors(tensors, tensors_file)?;
        let mut all = Tensors::new();
        for (name, shape, values) in read.iter() {
            for (ours, tensor) in disk.ours(name, shape, values).ok_or_else(|| {
                let reason = format!("the tensor {shape:?} is none of a LoRA adapter of rank {}", disk.r);
                wrong(tensors_file, name, reason)
            })? {
                all.insert(ours, tensor);
            }
        }
        let root = if disk.use_rslora { (disk.r as f32).sqrt() } else { 1.0 };
        let base_model = disk.base_model_name_or_path.unwrap_or_default();
        Self { rank: disk.r, alpha: disk.lora_alpha * root, base_model, tensors: all }.checked(tensors_file)
    }

    /// Writes the two files into `dir`, for `peft` to load onto what `transformers` makes of `config`.
    pub fn save(&self, dir: &Path, config: &TransformerConfig) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make the adapter's directory", dir, e))?;
        for (name, bytes) in self.to_files(config)? {
            write_atomic(&dir.join(name), &bytes)?;
        }
        Ok(())
    }

    fn to_files(&self, config: &TransformerConfig) -> Result<[(&'static str, Vec<u8>); 2]> {
        let shapes: BTreeMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        for (name, (shape, _)) in &self.tensors {
            let target = name.strip_suffix(A).or_else(|| name.strip_suffix(B)).unwrap_or(name);
            let fits =
                |of: &Vec<usize>| if name.ends_with(A) { of[1] == shape[1] } else { of[0] == shape[0] };
            if !shapes.get(&format!("{target}.weight")).is_some_and(|of| of.len() == 2 && fits(of)) {
                return Err(wrong(
                    "adapter",
                    name,
                    format!("the model has no weight for {shape:?} to adapt"),
                ));
            }
        }
        let gpt2 = config.family == Family::Gpt2;
        let (tensors, wide) = self.theirs(config);
        let pattern = if wide { [("c_attn".to_owned(), 3 * self.rank)].into() } else { BTreeMap::new() };
        let modules: BTreeSet<String> = tensors
            .keys()
            .filter_map(|name| {
                let mut parts = name.strip_suffix(A)?.rsplit('.');
                let last = parts.next()?;
                // Attention's and the feed-forward block's `c_proj` are two.
                Some(if last == "c_proj" { format!("{}.{last}", parts.next()?) } else { last.to_owned() })
            })
            .collect();
        let disk = Disk {
            peft_type: "LORA".into(),
            task_type: Some("CAUSAL_LM".into()),
            base_model_name_or_path: Some(self.base_model.clone()),
            r: self.rank,
            lora_alpha: self.alpha,
            lora_dropout: 0.0,
            target_modules: modules.into_iter().collect(),
            fan_in_fan_out: gpt2,
            bias: none(),
            use_rslora: false,
            use_dora: false,
            lora_bias: false,
            modules_to_save: None,
            alpha_pattern: pattern.keys().map(|name| (name.clone(), 3.0 * self.alpha)).collect(),
            rank_pattern: pattern,
            inference_mode: true,
            others: BTreeMap::new(),
        };
        let json = serde_json::to_vec_pretty(&disk)
            .map_err(|e| Error::backend("writing the adapter's config", e))?;
        Ok([(CONFIG, json), (TENSORS, Weights::new(tensors)?.to_safetensors(StoredAs::F32)?)])
    }

    /// The tensors by `peft`'s names, and whether the pairs of queries, keys and values became one of three times the rank: the
    /// `A`s one above the other, the `B`s along a diagonal.
    fn theirs(&self, config: &TransformerConfig) -> (Tensors, bool) {
        let mut all = Tensors::new();
        if config.family != Family::Gpt2 {
            let named = self.tensors.iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor.clone()));
            return (named.collect(), false);
        }
        let get = |target: &str, side: &str| self.tensors.get(&format!("{target}{side}"));
        let parts =
            |layer: usize| ["q", "k", "v"].map(|x| format!("model.layers.{layer}.self_attn.{x}_proj"));
        let shared = |layer: usize| {
            let [q, k, v] = parts(layer).map(|part| get(&part, A));
            q == k && k == v
        };
        let wide = (0..config.num_hidden_layers).any(|layer| !shared(layer));
        for layer in 0..config.num_hidden_layers {
            let parts = parts(layer);
            if parts.iter().all(|part| get(part, A).is_none()) {
                continue;
            }
            let (h, r) = (config.hidden_size, self.rank);
            let width = if wide { 3 * r } else { r };
            let (mut a, mut b) = (vec![0.0; width * h], vec![0.0; 3 * h * width]);
            for (n, part) in parts.iter().enumerate() {
                let (Some((_, from_a)), Some((_, from_b))) = (get(part, A), get(part, B)) else { continue };
                let at = if wide { n * r } else { 0 };
                a[at * h..][..r * h].copy_from_slice(from_a);
                for (row, from) in from_b.chunks_exact(r).enumerate() {
                    b[(n * h + row) * width + at..][..r].copy_from_slice(from);
                }
            }
            let name = format!("{PREFIX}transformer.h.{layer}.attn.c_attn");
            all.insert(format!("{name}{A}"), (vec![width, h], a));
            all.insert(format!("{name}{B}"), (vec![3 * h, width], b));
        }
        for (name, tensor) in &self.tensors {
            let bare = name.strip_prefix("model.").unwrap_or(name);
            if let Some(theirs) = theirs(bare).filter(|theirs| !theirs.contains("c_attn")) {
                all.insert(format!("{PREFIX}{}", prefixed(config, &theirs)), tensor.clone());
            }
        }
        (all, wide)
    }
}

impl Disk {
    fn check(&self, file: &str) -> Result<()> {
        // A pattern is what this crate writes for GPT-2's queries, keys and values, and no other.
        let patterns: BTreeSet<&String> = self.rank_pattern.keys().chain(self.alpha_pattern.keys()).collect();
        let ours = self.rank_pattern.get("c_attn").is_some_and(|rank| Some(*rank) == self.r.checked_mul(3))
            && self.alpha_pattern.get("c_attn").is_some_and(|alpha| *alpha == 3.0 * self.lora_alpha)
            && !self.use_rslora;
        let unset = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if let Some(field) = VARIANTS.iter().find(|field| !self.others.get(**field).is_none_or(unset)) {
            return Err(Error::config(
                file,
                *field,
                "it is set, which is not supported",
                "use a plain LoRA adapter",
            ));
        }
        let claims = [
            ("r", (1..=MOST).contains(&self.r), "is out of range (1 to 16384)"),
            ("peft_type", self.peft_type == "LORA", "is not `LORA`"),
            ("bias", self.bias == "none", "is not `none`"),
            ("use_dora", !self.use_dora, "is true"),
            ("lora_bias", !self.lora_bias, "is true"),
            ("modules_to_save", self.modules_to_save.as_ref().is_none_or(Vec::is_empty), "is not empty"),
            (
                "rank_pattern",
                patterns.is_empty() || (patterns.len() == 1 && ours),
                "gives modules ranks of their own",
            ),
        ];
        match claims.iter().find(|(_, good, _)| !good) {
            Some((field, _, what)) => {
                let reason = format!("the value {what}, which is not supported");
                Err(Error::config(file, *field, reason, "use a plain LoRA adapter"))
            }
            None => Ok(()),
        }
    }

    /// What a tensor of the file is by our names, or nothing if it is none of an adapter.
    fn ours(
        &self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Option<Vec<(String, (Vec<usize>, Vec<f32>))>> {
        let name = name.strip_prefix(PREFIX)?;
        let (target, side) = name.strip_suffix(A).map(|t| (t, A)).or(name.strip_suffix(B).map(|t| (t, B)))?;
        if shape.len() != 2 {
            return None;
        }
        let gpt2 = target.strip_prefix("transformer.").or(target.starts_with("h.").then_some(target));
        let Some(bare) = gpt2 else {
            let named = if target.starts_with("lm_head") || target.starts_with("model.") {
                target.into()
            } else {
                format!("model.{target}")
            };
            return Some(vec![(format!("{named}{side}"), (shape.to_vec(), values.to_vec()))]);
        };
        let Some(layer) = bare.strip_suffix(".attn.c_attn") else {
            return Some(vec![(format!("model.{}{side}", ours(bare)?), (shape.to_vec(), values.to_vec()))]);
        };
        let layer = layer.strip_prefix("h.")?;
        let (rows, width) = (shape[0], shape[1]);
        let r = self.r;
        let wide = if side == A { rows } else { width } != r;
        let parts = ["q", "k", "v"].iter().enumerate().map(|(n, x)| {
            let named = format!("model.layers.{layer}.self_attn.{x}_proj{side}");
            let values = match (side == A, wide) {
                (true, false) => values.to_vec(),
                (true, true) => values.get(n * r * width..(n + 1) * r * width)?.to_vec(),
                (false, _) => {
                    let rows = rows / 3;
                    let part = &values[n * rows * width..(n + 1) * rows * width];
                    let inside = |at: usize| !wide || (n * r..(n + 1) * r).contains(&at);
                    // Along the diagonal, or not ours.
                    let stray = part.iter().enumerate().any(|(i, value)| !inside(i % width) && *value != 0.0);
                    if stray {
                        return None;
                    }
                    part.iter()
                        .enumerate()
                        .filter(|(i, _)| inside(i % width))
                        .map(|(_, value)| *value)
                        .collect()
                }
            };
            let shape = if side == A { vec![r, width] } else { vec![rows / 3, r] };
            Some((named, (shape, values)))
        });
        let fits = if side == A {
            rows == if wide { 3 * r } else { r }
        } else {
            rows % 3 == 0 && (!wide || width == 3 * r)
        };
        if fits { parts.collect() } else { None }
    }
}

#[cfg(test)]
mod tests;
