//! Weights packed once into panels, for products with few rows: weight-stationary, and the same bits for a row
//! whatever rows stand beside it.

use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

/// Outputs of a panel: two registers of AVX-512, four of AVX2.
pub(crate) const PANEL: usize = 32;

/// A matrix `[outputs, inputs]` in panels of [`PANEL`] outputs: for each input the weights of the panel's outputs, side by
/// side. The last panel is filled up with zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedMatrix {
    data: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl PackedMatrix {
    /// Packs `outputs x inputs` values, of which `(o, i)` is `weight(o, i)`.
    pub(crate) fn new(outputs: usize, inputs: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = vec![0.0; outputs.div_ceil(PANEL) * PANEL * inputs];
        for (p, panel) in data.chunks_exact_mut((PANEL * inputs).max(1)).enumerate() {
            let first = p * PANEL;
            for (i, values) in panel.chunks_exact_mut(PANEL).enumerate() {
                for (value, o) in values.iter_mut().zip(first..outputs) {
                    *value = weight(o, i);
                }
            }
        }
        Self { data, inputs, outputs }
    }

    /// Panels.
    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// `out[row] = weight x[row]` for every row of `x [rows, inputs]` and the outputs of some panels; `out [rows, outputs]`.
    pub(crate) fn multiply(&self, x: &[f32], out: &mut [f32], panels: Range<usize>) {
        let rows = x.len().checked_div(self.inputs).unwrap_or(0);
        assert!(out.len() >= rows * self.outputs && panels.end <= self.panels(), "the output is too small");
        Arch::new().dispatch(Multiply { weights: self, x, out, rows, panels });
    }
}

struct Multiply<'a> {
    weights: &'a PackedMatrix,
    x: &'a [f32],
    out: &'a mut [f32],
    rows: usize,
    panels: Range<usize>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many rows at a time as the registers hold.
        match S::F32_LANES {
            16 => self.run::<S, 2, 12>(simd),
            8 => self.run::<S, 4, 3>(simd),
            4 => self.run::<S, 8, 2>(simd),
            _ => self.run::<S, PANEL, 1>(simd),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd, const REGISTERS: usize, const ROWS: usize>(self, simd: S) {
        let Self { weights, x, out, rows, panels } = self;
        let (inputs, outputs) = (weights.inputs, weights.outputs);
        for p in panels {
            let panel = &weights.data[p * PANEL * inputs..][..PANEL * inputs];
            let first = p * PANEL;
            let count = PANEL.min(outputs - first);
            let mut row = 0;
            while row + ROWS <= rows {
                let sums = tile::<S, REGISTERS, ROWS>(simd, panel, &x[row * inputs..], inputs);
                for sums in sums {
                    store(simd, &mut out[row * outputs + first..][..count], sums);
                    row += 1;
                }
            }
            // The rest, in tiles of a few and of one: a row's sums are the same in any.
            while row + 4 <= rows && ROWS > 4 {
                let sums = tile::<S, REGISTERS, 4>(simd, panel, &x[row * inputs..], inputs);
                for sums in sums {
                    store(simd, &mut out[row * outputs + first..][..count], sums);
                    row += 1;
                }
            }
            while row < rows {
                let [sums] = tile::<S, REGISTERS, 1>(simd, panel, &x[row * inputs..], inputs);
                store(simd, &mut out[row * outputs + first..][..count], sums);
                row += 1;
            }
        }
    }
}

/// The panel's products with `ROWS` rows, each summed in the order of the inputs.
#[inline(always)]
fn tile<S: Simd, const REGISTERS: usize, const ROWS: usize>(
    simd: S,
    panel: &[f32],
    x: &[f32],
    inputs: usize,
) -> [[S::f32s; REGISTERS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); REGISTERS]; ROWS];
    let (weights, _) = S::as_simd_f32s(panel);
    let x: [&[f32]; ROWS] = std::array::from_fn(|row| &x[row * inputs..][..inputs]);
    for (i, weights) in weights.chunks_exact(REGISTERS).enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            let value = simd.splat_f32s(x[row][i]);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(value, *weight, *sum);
            }
        }
    }
    sums
}

#[inline(always)]
fn store<S: Simd, const REGISTERS: usize>(simd: S, out: &mut [f32], sums: [S::f32s; REGISTERS]) {
    for (out, sum) in out.chunks_mut(S::F32_LANES).zip(sums) {
        simd.partial_store_f32s(out, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernels::scalar;
    use crate::seed::Seed;

    #[test]
    fn products_are_those_of_the_scalar_twin_and_rows_do_not_change_each_other() {
        let mut noise = Seed::new(1).stream();
        for [rows, inputs, outputs] in [[1, 1, 1], [3, 7, 31], [12, 64, 32], [29, 33, 100], [17, 256, 65]] {
            let mut random = |count: usize| -> Vec<f32> { (0..count).map(|_| noise.normal()).collect() };
            let (weight, x) = (random(outputs * inputs), random(rows * inputs));
            let packed = PackedMatrix::new(outputs, inputs, |o, i| weight[o * inputs + i]);
            let mut out = vec![f32::NAN; rows * outputs];
            packed.multiply(&x, &mut out, 0..packed.panels());
            let transposed: Vec<f32> =
                (0..inputs * outputs).map(|n| weight[n % outputs * inputs + n / outputs]).collect();
            let mut expected = vec![0.0; rows * outputs];
            scalar::matmul(&mut expected, [rows, inputs, outputs], &x, &transposed, [0.0, 1.0]);
            assert!(
                out.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3),
                "{rows} {inputs} {outputs}"
            );
            for row in 0..rows {
                let mut alone = vec![0.0; outputs];
                packed.multiply(&x[row * inputs..][..inputs], &mut alone, 0..packed.panels());
                assert_eq!(alone, out[row * outputs..][..outputs]);
            }
        }
    }
}
