//! Weights as they are stored (f16, bf16, ggml's blocks), laid out once in panels for products with few rows: one pass over the
//! weights serves all rows, and a row gets the same bits whatever rows stand beside it, on any number of threads and with
//! any instruction set.
//!
//! Blocks meet activations that were rounded to 8 bits, 32 at a time, as ggml does it: the products of a block are summed
//! in whole numbers and scaled once.

mod formats;
mod isa;
mod pack;

use formats::{Rows, Tile};
use std::ops::Range;

pub use isa::name as instruction_set;

/// Outputs of a panel.
const PANEL: usize = 32;
/// Inputs that share an activation's scale.
const BLOCK: usize = 32;
/// Inputs of ggml's large blocks.
const SUPER: usize = 256;

/// 64 bytes, as they go into the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// How the weights of a panel are laid out. A *group* is four inputs; its 128 bytes are those of the panel's 32 outputs,
/// four each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Two lines an input: 32 f32.
    F32,
    /// A line an input: 32 f16.
    F16,
    /// A line an input: 32 bf16.
    Bf16,
    /// 32 inputs: eight groups of bytes (the value and 128), 32 f16 scales.
    Q8,
    /// 32 inputs: four double groups of half bytes (the value and 8; the second group is the high half), 32 f16 scales.
    Q4,
    /// 256 inputs: 32 f16 scales, 32 f16 scales of minima; then for each 32 inputs as in `Q4` (without 8), and 32 scales
    /// and 32 minima of a byte.
    Q4K,
    /// 256 inputs: 32 f16 scales; then for each 32 inputs as in `Q4` (the value and 32, its lower half), two groups of the
    /// upper two bits of four groups, and for either 16 inputs 32 scales of a byte.
    Q6K,
    /// 32 inputs: eight groups of bytes, 32 f32 scales, 32 f32 minima that are added.
    Affine,
}

impl Format {
    /// How many inputs a block has, and how many lines.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 2),
            Self::F16 | Self::Bf16 => (1, 1),
            Self::Q8 => (BLOCK, 17),
            Self::Q4 => (BLOCK, 9),
            Self::Q4K => (SUPER, 2 + 8 * 9),
            Self::Q6K => (SUPER, 1 + 8 * 13),
            Self::Affine => (BLOCK, 20),
        }
    }
}

/// A matrix `[outputs, inputs]` in panels of 32 outputs; the last is filled up with zeros.
pub(crate) struct PanelMatrix {
    format: Format,
    lines: Vec<Line>,
    outputs: usize,
    inputs: usize,
}

/// Rows of activations, `[rows, inputs]`, as the weights of a matrix want them.
#[derive(Default)]
pub(crate) struct Activations {
    inputs: usize,
    values: Vec<f32>,
    rounded: Vec<i8>,
    /// The scale of each 32 inputs.
    scales: Vec<f32>,
    /// The sums of each 16 rounded inputs.
    sums: Vec<[i32; 2]>,
}

impl Activations {
    /// Takes rows, and rounds them where they are to meet blocks.
    pub(crate) fn set(&mut self, x: &[f32], inputs: usize, round: bool) {
        self.inputs = inputs;
        self.values.clear();
        self.values.extend_from_slice(x);
        self.rounded.clear();
        self.scales.clear();
        self.sums.clear();
        if !round {
            return;
        }
        assert!(inputs.is_multiple_of(BLOCK), "the inputs do not fill whole blocks");
        self.rounded.resize(x.len(), 0);
        super::vectorized(
            #[inline(always)]
            || {
                let (blocks, _) = x.as_chunks::<BLOCK>();
                let (out, _) = self.rounded.as_chunks_mut::<BLOCK>();
                for (x, out) in blocks.iter().zip(out) {
                    let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
                    let mut sums = [0; 2];
                    for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
                        *out = (x * inverse).round_ties_even() as i8;
                        sums[i / 16] += i32::from(*out);
                    }
                    // As ggml keeps it beside the block.
                    self.scales.push(half::f16::from_f32(most / 127.0).to_f32());
                    self.sums.push(sums);
                }
            },
        );
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        self.values.len().checked_div(self.inputs).unwrap_or(0)
    }
}

impl PanelMatrix {
    /// Inputs.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of the weights.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// Whether its products are with rounded activations.
    pub(crate) fn rounds(&self) -> bool {
        !matches!(self.format, Format::F32 | Format::F16 | Format::Bf16)
    }

    /// The weights of an output.
    pub(crate) fn row(&self, o: usize, out: &mut [f32]) {
        let tile = self.tile(o / PANEL);
        out.iter_mut().enumerate().for_each(|(i, out)| *out = formats::weight(&tile, o % PANEL, i));
    }

    fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    fn tile(&self, panel: usize) -> Tile<'_> {
        let (inputs, lines) = self.format.block();
        let lines = self.inputs / inputs * lines;
        Tile { format: self.format, lines: &self.lines[panel * lines..][..lines], inputs: self.inputs }
    }

    /// For the outputs of some panels, `weight x[row]` for every row, into `out`: for each panel `[rows, 32]`.
    fn multiply(&self, x: &Activations, panels: Range<usize>, out: &mut [f32]) {
        let rows = x.rows();
        assert!(x.inputs == self.inputs, "the inputs do not fit");
        assert!(!self.rounds() || x.rounded.len() == x.values.len(), "the activations are not rounded");
        assert!(
            panels.end <= self.panels() && out.len() >= panels.len() * rows * PANEL,
            "the output is too small"
        );
        for (n, p) in panels.enumerate() {
            isa::run(&self.tile(p), &Rows::of(x), &mut out[n * rows * PANEL..][..rows * PANEL]);
        }
    }

    /// `weight x[row]` for every row, `out [rows, outputs]`, on the threads of the pool that this runs in (outside of one:
    /// alone).
    pub(crate) fn multiply_all(&self, x: &Activations, out: &mut Vec<f32>, parts: &mut Vec<f32>) {
        use rayon::prelude::*;
        let rows = x.rows();
        out.clear();
        out.resize(rows * self.outputs, 0.0);
        parts.resize(self.panels() * rows * PANEL, 0.0);
        let parts = &mut parts[..self.panels() * rows * PANEL];
        if parts.is_empty() {
            return;
        }
        let threads = rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads());
        if threads == 1 || self.lines.len() < 512 {
            self.multiply(x, 0..self.panels(), parts);
        } else {
            let each = self.panels().div_ceil(4 * threads);
            parts.par_chunks_mut(each * rows * PANEL).enumerate().for_each(|(n, part)| {
                let first = n * each;
                self.multiply(x, first..(first + each).min(self.panels()), part);
            });
        }
        for (p, part) in parts.chunks_exact(rows * PANEL).enumerate() {
            let first = p * PANEL;
            let count = PANEL.min(self.outputs - first);
            for (row, part) in part.chunks_exact(PANEL).enumerate() {
                out[row * self.outputs + first..][..count].copy_from_slice(&part[..count]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
