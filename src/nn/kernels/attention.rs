//! Attention over a cache, for some queries of one sequence that share their keys (grouped queries, and the tokens of a
//! prompt). Every number is summed in one order, whatever queries stand beside it.

use super::{exp, max, sum};
use pulp::{Arch, Simd, WithSimd};

/// Positions whose keys stand side by side.
pub(crate) const POSITIONS: usize = 16;

/// A query: its head's numbers, how many positions it sees, and where its answer goes.
pub(crate) struct Query<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) length: usize,
    pub(crate) out: &'a mut [f32],
}

/// Answers queries of one head size. They look at `pages`: of [`POSITIONS`] positions each, keys `[size, 16]` and values
/// `[16, size]`. `scores` is used again from call to call.
pub(crate) fn attend(queries: &mut [Query<'_>], pages: &[&[f32]], scores: &mut Vec<f32>) {
    let positions = queries.iter().map(|query| query.length).max().unwrap_or(0);
    let size = queries.first().map_or(0, |query| query.q.len());
    let whole = |page: &&[f32]| page.len() == 2 * POSITIONS * size;
    assert!(pages.len() * POSITIONS >= positions && pages.iter().all(whole), "the cache is too small");
    Arch::new().dispatch(Attend { queries, pages, scores });
}

struct Attend<'a, 'b> {
    queries: &'a mut [Query<'b>],
    pages: &'a [&'a [f32]],
    scores: &'a mut Vec<f32>,
}

impl WithSimd for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut queries, pages, scores } = self;
        while !queries.is_empty() {
            let count = if queries.len() >= 8 { 8 } else { queries.len().min(4) };
            let (tile, rest) = queries.split_at_mut(count);
            let positions = tile.iter().map(|query| query.length).max().unwrap_or(0);
            let row = positions.next_multiple_of(POSITIONS);
            scores.resize(8 * row, 0.0);
            match count {
                8 => score::<S, 8>(simd, tile, pages, scores, row),
                4 => score::<S, 4>(simd, tile, pages, scores, row),
                3 => score::<S, 3>(simd, tile, pages, scores, row),
                2 => score::<S, 2>(simd, tile, pages, scores, row),
                _ => score::<S, 1>(simd, tile, pages, scores, row),
            }
            for (query, scores) in tile.iter().zip(scores.chunks_exact_mut(row)) {
                let (own, others) = scores.split_at_mut(query.length);
                let most = max(own);
                own.iter_mut().for_each(|score| *score = exp(*score - most));
                let share = 1.0 / sum(own.len(), |i| own[i]);
                own.iter_mut().for_each(|score| *score *= share);
                others.fill(0.0);
            }
            for (tile, scores) in tile.chunks_mut(4).zip(scores.chunks(4 * row)) {
                match tile.len() {
                    4 => mix::<S, 4>(simd, tile, pages, scores, row),
                    3 => mix::<S, 3>(simd, tile, pages, scores, row),
                    2 => mix::<S, 2>(simd, tile, pages, scores, row),
                    _ => mix::<S, 1>(simd, tile, pages, scores, row),
                }
            }
            queries = rest;
        }
    }
}

/// `scores[query, position] = q k / sqrt(size)`.
#[inline(always)]
fn score<S: Simd, const N: usize>(
    simd: S,
    queries: &[Query<'_>],
    pages: &[&[f32]],
    scores: &mut [f32],
    row: usize,
) {
    let q: [&[f32]; N] = std::array::from_fn(|n| queries[n].q);
    let size = q[0].len();
    let scale = simd.splat_f32s(1.0 / (size as f32).sqrt());
    for (block, page) in pages.iter().take(row / POSITIONS).enumerate() {
        let (keys, _) = S::as_simd_f32s(&page[..size * POSITIONS]);
        // A block is one register, or several.
        let registers = POSITIONS / S::F32_LANES;
        for part in 0..registers {
            let mut sums = [simd.splat_f32s(0.0); N];
            for d in 0..size {
                let key = keys[d * registers + part];
                for (sum, q) in sums.iter_mut().zip(q) {
                    *sum = simd.mul_add_e_f32s(key, simd.splat_f32s(q[d]), *sum);
                }
            }
            for (n, sum) in sums.into_iter().enumerate() {
                let at = n * row + block * POSITIONS + part * S::F32_LANES;
                simd.partial_store_f32s(&mut scores[at..at + S::F32_LANES], simd.mul_f32s(sum, scale));
            }
        }
    }
}

/// `out[query] = scores[query] values`.
#[inline(always)]
fn mix<S: Simd, const N: usize>(
    simd: S,
    queries: &mut [Query<'_>],
    pages: &[&[f32]],
    scores: &[f32],
    row: usize,
) {
    let size = queries[0].q.len();
    let positions = queries.iter().map(|query| query.length).max().unwrap_or(0);
    let scores: [&[f32]; N] = std::array::from_fn(|n| &scores[n * row..][..positions]);
    // Each page's values, and its first position.
    let pages = |positions: usize| {
        (0..positions).step_by(POSITIONS).zip(pages.iter().map(|page| &page[size * POSITIONS..]))
    };
    let step = 4 * S::F32_LANES;
    let mut at = 0;
    // Four registers of the head at a time, then one, then the numbers that are left.
    while at < size {
        let count = if at + step <= size { 4 } else { 1 };
        let width = (count * S::F32_LANES).min(size - at);
        if count == 4 {
            let mut sums = [[simd.splat_f32s(0.0); 4]; N];
            for (first, page) in pages(positions) {
                for p in first..positions.min(first + POSITIONS) {
                    let (value, _) = S::as_simd_f32s(&page[(p - first) * size + at..][..width]);
                    for (sums, scores) in sums.iter_mut().zip(scores) {
                        let score = simd.splat_f32s(scores[p]);
                        for (sum, value) in sums.iter_mut().zip(value) {
                            *sum = simd.mul_add_e_f32s(score, *value, *sum);
                        }
                    }
                }
            }
            for (query, sums) in queries.iter_mut().zip(sums) {
                let (out, _) = S::as_mut_simd_f32s(&mut query.out[at..at + width]);
                out.copy_from_slice(&sums);
            }
        } else {
            let mut sums = [simd.splat_f32s(0.0); N];
            for (first, page) in pages(positions) {
                for p in first..positions.min(first + POSITIONS) {
                    let value = simd.partial_load_f32s(&page[(p - first) * size + at..][..width]);
                    for (sum, scores) in sums.iter_mut().zip(scores) {
                        *sum = simd.mul_add_e_f32s(simd.splat_f32s(scores[p]), value, *sum);
                    }
                }
            }
            for (query, sum) in queries.iter_mut().zip(sums) {
                simd.partial_store_f32s(&mut query.out[at..at + width], sum);
            }
        }
        at += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn answers_are_those_of_the_definition_and_do_not_depend_on_company() {
        let mut noise = Seed::new(1).stream();
        for (size, positions) in [(1, 1), (16, 5), (20, 33), (64, 100), (80, 17)] {
            let mut random = |count: usize| -> Vec<f32> { (0..count).map(|_| noise.normal()).collect() };
            let (all, values) = (random(positions * size), random(positions * size));
            let mut store = vec![vec![0.0; 2 * POSITIONS * size]; positions.div_ceil(POSITIONS)];
            for p in 0..positions {
                for d in 0..size {
                    store[p / POSITIONS][d * POSITIONS + p % POSITIONS] = all[p * size + d];
                    store[p / POSITIONS][(POSITIONS + p % POSITIONS) * size + d] = values[p * size + d];
                }
            }
            let pages: Vec<&[f32]> = store.iter().map(Vec::as_slice).collect();
            let q = random(11 * size);
            let lengths: Vec<usize> = (0..11).map(|n| 1 + n * 7 % positions).collect();
            {
                let run = |range: std::ops::Range<usize>| {
                    let mut out = vec![f32::NAN; range.len() * size];
                    let mut queries: Vec<Query<'_>> = range
                        .zip(out.chunks_mut(size))
                        .map(|(n, out)| Query { q: &q[n * size..][..size], length: lengths[n], out })
                        .collect();
                    attend(&mut queries, &pages, &mut Vec::new());
                    out
                };
                let together = run(0..11);
                for n in 0..11 {
                    assert_eq!(run(n..n + 1), together[n * size..][..size]);
                    let dot = |p: usize| -> f64 {
                        let key = &all[p * size..][..size];
                        let q = &q[n * size..][..size];
                        q.iter().zip(key).map(|(a, b)| f64::from(a * b)).sum::<f64>() / (size as f64).sqrt()
                    };
                    let scores: Vec<f64> = (0..lengths[n]).map(|p| dot(p).exp()).collect();
                    let total: f64 = scores.iter().sum();
                    for i in 0..size {
                        let expected: f64 = scores
                            .iter()
                            .enumerate()
                            .map(|(p, s)| s / total * f64::from(values[p * size + i]))
                            .sum();
                        assert!((expected - f64::from(together[n * size + i])).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
