//! Where the embeddings of subjects begin: things that the same players choose near each other begin near each other.
//!
//! The positive pointwise mutual information of what occurs together (Levy and Goldberg 2014), of which the leading
//! eigenvectors are found by subspace iteration (Halko et al. 2011). A model of many thousand subjects with a dozen events
//! a player learns from there in a few epochs what it else takes hundreds for. Only training events are looked at.

use crate::seed::Seed;
use std::collections::HashMap;

/// How far apart two events may be to occur together.
const REACH: usize = 8;
/// Rounds of the iteration.
const ROUNDS: usize = 6;
/// More dimensions than are wanted, so that those come out well.
const SPARE: usize = 16;

/// A symmetric matrix, of which each row's entries are listed.
struct Sparse {
    rows: Vec<Vec<(u32, f32)>>,
}

impl Sparse {
    /// What occurs together in histories of subjects (numbers from 0), as mutual information in nats, floored at 0.
    fn of(histories: &[Vec<u32>], subjects: usize) -> Self {
        let mut pairs: HashMap<(u32, u32), f32> = HashMap::new();
        let mut totals = vec![0.0f64; subjects];
        for history in histories {
            for (at, a) in history.iter().enumerate() {
                for (gap, b) in history[at + 1..].iter().take(REACH).enumerate() {
                    if a == b {
                        continue;
                    }
                    // The nearer, the more.
                    let weight = 1.0 / (gap + 1) as f32;
                    *pairs.entry((*a.min(b), *a.max(b))).or_default() += weight;
                    totals[*a as usize] += f64::from(weight);
                    totals[*b as usize] += f64::from(weight);
                }
            }
        }
        // Rare contexts are smoothed (a power of 0.75), or they would look too telling.
        let smooth: Vec<f64> = totals.iter().map(|total| total.powf(0.75)).collect();
        let (all, smoothed) = (totals.iter().sum::<f64>(), smooth.iter().sum::<f64>());
        let mut rows = vec![Vec::new(); subjects];
        let mut sorted: Vec<_> = pairs.into_iter().collect();
        sorted.sort_unstable_by_key(|(pair, _)| *pair);
        for ((a, b), weight) in sorted {
            let (x, y) = (a as usize, b as usize);
            let joint = f64::from(weight) / all;
            let apart = |x: usize, y: usize| totals[x] / all * smooth[y] / smoothed;
            let information = (joint / f64::midpoint(apart(x, y), apart(y, x))).ln();
            if information > 0.0 {
                rows[x].push((b, information as f32));
                rows[y].push((a, information as f32));
            }
        }
        Self { rows }
    }

    /// The product with `x [n, width]`.
    fn times(&self, x: &[f32], width: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        for (row, out) in self.rows.iter().zip(out.chunks_exact_mut(width)) {
            for (other, value) in row {
                let other = &x[*other as usize * width..][..width];
                out.iter_mut().zip(other).for_each(|(out, x)| *out += value * x);
            }
        }
        out
    }
}

/// Makes the columns of `x [n, width]` orthonormal, in place (Gram-Schmidt, twice). Columns with nothing in them become 0.
fn orthonormal(x: &mut [f32], width: usize) {
    let column = |x: &[f32], at: usize| -> Vec<f32> { x.iter().skip(at).step_by(width).copied().collect() };
    let mut columns: Vec<Vec<f32>> = (0..width).map(|at| column(x, at)).collect();
    for at in 0..width {
        let (before, rest) = columns.split_at_mut(at);
        let own = &mut rest[0];
        for _ in 0..2 {
            for other in before.iter() {
                let dot: f32 = own.iter().zip(other).map(|(a, b)| a * b).sum();
                own.iter_mut().zip(other).for_each(|(own, other)| *own -= dot * other);
            }
        }
        let norm = own.iter().map(|value| value * value).sum::<f32>().sqrt();
        let scale = if norm > 1e-12 { 1.0 / norm } else { 0.0 };
        own.iter_mut().for_each(|value| *value *= scale);
    }
    for (at, column) in columns.iter().enumerate() {
        x.iter_mut().skip(at).step_by(width).zip(column).for_each(|(x, value)| *x = *value);
    }
}

/// Eigenvalues and vectors (columns) of a small symmetric matrix `[n, n]` (Jacobi).
fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    for _ in 0..30 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        if off < 1e-18 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                if apq.abs() < 1e-15 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (kp, kq) = (a[k * n + p], a[k * n + q]);
                    a[k * n + p] = c * kp - s * kq;
                    a[k * n + q] = s * kp + c * kq;
                }
                for k in 0..n {
                    let (pk, qk) = (a[p * n + k], a[q * n + k]);
                    a[p * n + k] = c * pk - s * qk;
                    a[q * n + k] = s * pk + c * qk;
                }
                for k in 0..n {
                    let (kp, kq) = (v[k * n + p], v[k * n + q]);
                    v[k * n + p] = c * kp - s * kq;
                    v[k * n + q] = s * kp + c * kq;
                }
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), v)
}

/// Embeddings `[subjects, width]` in which what occurs together lies together, with a root mean square of `scale`. The
/// histories are of subjects, numbers from 0. Subjects that never occur begin at noise a tenth as large.
pub(super) fn embeddings(
    histories: &[Vec<u32>],
    subjects: usize,
    width: usize,
    scale: f32,
    seed: Seed,
) -> Vec<f32> {
    let matrix = Sparse::of(histories, subjects);
    let wide = (width + SPARE).min(subjects.max(1));
    let mut noise = seed.derive("together").stream();
    let mut basis: Vec<f32> = (0..subjects * wide).map(|_| noise.normal()).collect();
    for _ in 0..ROUNDS {
        basis = matrix.times(&basis, wide);
        orthonormal(&mut basis, wide);
    }
    let image = matrix.times(&basis, wide);
    let mut small = vec![0.0f64; wide * wide];
    for (q, m) in basis.chunks_exact(wide).zip(image.chunks_exact(wide)) {
        for (i, q) in q.iter().enumerate() {
            for (j, m) in m.iter().enumerate() {
                small[i * wide + j] += f64::from(*q) * f64::from(*m);
            }
        }
    }
    let (values, vectors) = eigen(small, wide);
    let mut order: Vec<usize> = (0..wide).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let mut out = vec![0.0f32; subjects * width];
    for (row, out) in basis.chunks_exact(wide).zip(out.chunks_exact_mut(width)) {
        for (out, at) in out.iter_mut().zip(&order) {
            let along: f64 =
                row.iter().enumerate().map(|(k, q)| f64::from(*q) * vectors[k * wide + at]).sum();
            *out = (along * values[*at].max(0.0).sqrt()) as f32;
        }
    }
    let size = (out.iter().map(|value| value * value).sum::<f32>() / out.len().max(1) as f32).sqrt();
    let factor = if size > 1e-12 { scale / size } else { 0.0 };
    for value in &mut out {
        *value = *value * factor + 0.1 * scale * noise.normal();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurs_together_begins_together() {
        // Two groups of ten things that never mix.
        let mut dice = Seed::new(1).stream();
        let histories: Vec<Vec<u32>> =
            (0..200).map(|n| (0..8).map(|_| 10 * (n % 2) + dice.below(10) as u32).collect()).collect();
        let all = embeddings(&histories, 21, 4, 0.1, Seed::new(2));
        let near = |a: usize, b: usize| {
            let row = |at: usize| &all[at * 4..at * 4 + 4];
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            dot(row(a), row(b)) / (dot(row(a), row(a)) * dot(row(b), row(b))).sqrt()
        };
        let mean = |shift: usize| (0..9).map(|at| near(at, (at + 1) % 10 + shift)).sum::<f32>() / 9.0;
        assert!(mean(0) > mean(10) + 0.3, "{} {}", mean(0), mean(10));
        assert!(all.iter().all(|value| value.is_finite()));
        assert_eq!(all, embeddings(&histories, 21, 4, 0.1, Seed::new(2)));
        assert!(embeddings(&[], 3, 4, 0.1, Seed::new(2)).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn eigenvectors_are_found() {
        let (values, vectors) = eigen(vec![2.0, 1.0, 1.0, 2.0], 2);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        assert!((sorted[0] - 1.0).abs() < 1e-9 && (sorted[1] - 3.0).abs() < 1e-9);
        assert!((vectors[0].abs() - 0.5f64.sqrt()).abs() < 1e-9);
    }
}
