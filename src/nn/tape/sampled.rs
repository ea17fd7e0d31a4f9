//! Losses over the right answer and a few drawn ones, for vocabularies too large to score as a whole at every step.

use super::{Op, Tape, Value};
use crate::nn::kernels::{Matrix, by_rows2, dot, exp, matmul, vectorized};
use crate::nn::parameters::ParameterId;
use serde::{Deserialize, Serialize};

/// What is made of the scores of the right answer and of those drawn uniformly against it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Contrast {
    /// A softmax over them (Jean et al. 2015).
    Softmax {
        /// Whether each drawn one stands for its share of the vocabulary, so that the loss estimates the full softmax.
        corrected: bool,
    },
    /// A binary cross-entropy for each, the right one's likelihood raised to a power below 1 to make up for how few are
    /// drawn (gBCE; Petrov and Macdonald 2023). 1: plain BCE. The mean over all.
    Binary {
        /// The power, above 0 and at most 1.
        power: f32,
    },
}

/// `ln(1 + e^x)`, without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Contrast {
    /// The loss of one row, in nats. `scores` are those of the drawn; they become its slopes in them. `right` is the
    /// score of the right one, and becomes its slope. A score of minus infinity does not count.
    fn judge(self, right: &mut f32, scores: &mut [f32], vocabulary: usize) -> f32 {
        match self {
            Self::Softmax { corrected } => {
                let counted = scores.iter().filter(|score| **score > f32::NEG_INFINITY).count();
                let share = (vocabulary.saturating_sub(1)) as f32 / counted.max(1) as f32;
                let shift = if corrected { share.max(1.0).ln() } else { 0.0 };
                let most = scores.iter().fold(*right, |most, score| most.max(score + shift));
                let own = (*right - most).exp();
                let mut total = own;
                vectorized(
                    #[inline(always)]
                    || {
                        for score in scores.iter_mut() {
                            *score = exp((*score + shift - most).max(-87.0));
                        }
                    },
                );
                total += scores.iter().sum::<f32>();
                let loss = total.ln() - (*right - most);
                scores.iter_mut().for_each(|score| *score /= total);
                *right = own / total - 1.0;
                loss
            }
            Self::Binary { power } => {
                let counted = scores.iter().filter(|score| **score > f32::NEG_INFINITY).count();
                let each = 1.0 / (1 + counted) as f32;
                let mut loss = power * softplus(-*right);
                *right = -power * sigmoid(-*right) * each;
                for score in scores.iter_mut() {
                    if *score > f32::NEG_INFINITY {
                        loss += softplus(*score);
                        *score = sigmoid(*score) * each;
                    } else {
                        *score = 0.0;
                    }
                }
                loss * each
            }
        }
    }
}

impl Tape<'_> {
    /// The loss of each row of `x [rows, width]` for its target among `negatives`, which are drawn for all rows alike:
    /// `table [entries, width]` -> `[rows, 1]`, in nats. A drawn one that is a row's target does not count there.
    pub fn sampled_loss(
        &mut self,
        x: Value,
        table: ParameterId,
        targets: &[u32],
        negatives: &[u32],
        contrast: Contrast,
    ) -> Value {
        let (rows, width, drawn) = (self.rows(x), self.width(x), negatives.len());
        let entries = self.parameters.get(table).shape[0];
        let gathered = self.gathered(table, negatives, width);
        // Slopes in the drawn ones, and in the right one at the end.
        let mut slopes = self.pool.take(rows * (drawn + 1));
        let a = Matrix::new(self.value(x), width);
        let b = Matrix::new(&gathered, width).t();
        matmul((&mut slopes, drawn + 1), [rows, width, drawn], a, b, [0.0, 1.0], true);
        let mut out = self.pool.take(rows);
        let (values, table_rows) = (self.value(x), self.parameters.value(table));
        by_rows2((&mut slopes, drawn + 1), (&mut out, 1), |first, slopes, out| {
            for (n, (slopes, out)) in slopes.chunks_exact_mut(drawn + 1).zip(out).enumerate() {
                let target = targets[first + n];
                let entry = &table_rows[target as usize * width..][..width];
                let own = &values[(first + n) * width..][..width];
                let (scores, right) = slopes.split_at_mut(drawn);
                right[0] = vectorized(
                    #[inline(always)]
                    || dot(own, entry),
                );
                for (score, id) in scores.iter_mut().zip(negatives) {
                    if *id == target {
                        *score = f32::NEG_INFINITY;
                    }
                }
                *out = contrast.judge(&mut right[0], scores, entries);
            }
        });
        self.pool.give(gathered);
        let (targets, negatives) = (targets.to_vec(), negatives.to_vec());
        self.push(out, 1, Op::Sampled { x, table, targets, negatives, slopes })
    }

    /// Rows of a table, one after the other.
    fn gathered(&mut self, table: ParameterId, ids: &[u32], width: usize) -> Vec<f32> {
        let mut out = self.pool.take(ids.len() * width);
        let rows = self.parameters.value(table);
        for (out, id) in out.chunks_exact_mut(width).zip(ids) {
            out.copy_from_slice(&rows[*id as usize * width..][..width]);
        }
        out
    }

    pub(super) fn sampled_back(
        &mut self,
        x: Value,
        table: ParameterId,
        (targets, negatives): (&[u32], &[u32]),
        slopes: &[f32],
        grad: &[f32],
        grads: &mut [f32],
    ) {
        let (rows, width, drawn) = (self.rows(x), self.width(x), negatives.len());
        let mut scaled = self.pool.take(slopes.len());
        for ((scaled, slopes), grad) in
            scaled.chunks_exact_mut(drawn + 1).zip(slopes.chunks_exact(drawn + 1)).zip(grad)
        {
            scaled.iter_mut().zip(slopes).for_each(|(scaled, slope)| *scaled = grad * slope);
        }
        if self.learns(table) {
            let mut spread = self.pool.take(drawn * width);
            let (a, b) = (Matrix::new(&scaled, drawn + 1).t(), Matrix::new(self.value(x), width));
            matmul((&mut spread, width), [drawn, rows, width], a, b, [0.0, 1.0], true);
            let slot = self.slot(grads, table);
            for (spread, id) in spread.chunks_exact(width).zip(negatives) {
                let entry = &mut slot[*id as usize * width..][..width];
                entry.iter_mut().zip(spread).for_each(|(entry, spread)| *entry += spread);
            }
            let own = self.value(x).chunks_exact(width).zip(scaled.chunks_exact(drawn + 1));
            for ((own, scaled), id) in own.zip(targets) {
                let entry = &mut slot[*id as usize * width..][..width];
                let slope = scaled[drawn];
                entry.iter_mut().zip(own).for_each(|(entry, own)| *entry += slope * own);
            }
            self.pool.give(spread);
        }
        let gathered = self.gathered(table, negatives, width);
        let mut dx = self.pool.take(rows * width);
        let (a, b) = (Matrix::new(&scaled, drawn + 1), Matrix::new(&gathered, width));
        matmul((&mut dx, width), [rows, drawn, width], a, b, [0.0, 1.0], true);
        let entries = self.parameters.value(table);
        for ((dx, scaled), id) in dx.chunks_exact_mut(width).zip(scaled.chunks_exact(drawn + 1)).zip(targets)
        {
            let entry = &entries[*id as usize * width..][..width];
            dx.iter_mut().zip(entry).for_each(|(dx, entry)| *dx += scaled[drawn] * entry);
        }
        self.pool.give(gathered);
        self.pool.give(scaled);
        self.flow(x, dx);
    }
}
