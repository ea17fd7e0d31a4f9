//! A model's weights, from a GGUF file and into one.

use super::config::to_metadata;
use super::names::{ROPE_FACTORS, in_our_order, reordered, theirs, turned_heads};
use super::read::GgufFile;
use super::tensor_type::TensorType;
use super::value::{Metadata, MetadataValue};
use super::write::{GgufOutput, write_gguf};
use crate::error::{Error, Result};
use crate::model::config::TransformerConfig;
use crate::model::weights::Weights;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

const TOGETHER: &str = "copy or convert the file again";

/// One of a model's tensors as it is stored, with its rows in our order.
#[derive(Clone, Debug)]
pub struct GgufBlocks<'a> {
    /// How the values are stored.
    pub kind: TensorType,
    /// `[out, in]`, as in `PyTorch`.
    pub shape: &'a [usize],
    /// The blocks, row by row. Borrowed, but where llama.cpp orders rows another way than we do.
    pub data: Cow<'a, [u8]>,
}

impl GgufFile {
    /// A model's tensor by our name (`model.layers.0.mlp.up_proj.weight`).
    pub fn blocks(&self, config: &TransformerConfig, name: &str) -> Result<GgufBlocks<'_>> {
        let wrong = |tensor: &str, reason: &str| Error::weights(self.name(), tensor, reason, TOGETHER);
        let stored = theirs(name).ok_or_else(|| wrong(name, "llama.cpp has no such tensor"))?;
        let tensor = self.tensor(&stored).ok_or_else(|| wrong(&stored, "a tensor is missing"))?;
        let heads = turned_heads(config, name);
        let data = in_our_order(tensor.data, tensor.kind, tensor.shape[0], heads)
            .ok_or_else(|| wrong(&stored, "its rows are not those of the heads"))?;
        Ok(GgufBlocks { kind: tensor.kind, shape: tensor.shape, data })
    }

    /// Whether it has the tensors of this shape, all of them and no others. Fails naming the first that is not so.
    pub fn check(&self, config: &TransformerConfig) -> Result<()> {
        let expected = config.tensors();
        let mut known = BTreeSet::from([ROPE_FACTORS.to_owned()]);
        for (name, shape) in &expected {
            let stored = theirs(name).unwrap_or_default();
            match self.tensor(&stored) {
                Some(tensor) if tensor.shape == shape => {}
                Some(tensor) => {
                    let reason = format!("the shape is {:?} and should be {shape:?}", tensor.shape);
                    return Err(Error::weights(self.name(), stored, reason, TOGETHER));
                }
                None => return Err(Error::weights(self.name(), stored, "a tensor is missing", TOGETHER)),
            }
            known.insert(stored);
        }
        if let Some((name, _)) = self.tensors().find(|(name, _)| !known.contains(*name)) {
            let reason = "a model of this architecture has no such tensor";
            return Err(Error::weights(self.name(), name, reason, "use a plain Llama, Qwen2 or Qwen3 model"));
        }
        Ok(())
    }

    /// The model: its shape, and its weights in f32. A tensor that is missing, too many or of another shape is an error
    /// naming it.
    pub fn model(&self) -> Result<(TransformerConfig, Weights)> {
        let config = self.config()?;
        self.check(&config)?;
        let mut tensors = std::collections::BTreeMap::new();
        for (name, shape) in config.tensors() {
            let blocks = self.blocks(&config, &name)?;
            let values = blocks.kind.dequantize(&blocks.data);
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let reason = format!("value {at} is {}", values[at]);
                return Err(Error::weights(self.name(), name, reason, "use another file"));
            }
            tensors.insert(name, (shape, values));
        }
        Ok((config, Weights::new(tensors)?))
    }
}

/// How the tensors of a file are stored: one type, or llama.cpp's mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// All in f32.
    F32,
    /// Matrices in f16.
    F16,
    /// Matrices of 8 bits.
    Q8_0,
    /// Matrices of 4 bits, the head of 6.
    Q4_0,
    /// Matrices of 4 bits in large blocks; the head, and a part of the values and of what leaves the feed-forward blocks,
    /// of 6.
    Q4KM,
}

impl Quantization {
    /// From llama.cpp's name, in small letters.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "f32" => Self::F32,
            "f16" => Self::F16,
            "q8_0" => Self::Q8_0,
            "q4_0" => Self::Q4_0,
            "q4_k_m" => Self::Q4KM,
            _ => return None,
        })
    }

    /// `general.file_type`.
    fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
        }
    }

    /// How one of our tensors is stored, as `llama-quantize` chooses. Rows that are no whole blocks get a type of
    /// smaller blocks.
    fn kind(self, config: &TransformerConfig, name: &str, shape: &[usize]) -> TensorType {
        let &[_, width] = shape else { return TensorType::F32 };
        let head = name == "lm_head.weight" || config.tie_word_embeddings && name.contains("embed_tokens");
        let layers = config.num_hidden_layers;
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok());
        // The first and the last eighth of the layers, and every third between.
        let more = layer.is_some_and(|layer: usize| {
            layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
        });
        let wanted = match self {
            Self::F32 => return TensorType::F32,
            Self::F16 => return TensorType::F16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 | Self::Q4KM if head => TensorType::Q6K,
            Self::Q4_0 => TensorType::Q4_0,
            Self::Q4KM if more && (name.contains("v_proj") || name.contains("down_proj")) => TensorType::Q6K,
            Self::Q4KM => TensorType::Q4K,
        };
        let smaller = match wanted {
            TensorType::Q4K => TensorType::Q5_0,
            TensorType::Q6K => TensorType::Q8_0,
            other => other,
        };
        let fits = |kind: &TensorType| width.is_multiple_of(kind.block_values());
        [wanted, smaller].into_iter().find(fits).unwrap_or(TensorType::F16)
    }
}

/// Writes a model as GGUF. `metadata` holds what is not the model's shape (its name, its vocabulary); returns the bytes
/// that the tensors take.
pub fn model_to_gguf(
    path: &Path,
    config: &TransformerConfig,
    weights: &Weights,
    quantization: Quantization,
    mut metadata: Metadata,
) -> Result<u64> {
    config.validate("config")?;
    weights.check(&config.tensors(), "weights")?;
    let factors = to_metadata(config, &mut metadata)?;
    metadata.insert("general.type", "model".into());
    metadata.insert("general.file_type", MetadataValue::U32(quantization.id()));
    metadata.insert("general.quantization_version", MetadataValue::U32(2));
    let mut names = Vec::new();
    let mut outputs = Vec::new();
    for (name, shape) in config.tensors() {
        let kind = quantization.kind(config, &name, &shape);
        let stored = theirs(&name).unwrap_or_else(|| name.clone());
        outputs.push(GgufOutput { name: stored, kind, shape });
        names.push(name);
    }
    if let Some(factors) = &factors {
        let shape = vec![factors.len()];
        outputs.push(GgufOutput { name: ROPE_FACTORS.into(), kind: TensorType::F32, shape });
    }
    let mut names = names.iter();
    let mut bytes = 0;
    write_gguf(path, &metadata, &outputs, |output| {
        let values = match names.next().and_then(|name| Some((name, weights.get(name)?))) {
            None => Cow::Borrowed(factors.as_deref().unwrap_or_default()),
            Some((name, (shape, values))) => match turned_heads(config, name) {
                Some(heads) => Cow::Owned(reordered(values, values.len() / shape[0], heads, false)),
                None => Cow::Borrowed(values),
            },
        };
        let blocks = output.kind.quantize(&values, &output.name)?;
        bytes += blocks.len() as u64;
        Ok(blocks)
    })?;
    Ok(bytes)
}
