//! [`TransformerConfig`]: the shape of a model, as Hugging Face's `config.json` writes it.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The shape of a decoder-only transformer of the Llama architecture (Touvron et al. 2023): `RMSNorm`, rotary
/// positions, grouped-query attention, `SwiGLU`. The names are those of Hugging Face's `LlamaConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
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
    /// Added to the mean square in norms.
    pub rms_norm_eps: f32,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
}

/// `config.json` as it is on disk: our fields and those that say whose architecture it is.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: String,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    torch_dtype: Option<String>,
    #[serde(default)]
    bos_token_id: Option<u32>,
    #[serde(default)]
    eos_token_id: Option<serde_json::Value>,
    #[serde(default)]
    pad_token_id: Option<u32>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    #[serde(default = "theta")]
    rope_theta: f32,
    rms_norm_eps: f32,
    #[serde(default)]
    tie_word_embeddings: bool,
}

fn silu() -> String {
    "silu".into()
}

fn theta() -> f32 {
    10_000.0
}

impl TransformerConfig {
    /// Reads `config.json`. What this crate does not run is refused by name.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let disk: OnDisk = serde_json::from_slice(bytes).map_err(|e| Error::Syntax {
            file: file.into(),
            line: e.line(),
            column: e.column(),
            reason: e.to_string().split(" at line ").next().unwrap_or("not JSON").to_owned(),
            remedy: "give the config.json of a Llama-style model".into(),
        })?;
        let supported = [
            ("model_type", disk.model_type == "llama", "is not `llama`"),
            ("hidden_act", disk.hidden_act == "silu", "is not `silu`"),
            ("attention_bias", !disk.attention_bias, "is true"),
            ("mlp_bias", !disk.mlp_bias, "is true"),
            ("rope_scaling", disk.rope_scaling.as_ref().is_none_or(serde_json::Value::is_null), "is set"),
        ];
        if let Some((field, _, what)) = supported.iter().find(|(_, good, _)| !good) {
            let reason = format!("the value {what}, which is not supported");
            return Err(Error::config(file, *field, reason, "use a plain Llama-style model"));
        }
        let heads = disk.num_attention_heads;
        let config = Self {
            vocab_size: disk.vocab_size,
            hidden_size: disk.hidden_size,
            intermediate_size: disk.intermediate_size,
            num_hidden_layers: disk.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: disk.num_key_value_heads.unwrap_or(heads),
            head_dim: disk.head_dim.unwrap_or_else(|| disk.hidden_size.checked_div(heads).unwrap_or(0)),
            max_position_embeddings: disk.max_position_embeddings,
            rope_theta: disk.rope_theta,
            rms_norm_eps: disk.rms_norm_eps,
            tie_word_embeddings: disk.tie_word_embeddings,
        };
        config.validate(file)?;
        Ok(config)
    }

    /// Writes `config.json`.
    pub fn to_json(&self, half: bool) -> Result<Vec<u8>> {
        let disk = OnDisk {
            architectures: vec!["LlamaForCausalLM".into()],
            model_type: "llama".into(),
            hidden_act: silu(),
            attention_bias: false,
            mlp_bias: false,
            rope_scaling: None,
            torch_dtype: Some(if half { "float16" } else { "float32" }.into()),
            bos_token_id: Some(1),
            eos_token_id: Some(2.into()),
            pad_token_id: Some(0),
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: Some(self.num_key_value_heads),
            head_dim: Some(self.head_dim),
            max_position_embeddings: self.max_position_embeddings,
            rope_theta: self.rope_theta,
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings,
        };
        serde_json::to_vec_pretty(&disk).map_err(|e| Error::backend("writing config.json", e))
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
            Err(Error::config(file, field, reason, "check that this is a Llama-style config"))
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
        if !self.head_dim.is_multiple_of(2) {
            return wrong("head_dim", format!("{} is odd, and halves are rotated", self.head_dim));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return wrong("rope_theta", format!("{} is out of range", self.rope_theta));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 0.1) {
            return wrong("rms_norm_eps", format!("{} is out of range", self.rms_norm_eps));
        }
        Ok(())
    }

    /// The name and shape of every tensor, sorted by name. Shapes are `[out, in]` as in `PyTorch`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (h, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, h]),
            ("model.norm.weight".to_owned(), vec![h]),
        ];
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, h]));
        }
        for layer in 0..self.num_hidden_layers {
            let parts: [(&str, Vec<usize>); 9] = [
                ("input_layernorm", vec![h]),
                ("post_attention_layernorm", vec![h]),
                ("self_attn.q_proj", vec![q, h]),
                ("self_attn.k_proj", vec![kv, h]),
                ("self_attn.v_proj", vec![kv, h]),
                ("self_attn.o_proj", vec![h, q]),
                ("mlp.gate_proj", vec![f, h]),
                ("mlp.up_proj", vec![f, h]),
                ("mlp.down_proj", vec![h, f]),
            ];
            tensors.extend(parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)));
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
            vocab_size: 300,
            hidden_size: 24,
            intermediate_size: 40,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            max_position_embeddings: 64,
            rope_theta: 10_000.0,
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
