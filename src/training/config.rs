//! [`TrainingConfig`]: a training run, as a RON file.

use super::objective::Objective;
use super::privacy::PrivacyConfig;
use super::schedule::{Rates, Schedule};
use super::shape::ModelShape;
use crate::error::{Error, Result};
use crate::model::{LoraConfig, StoredAs};
use crate::nn::optim::OptimizerConfig;
use serde::{Deserialize, Serialize};

/// A training run. Unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// The network's shape, of a model that is trained from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelShape>,
    /// The model to begin with instead: a checkpoint or Hugging Face directory, whose tokenizer is used too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What learns instead of the base's own weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adaptation>,
    /// What is made smaller.
    #[serde(default)]
    pub objective: Objective,
    /// How text becomes tokens, where there is no base that says so.
    #[serde(default)]
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
    /// How the players are hidden whose play is learned (DP-SGD). None: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyConfig>,
    /// How the model is stored.
    #[serde(default)]
    pub stored_as: StoredAs,
}

/// What learns in the place of a model's own weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Adaptation {
    /// A low-rank adapter (Hu et al. 2022), saved in `adapter/` of the run in the layout of `peft`. The checkpoint itself
    /// has it merged.
    Lora {
        /// Rows of each `A`, columns of each `B`.
        rank: usize,
        /// Divided by the rank, how much of `B A` is added.
        alpha: f32,
        /// The layers' parts that are adapted: `q_proj`, `v_proj`, `down_proj`, ..
        targets: Vec<String>,
    },
}

impl Adaptation {
    /// The low-rank adapter, if it is one.
    pub fn lora(&self) -> Option<LoraConfig> {
        let Self::Lora { rank, alpha, targets } = self;
        Some(LoraConfig { rank: *rank, alpha: *alpha, targets: targets.clone() })
    }
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

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenizerKind {
    /// A token a character.
    #[default]
    Characters,
    /// Byte-level BPE with this many tokens, special ones included.
    Bpe(usize),
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
        let size = |value: usize, most: usize| (1..=most).contains(&value);
        // The widest thing a step keeps for each of its tokens.
        let wide = self.rows.div_ceil(self.accumulate.max(1)).checked_mul(self.sequence);
        let vocabulary = match self.tokenizer {
            TokenizerKind::Characters => true,
            TokenizerKind::Bpe(size) => (259..=1 << 20).contains(&size),
        };
        let rules = [
            ("model", self.model.is_some() != self.base.is_some(), "either `model` or `base`"),
            ("adapter", self.adapter.is_none() || self.base.is_some(), "none, or a `base` that it adapts"),
            (
                "objective",
                !self.objective.is_preference() || self.base.is_some(),
                "another, or a `base` whose taste is changed",
            ),
            (
                "calibrate",
                !self.calibrate || self.objective == Objective::Likelihood,
                "false, with this objective",
            ),
            ("ema", self.adapter.is_none() || self.ema.is_none(), "none, with an adapter"),
            ("tokenizer", self.base.is_some() || vocabulary, "Bpe(259) to Bpe(1048576)"),
            ("steps", (1..=1_000_000_000).contains(&self.steps), "1 or more"),
            ("sequence", (2..=1 << 16).contains(&self.sequence), "2 to 65536"),
            ("rows", size(self.rows, 1 << 14), "1 to 16384"),
            (
                "rows",
                wide.is_some_and(|tokens| tokens <= 1 << 22),
                "fewer, or more parts: rows x sequence / accumulate is at most 2^22",
            ),
            ("accumulate", size(self.accumulate, self.rows), "1 to `rows`"),
            ("ema", self.ema.is_none_or(|decay| (0.0..1.0).contains(&decay)), "0 or more, below 1"),
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
        rules.extend(self.objective.rules());
        rules.extend(self.privacy.iter().flat_map(PrivacyConfig::rules));
        if let Some(model) = &self.model {
            rules.extend(model.rules());
            rules.push(("sequence", self.sequence <= model.context, "at most `model.context`"));
            let remedy = "false, or `model.tied: false`: the head of a recurrent network is then scaled";
            rules.push(("calibrate", !self.calibrate || model.can_be_calibrated(), remedy));
        }
        if let Some((field, _, range)) = rules.iter().find(|(_, holds, _)| !holds) {
            return Err(Error::config(file, *field, "the value is out of range", format!("choose {range}")));
        }
        let Some(model) = &self.model else { return Ok(()) };
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

    /// Every config that is shipped reads as what it is.
    #[test]
    fn shipped_configs_are_valid() {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Within { training: Box<TrainingConfig> },
            Plain(Box<TrainingConfig>),
        }
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/training");
        let mut read = 0;
        for file in std::fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            let (text, name) = (std::fs::read_to_string(&path).unwrap(), path.display().to_string());
            // First as itself: an untagged enum does not say what is wrong.
            let config =
                TrainingConfig::from_ron(&text, &name).or_else(|error| {
                    match crate::files::parse_ron::<Any>(&text, &name) {
                        Ok(Any::Within { training } | Any::Plain(training)) => Ok(*training),
                        Err(_) => Err(error),
                    }
                });
            config.unwrap().validate(&name).unwrap();
            read += 1;
        }
        assert!(read >= 8, "{read}");
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
