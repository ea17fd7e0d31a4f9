//! The arithmetic of the CPU path: matrix products (the `gemm` crate) and vector loops, compiled for several
//! instruction sets and chosen at run time (the `pulp` crate), so that an ordinary x86-64 build uses AVX2 and
//! AVX-512 where they are there. The only module with `unsafe`; [`scalar`] holds the twins that tests compare with.

pub(crate) mod attention;
mod packed;
pub(crate) mod panels;

pub(crate) use packed::PackedMatrix;

use rayon::prelude::*;

/// A matrix inside a slice: element `(i, j)` is `data[i * rows + j * columns]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, with this many values from one row to the next.
    pub(crate) fn new(data: &'a [f32], stride: usize) -> Self {
        Self { data, rows: stride, columns: 1 }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self { data: self.data, rows: self.columns, columns: self.rows }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = |count: usize, stride: usize| count.saturating_sub(1).saturating_mul(stride);
        rows == 0
            || columns == 0
            || last(rows, self.rows).saturating_add(last(columns, self.columns)) < self.data.len()
    }
}

/// `out = keep * out + scale * a b`: `a [m, k]`, `b [k, n]`, `out [m, n]` with `stride` values from row to row.
/// What `out` held is not read when `keep` is 0. With `parallel`, the threads of the current rayon pool share the
/// work.
pub(crate) fn matmul(
    out: (&mut [f32], usize),
    [m, k, n]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    [keep, scale]: [f32; 2],
    parallel: bool,
) {
    let (out, stride) = out;
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= stride && (m - 1) * stride + n <= out.len(), "the output is too small");
    assert!(a.holds(m, k) && b.holds(k, n), "a factor is too small");
    let threads = if parallel { rayon::current_num_threads() } else { 1 };
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    #[expect(unsafe_code, reason = "the gemm crate takes pointers")]
    // SAFETY: the assertions above keep every element that the strides reach inside its slice; rows of `out` do not
    // overlap as `n <= stride`; `out` is borrowed mutably, so neither factor is part of it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            keep != 0.0,
            a.data.as_ptr(),
            a.columns as isize,
            a.rows as isize,
            b.data.as_ptr(),
            b.columns as isize,
            b.rows as isize,
            keep,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Runs a loop compiled for the best instruction set of this machine.
#[inline(always)]
pub(crate) fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// How many values a thread takes at a time.
const GRAIN: usize = 1 << 13;

/// Calls `body(first row, rows)` on blocks of rows of `out`, on all threads of the current pool.
pub(crate) fn by_rows(out: &mut [f32], width: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    if width == 0 || out.is_empty() {
        return;
    }
    let block = (GRAIN / width).max(1);
    if out.len() <= 2 * GRAIN || rayon::current_num_threads() == 1 {
        body(0, out);
    } else {
        out.par_chunks_mut(block * width).enumerate().for_each(|(n, rows)| body(n * block, rows));
    }
}

/// Like [`by_rows`], with a second output of `second` values a row.
pub(crate) fn by_rows2(
    out: (&mut [f32], usize),
    second: (&mut [f32], usize),
    body: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let ((out, width), (other, narrow)) = (out, second);
    if width == 0 || out.is_empty() {
        return;
    }
    let block = (GRAIN / width).max(1);
    if out.len() <= 2 * GRAIN || rayon::current_num_threads() == 1 {
        body(0, out, other);
    } else {
        out.par_chunks_mut(block * width)
            .zip(other.par_chunks_mut(block * narrow))
            .enumerate()
            .for_each(|(n, (rows, other))| body(n * block, rows, other));
    }
}

const LANES: usize = 16;

/// `e^x` to about 1e-7 relative (Cephes), in operations that vectorise.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let power = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, by [`exp`].
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// The error function to about 2e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + c;
    }
    (1.0 - p * t * exp(-a * a)).copysign(x)
}

/// The sum of `f(i)` over `0..n`, in sixteen sums of a fixed order.
#[inline(always)]
pub(crate) fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let whole = n - n % LANES;
    let mut at = 0;
    while at < whole {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f(at + lane);
        }
        at += LANES;
    }
    let rest: f32 = (whole..n).map(f).sum();
    sums.iter().sum::<f32>() + rest
}

/// The largest of a slice.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

/// The dot product of two slices of one length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    sum(n, |i| a[i] * b[i])
}

/// `out += x`.
pub(crate) fn add_to(out: &mut [f32], x: &[f32]) {
    by_rows(out, 1, |at, out| {
        let x = &x[at..at + out.len()];
        vectorized(
            #[inline(always)]
            || out.iter_mut().zip(x).for_each(|(out, x)| *out += x),
        );
    });
}

/// The plain twins, for tests.
#[cfg(test)]
pub(crate) mod scalar {
    /// `keep * out + scale * a b`, row-major.
    pub(crate) fn matmul(
        out: &mut [f32],
        [m, k, n]: [usize; 3],
        a: &[f32],
        b: &[f32],
        [keep, scale]: [f32; 2],
    ) {
        for i in 0..m {
            for j in 0..n {
                let product: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
                let old = if keep == 0.0 { 0.0 } else { keep * out[i * n + j] };
                out[i * n + j] = old + scale * product as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut noise = Seed::new(seed).stream();
        (0..count).map(|_| noise.normal()).collect()
    }

    #[test]
    fn products_are_those_of_the_scalar_twin() {
        for [m, k, n] in [[1, 1, 1], [3, 5, 7], [64, 32, 48], [1, 200, 33], [130, 17, 1], [90, 70, 110]] {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            for keep in [0.0, 0.5] {
                let old = random(m * n, 3);
                let mut expected = old.clone();
                scalar::matmul(&mut expected, [m, k, n], &a, &b, [keep, 2.0]);
                for (b, parallel) in [(Matrix::new(&b, n), false), (Matrix::new(&transposed, k).t(), true)] {
                    let mut out = old.clone();
                    matmul((&mut out, n), [m, k, n], Matrix::new(&a, k), b, [keep, 2.0], parallel);
                    let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-3;
                    assert!(!out.iter().zip(&expected).any(far), "{m} {k} {n}");
                }
            }
        }
    }

    #[test]
    fn nothing_beyond_the_rows_is_written() {
        let mut out = vec![7.0; 20];
        let (a, b) = (random(6, 1), random(6, 2));
        matmul((&mut out, 5), [3, 2, 3], Matrix::new(&a, 2), Matrix::new(&b, 3), [0.0, 1.0], false);
        assert!([3, 4, 8, 9, 13, 14, 15, 19].iter().all(|&i| out[i] == 7.0), "{out:?}");
    }

    #[test]
    #[should_panic(expected = "too small")]
    fn a_factor_that_is_too_small_is_refused() {
        let (mut out, a) = (vec![0.0; 4], vec![0.0; 3]);
        matmul((&mut out, 2), [2, 2, 2], Matrix::new(&a, 2), Matrix::new(&[0.0; 4], 2), [0.0, 1.0], false);
    }

    #[test]
    fn functions_are_close_to_those_of_the_standard_library() {
        for i in -2000..2000 {
            let x = i as f32 * 0.04;
            assert!((exp(x) - x.exp()).abs() <= 3e-7 * x.exp(), "exp({x})");
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x})");
            assert!((sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 3e-7, "sigmoid({x})");
        }
        // Values of a table.
        for (x, y) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)] {
            assert!((erf(x) - y).abs() < 5e-7 && (erf(-x) + y).abs() < 5e-7);
        }
        assert!(exp(f32::NAN).is_nan() && exp(-1000.0) < 1e-37 && exp(1000.0) > 1e38);
        let values = random(37, 5);
        assert!((dot(&values, &values) - values.iter().map(|x| x * x).sum::<f32>()).abs() < 1e-4);
        assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    }
}
