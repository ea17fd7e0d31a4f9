//! [`ModelConfig`]: the shape of a sequence model, whichever its architecture.

use super::config::TransformerConfig;
use super::config_json::{model_type, recurrent_from_json, recurrent_to_json};
use crate::error::{Error, Result};
use crate::nn::tape::Cell;
use serde::{Deserialize, Serialize};

/// The shape of a sequence model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ModelConfig {
    /// A decoder-only transformer.
    Transformer(TransformerConfig),
    /// A recurrent network.
    Recurrent(RecurrentConfig),
}

/// The shape of a recurrent network: embedding, recurrent layers, head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecurrentConfig {
    /// The recurrence.
    pub cell: Cell,
    /// Tokens.
    pub vocab_size: usize,
    /// Width of the embedding.
    pub embedding_size: usize,
    /// Width of the state.
    pub hidden_size: usize,
    /// Recurrent layers.
    pub num_hidden_layers: usize,
    /// The longest sequence; the state itself has no such bound.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding, which then has the state's width.
    pub tie_word_embeddings: bool,
}

impl RecurrentConfig {
    /// Refuses sizes that make no model, before anything is allocated for them.
    pub fn validate(&self, file: &str) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 20),
            ("embedding_size", self.embedding_size, 1 << 15),
            ("hidden_size", self.hidden_size, 1 << 15),
            ("num_hidden_layers", self.num_hidden_layers, 256),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 21),
        ];
        let remedy = "check that this is the config of a recurrent model of bevy_skald";
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(Error::config(file, field, format!("{size} is not in 1 to {most}"), remedy));
            }
        }
        if self.tie_word_embeddings && self.embedding_size != self.hidden_size {
            let reason = format!("{} is not `hidden_size`, and the head is tied", self.embedding_size);
            return Err(Error::config(file, "embedding_size", reason, remedy));
        }
        Ok(())
    }

    /// The name and shape of every tensor, sorted by name. Gates stand in `PyTorch`'s order.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (w, g) = (self.hidden_size, self.cell.gates() * self.hidden_size);
        let mut tensors =
            vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, self.embedding_size])];
        for layer in 0..self.num_hidden_layers {
            let inputs = if layer == 0 { self.embedding_size } else { w };
            let parts = [
                ("input_weight", vec![g, inputs]),
                ("hidden_weight", vec![g, w]),
                ("input_bias", vec![g]),
                ("hidden_bias", vec![g]),
            ];
            tensors.extend(parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}"), shape)));
        }
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, w]));
        }
        tensors.sort();
        tensors
    }
}

impl ModelConfig {
    /// Reads `config.json`. What this crate does not run is refused by name.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        if model_type(bytes, file)?.starts_with("skald_") {
            return recurrent_from_json(bytes, file).map(Self::Recurrent);
        }
        TransformerConfig::from_json(bytes, file).map(Self::Transformer)
    }

    /// Writes `config.json`.
    pub fn to_json(&self, half: bool) -> Result<Vec<u8>> {
        match self {
            Self::Transformer(config) => config.to_json(half),
            Self::Recurrent(config) => recurrent_to_json(config, half),
        }
    }

    /// Refuses sizes that make no model, before anything is allocated for them.
    pub fn validate(&self, file: &str) -> Result<()> {
        match self {
            Self::Transformer(config) => config.validate(file),
            Self::Recurrent(config) => config.validate(file),
        }
    }

    /// The name and shape of every tensor, sorted by name.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Transformer(config) => config.tensors(),
            Self::Recurrent(config) => config.tensors(),
        }
    }

    /// How many parameters the shape has; as many as a `usize` holds where it claims more.
    pub fn parameters(&self) -> usize {
        let product = |shape: &Vec<usize>| shape.iter().fold(1usize, |all, n| all.saturating_mul(*n));
        self.tensors().iter().map(|(_, shape)| product(shape)).fold(0, usize::saturating_add)
    }

    /// Tokens.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Transformer(config) => config.vocab_size,
            Self::Recurrent(config) => config.vocab_size,
        }
    }

    /// The longest context, in tokens.
    pub fn context(&self) -> usize {
        match self {
            Self::Transformer(config) => config.max_position_embeddings,
            Self::Recurrent(config) => config.max_position_embeddings,
        }
    }

    /// The architecture's name.
    pub fn architecture(&self) -> &'static str {
        use super::config::Family;
        match self {
            Self::Transformer(config) => match config.family {
                Family::Llama => "Transformer (Llama)",
                Family::Qwen2 => "Transformer (Qwen2)",
                Family::Qwen3 => "Transformer (Qwen3)",
                Family::Gpt2 => "Transformer (GPT-2)",
            },
            Self::Recurrent(config) => match config.cell {
                Cell::Rnn => "RNN",
                Cell::Gru => "GRU",
                Cell::Lstm => "LSTM",
            },
        }
    }
}

impl From<TransformerConfig> for ModelConfig {
    fn from(config: TransformerConfig) -> Self {
        Self::Transformer(config)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::{Activation, Family};

    pub(crate) fn recurrent(cell: Cell, tied: bool) -> ModelConfig {
        ModelConfig::Recurrent(RecurrentConfig {
            cell,
            vocab_size: 300,
            embedding_size: if tied { 20 } else { 12 },
            hidden_size: 20,
            num_hidden_layers: 2,
            max_position_embeddings: 64,
            tie_word_embeddings: tied,
        })
    }

    /// A small model of every architecture.
    pub(crate) fn every() -> Vec<ModelConfig> {
        let gpt2 = crate::model::TransformerConfig {
            family: Family::Gpt2,
            activation: Activation::GeluTanh,
            num_key_value_heads: 4,
            head_dim: 6,
            ..tiny()
        };
        let yarn = crate::model::RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: 16,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 1.2,
            truncate: true,
        };
        let mut all: Vec<ModelConfig> = [
            tiny(),
            crate::model::TransformerConfig { num_key_value_heads: 4, tie_word_embeddings: false, ..tiny() },
            crate::model::TransformerConfig { bias: true, mlp_bias: true, ..tiny() },
            crate::model::TransformerConfig { family: Family::Qwen2, ..tiny() },
            crate::model::TransformerConfig { family: Family::Qwen3, ..tiny() },
            crate::model::TransformerConfig { rope_scaling: Some(yarn), ..tiny() },
            crate::model::TransformerConfig { bias: true, ..gpt2.clone() },
            crate::model::TransformerConfig { activation: Activation::Gelu, ..gpt2 },
        ]
        .map(ModelConfig::from)
        .into();
        all.extend([Cell::Rnn, Cell::Gru, Cell::Lstm].map(|cell| recurrent(cell, cell == Cell::Gru)));
        all
    }

    #[test]
    fn every_config_survives_its_json() {
        for config in every() {
            let json = config.to_json(false).unwrap();
            assert_eq!(ModelConfig::from_json(&json, "c").unwrap(), config);
        }
    }

    #[test]
    fn absurd_recurrent_configs_are_refused_by_field() {
        let json = String::from_utf8(recurrent(Cell::Lstm, true).to_json(false).unwrap()).unwrap();
        for (from, to, field) in [
            ("\"hidden_size\": 20", "\"hidden_size\": 0", "hidden_size"),
            ("\"embedding_size\": 20", "\"embedding_size\": 24", "embedding_size"),
            ("skald_lstm", "skald_mamba", "model_type"),
            ("\"vocab_size\": 300", "\"vocab_size\": 1152921504606846976", "vocab_size"),
        ] {
            assert!(json.contains(from), "{from}");
            let error = ModelConfig::from_json(json.replace(from, to).as_bytes(), "config.json").unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
