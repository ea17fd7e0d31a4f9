//! Norms over the width of a row.

use super::{Op, Tape, Value};
use crate::nn::kernels::{by_rows, by_rows2, sum, vectorized};
use crate::nn::parameters::ParameterId;

impl Tape<'_> {
    /// Root-mean-square norm (Zhang and Sennrich 2019) over stretches as long as `weight`: a whole row, or each head of
    /// it.
    pub fn rms_norm(&mut self, x: Value, weight: ParameterId, eps: f32) -> Value {
        let w = self.parameters.value(weight);
        let (width, length) = (w.len(), self.value(x).len());
        let (mut out, mut scales) = (self.pool.take(length), self.pool.take(length / width));
        let values = self.value(x);
        by_rows2((&mut out, width), (&mut scales, 1), |first, out, scales| {
            let x = &values[first * width..][..out.len()];
            vectorized(
                #[inline(always)]
                || {
                    let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(scales);
                    for ((out, x), scale) in rows {
                        *scale = 1.0 / (sum(width, |i| x[i] * x[i]) / width as f32 + eps).sqrt();
                        for i in 0..width {
                            out[i] = x[i] * *scale * w[i];
                        }
                    }
                },
            );
        });
        let of = self.width(x);
        self.push(out, of, Op::RmsNorm { x, weight, scales })
    }

    pub(super) fn rms_norm_back(
        &mut self,
        x: Value,
        weight: ParameterId,
        scales: &[f32],
        grad: &[f32],
        grads: &mut [f32],
    ) {
        let w = self.parameters.value(weight);
        let width = w.len();
        let mut dx = self.pool.take(grad.len());
        let values = self.value(x);
        by_rows(&mut dx, width, |first, dx| {
            let (x, dy) = (&values[first * width..][..dx.len()], &grad[first * width..][..dx.len()]);
            let scales = &scales[first..];
            vectorized(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for (((dx, x), dy), &scale) in rows.zip(dy.chunks_exact(width)).zip(scales) {
                        // d/dx of x s(x): s (g - x s^2 mean(x g)), with g = w dy.
                        let mean = sum(width, |i| x[i] * dy[i] * w[i]) * scale * scale / width as f32;
                        for i in 0..width {
                            dx[i] = scale * (w[i] * dy[i] - x[i] * mean);
                        }
                    }
                },
            );
        });
        if self.learns(weight) {
            let dw = self.slot(grads, weight);
            vectorized(
                #[inline(always)]
                || {
                    let rows = values.chunks_exact(width).zip(grad.chunks_exact(width));
                    for ((x, dy), scale) in rows.zip(scales) {
                        for i in 0..width {
                            dw[i] += dy[i] * x[i] * scale;
                        }
                    }
                },
            );
        }
        self.flow(x, dx);
    }

    /// Layer norm (Ba et al. 2016).
    pub fn layer_norm(
        &mut self,
        x: Value,
        weight: ParameterId,
        bias: Option<ParameterId>,
        eps: f32,
    ) -> Value {
        let w = self.parameters.value(weight);
        let b = bias.map(|bias| self.parameters.value(bias));
        let (width, length) = (w.len(), self.value(x).len());
        let (mut out, mut moments) = (self.pool.take(length), self.pool.take(2 * length / width));
        let values = self.value(x);
        by_rows2((&mut out, width), (&mut moments, 2), |first, out, moments| {
            let x = &values[first * width..][..out.len()];
            vectorized(
                #[inline(always)]
                || {
                    let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for ((out, x), moments) in rows.zip(moments.chunks_exact_mut(2)) {
                        let mean = sum(width, |i| x[i]) / width as f32;
                        let variance = sum(width, |i| (x[i] - mean) * (x[i] - mean)) / width as f32;
                        let scale = 1.0 / (variance + eps).sqrt();
                        moments.copy_from_slice(&[mean, scale]);
                        for i in 0..width {
                            out[i] = (x[i] - mean) * scale * w[i];
                        }
                        if let Some(b) = b {
                            for i in 0..width {
                                out[i] += b[i];
                            }
                        }
                    }
                },
            );
        });
        self.push(out, width, Op::LayerNorm { x, weight, bias, moments })
    }

    pub(super) fn layer_norm_back(
        &mut self,
        x: Value,
        weight: ParameterId,
        bias: Option<ParameterId>,
        moments: &[f32],
        grad: &[f32],
        grads: &mut [f32],
    ) {
        let w = self.parameters.value(weight);
        let width = w.len();
        let mut dx = self.pool.take(grad.len());
        let values = self.value(x);
        by_rows(&mut dx, width, |first, dx| {
            let (x, dy) = (&values[first * width..][..dx.len()], &grad[first * width..][..dx.len()]);
            let moments = &moments[2 * first..];
            vectorized(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    let rows = rows.zip(dy.chunks_exact(width)).zip(moments.chunks_exact(2));
                    for (((dx, x), dy), moments) in rows {
                        let (mean, scale) = (moments[0], moments[1]);
                        let g = sum(width, |i| w[i] * dy[i]) / width as f32;
                        let gx = sum(width, |i| w[i] * dy[i] * (x[i] - mean)) * scale * scale / width as f32;
                        for i in 0..width {
                            dx[i] = scale * (w[i] * dy[i] - g - (x[i] - mean) * gx);
                        }
                    }
                },
            );
        });
        if self.learns(weight) {
            let dw = self.slot(grads, weight);
            vectorized(
                #[inline(always)]
                || {
                    let rows = values.chunks_exact(width).zip(grad.chunks_exact(width));
                    for ((x, dy), moments) in rows.zip(moments.chunks_exact(2)) {
                        for i in 0..width {
                            dw[i] += dy[i] * (x[i] - moments[0]) * moments[1];
                        }
                    }
                },
            );
        }
        if let Some(bias) = bias.filter(|bias| self.learns(*bias)) {
            super::dense::add_columns(self.slot(grads, bias), grad);
        }
        self.flow(x, dx);
    }
}
