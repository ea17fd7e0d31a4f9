//! [`TensorType`]: how a tensor's values are stored, in ggml's numbering.

use super::blocks::{Block, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use super::k_blocks::{Q4K, Q5K, Q6K};
use crate::error::{Error, Result};
use half::{bf16, f16};
use rayon::prelude::*;

/// How a tensor's values are stored. Quantized types store blocks of a row's neighbours that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// 32 bits a value.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 32 values of 4 bits, a scale.
    Q4_0,
    /// 32 values of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 values of 5 bits, a scale.
    Q5_0,
    /// 32 values of 5 bits, a scale and a minimum.
    Q5_1,
    /// 32 values of 8 bits, a scale.
    Q8_0,
    /// 256 values of 4 bits, scales and minima of 6 bits for each 32.
    Q4K,
    /// 256 values of 5 bits, scales and minima of 6 bits for each 32.
    Q5K,
    /// 256 values of 6 bits, scales of 8 bits for each 16.
    Q6K,
}

/// Number in a file, values a block, bytes a block, name.
const TYPES: [(TensorType, u32, usize, usize, &str); 11] = [
    (TensorType::F32, 0, 1, 4, "F32"),
    (TensorType::F16, 1, 1, 2, "F16"),
    (TensorType::BF16, 30, 1, 2, "BF16"),
    (TensorType::Q4_0, 2, Q4_0::VALUES, Q4_0::BYTES, "Q4_0"),
    (TensorType::Q4_1, 3, Q4_1::VALUES, Q4_1::BYTES, "Q4_1"),
    (TensorType::Q5_0, 6, Q5_0::VALUES, Q5_0::BYTES, "Q5_0"),
    (TensorType::Q5_1, 7, Q5_1::VALUES, Q5_1::BYTES, "Q5_1"),
    (TensorType::Q8_0, 8, Q8_0::VALUES, Q8_0::BYTES, "Q8_0"),
    (TensorType::Q4K, 12, Q4K::VALUES, Q4K::BYTES, "Q4_K"),
    (TensorType::Q5K, 13, Q5K::VALUES, Q5K::BYTES, "Q5_K"),
    (TensorType::Q6K, 14, Q6K::VALUES, Q6K::BYTES, "Q6_K"),
];

/// ggml's types that are not read here, for messages.
const OTHERS: [(u32, &str); 20] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
];

impl TensorType {
    fn row(self) -> (u32, usize, usize, &'static str) {
        let found = TYPES.iter().find(|row| row.0 == self);
        found.map_or((0, 1, 4, "F32"), |row| (row.1, row.2, row.3, row.4))
    }

    /// From its number in a file, or what that number is.
    pub(super) fn from_id(id: u32) -> Result<Self, String> {
        if let Some(row) = TYPES.iter().find(|row| row.1 == id) {
            return Ok(row.0);
        }
        let name = OTHERS.iter().find(|other| other.0 == id);
        Err(name.map_or_else(|| format!("type {id}"), |other| format!("type {}", other.1)))
    }

    /// Its number in a file.
    pub(super) fn id(self) -> u32 {
        self.row().0
    }

    /// Values in a block.
    pub fn block_values(self) -> usize {
        self.row().1
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.row().2
    }

    /// ggml's name ("`Q4_K`").
    pub fn name(self) -> &'static str {
        self.row().3
    }

    /// Bytes of `values` values, if they are whole blocks and a `usize` holds that.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let blocks = values.is_multiple_of(self.block_values()).then_some(values / self.block_values())?;
        blocks.checked_mul(self.block_bytes())
    }

    /// To f32. A last block that is not whole is left out.
    pub fn dequantize(self, data: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Self::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Self::Q4_0 => dequantized::<Q4_0>(data),
            Self::Q4_1 => dequantized::<Q4_1>(data),
            Self::Q5_0 => dequantized::<Q5_0>(data),
            Self::Q5_1 => dequantized::<Q5_1>(data),
            Self::Q8_0 => dequantized::<Q8_0>(data),
            Self::Q4K => dequantized::<Q4K>(data),
            Self::Q5K => dequantized::<Q5K>(data),
            Self::Q6K => dequantized::<Q6K>(data),
        }
    }

    /// From f32. `name` is the tensor's, for messages: values that are not finite, too large for the type or no whole
    /// blocks are an error.
    pub fn quantize(self, values: &[f32], name: &str) -> Result<Vec<u8>> {
        let wrong = |reason: String| Err(Error::weights("weights", name, reason, "store it as F32"));
        if !values.len().is_multiple_of(self.block_values()) {
            let (count, block) = (values.len(), self.block_values());
            return wrong(format!("{count} values are no whole blocks of {block}"));
        }
        let most = if matches!(self, Self::F32 | Self::BF16) { f32::MAX } else { f16::MAX.to_f32() };
        if let Some(value) = values.iter().find(|value| value.is_nan() || value.abs() > most) {
            return wrong(format!("the value {value} does not fit into {}", self.name()));
        }
        Ok(match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Self::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Self::Q4_0 => quantized::<Q4_0>(values),
            Self::Q4_1 => quantized::<Q4_1>(values),
            Self::Q5_0 => quantized::<Q5_0>(values),
            Self::Q5_1 => quantized::<Q5_1>(values),
            Self::Q8_0 => quantized::<Q8_0>(values),
            Self::Q4K => quantized::<Q4K>(values),
            Self::Q5K => quantized::<Q5K>(values),
            Self::Q6K => quantized::<Q6K>(values),
        })
    }
}

/// Blocks that one thread takes at a time.
const TOGETHER: usize = 256;

fn dequantized<B: Block>(data: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; data.len() / B::BYTES * B::VALUES];
    out.par_chunks_mut(B::VALUES * TOGETHER).zip(data.par_chunks(B::BYTES * TOGETHER)).for_each(
        |(out, data)| {
            for (out, data) in out.chunks_exact_mut(B::VALUES).zip(data.chunks_exact(B::BYTES)) {
                B::read(data).dequantize(out);
            }
        },
    );
    out
}

fn quantized<B: Block>(values: &[f32]) -> Vec<u8> {
    let mut out = vec![0; values.len() / B::VALUES * B::BYTES];
    out.par_chunks_mut(B::BYTES * TOGETHER).zip(values.par_chunks(B::VALUES * TOGETHER)).for_each(
        |(out, values)| {
            for (out, values) in out.chunks_exact_mut(B::BYTES).zip(values.chunks_exact(B::VALUES)) {
                B::quantize(values).write(out);
            }
        },
    );
    out
}
