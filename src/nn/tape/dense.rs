//! Embeddings, linear layers, sums and dropout.

use super::{Op, Tape, Value};
use crate::nn::kernels::{Matrix, by_rows, dot, matmul, vectorized};
use crate::nn::parameters::ParameterId;

impl Tape<'_> {
    /// Rows of a table `[entries, width]` -> `[ids, width]`.
    pub fn embedding(&mut self, table: ParameterId, ids: &[u32]) -> Value {
        let width = self.parameters.get(table).shape.get(1).copied().unwrap_or(0);
        let mut out = self.pool.take(ids.len() * width);
        let rows = self.parameters.value(table);
        for (out, id) in out.chunks_exact_mut(width).zip(ids) {
            out.copy_from_slice(&rows[*id as usize * width..][..width]);
        }
        self.push(out, width, Op::Embedding { table, ids: ids.to_vec() })
    }

    pub(super) fn embedding_back(&self, table: ParameterId, ids: &[u32], grad: &[f32], grads: &mut [f32]) {
        if !self.learns(table) || ids.is_empty() {
            return;
        }
        let width = grad.len() / ids.len();
        let slot = self.slot(grads, table);
        for (grad, id) in grad.chunks_exact(width).zip(ids) {
            let row = &mut slot[*id as usize * width..][..width];
            vectorized(
                #[inline(always)]
                || row.iter_mut().zip(grad).for_each(|(row, grad)| *row += grad),
            );
        }
    }

    /// `x W^T + b`: `weight [out, in]`, `bias [out]`.
    pub fn linear(&mut self, x: Value, weight: ParameterId, bias: Option<ParameterId>) -> Value {
        let (rows, width) = (self.rows(x), self.width(x));
        let outputs = self.parameters.get(weight).shape[0];
        let mut out = self.pool.take(rows * outputs);
        if let Some(bias) = bias {
            let bias = self.parameters.value(bias);
            by_rows(&mut out, outputs, |_, out| {
                out.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
            });
        }
        let weights = Matrix::new(self.parameters.value(weight), width).t();
        let keep = if bias.is_some() { 1.0 } else { 0.0 };
        let a = Matrix::new(self.value(x), width);
        matmul((&mut out, outputs), [rows, width, outputs], a, weights, [keep, 1.0], true);
        self.push(out, outputs, Op::Linear { x, weight, bias })
    }

    pub(super) fn linear_back(
        &mut self,
        x: Value,
        weight: ParameterId,
        bias: Option<ParameterId>,
        grad: &[f32],
        grads: &mut [f32],
    ) {
        let (rows, width) = (self.rows(x), self.width(x));
        let outputs = self.parameters.get(weight).shape[0];
        if self.learns(weight) {
            let (a, b) = (Matrix::new(grad, outputs).t(), Matrix::new(self.value(x), width));
            let slot = self.slot(grads, weight);
            matmul((slot, width), [outputs, rows, width], a, b, [1.0, 1.0], true);
        }
        if let Some(bias) = bias.filter(|bias| self.learns(*bias)) {
            add_columns(self.slot(grads, bias), grad);
        }
        if self.wants(x) {
            let (mut dx, new) = self.open(x);
            let weights = Matrix::new(self.parameters.value(weight), width);
            let keep = if new { 0.0 } else { 1.0 };
            let a = Matrix::new(grad, outputs);
            matmul((&mut dx, width), [rows, outputs, width], a, weights, [keep, 1.0], true);
            self.close(x, dx);
        }
    }

    /// Whether a gradient of this value is of any use: something before it learns, or it was given.
    pub(super) fn wants(&self, value: Value) -> bool {
        match &self.nodes[value.0].op {
            Op::Embedding { table, .. } => self.learns(*table),
            _ => true,
        }
    }

    /// `a + scale * b`.
    pub fn add(&mut self, a: Value, b: Value, scale: f32) -> Value {
        let (width, length) = (self.width(a), self.value(a).len());
        debug_assert_eq!(length, self.value(b).len());
        let mut out = self.pool.take(length);
        let (x, y) = (self.value(a), self.value(b));
        by_rows(&mut out, 1, |at, out| {
            let (x, y) = (&x[at..at + out.len()], &y[at..at + out.len()]);
            vectorized(
                #[inline(always)]
                || {
                    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                        *out = x + scale * y;
                    }
                },
            );
        });
        self.push(out, width, Op::Add { a, b, scale })
    }

    pub(super) fn add_back(&mut self, a: Value, b: Value, scale: f32, grad: Vec<f32>) -> Vec<f32> {
        let mut db = self.pool.take(grad.len());
        by_rows(&mut db, 1, |at, db| {
            let grad = &grad[at..at + db.len()];
            vectorized(
                #[inline(always)]
                || db.iter_mut().zip(grad).for_each(|(db, grad)| *db = scale * grad),
            );
        });
        self.flow(b, db);
        self.flow(a, grad);
        Vec::new()
    }

    /// Sets a share of the values to zero and scales the others up. What is dropped is a function of `seed` alone.
    pub fn dropout(&mut self, x: Value, rate: f32, seed: u64) -> Value {
        if rate <= 0.0 {
            return x;
        }
        let (width, length) = (self.width(x), self.value(x).len());
        let mut out = self.pool.take(length);
        out.copy_from_slice(self.value(x));
        drop_out(&mut out, seed, rate);
        self.push(out, width, Op::Dropout { x, seed, rate })
    }

    /// The dot product of each row of `a` with a row of a table: `table [entries, width]` -> `[rows, 1]`. For losses over
    /// a few candidates of many.
    pub fn dot(&mut self, a: Value, table: ParameterId, ids: &[u32]) -> Value {
        let width = self.width(a);
        let mut out = self.pool.take(ids.len());
        let (rows, entries) = (self.value(a), self.parameters.value(table));
        for ((out, row), id) in out.iter_mut().zip(rows.chunks_exact(width)).zip(ids) {
            *out = vectorized(
                #[inline(always)]
                || dot(row, &entries[*id as usize * width..][..width]),
            );
        }
        self.push(out, 1, Op::Dot { a, table, ids: ids.to_vec() })
    }

    pub(super) fn dot_back(
        &mut self,
        a: Value,
        table: ParameterId,
        ids: &[u32],
        grad: &[f32],
        grads: &mut [f32],
    ) {
        let width = self.width(a);
        if self.learns(table) {
            let slot = self.slot(grads, table);
            for ((row, id), grad) in self.value(a).chunks_exact(width).zip(ids).zip(grad) {
                let entry = &mut slot[*id as usize * width..][..width];
                entry.iter_mut().zip(row).for_each(|(entry, x)| *entry += grad * x);
            }
        }
        let mut da = self.pool.take(ids.len() * width);
        let entries = self.parameters.value(table);
        for ((da, id), grad) in da.chunks_exact_mut(width).zip(ids).zip(grad) {
            let entry = &entries[*id as usize * width..][..width];
            da.iter_mut().zip(entry).for_each(|(da, x)| *da = grad * x);
        }
        self.flow(a, da);
    }
}

/// Adds the sum of the rows of `grad` to `out`.
pub(super) fn add_columns(out: &mut [f32], grad: &[f32]) {
    let width = out.len();
    vectorized(
        #[inline(always)]
        || {
            for row in grad.chunks_exact(width) {
                out.iter_mut().zip(row).for_each(|(out, grad)| *out += grad);
            }
        },
    );
}

/// A well-mixed number of a seed and a place (`SplitMix64`, Steele et al. 2014).
#[inline(always)]
fn mixed(seed: u64, at: u64) -> u64 {
    let mut x = seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Drops values in place; the same ones for the same seed.
pub(super) fn drop_out(values: &mut [f32], seed: u64, rate: f32) {
    let keep = 1.0 / (1.0 - rate);
    let threshold = (f64::from(rate) * 65536.0) as u64;
    by_rows(values, 4, |first, values| {
        vectorized(
            #[inline(always)]
            || {
                for (n, four) in values.chunks_mut(4).enumerate() {
                    // Four 16-bit draws from one number.
                    let bits = mixed(seed, (first + n) as u64);
                    for (lane, value) in four.iter_mut().enumerate() {
                        let dropped = (bits >> (16 * lane)) & 0xffff < threshold;
                        *value = if dropped { 0.0 } else { *value * keep };
                    }
                }
            },
        );
    });
}
