//! The decoder's weights, laid out in panels as they are stored.

use super::Work;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::model::config::TransformerConfig;
use crate::model::gguf::{
    Block, GgufFile, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, TensorType, scale_and_min,
};
use crate::nn::kernels::panels::PanelMatrix;
use half::{bf16, f16};
use std::cell::Cell;

/// Where the decoder's weights come from.
pub(super) enum Source<'a> {
    /// In f32; halves are kept as halves where nothing is lost.
    Weights(&'a Weights),
    /// Blocks, kept as they are.
    Gguf(&'a GgufFile, &'a TransformerConfig, &'a Told<'a>),
}

/// Who is told how much of a file's matrices is laid out, 0 to 1.
pub(super) struct Told<'a> {
    done: Cell<usize>,
    total: usize,
    tell: &'a dyn Fn(f32),
}

impl<'a> Told<'a> {
    pub(super) fn new(config: &TransformerConfig, tell: &'a dyn Fn(f32)) -> Self {
        let tensors = config.tensors();
        let matrices = tensors.iter().filter(|(_, shape)| shape.len() == 2);
        let total = matrices.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        Self { done: Cell::new(0), total, tell }
    }

    fn add(&self, count: usize) {
        self.done.set(self.done.get() + count);
        (self.tell)(self.done.get() as f32 / self.total.max(1) as f32);
    }
}

impl Source<'_> {
    /// A vector in f32; empty where there is none.
    pub(super) fn vector(&self, name: &str) -> Result<Vec<f32>> {
        match self {
            Self::Weights(weights) => {
                Ok(weights.get(name).map_or_else(Vec::new, |(_, values)| values.to_vec()))
            }
            Self::Gguf(_, config, _) if !config.tensors().iter().any(|(known, _)| known == name) => {
                Ok(Vec::new())
            }
            Self::Gguf(file, config, _) => {
                let blocks = file.blocks(config, name)?;
                Ok(blocks.kind.dequantize(&blocks.data))
            }
        }
    }

    /// A matrix `[out, in]`; nothing where there is none.
    pub(super) fn matrix(&self, name: &str) -> Result<Option<PanelMatrix>> {
        match self {
            Self::Weights(weights) => {
                Ok(weights.get(name).map(|(shape, values)| plain(shape[0], shape[1], values)))
            }
            Self::Gguf(_, config, _) if !config.tensors().iter().any(|(known, _)| known == name) => Ok(None),
            Self::Gguf(file, config, told) => {
                let blocks = file.blocks(config, name)?;
                let finite = Cell::new(true);
                let matrix = stored(blocks.kind, blocks.shape[0], blocks.shape[1], &blocks.data, &finite);
                if !finite.get() {
                    let reason = "a value is not finite";
                    return Err(Error::weights(file.name(), name, reason, "use another file"));
                }
                told.add(blocks.shape.iter().product());
                Ok(Some(matrix))
            }
        }
    }
}

/// Weights in f32, in the narrowest type that holds them all exactly.
fn plain(outputs: usize, inputs: usize, values: &[f32]) -> PanelMatrix {
    if values.iter().all(|v| f16::from_f32(*v).to_f32() == *v) {
        let weight = |o: usize, i: usize| f16::from_f32(values[o * inputs + i]).to_le_bytes();
        return PanelMatrix::half(outputs, inputs, false, weight);
    }
    if values.iter().all(|v| bf16::from_f32(*v).to_f32() == *v) {
        let weight = |o: usize, i: usize| bf16::from_f32(values[o * inputs + i]).to_le_bytes();
        return PanelMatrix::half(outputs, inputs, true, weight);
    }
    PanelMatrix::f32(outputs, inputs, |o, i| values[o * inputs + i])
}

/// A file's blocks.
fn stored(kind: TensorType, outputs: usize, inputs: usize, data: &[u8], finite: &Cell<bool>) -> PanelMatrix {
    fn at<B: Block>(data: &[u8], inputs: usize, finite: &Cell<bool>) -> impl Fn(usize, usize) -> B {
        let blocks = inputs / B::VALUES;
        move |o, b| {
            let block = B::read(&data[(o * blocks + b) * B::BYTES..][..B::BYTES]);
            let mut values = [0.0; 256];
            block.dequantize(&mut values[..B::VALUES]);
            finite.set(finite.get() && values.iter().all(|value| value.is_finite()));
            block
        }
    }
    let two = |o: usize, i: usize| {
        let at = 2 * (o * inputs + i);
        [data[at], data[at + 1]]
    };
    if matches!(kind, TensorType::F32 | TensorType::F16 | TensorType::BF16) {
        finite.set(kind.dequantize(data).iter().all(|value| value.is_finite()));
    }
    match kind {
        TensorType::F32 => PanelMatrix::f32(outputs, inputs, |o, i| {
            let at = 4 * (o * inputs + i);
            f32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
        }),
        TensorType::F16 => PanelMatrix::half(outputs, inputs, false, two),
        TensorType::BF16 => PanelMatrix::half(outputs, inputs, true, two),
        TensorType::Q8_0 => {
            let block = at::<Q8_0>(data, inputs, finite);
            PanelMatrix::q8(outputs, inputs, |o, b| {
                let block = block(o, b);
                (block.d, block.qs)
            })
        }
        TensorType::Q4_0 => {
            let block = at::<Q4_0>(data, inputs, finite);
            PanelMatrix::q4(outputs, inputs, |o, b| {
                let block = block(o, b);
                (block.d, nibbles(&block.qs))
            })
        }
        TensorType::Q4_1 => {
            let block = at::<Q4_1>(data, inputs, finite);
            PanelMatrix::affine(outputs, inputs, |o, b| {
                let block = block(o, b);
                ([block.d.to_f32(), block.m.to_f32()], nibbles(&block.qs))
            })
        }
        TensorType::Q5_0 => {
            let block = at::<Q5_0>(data, inputs, finite);
            PanelMatrix::affine(outputs, inputs, |o, b| {
                let block = block(o, b);
                let scale = block.d.to_f32();
                ([scale, -16.0 * scale], fifth(nibbles(&block.qs), block.qh))
            })
        }
        TensorType::Q5_1 => {
            let block = at::<Q5_1>(data, inputs, finite);
            PanelMatrix::affine(outputs, inputs, |o, b| {
                let block = block(o, b);
                ([block.d.to_f32(), block.m.to_f32()], fifth(nibbles(&block.qs), block.qh))
            })
        }
        TensorType::Q4K => {
            let block = at::<Q4K>(data, inputs, finite);
            PanelMatrix::q4_k(outputs, inputs, |o, b| {
                let block = block(o, b);
                let scales = std::array::from_fn(|part| scale_and_min(&block.scales, part));
                ([block.d, block.dmin], scales, k_nibbles(&block.qs))
            })
        }
        TensorType::Q5K => {
            let block = at::<Q5K>(data, inputs, finite);
            PanelMatrix::affine(outputs, inputs, |o, b| {
                let (block, part) = (block(o, b / 8), b % 8);
                let (scale, min) = scale_and_min(&block.scales, part);
                let low = k_nibbles(&block.qs);
                let values = std::array::from_fn(|i| low[32 * part + i] | (block.qh[i] >> part & 1) << 4);
                ([block.d.to_f32() * f32::from(scale), -block.dmin.to_f32() * f32::from(min)], values)
            })
        }
        TensorType::Q6K => {
            let block = at::<Q6K>(data, inputs, finite);
            PanelMatrix::q6_k(outputs, inputs, |o, b| {
                let block = block(o, b);
                let value = |i: usize| {
                    let (half, at) = (i / 128, i % 128);
                    let low = block.ql[64 * half + at % 64] >> (4 * (at / 64)) & 15;
                    let high = block.qh[32 * half + at % 32] >> (2 * (at / 32)) & 3;
                    low | high << 4
                };
                (block.d, block.scales, std::array::from_fn(value))
            })
        }
    }
}

/// Value `i` is the low half of byte `i`, value `16 + i` the high half.
fn nibbles(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| qs[i % 16] >> (4 * (i / 16)) & 15)
}

/// 64 values in 32 bytes: the low halves, then the high halves.
fn k_nibbles(qs: &[u8; 128]) -> [u8; 256] {
    std::array::from_fn(|i| qs[i / 64 * 32 + i % 32] >> (4 * (i % 64 / 32)) & 15)
}

fn fifth(low: [u8; 32], high: u32) -> [u8; 32] {
    std::array::from_fn(|i| low[i] | ((high >> i & 1) as u8) << 4)
}

/// A linear layer: `weight [out, in]`, and a bias where there is one.
#[derive(Default)]
pub(super) struct Linear {
    weight: Option<PanelMatrix>,
    bias: Vec<f32>,
}

impl Linear {
    pub(super) fn of(source: &Source<'_>, name: &str) -> Result<Self> {
        Self::named(source, &format!("{name}.weight"), &format!("{name}.bias"))
    }

    pub(super) fn named(source: &Source<'_>, weight: &str, bias: &str) -> Result<Self> {
        Ok(Self { weight: source.matrix(weight)?, bias: source.vector(bias)? })
    }

    pub(super) fn bytes(&self) -> usize {
        self.weight.as_ref().map_or(0, PanelMatrix::bytes)
    }

    /// Whether it wants its input rounded.
    pub(super) fn rounds(&self) -> bool {
        self.weight.as_ref().is_some_and(PanelMatrix::rounds)
    }

    /// `out[row] = weight x[row] + bias` for every row of `x [rows, in]`.
    pub(super) fn forward(&self, x: &[f32], work: &mut Work, out: &mut Vec<f32>) {
        if let Some(weight) = &self.weight {
            work.activations.set(x, weight.inputs(), weight.rounds());
            self.apply(work, out);
        }
    }

    /// The same for the activations that `work` holds already, for layers that share their input.
    pub(super) fn apply(&self, work: &mut Work, out: &mut Vec<f32>) {
        let Some(weight) = &self.weight else {
            out.clear();
            return;
        };
        weight.multiply_all(&work.activations, out, &mut work.parts);
        if !self.bias.is_empty() {
            out.chunks_exact_mut(self.bias.len()).for_each(|row| super::add(row, &self.bias));
        }
    }
}
