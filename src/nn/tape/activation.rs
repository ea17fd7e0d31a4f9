//! What is applied to each value on its own.

use super::{Op, Tape, Value};
use crate::nn::kernels::{by_rows, by_rows2, erf, exp, sigmoid, tanh, vectorized};

/// `sqrt(2 / pi)`.
const ROOT: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

impl Tape<'_> {
    /// `silu(gate) * up` (Shazeer 2020).
    pub fn swiglu(&mut self, gate: Value, up: Value) -> Value {
        let width = self.width(gate);
        let mut out = self.pool.take(self.nodes[gate.0].value.len());
        let (g, u) = (self.value(gate), self.value(up));
        by_rows(&mut out, 1, |at, out| {
            let (g, u) = (&g[at..at + out.len()], &u[at..at + out.len()]);
            vectorized(
                #[inline(always)]
                || {
                    for ((out, &g), &u) in out.iter_mut().zip(g).zip(u) {
                        *out = g * sigmoid(g) * u;
                    }
                },
            );
        });
        self.push(out, width, Op::SwiGlu { gate, up })
    }

    pub(super) fn swiglu_back(&mut self, gate: Value, up: Value, grad: &[f32]) {
        let (mut dg, mut du) = (self.pool.take(grad.len()), self.pool.take(grad.len()));
        let (g, u) = (self.value(gate), self.value(up));
        by_rows2((&mut dg, 1), (&mut du, 1), |at, dg, du| {
            let range = at..at + dg.len();
            let (g, u, grad) = (&g[range.clone()], &u[range.clone()], &grad[range]);
            vectorized(
                #[inline(always)]
                || {
                    for ((((dg, du), &g), &u), &grad) in dg.iter_mut().zip(du).zip(g).zip(u).zip(grad) {
                        let s = sigmoid(g);
                        *du = grad * g * s;
                        *dg = grad * u * s * (1.0 + g * (1.0 - s));
                    }
                },
            );
        });
        self.flow(gate, dg);
        self.flow(up, du);
    }

    /// GELU (Hendrycks and Gimpel 2016): exact, or by the hyperbolic tangent as GPT-2 has it.
    pub fn gelu(&mut self, x: Value, exact: bool) -> Value {
        let width = self.width(x);
        let mut out = self.pool.take(self.nodes[x.0].value.len());
        let values = self.value(x);
        by_rows(&mut out, 1, |at, out| {
            let x = &values[at..at + out.len()];
            vectorized(
                #[inline(always)]
                || {
                    if exact {
                        for (out, &x) in out.iter_mut().zip(x) {
                            *out = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
                        }
                    } else {
                        for (out, &x) in out.iter_mut().zip(x) {
                            *out = 0.5 * x * (1.0 + tanh(ROOT * (x + CUBE * x * x * x)));
                        }
                    }
                },
            );
        });
        self.push(out, width, Op::Gelu { x, exact })
    }

    pub(super) fn gelu_back(&mut self, x: Value, exact: bool, grad: &[f32]) {
        /// `1 / sqrt(2 pi)`.
        const DENSITY: f32 = 0.398_942_3;
        let mut dx = self.pool.take(grad.len());
        let values = self.value(x);
        by_rows(&mut dx, 1, |at, dx| {
            let (x, grad) = (&values[at..at + dx.len()], &grad[at..at + dx.len()]);
            vectorized(
                #[inline(always)]
                || {
                    if exact {
                        for ((dx, &x), &grad) in dx.iter_mut().zip(x).zip(grad) {
                            let share = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
                            *dx = grad * (share + x * DENSITY * exp(-0.5 * x * x));
                        }
                    } else {
                        for ((dx, &x), &grad) in dx.iter_mut().zip(x).zip(grad) {
                            let t = tanh(ROOT * (x + CUBE * x * x * x));
                            let slope = (1.0 - t * t) * ROOT * (1.0 + 3.0 * CUBE * x * x);
                            *dx = grad * 0.5 * (1.0 + t + x * slope);
                        }
                    }
                },
            );
        });
        self.flow(x, dx);
    }
}
