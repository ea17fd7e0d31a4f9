//! Causal attention over packed rows, in blocks of queries: no length-by-length matrix is kept, only the logarithm of
//! each softmax's sum (Dao et al. 2022), from which the backward pass computes the weights again.

use super::{Op, Tape, Value};
use crate::nn::kernels::{Matrix, exp, matmul, max, sum, vectorized};
use rayon::prelude::*;
use std::cell::RefCell;

/// Queries in a block.
const BLOCK: usize = 64;

/// How attention is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key/value heads; each serves `queries / keys` query heads (Ainslie et al. 2023).
    pub keys: usize,
    /// Width of a head.
    pub dim: usize,
    /// Tokens of a packed row.
    pub length: usize,
}

thread_local! {
    /// The scores of a block, and their gradient.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// One block of queries of one head.
struct Block {
    /// The queries.
    from: usize,
    to: usize,
    /// The first key that any of them may see.
    first: usize,
}

impl Block {
    fn all(length: usize, starts: &[u32]) -> impl Iterator<Item = Self> {
        (0..length).step_by(BLOCK).map(move |from| {
            let to = length.min(from + BLOCK);
            let first = starts[from..to].iter().copied().min().unwrap_or(0) as usize;
            Self { from, to, first }
        })
    }

    fn keys(&self) -> usize {
        self.to - self.first
    }

    fn queries(&self) -> usize {
        self.to - self.from
    }
}

impl Heads {
    fn widths(&self) -> (usize, usize) {
        (self.queries * self.dim, self.keys * self.dim)
    }

    /// `scores = scale * q k^T` of a block.
    fn scores(&self, block: &Block, head: usize, q: &[f32], k: &[f32], scores: &mut Vec<f32>) {
        let (qw, kw) = self.widths();
        scores.resize(BLOCK * self.length, 0.0);
        let q = Matrix::new(&q[block.from * qw + head * self.dim..], qw);
        let k = Matrix::new(&k[block.first * kw + self.kv(head)..], kw).t();
        let shape = [block.queries(), self.dim, block.keys()];
        let scale = 1.0 / (self.dim as f32).sqrt();
        matmul((scores, block.keys()), shape, q, k, [0.0, scale], false);
    }

    /// Where the key/value head of a query head begins.
    fn kv(&self, head: usize) -> usize {
        head / (self.queries / self.keys) * self.dim
    }

    fn forward(
        &self,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        starts: &[u32],
        out: &mut [f32],
        log_sums: &mut [f32],
    ) {
        let (qw, kw) = self.widths();
        SCRATCH.with_borrow_mut(|[scores, _]| {
            for head in 0..self.queries {
                for block in Block::all(self.length, starts) {
                    self.scores(&block, head, q, k, scores);
                    let keys = block.keys();
                    for (n, row) in scores.chunks_exact_mut(keys).take(block.queries()).enumerate() {
                        let i = block.from + n;
                        let seen = starts[i] as usize - block.first..i + 1 - block.first;
                        row[..seen.start].fill(0.0);
                        row[seen.end..].fill(0.0);
                        let row = &mut row[seen];
                        log_sums[head * self.length + i] = vectorized(
                            #[inline(always)]
                            || {
                                let most = max(row);
                                row.iter_mut().for_each(|x| *x = exp(*x - most));
                                let total = sum(row.len(), |i| row[i]);
                                let share = 1.0 / total;
                                row.iter_mut().for_each(|x| *x *= share);
                                most + total.ln()
                            },
                        );
                    }
                    let out = &mut out[block.from * qw + head * self.dim..];
                    let v = Matrix::new(&v[block.first * kw + self.kv(head)..], kw);
                    let shape = [block.queries(), keys, self.dim];
                    matmul((out, qw), shape, Matrix::new(scores, keys), v, [0.0, 1.0], false);
                }
            }
        });
    }

    /// One packed row. `past` is q, k, v and the output; `grads` those of q, k and v.
    fn backward(
        &self,
        [q, k, v, out]: [&[f32]; 4],
        starts: &[u32],
        log_sums: &[f32],
        dout: &[f32],
        [dq, dk, dv]: [&mut [f32]; 3],
    ) {
        let (qw, kw) = self.widths();
        let dim = self.dim;
        let scale = 1.0 / (dim as f32).sqrt();
        dk.fill(0.0);
        dv.fill(0.0);
        SCRATCH.with_borrow_mut(|[weights, slopes]| {
            for head in 0..self.queries {
                for block in Block::all(self.length, starts) {
                    let (keys, kv) = (block.keys(), block.first * kw + self.kv(head));
                    let at = block.from * qw + head * dim;
                    self.scores(&block, head, q, k, weights);
                    slopes.resize(BLOCK * self.length, 0.0);
                    let shape = [block.queries(), dim, keys];
                    let values = Matrix::new(&v[kv..], kw).t();
                    matmul((slopes, keys), shape, Matrix::new(&dout[at..], qw), values, [0.0, 1.0], false);
                    let rows = weights.chunks_exact_mut(keys).zip(slopes.chunks_exact_mut(keys));
                    for (n, (weights, slopes)) in rows.take(block.queries()).enumerate() {
                        let i = block.from + n;
                        let seen = starts[i] as usize - block.first..i + 1 - block.first;
                        for row in [&mut *weights, &mut *slopes] {
                            row[..seen.start].fill(0.0);
                            row[seen.end..].fill(0.0);
                        }
                        let (weights, slopes) = (&mut weights[seen.clone()], &mut slopes[seen]);
                        let total = log_sums[head * self.length + i];
                        let row = i * qw + head * dim;
                        let (o, d) = (&out[row..row + dim], &dout[row..row + dim]);
                        vectorized(
                            #[inline(always)]
                            || {
                                let mean = sum(dim, |i| o[i] * d[i]);
                                for (weight, slope) in weights.iter_mut().zip(slopes.iter_mut()) {
                                    *weight = exp(*weight - total);
                                    *slope = *weight * (*slope - mean) * scale;
                                }
                            },
                        );
                    }
                    let shape = [keys, block.queries(), dim];
                    let (weights, slopes) = (Matrix::new(weights, keys), Matrix::new(slopes, keys));
                    let d = Matrix::new(&dout[at..], qw);
                    matmul((&mut dv[kv..], kw), shape, weights.t(), d, [1.0, 1.0], false);
                    let queries = Matrix::new(&q[at..], qw);
                    matmul((&mut dk[kv..], kw), shape, slopes.t(), queries, [1.0, 1.0], false);
                    let shape = [block.queries(), keys, dim];
                    let k = Matrix::new(&k[kv..], kw);
                    matmul((&mut dq[at..], qw), shape, slopes, k, [0.0, 1.0], false);
                }
            }
        });
    }
}

impl Tape<'_> {
    /// Scaled dot-product attention: `q [tokens, queries * dim]`, `k`, `v [tokens, keys * dim]` -> like `q`. Each token
    /// sees those of its packed row from `starts` (within the row) up to itself.
    pub fn attention(&mut self, [q, k, v]: [Value; 3], heads: Heads, starts: &[u32]) -> Value {
        let (width, length) = (self.width(q), self.value(q).len());
        let mut out = self.pool.take(length);
        let mut log_sums = self.pool.take(starts.len() * heads.queries);
        let (qs, ks, vs) = (self.value(q), self.value(k), self.value(v));
        let (qn, kn) = (heads.length * heads.widths().0, heads.length * heads.widths().1);
        out.par_chunks_mut(qn)
            .zip(log_sums.par_chunks_mut(heads.length * heads.queries))
            .enumerate()
            .for_each(|(n, (out, log_sums))| {
                let (q, k, v) = (&qs[n * qn..][..qn], &ks[n * kn..][..kn], &vs[n * kn..][..kn]);
                heads.forward(q, k, v, &starts[n * heads.length..][..heads.length], out, log_sums);
            });
        self.push(out, width, Op::Attention { q, k, v, heads, starts: starts.to_vec(), log_sums })
    }

    pub(super) fn attention_back(
        &mut self,
        at: usize,
        [q, k, v]: [Value; 3],
        heads: &Heads,
        starts: &[u32],
        log_sums: &[f32],
        grad: &[f32],
    ) {
        let lengths = [q, k, v].map(|x| self.value(x).len());
        let [mut dq, mut dk, mut dv] = lengths.map(|length| self.pool.take(length));
        let (qs, ks, vs, out) = (self.value(q), self.value(k), self.value(v), &self.nodes[at].value);
        let (qn, kn) = (heads.length * heads.widths().0, heads.length * heads.widths().1);
        dq.par_chunks_mut(qn).zip(dk.par_chunks_mut(kn)).zip(dv.par_chunks_mut(kn)).enumerate().for_each(
            |(n, ((dq, dk), dv))| {
                let past =
                    [&qs[n * qn..][..qn], &ks[n * kn..][..kn], &vs[n * kn..][..kn], &out[n * qn..][..qn]];
                let starts = &starts[n * heads.length..][..heads.length];
                let log_sums = &log_sums[n * heads.length * heads.queries..];
                heads.backward(past, starts, log_sums, &grad[n * qn..][..qn], [dq, dk, dv]);
            },
        );
        for (to, grad) in [(q, dq), (k, dk), (v, dv)] {
            self.flow(to, grad);
        }
    }
}
