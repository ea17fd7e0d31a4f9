//! The shape of a model, from a GGUF file's metadata and into it.

use super::names::ROPE_FACTORS;
use super::read::GgufFile;
use super::value::{Metadata, MetadataValue};
use crate::error::{Error, Result};
use crate::model::config::{Activation, Family, TransformerConfig};
use crate::model::rope_scaling::RopeScaling;

const ARCHITECTURE: &str = "general.architecture";
const FAMILIES: [(&str, Family); 3] =
    [("llama", Family::Llama), ("qwen2", Family::Qwen2), ("qwen3", Family::Qwen3)];

/// Values of one architecture: their keys begin with its name.
struct Values<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Values<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn count(&self, name: &str) -> Result<Option<usize>> {
        self.metadata.count(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f32>> {
        self.metadata.number(&self.key(name))
    }

    fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.metadata.wrong(&self.key(name), "the value is missing"))
    }

    fn unsupported(&self, name: &str, reason: impl Into<String>) -> Error {
        let remedy = "use a plain Llama, Qwen2, Qwen3 or SmolLM model";
        Error::config(self.metadata.file(), self.key(name), reason, remedy)
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.needed(name, self.count(name)?)
    }
}

impl GgufFile {
    /// The model's shape (architectures llama, qwen2 and qwen3). What this crate does not run is refused by name.
    pub fn config(&self) -> Result<TransformerConfig> {
        let metadata = self.metadata();
        let architecture = metadata.text(ARCHITECTURE)?.unwrap_or_default();
        let values = Values { metadata, architecture };
        let Some((_, family)) = FAMILIES.iter().find(|(name, _)| *name == architecture) else {
            let reason = format!("the architecture `{architecture}` is not supported");
            let remedy = "use a Llama, Qwen2, Qwen3 or SmolLM model";
            return Err(Error::config(self.name(), ARCHITECTURE, reason, remedy));
        };
        if let Some(parts) = metadata.count("split.count")?.filter(|parts| *parts > 1) {
            let reason = format!("the model is split into {parts} files");
            let remedy = "join them with `llama-gguf-split --merge`";
            return Err(Error::config(self.name(), "split.count", reason, remedy));
        }
        if values.count("expert_count")?.is_some_and(|experts| experts > 0) {
            return Err(values.unsupported("expert_count", "a mixture of experts is not supported"));
        }
        let hidden_size = values.size("embedding_length")?;
        let heads = values.size("attention.head_count")?;
        let head_dim = values
            .count("attention.key_length")?
            .unwrap_or_else(|| hidden_size.checked_div(heads).unwrap_or(0));
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = values.count(name)?.filter(|other| *other != head_dim) {
                return Err(values.unsupported(name, format!("{other} is not the heads' width {head_dim}")));
            }
        }
        let context = values.size("context_length")?;
        let window = values.count("attention.sliding_window")?;
        if window.is_some_and(|window| window > 0 && window < context) {
            let reason = "a sliding window shorter than the context is not supported";
            return Err(values.unsupported("attention.sliding_window", reason));
        }
        let embedding = self.tensor("token_embd.weight").ok_or_else(|| {
            let remedy = "copy or download the file again";
            Error::weights(self.name(), "token_embd.weight", "a tensor is missing", remedy)
        })?;
        let has = |name: &str| self.tensor(name).is_some();
        let epsilon = "attention.layer_norm_rms_epsilon";
        let mut config = TransformerConfig {
            family: *family,
            vocab_size: embedding.shape[0],
            hidden_size,
            intermediate_size: values.size("feed_forward_length")?,
            num_hidden_layers: values.size("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: values.count("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            max_position_embeddings: context,
            rope_theta: values.number("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: None,
            rms_norm_eps: values.needed(epsilon, values.number(epsilon)?)?,
            tie_word_embeddings: !has("output.weight"),
            activation: Activation::SwiGlu,
            bias: *family != Family::Qwen2 && has("blk.0.attn_q.bias"),
            mlp_bias: *family == Family::Llama && has("blk.0.ffn_up.bias"),
        };
        config.validate(self.name())?;
        config.rope_scaling = self.rope_scaling(&values, &config)?;
        config.validate(self.name())?;
        Ok(config)
    }

    fn rope_scaling(&self, values: &Values<'_>, config: &TransformerConfig) -> Result<Option<RopeScaling>> {
        let factor = values.number("rope.scaling.factor")?.filter(|factor| *factor != 0.0);
        let kind = values.metadata.text(&values.key("rope.scaling.type"))?.unwrap_or("none");
        let scaling = match (kind, factor) {
            ("none", _) | ("linear" | "yarn", None) => None,
            ("linear", Some(factor)) => Some(RopeScaling::Linear { factor }),
            ("yarn", Some(factor)) => {
                let sharper = values.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
                let length = values.count("rope.scaling.original_context_length")?;
                Some(RopeScaling::Yarn {
                    factor,
                    original_max_position_embeddings: length.unwrap_or(config.max_position_embeddings),
                    beta_fast: values.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                    beta_slow: values.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                    attention_factor: sharper * RopeScaling::yarn_attention(factor),
                    truncate: true,
                })
            }
            (other, _) => {
                let reason = format!("the scaling of positions `{other}` is not supported");
                return Err(values.unsupported("rope.scaling.type", reason));
            }
        };
        let Some(factors) = self.tensor(ROPE_FACTORS) else { return Ok(scaling) };
        let factors = factors.dequantize();
        if factors.iter().all(|factor| *factor == 1.0) {
            return Ok(scaling);
        }
        if scaling.is_some() {
            let reason = format!("`{kind}` together with `{ROPE_FACTORS}` is not supported");
            return Err(values.unsupported("rope.scaling.type", reason));
        }
        Ok(Some(named(factors, config)))
    }
}

/// Llama 3's scaling is stored as its factors; its own numbers are found again where they are the usual ones.
fn named(factors: Vec<f32>, config: &TransformerConfig) -> RopeScaling {
    let usual = RopeScaling::Llama3 {
        factor: factors.iter().copied().fold(1.0, f32::max),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let divisors = usual.divisors(&config.rotary_frequencies().0, config.rope_theta);
    let same = |(factor, divisor): (&f32, &f64)| (f64::from(*factor) / divisor - 1.0).abs() < 1e-4;
    let all = factors.len() == divisors.len() && factors.iter().zip(&divisors).all(same);
    if all { usual } else { RopeScaling::Factors(factors) }
}

/// The shape as metadata, and the divisors of the rotary frequencies where they are a tensor.
pub(super) fn to_metadata(config: &TransformerConfig, metadata: &mut Metadata) -> Result<Option<Vec<f32>>> {
    let Some((architecture, _)) = FAMILIES.iter().find(|(_, family)| *family == config.family) else {
        let reason = format!("a {:?} is not written as GGUF", config.family);
        return Err(Error::config(
            metadata.file(),
            "model_type",
            reason,
            "give a Llama, Qwen2 or Qwen3 model",
        ));
    };
    metadata.insert(ARCHITECTURE, (*architecture).into());
    let mut put = |name: &str, value: MetadataValue| {
        metadata.insert(format!("{architecture}.{name}"), value);
    };
    for (name, size) in [
        ("vocab_size", config.vocab_size),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ] {
        // `validate` bounds them all.
        put(name, MetadataValue::U32(size as u32));
    }
    put("rope.freq_base", MetadataValue::F32(config.rope_theta));
    put("attention.layer_norm_rms_epsilon", MetadataValue::F32(config.rms_norm_eps));
    match &config.rope_scaling {
        None => Ok(None),
        Some(RopeScaling::Linear { factor }) => {
            put("rope.scaling.type", "linear".into());
            put("rope.scaling.factor", MetadataValue::F32(*factor));
            Ok(None)
        }
        Some(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            attention_factor,
            truncate: true,
        }) => {
            put("rope.scaling.type", "yarn".into());
            put("rope.scaling.factor", MetadataValue::F32(*factor));
            let length = *original_max_position_embeddings as u32;
            put("rope.scaling.original_context_length", MetadataValue::U32(length));
            for (name, value, usual) in [
                ("yarn_beta_fast", *beta_fast, 32.0),
                ("yarn_beta_slow", *beta_slow, 1.0),
                ("attn_factor", attention_factor / RopeScaling::yarn_attention(*factor), 1.0),
            ] {
                if value != usual {
                    put(&format!("rope.scaling.{name}"), MetadataValue::F32(value));
                }
            }
            Ok(None)
        }
        Some(RopeScaling::Yarn { .. }) => {
            let reason = "llama.cpp rounds the bounds of yarn, and this model does not";
            Err(Error::config(metadata.file(), "rope_scaling.truncate", reason, "convert to hf instead"))
        }
        Some(scaling) => {
            let plain = TransformerConfig { rope_scaling: None, ..config.clone() };
            let divisors = scaling.divisors(&plain.rotary_frequencies().0, config.rope_theta);
            Ok(Some(divisors.into_iter().map(|divisor| divisor as f32).collect()))
        }
    }
}
