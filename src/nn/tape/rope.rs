//! Rotary position embeddings (Su et al. 2021), in Hugging Face's layout: the halves of a head turn together.

use super::{Op, Tape, Value};
use crate::nn::kernels::{by_rows, vectorized};
use std::sync::Arc;

/// Cosines and sines of every position and frequency.
pub struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// For `frequencies [head_dim / 2]` in radians a token and positions below `positions`; cosines and sines are
    /// multiplied by `scale`.
    pub fn new(frequencies: &[f64], scale: f32, positions: usize) -> Self {
        let half = frequencies.len();
        let angle = |p: usize, i: usize| p as f64 * frequencies[i];
        let each = || (0..positions).flat_map(|p| (0..half).map(move |i| (p, i)));
        Self {
            half,
            cos: each().map(|(p, i)| angle(p, i).cos() as f32 * scale).collect(),
            sin: each().map(|(p, i)| angle(p, i).sin() as f32 * scale).collect(),
        }
    }
}

impl Tape<'_> {
    /// Turns `heads` heads a row by the row's position.
    pub fn rope(&mut self, x: Value, heads: usize, table: &Arc<RopeTable>, positions: &[u32]) -> Value {
        let width = self.width(x);
        let mut out = self.pool.take(self.nodes[x.0].value.len());
        out.copy_from_slice(self.value(x));
        turn(&mut out, heads, table, positions, false);
        self.push(out, width, Op::Rope { x, heads, table: Arc::clone(table), positions: positions.to_vec() })
    }
}

/// Turns in place; `back` the other way.
pub(super) fn turn(values: &mut [f32], heads: usize, table: &RopeTable, positions: &[u32], back: bool) {
    let half = table.half;
    let width = heads * 2 * half;
    let sign = if back { -1.0 } else { 1.0 };
    by_rows(values, width, |first, values| {
        vectorized(
            #[inline(always)]
            || {
                for (row, position) in values.chunks_exact_mut(width).zip(&positions[first..]) {
                    let at = *position as usize * half;
                    let (cos, sin) = (&table.cos[at..at + half], &table.sin[at..at + half]);
                    for head in row.chunks_exact_mut(2 * half) {
                        let (a, b) = head.split_at_mut(half);
                        for i in 0..half {
                            let (x, y, sin) = (a[i], b[i], sign * sin[i]);
                            a[i] = x * cos[i] - y * sin;
                            b[i] = y * cos[i] + x * sin;
                        }
                    }
                }
            },
        );
    });
}
