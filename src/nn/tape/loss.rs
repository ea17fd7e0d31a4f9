//! Cross-entropy, a number a row.

use super::{Op, Tape, Value};
use crate::nn::kernels::{by_rows, exp, max, sum, vectorized};

/// `log(sum(exp(row)))`.
#[inline(always)]
fn log_sum_exp(row: &[f32]) -> f32 {
    let most = max(row);
    most + sum(row.len(), |i| exp(row[i] - most)).ln()
}

impl Tape<'_> {
    /// The negative log-likelihood of each row's target, in nats: `logits [rows, vocab]` -> `[rows, 1]`. With smoothing
    /// `s` each target is mixed with the uniform distribution (Szegedy et al. 2016). The gradient of each row
    /// is given to [`Tape::backward`], so that any weighting of them is a loss.
    pub fn loss(&mut self, logits: Value, targets: &[u32], smoothing: f32) -> Value {
        let vocab = self.width(logits);
        let mut out = self.pool.take(targets.len());
        let values = self.value(logits);
        let each = |first: usize, out: &mut [f32]| {
            for (n, out) in out.iter_mut().enumerate() {
                let row = &values[(first + n) * vocab..][..vocab];
                vectorized(
                    #[inline(always)]
                    || {
                        let total = log_sum_exp(row);
                        *out = total - row[targets[first + n] as usize];
                        if smoothing > 0.0 {
                            let uniform = total - sum(vocab, |i| row[i]) / vocab as f32;
                            *out = (1.0 - smoothing) * *out + smoothing * uniform;
                        }
                    },
                );
            }
        };
        // Few numbers come of many: blocks by what is read.
        use rayon::prelude::*;
        if values.len() > 1 << 15 && rayon::current_num_threads() > 1 {
            out.par_chunks_mut(16).enumerate().for_each(|(n, out)| each(n * 16, out));
        } else {
            each(0, &mut out);
        }
        self.push(out, 1, Op::Loss { logits, targets: targets.to_vec(), smoothing })
    }

    pub(super) fn loss_back(&mut self, logits: Value, targets: &[u32], smoothing: f32, grad: &[f32]) {
        let vocab = self.width(logits);
        let mut dx = self.pool.take(self.nodes[logits.0].value.len());
        let values = self.value(logits);
        by_rows(&mut dx, vocab, |first, dx| {
            for (n, dx) in dx.chunks_exact_mut(vocab).enumerate() {
                let (row, grad) = (&values[(first + n) * vocab..][..vocab], grad[first + n]);
                if grad == 0.0 {
                    dx.fill(0.0);
                    continue;
                }
                vectorized(
                    #[inline(always)]
                    || {
                        let total = log_sum_exp(row);
                        let spread = smoothing / vocab as f32;
                        for i in 0..vocab {
                            dx[i] = grad * (exp(row[i] - total) - spread);
                        }
                    },
                );
                dx[targets[first + n] as usize] -= grad * (1.0 - smoothing);
            }
        });
        self.flow(logits, dx);
    }
}
