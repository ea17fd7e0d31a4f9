//! [`TransformerConfig`]: the shape of a model, as Hugging Face's `config.json` writes it.

use super::rope_scaling::RopeScaling;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which public architecture a transformer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// Llama and `SmolLM` (Touvron et al. 2023): `RMSNorm`, rotary positions, grouped queries, `SwiGLU`.
    #[default]
    Llama,
    /// Llama with biases on queries, keys and values.
    Qwen2,
    /// Llama with an `RMSNorm` on each head's queries and keys.
    Qwen3,
    /// GPT-2 (Radford et al. 2019): layer norms, learned positions, GELU.
    Gpt2,
}

/// What stands between the two matrices of a feed-forward block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `silu(gate) * up`.
    #[default]
    SwiGlu,
    /// GELU, exactly.
    Gelu,
    /// GELU by the hyperbolic tangent, as GPT-2 has it.
    GeluTanh,
}

/// The shape of a decoder-only transformer. The names are those of Hugging Face's `LlamaConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// The architecture.
    pub family: Family,
    /// Tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; each serves `num_attention_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The longest context, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// How the frequencies are changed for contexts longer than the first, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square (or the variance) in norms.
    pub rms_norm_eps: f32,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// The feed-forward block's activation.
    pub activation: Activation,
    /// Whether attention's projections have biases where the family leaves the choice; for GPT-2, whether any layer has.
    pub bias: bool,
    /// Whether the feed-forward block's matrices have biases (Llama only; GPT-2's follow `bias`).
    pub mlp_bias: bool,
}

impl TransformerConfig {
    /// Reads `config.json`. What this crate does not run is refused by name.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        super::config_json::transformer_from_json(bytes, file)
    }

    /// Writes `config.json`.
    pub fn to_json(&self, half: bool) -> Result<Vec<u8>> {
        super::config_json::transformer_to_json(self, half)
    }

    /// Whether queries, keys and values have biases.
    pub fn qkv_bias(&self) -> bool {
        self.family == Family::Qwen2 || self.bias
    }

    /// Whether attention's output has a bias.
    pub fn output_bias(&self) -> bool {
        self.family != Family::Qwen2 && self.bias
    }

    /// Whether the feed-forward block has biases.
    pub fn feed_forward_bias(&self) -> bool {
        if self.family == Family::Gpt2 { self.bias } else { self.mlp_bias }
    }

    /// Whether norms subtract the mean and, with `bias`, add one.
    pub fn layer_norms(&self) -> bool {
        self.family == Family::Gpt2
    }

    /// Whether positions are rotations (or else learned vectors).
    pub fn rotary(&self) -> bool {
        self.family != Family::Gpt2
    }

    /// Whether each head's queries and keys are normed.
    pub fn head_norms(&self) -> bool {
        self.family == Family::Qwen3
    }

    /// Refuses sizes that make no model, before anything is allocated for them.
    pub fn validate(&self, file: &str) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 20),
            ("hidden_size", self.hidden_size, 1 << 15),
            ("intermediate_size", self.intermediate_size, 1 << 17),
            ("num_hidden_layers", self.num_hidden_layers, 256),
            ("num_attention_heads", self.num_attention_heads, 512),
            ("num_key_value_heads", self.num_key_value_heads, 512),
            ("head_dim", self.head_dim, 1024),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 21),
        ];
        let wrong = |field: &str, reason: String| {
            Err(Error::config(file, field, reason, "check that this is the config of a supported model"))
        };
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return wrong(field, format!("{size} is out of range (1 to {most})"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let reason = format!("{} query heads cannot share them evenly", self.num_attention_heads);
            return wrong("num_key_value_heads", reason);
        }
        if self.rotary() && !self.head_dim.is_multiple_of(2) {
            return wrong("head_dim", format!("{} is odd, and halves are rotated", self.head_dim));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return wrong("rope_theta", format!("{} is out of range", self.rope_theta));
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.validate(self, file)?;
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 0.1) {
            return wrong("rms_norm_eps", format!("{} is out of range", self.rms_norm_eps));
        }
        if (self.activation == Activation::SwiGlu) == (self.family == Family::Gpt2) {
            return wrong("activation", "it is not one of this architecture".into());
        }
        Ok(())
    }

    /// The name and shape of every tensor, sorted by name. Shapes are `[out, in]` as in `PyTorch`. Names are Llama's for every
    /// family; in a file, GPT-2's are its own.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (h, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, h])];
        let mut add = |name: String, shape: Vec<usize>, bias: bool| {
            if bias {
                tensors.push((format!("{name}.bias"), vec![shape[0]]));
            }
            tensors.push((format!("{name}.weight"), shape));
        };
        let norm_bias = self.layer_norms() && self.bias;
        add("model.norm".into(), vec![h], norm_bias);
        if !self.tie_word_embeddings {
            add("lm_head".into(), vec![self.vocab_size, h], false);
        }
        if !self.rotary() {
            add("model.embed_positions".into(), vec![self.max_position_embeddings, h], false);
        }
        for layer in 0..self.num_hidden_layers {
            let mut part = |part: &str, shape, bias| add(format!("model.layers.{layer}.{part}"), shape, bias);
            part("input_layernorm", vec![h], norm_bias);
            part("post_attention_layernorm", vec![h], norm_bias);
            part("self_attn.q_proj", vec![q, h], self.qkv_bias());
            part("self_attn.k_proj", vec![kv, h], self.qkv_bias());
            part("self_attn.v_proj", vec![kv, h], self.qkv_bias());
            part("self_attn.o_proj", vec![h, q], self.output_bias());
            if self.head_norms() {
                part("self_attn.q_norm", vec![self.head_dim], false);
                part("self_attn.k_norm", vec![self.head_dim], false);
            }
            if self.activation == Activation::SwiGlu {
                part("mlp.gate_proj", vec![f, h], self.feed_forward_bias());
            }
            part("mlp.up_proj", vec![f, h], self.feed_forward_bias());
            part("mlp.down_proj", vec![h, f], self.feed_forward_bias());
        }
        tensors.sort();
        tensors
    }

    /// How many parameters that is. Saturates instead of overflowing.
    pub fn parameters(&self) -> usize {
        let count = |shape: &Vec<usize>| shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
        self.tensors().iter().fold(0, |sum, (_, shape)| sum.saturating_add(count(shape)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tiny() -> TransformerConfig {
        TransformerConfig {
            family: Family::Llama,
            activation: Activation::SwiGlu,
            bias: false,
            mlp_bias: false,
            vocab_size: 300,
            hidden_size: 24,
            intermediate_size: 40,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            max_position_embeddings: 64,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
        }
    }

    #[test]
    fn a_config_survives_its_json() {
        let config = tiny();
        assert_eq!(TransformerConfig::from_json(&config.to_json(true).unwrap(), "c").unwrap(), config);
    }

    #[test]
    fn absurd_or_foreign_configs_are_refused_by_field() {
        let json = String::from_utf8(tiny().to_json(false).unwrap()).unwrap();
        for (from, to, field) in [
            ("\"vocab_size\": 300", "\"vocab_size\": 1152921504606846976", "vocab_size"),
            ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "num_hidden_layers"),
            ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads"),
            ("\"llama\"", "\"mamba\"", "model_type"),
            ("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"x\"}", "rope_scaling"),
            ("\"hidden_size\": 24", "\"hidden_size\": -1", "config.json:"),
        ] {
            assert!(json.contains(from), "{from}");
            let error =
                TransformerConfig::from_json(json.replace(from, to).as_bytes(), "config.json").unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
