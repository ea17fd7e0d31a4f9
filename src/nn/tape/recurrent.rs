//! Recurrent layers over whole sequences: Elman (1990), GRU (Cho et al. 2014) and LSTM (Hochreiter and Schmidhuber
//! 1997), with the gates, their order and their biases as `PyTorch` has them.

use super::{Op, Tape, Value};
use crate::nn::kernels::{Matrix, PackedMatrix, matmul, sigmoid, tanh, vectorized};
use crate::nn::parameters::ParameterId;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// `h = tanh(W x + U h)`.
    Rnn,
    /// Gated recurrent unit.
    Gru,
    /// Long short-term memory.
    Lstm,
}

impl Cell {
    /// How many gates stand in a weight matrix.
    pub fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    /// How many numbers of a token are kept for the backward pass, in widths of the state.
    fn kept(self) -> usize {
        match self {
            Self::Rnn => 0,
            Self::Gru | Self::Lstm => 4,
        }
    }
}

/// One layer's weights and how its input is packed.
pub(super) struct Layer {
    cell: Cell,
    input: ParameterId,
    hidden: ParameterId,
    biases: [ParameterId; 2],
    /// Tokens of a packed row.
    length: usize,
    /// Where in its row each token's sample begins.
    starts: Vec<u32>,
}

/// The rows of one thread: each is `length` tokens.
struct Share<'a> {
    cell: Cell,
    width: usize,
    length: usize,
    starts: &'a [u32],
    /// The state's weights, packed for the pass.
    hidden: &'a PackedMatrix,
}

impl Share<'_> {
    fn rows(&self) -> usize {
        self.starts.len() / self.length
    }

    fn begins(&self, row: usize, t: usize) -> bool {
        self.starts[row * self.length + t] as usize == t
    }

    /// `before` becomes the state before `t` of every row: zero where a sample begins.
    fn state_before(&self, t: usize, of: &[f32], before: &mut [f32]) {
        for (row, before) in before.chunks_exact_mut(self.width).enumerate() {
            if t == 0 || self.begins(row, t) {
                before.fill(0.0);
            } else {
                before.copy_from_slice(&of[(row * self.length + t - 1) * self.width..][..self.width]);
            }
        }
    }

    /// `pre [tokens, gates * width]` holds `W x + b`; `bias` is that of the hidden side.
    fn forward(&self, pre: &[f32], bias: &[f32], out: &mut [f32], kept: &mut [f32], cells: &mut [f32]) {
        let (w, g, rows) = (self.width, self.cell.gates() * self.width, self.rows());
        let (mut before, mut cell_before) = (vec![0.0; rows * w], vec![0.0; rows * w]);
        let mut projected = vec![0.0; rows * g];
        for t in 0..self.length {
            self.state_before(t, out, &mut before);
            self.hidden.multiply(&before, &mut projected, 0..self.hidden.panels());
            if self.cell == Cell::Lstm {
                self.state_before(t, cells, &mut cell_before);
            }
            for row in 0..rows {
                let at = row * self.length + t;
                let (x, u) = (&pre[at * g..][..g], &projected[row * g..][..g]);
                let (out, before) = (&mut out[at * w..][..w], &before[row * w..][..w]);
                vectorized(
                    #[inline(always)]
                    || match self.cell {
                        Cell::Rnn => {
                            for i in 0..w {
                                out[i] = tanh(x[i] + u[i] + bias[i]);
                            }
                        }
                        Cell::Gru => {
                            let kept = &mut kept[at * 4 * w..][..4 * w];
                            let (reset, rest) = kept.split_at_mut(w);
                            let (update, rest) = rest.split_at_mut(w);
                            let (new, candidate) = rest.split_at_mut(w);
                            for i in 0..w {
                                reset[i] = sigmoid(x[i] + u[i] + bias[i]);
                                update[i] = sigmoid(x[w + i] + u[w + i] + bias[w + i]);
                                candidate[i] = u[2 * w + i] + bias[2 * w + i];
                                new[i] = tanh(x[2 * w + i] + reset[i] * candidate[i]);
                                out[i] = (1.0 - update[i]) * new[i] + update[i] * before[i];
                            }
                        }
                        Cell::Lstm => {
                            let kept = &mut kept[at * 4 * w..][..4 * w];
                            let (input, rest) = kept.split_at_mut(w);
                            let (forget, rest) = rest.split_at_mut(w);
                            let (new, output) = rest.split_at_mut(w);
                            let (cell, old) = (&mut cells[at * w..][..w], &cell_before[row * w..][..w]);
                            for i in 0..w {
                                input[i] = sigmoid(x[i] + u[i] + bias[i]);
                                forget[i] = sigmoid(x[w + i] + u[w + i] + bias[w + i]);
                                new[i] = tanh(x[2 * w + i] + u[2 * w + i] + bias[2 * w + i]);
                                output[i] = sigmoid(x[3 * w + i] + u[3 * w + i] + bias[3 * w + i]);
                                cell[i] = forget[i] * old[i] + input[i] * new[i];
                                out[i] = output[i] * tanh(cell[i]);
                            }
                        }
                    },
                );
            }
        }
    }

    /// Fills the gradients of `W x` and of `U h`, both `[tokens, gates * width]`.
    fn backward(&self, out: &[f32], kept: &[f32], cells: &[f32], grad: &[f32], [dx, du]: [&mut [f32]; 2]) {
        let (w, g, rows) = (self.width, self.cell.gates() * self.width, self.rows());
        let mut dh = vec![0.0; rows * w];
        let (mut dc, mut now) = (vec![0.0; rows * w], vec![0.0; rows * g]);
        let (mut before, mut direct) = (vec![0.0; rows * w], vec![0.0; rows * w]);
        for t in (0..self.length).rev() {
            self.state_before(t, if self.cell == Cell::Lstm { cells } else { out }, &mut before);
            for row in 0..rows {
                let at = row * self.length + t;
                let (h, grad) = (&out[at * w..][..w], &grad[at * w..][..w]);
                let (dh, dc) = (&mut dh[row * w..][..w], &mut dc[row * w..][..w]);
                let (before, direct) = (&before[row * w..][..w], &mut direct[row * w..][..w]);
                let (dx, du) = (&mut dx[at * g..][..g], &mut du[at * g..][..g]);
                vectorized(
                    #[inline(always)]
                    || match self.cell {
                        Cell::Rnn => {
                            for i in 0..w {
                                dx[i] = (dh[i] + grad[i]) * (1.0 - h[i] * h[i]);
                                du[i] = dx[i];
                            }
                        }
                        Cell::Gru => {
                            let kept = &kept[at * 4 * w..][..4 * w];
                            for i in 0..w {
                                let d = dh[i] + grad[i];
                                let (r, z) = (kept[i], kept[w + i]);
                                let (n, candidate) = (kept[2 * w + i], kept[3 * w + i]);
                                let dn = d * (1.0 - z) * (1.0 - n * n);
                                let dr = dn * candidate * r * (1.0 - r);
                                let dz = d * (before[i] - n) * z * (1.0 - z);
                                (dx[i], dx[w + i], dx[2 * w + i]) = (dr, dz, dn);
                                (du[i], du[w + i], du[2 * w + i]) = (dr, dz, dn * r);
                                direct[i] = d * z;
                            }
                        }
                        Cell::Lstm => {
                            let (kept, cell) = (&kept[at * 4 * w..][..4 * w], &cells[at * w..][..w]);
                            for i in 0..w {
                                let d = dh[i] + grad[i];
                                let (input, forget) = (kept[i], kept[w + i]);
                                let (new, output) = (kept[2 * w + i], kept[3 * w + i]);
                                let c = tanh(cell[i]);
                                let dcell = dc[i] + d * output * (1.0 - c * c);
                                dx[i] = dcell * new * input * (1.0 - input);
                                dx[w + i] = dcell * before[i] * forget * (1.0 - forget);
                                dx[2 * w + i] = dcell * input * (1.0 - new * new);
                                dx[3 * w + i] = d * c * output * (1.0 - output);
                                dc[i] = dcell * forget;
                            }
                            du.copy_from_slice(dx);
                        }
                    },
                );
                now[row * g..][..g].copy_from_slice(du);
            }
            self.hidden.multiply(&now, &mut dh, 0..self.hidden.panels());
            for row in 0..rows {
                let range = row * w..(row + 1) * w;
                if self.cell == Cell::Gru {
                    dh[range.clone()].iter_mut().zip(&direct[range.clone()]).for_each(|(a, b)| *a += b);
                }
                // What came before a sample is no part of it.
                if self.begins(row, t) {
                    dh[range.clone()].fill(0.0);
                    dc[range].fill(0.0);
                }
            }
        }
    }
}

impl Tape<'_> {
    /// A recurrent layer: `x [tokens, in]` -> `[tokens, width]`, in packed rows of `length` tokens; the state is zero where
    /// a sample begins (`starts`). `weights` are those of the input `[gates * width, in]` and of the state `[gates *
    /// width, width]`, then their biases.
    pub fn recurrent(
        &mut self,
        x: Value,
        cell: Cell,
        weights: [ParameterId; 4],
        length: usize,
        starts: &[u32],
    ) -> Value {
        let [input, hidden, b_input, b_hidden] = weights;
        let layer =
            Layer { cell, input, hidden, biases: [b_input, b_hidden], length, starts: starts.to_vec() };
        let width = self.parameters.get(hidden).shape[1];
        let (g, tokens) = (cell.gates() * width, starts.len());
        let projected = self.linear(x, input, Some(b_input));
        // Its backward pass is part of this one's.
        let Some(mut pre) = self.nodes.pop().map(|node| node.value) else { return projected };
        let mut out = self.pool.take(tokens * width);
        let mut kept = self.pool.take(tokens * width * cell.kept());
        let mut cells = self.pool.take(if cell == Cell::Lstm { tokens * width } else { 0 });
        let share = self.share(&layer);
        let (k, c) = (width * cell.kept(), if cell == Cell::Lstm { width } else { 0 });
        let weights = self.parameters.value(hidden);
        let packed = PackedMatrix::new(g, width, |o, i| weights[o * width + i]);
        let run = |first: usize, pre: &[f32], out: &mut [f32], kept: &mut [f32], cells: &mut [f32]| {
            let starts = &layer.starts[first * length..][..out.len() / width];
            Share { cell, width, length, starts, hidden: &packed }.forward(
                pre,
                self.parameters.value(b_hidden),
                out,
                kept,
                cells,
            );
        };
        let tokens_each = share * length;
        let parts = out.chunks_mut(tokens_each * width).zip(pre.chunks(tokens_each * g));
        let mut kept_parts = parted(&mut kept, tokens_each * k).into_iter();
        let mut cell_parts = parted(&mut cells, tokens_each * c).into_iter();
        let parts: Vec<_> = parts
            .enumerate()
            .map(|(n, (out, pre))| {
                let nothing = || -> &mut [f32] { &mut [] };
                let kept = kept_parts.next().unwrap_or_else(nothing);
                (n * share, pre, out, kept, cell_parts.next().unwrap_or_else(nothing))
            })
            .collect();
        parts.into_par_iter().for_each(|(first, pre, out, kept, cells)| run(first, pre, out, kept, cells));
        self.pool.give(std::mem::take(&mut pre));
        self.push(out, width, Op::Recurrent { x, layer, gates: kept, cells })
    }

    /// How many packed rows a thread takes.
    fn share(&self, layer: &Layer) -> usize {
        (layer.starts.len() / layer.length).div_ceil(rayon::current_num_threads()).max(1)
    }

    pub(super) fn recurrent_back(
        &mut self,
        at: usize,
        x: Value,
        layer: &Layer,
        kept: &[f32],
        cells: &[f32],
        grad: &[f32],
        grads: &mut [f32],
    ) {
        let (cell, length) = (layer.cell, layer.length);
        let hidden = self.parameters.value(layer.hidden);
        let width = self.parameters.get(layer.hidden).shape[1];
        let (g, tokens, inputs) = (cell.gates() * width, layer.starts.len(), self.width(x));
        let (mut dx, mut du) = (self.pool.take(tokens * g), self.pool.take(tokens * g));
        let packed = PackedMatrix::new(width, g, |o, i| hidden[i * width + o]);
        let out = &self.nodes[at].value;
        let each = self.share(layer) * length;
        let part = |of: &'_ [f32], n: usize, count: usize| -> std::ops::Range<usize> {
            let width = of.len() / tokens.max(1);
            n * each * width..(n * each + count) * width
        };
        dx.par_chunks_mut(each * g).zip(du.par_chunks_mut(each * g)).enumerate().for_each(|(n, (dx, du))| {
            let count = dx.len() / g;
            let starts = &layer.starts[n * each..][..count];
            Share { cell, width, length, starts, hidden: &packed }.backward(
                &out[part(out, n, count)],
                &kept[part(kept, n, count)],
                &cells[part(cells, n, count)],
                &grad[part(grad, n, count)],
                [dx, du],
            );
        });
        if self.learns(layer.hidden) {
            let mut before = self.pool.zeroed(tokens * width);
            for (n, before) in before.chunks_exact_mut(width).enumerate() {
                if layer.starts[n] as usize != n % length {
                    before.copy_from_slice(&out[(n - 1) * width..n * width]);
                }
            }
            let (a, b) = (Matrix::new(&du, g).t(), Matrix::new(&before, width));
            matmul((self.slot(grads, layer.hidden), width), [g, tokens, width], a, b, [1.0, 1.0], true);
            self.pool.give(before);
        }
        if self.learns(layer.input) {
            let (a, b) = (Matrix::new(&dx, g).t(), Matrix::new(self.value(x), inputs));
            matmul((self.slot(grads, layer.input), inputs), [g, tokens, inputs], a, b, [1.0, 1.0], true);
        }
        for (bias, grad) in layer.biases.into_iter().zip([&dx, &du]) {
            if self.learns(bias) {
                super::dense::add_columns(self.slot(grads, bias), grad);
            }
        }
        if self.wants(x) {
            let mut back = self.pool.take(tokens * inputs);
            let weights = Matrix::new(self.parameters.value(layer.input), inputs);
            let shape = [tokens, g, inputs];
            matmul((&mut back, inputs), shape, Matrix::new(&dx, g), weights, [0.0, 1.0], true);
            self.flow(x, back);
        }
        self.pool.give(dx);
        self.pool.give(du);
    }
}

fn parted(buffer: &mut [f32], size: usize) -> Vec<&mut [f32]> {
    if size == 0 { Vec::new() } else { buffer.chunks_mut(size).collect() }
}
