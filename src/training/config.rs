//! [`TrainingConfig`]: a training run, as a RON file.

use super::schedule::{Rates, Schedule};
use crate::error::{Error, Result};
use crate::model::{Activation, Family, ModelConfig, RecurrentConfig, StoredAs, TransformerConfig};
use crate::nn::optim::OptimizerConfig;
use crate::nn::tape::Cell;
use serde::{Deserialize, Serialize};

/// A training run. Unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// The network's shape.
    pub model: ModelShape,
    /// How text becomes tokens.
    pub tokenizer: TokenizerKind,
    /// Derives every random stream.
    #[serde(default)]
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Length of a packed row, in tokens.
    pub sequence: usize,
    /// Rows in a batch.
    pub rows: usize,
    /// In how many parts a batch is learned, one after the other, with the gradient of the whole: less memory, the same
    /// result.
    #[serde(default = "one_part")]
    pub accumulate: usize,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The learning rate at the end.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// Steps over which the rate rises from 0.
    #[serde(default)]
    pub warmup_steps: u64,
    /// How the rate falls afterwards.
    #[serde(default)]
    pub schedule: Schedule,
    /// The highest global gradient norm (0: any).
    #[serde(default = "one")]
    pub clip_norm: f64,
    /// The share of activations dropped.
    #[serde(default)]
    pub dropout: f32,
    /// How much of each target is spread over the vocabulary.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Steps between two resume points.
    pub checkpoint_every: u64,
    /// Validations without improvement before training stops early (0: never).
    #[serde(default)]
    pub patience: u64,
    /// Which model is kept.
    #[serde(default)]
    pub keep: Keep,
    /// Whether the kept model is calibrated: its logits are divided by the temperature at which the validation
    /// set costs least (Guo et al. 2017), by way of the last norm. A model that knows its corpus well is too sure
    /// of itself elsewhere; what it prefers stays the same.
    #[serde(default)]
    pub calibrate: bool,
    /// The decay of a running mean of the weights, which is then what is validated and kept (0.999, say; Polyak and
    /// Juditsky 1992). None: the weights themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// How the model is stored.
    #[serde(default)]
    pub stored_as: StoredAs,
}

/// Which model of a run is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// The one with the lowest validation loss.
    #[default]
    Best,
    /// The last. A small model that has to speak in whole sentences from a small corpus does so only after its
    /// validation loss has passed its lowest point.
    Last,
}

fn one() -> f64 {
    1.0
}

fn one_part() -> usize {
    1
}

/// Which network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// A transformer as Llama's: `RMSNorm`, rotary positions, grouped queries, `SwiGLU`.
    #[default]
    Transformer,
    /// A transformer as Qwen2's: Llama's with biases on queries, keys and values.
    Qwen2,
    /// A transformer as Qwen3's: Llama's with an `RMSNorm` on each head's queries and keys.
    Qwen3,
    /// A transformer as GPT-2's: layer norms, learned positions, GELU.
    Gpt2 {
        /// Whether layers and norms have biases (nanoGPT's `bias`).
        bias: bool,
    },
    /// An Elman network.
    Rnn,
    /// Gated recurrent units.
    Gru,
    /// Long short-term memory.
    Lstm,
}

impl Architecture {
    /// The recurrence, of a recurrent network.
    fn cell(self) -> Option<Cell> {
        match self {
            Self::Rnn => Some(Cell::Rnn),
            Self::Gru => Some(Cell::Gru),
            Self::Lstm => Some(Cell::Lstm),
            _ => None,
        }
    }
}

/// The network's shape, but for what the vocabulary decides. Sizes that are left out are chosen as is usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Which network.
    #[serde(default)]
    pub architecture: Architecture,
    /// Width of the residual stream, or of a recurrent network's state.
    pub hidden_size: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads of a transformer (default: as many as make them 64 wide, or one).
    #[serde(default)]
    pub heads: Option<usize>,
    /// Key/value heads of a transformer (default: `heads`).
    #[serde(default)]
    pub kv_heads: Option<usize>,
    /// Width inside a transformer's feed-forward block (default: 4 times `hidden_size` for GPT-2, else 8/3 of it in steps
    /// of 32, which makes as many parameters).
    #[serde(default)]
    pub intermediate_size: Option<usize>,
    /// Width of a recurrent network's embedding (default: `hidden_size`). A transformer's is `hidden_size`.
    #[serde(default)]
    pub embedding_size: Option<usize>,
    /// Whether the output head is the embedding (default: yes, where their widths agree).
    #[serde(default)]
    pub tied: Option<bool>,
    /// The longest context of the model, in tokens.
    pub context: usize,
}

impl ModelShape {
    fn heads(&self) -> usize {
        self.heads.unwrap_or(if self.hidden_size.is_multiple_of(64) { self.hidden_size / 64 } else { 1 })
    }

    fn kv_heads(&self) -> usize {
        let gpt2 = matches!(self.architecture, Architecture::Gpt2 { .. });
        if gpt2 { self.heads() } else { self.kv_heads.unwrap_or_else(|| self.heads()) }
    }

    fn intermediate_size(&self) -> usize {
        self.intermediate_size.unwrap_or_else(|| match self.architecture {
            Architecture::Gpt2 { .. } => 4usize.saturating_mul(self.hidden_size),
            _ => (self.hidden_size.saturating_mul(8) / 3).div_ceil(32) * 32,
        })
    }

    fn tied(&self) -> bool {
        self.tied.unwrap_or_else(|| self.embedding_size.is_none_or(|size| size == self.hidden_size))
    }

    /// The whole shape, for a vocabulary of this size.
    pub fn config(&self, vocab_size: usize) -> ModelConfig {
        if let Some(cell) = self.architecture.cell() {
            return ModelConfig::Recurrent(RecurrentConfig {
                cell,
                vocab_size,
                embedding_size: self.embedding_size.unwrap_or(self.hidden_size),
                hidden_size: self.hidden_size,
                num_hidden_layers: self.layers,
                max_position_embeddings: self.context,
                tie_word_embeddings: self.tied(),
            });
        }
        let (family, activation) = match self.architecture {
            Architecture::Qwen2 => (Family::Qwen2, Activation::SwiGlu),
            Architecture::Qwen3 => (Family::Qwen3, Activation::SwiGlu),
            Architecture::Gpt2 { .. } => (Family::Gpt2, Activation::GeluTanh),
            _ => (Family::Llama, Activation::SwiGlu),
        };
        ModelConfig::Transformer(TransformerConfig {
            family,
            activation,
            bias: self.architecture == Architecture::Gpt2 { bias: true },
            mlp_bias: false,
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size(),
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads(),
            num_key_value_heads: self.kv_heads(),
            head_dim: self.hidden_size.checked_div(self.heads()).unwrap_or(0),
            max_position_embeddings: self.context,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: self.tied(),
        })
    }
}

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenizerKind {
    /// A token a character.
    Characters,
    /// Byte-level BPE with this many tokens, special ones included.
    Bpe(usize),
}

/// Whether `n` goes into `whole` without a rest.
fn divides(n: usize, whole: usize) -> bool {
    n > 0 && whole.is_multiple_of(n)
}

impl TrainingConfig {
    /// Reads a config. `file` is for messages.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let config: Self = crate::files::parse_ron(text, file)?;
        config.validate(file)?;
        Ok(config)
    }

    /// Refuses what makes no run, naming the field.
    pub fn validate(&self, file: &str) -> Result<()> {
        let share = |value: f32| (0.0..1.0).contains(&value);
        let model = &self.model;
        let size = |value: usize, most: usize| (1..=most).contains(&value);
        // The widest thing a step keeps for each of its tokens.
        let wide = self.rows.div_ceil(self.accumulate.max(1)).checked_mul(self.sequence);
        let recurrent = model.architecture.cell().is_some();
        let gates =
            recurrent && [model.heads, model.kv_heads, model.intermediate_size].iter().any(Option::is_some);
        let gpt2 = matches!(model.architecture, Architecture::Gpt2 { .. });
        let vocabulary = match self.tokenizer {
            TokenizerKind::Characters => true,
            TokenizerKind::Bpe(size) => (259..=1 << 20).contains(&size),
        };
        let rules = [
            ("model.hidden_size", size(model.hidden_size, 1 << 15), "1 to 32768"),
            ("model.layers", size(model.layers, 256), "1 to 256"),
            ("model.heads", !gates, "no heads or `intermediate_size`, which recurrent networks do not have"),
            ("model.heads", size(model.heads(), 512), "1 to 512"),
            (
                "model.heads",
                recurrent || divides(model.heads(), model.hidden_size),
                "a divisor of `model.hidden_size`",
            ),
            ("model.kv_heads", size(model.kv_heads(), 512), "1 to 512"),
            ("model.kv_heads", divides(model.kv_heads(), model.heads()), "a divisor of `model.heads`"),
            (
                "model.kv_heads",
                !gpt2 || model.kv_heads.is_none_or(|n| n == model.heads()),
                "`model.heads`, as GPT-2 has it",
            ),
            ("model.intermediate_size", size(model.intermediate_size(), 1 << 17), "1 to 131072"),
            (
                "model.embedding_size",
                recurrent || model.embedding_size.is_none(),
                "none: a transformer's is `hidden_size`",
            ),
            ("model.context", size(model.context, 1 << 21), "1 to 2097152"),
            ("tokenizer", vocabulary, "Bpe(259) to Bpe(1048576)"),
            ("steps", (1..=1_000_000_000).contains(&self.steps), "1 or more"),
            ("sequence", (2..=1 << 16).contains(&self.sequence), "2 to 65536"),
            ("sequence", self.sequence <= self.model.context, "at most `model.context`"),
            ("rows", size(self.rows, 1 << 14), "1 to 16384"),
            (
                "rows",
                wide.is_some_and(|tokens| tokens <= 1 << 22),
                "fewer, or more parts: rows x sequence / accumulate is at most 2^22",
            ),
            ("accumulate", size(self.accumulate, self.rows), "1 to `rows`"),
            ("ema", self.ema.is_none_or(|decay| (0.0..1.0).contains(&decay)), "0 or more, below 1"),
            (
                "calibrate",
                !self.calibrate || !recurrent || !model.tied(),
                "false, or `model.tied: false`: the head of a recurrent network is then scaled",
            ),
            ("learning_rate", self.learning_rate > 0.0 && self.learning_rate <= 10.0, "above 0, at most 10"),
            (
                "min_learning_rate",
                (0.0..=self.learning_rate).contains(&self.min_learning_rate),
                "0 to `learning_rate`",
            ),
            ("warmup_steps", self.warmup_steps < self.steps, "less than `steps`"),
            ("clip_norm", self.clip_norm >= 0.0 && self.clip_norm.is_finite(), "0 or more"),
            ("dropout", share(self.dropout), "0 or more, below 1"),
            ("label_smoothing", share(self.label_smoothing), "0 or more, below 1"),
            ("validate_every", self.validate_every > 0, "1 or more"),
            ("checkpoint_every", self.checkpoint_every > 0, "1 or more"),
        ];
        let mut rules = rules.to_vec();
        rules.extend(self.optimizer.rules());
        if let Some((field, _, range)) = rules.iter().find(|(_, holds, _)| !holds) {
            return Err(Error::config(file, *field, "the value is out of range", format!("choose {range}")));
        }
        let shape = model.config(match self.tokenizer {
            TokenizerKind::Characters => 1,
            TokenizerKind::Bpe(size) => size,
        });
        shape.validate(file)?;
        // Weights, gradient and two moments in f32, and copies while they are saved.
        if shape.parameters() > 1 << 30 {
            let reason = format!("the network would have {} parameters", shape.parameters());
            return Err(Error::config(file, "model", reason, "choose sizes that make at most 2^30"));
        }
        Ok(())
    }

    /// The learning rate of a step, the first being 1.
    pub fn rate(&self, step: u64) -> f64 {
        Rates {
            schedule: self.schedule,
            warmup: self.warmup_steps,
            steps: self.steps,
            high: self.learning_rate,
            low: self.min_learning_rate,
        }
        .at(step)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn small() -> TrainingConfig {
        TrainingConfig::from_ron(
            "(model: (hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 24, context: 32),
              tokenizer: Characters, steps: 20, sequence: 16, rows: 2, learning_rate: 0.01,
              warmup_steps: 4, dropout: 0.1, validate_every: 5, checkpoint_every: 7, stored_as: F32)",
            "small.ron",
        )
        .unwrap()
    }

    #[test]
    fn senseless_configs_are_refused_by_field() {
        let text = ron::to_string(&small()).unwrap();
        for (from, to, field) in [
            ("steps:20", "steps:0", "steps"),
            ("sequence:16", "sequence:64", "sequence"),
            ("dropout:0.1", "dropout:1.5", "dropout"),
            ("heads:Some(2)", "heads:3", "model.heads"),
            ("kv_heads:Some(1)", "kv_heads:0", "model.kv_heads"),
            ("architecture:Transformer", "architecture:Lstm", "model.heads"),
            ("embedding_size:None", "embedding_size:8", "model.embedding_size"),
            ("accumulate:1", "accumulate:3", "accumulate"),
            ("calibrate:false", "ema:1.5,calibrate:false", "ema"),
            ("context:32", "context:99999999", "model.context"),
            ("hidden_size:16", "hidden_size:0", "model.hidden_size"),
            ("tokenizer:Characters", "tokenizer:Bpe(7)", "tokenizer"),
            ("learning_rate:0.01", "learning_rate:-1.0", "learning_rate"),
            ("learning_rate:0.01", "learning_rate:NaN", "learning_rate"),
            ("rows:2", "rows:16385", "rows"),
            ("seed:0", "sead:0", "sead"),
            ("rows:2", "rows:\"two\"", "small.ron:1"),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            let error =
                TrainingConfig::from_ron(&text.replace(from, to), "small.ron").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
