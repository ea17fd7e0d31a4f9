//! [`ModelShape`]: which network a run trains, as it stands in a config.

use crate::model::{Activation, Family, ModelConfig, RecurrentConfig, TransformerConfig};
use crate::nn::tape::Cell;
use serde::{Deserialize, Serialize};

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
    /// A transformer as GPT-2's: layer norms, learned positions, exact GELU as nanoGPT has it (a base of `OpenAI`'s keeps its
    /// approximation).
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
    /// Each size: its name, whether it is in range, and the range.
    pub(super) fn rules(&self) -> Vec<(&'static str, bool, &'static str)> {
        let size = |value: usize, most: usize| (1..=most).contains(&value);
        let recurrent = self.architecture.cell().is_some();
        let gates =
            recurrent && [self.heads, self.kv_heads, self.intermediate_size].iter().any(Option::is_some);
        let gpt2 = matches!(self.architecture, Architecture::Gpt2 { .. });
        vec![
            ("model.hidden_size", size(self.hidden_size, 1 << 15), "1 to 32768"),
            ("model.layers", size(self.layers, 256), "1 to 256"),
            ("model.heads", !gates, "no heads or `intermediate_size`, which recurrent networks do not have"),
            ("model.heads", size(self.heads(), 512), "1 to 512"),
            (
                "model.heads",
                recurrent || divides(self.heads(), self.hidden_size),
                "a divisor of `model.hidden_size`",
            ),
            ("model.kv_heads", size(self.kv_heads(), 512), "1 to 512"),
            ("model.kv_heads", divides(self.kv_heads(), self.heads()), "a divisor of `model.heads`"),
            (
                "model.kv_heads",
                !gpt2 || self.kv_heads.is_none_or(|n| n == self.heads()),
                "`model.heads`, as GPT-2 has it",
            ),
            ("model.intermediate_size", size(self.intermediate_size(), 1 << 17), "1 to 131072"),
            (
                "model.embedding_size",
                recurrent || self.embedding_size.is_none(),
                "none: a transformer's is `hidden_size`",
            ),
            ("model.context", size(self.context, 1 << 21), "1 to 2097152"),
        ]
    }

    /// Whether what comes last scales the logits and nothing else.
    pub(super) fn can_be_calibrated(&self) -> bool {
        self.architecture.cell().is_none() || !self.tied()
    }

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
            Architecture::Gpt2 { .. } => (Family::Gpt2, Activation::Gelu),
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
            rope_scaling: None,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: self.tied(),
        })
    }
}

/// Whether `n` goes into `whole` without a rest.
fn divides(n: usize, whole: usize) -> bool {
    n > 0 && whole.is_multiple_of(n)
}
