//! Attention over a cache, for some queries of one sequence that share their keys (grouped queries, and the tokens of a
//! prompt). Every number is summed in one order, whatever queries stand beside it.

use super::{exp, max, sum};
use pulp::{Arch, Simd, WithSimd};

/// Positions whose keys stand side by side.
pub(crate) const POSITIONS: usize = 16;

/// Adds a position's keys `[width]` to a cache in blocks of [`POSITIONS`]: `[block, width, 16]`.
pub(crate) fn push_keys(keys: &mut Vec<f32>, position: usize, key: &[f32]) {
    let block = position / POSITIONS * POSITIONS * key.len();
    keys.resize(block + POSITIONS * key.len(), 0.0);
    let at = &mut keys[block + position % POSITIONS..];
    at.iter_mut().step_by(POSITIONS).zip(key).for_each(|(at, key)| *at = *key);
}

/// A query: its head's numbers, how many positions it sees, and where its answer goes.
pub(crate) struct Query<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) length: usize,
    pub(crate) out: &'a mut [f32],
}

/// What the queries look at: `keys [block, width, 16]`, `values [position, width]`, of which the head's numbers begin at
/// `offset`.
#[derive(Clone, Copy)]
pub(crate) struct Cache<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
    pub(crate) offset: usize,
}

/// Answers queries of one head size. `scores` is used again from call to call.
pub(crate) fn attend(queries: &mut [Query<'_>], cache: Cache<'_>, scores: &mut Vec<f32>) {
    let positions = queries.iter().map(|query| query.length).max().unwrap_or(0);
    let blocks = positions.div_ceil(POSITIONS);
    assert!(
        cache.keys.len() >= blocks * POSITIONS * cache.width && cache.values.len() >= positions * cache.width,
        "the cache is too small"
    );
    Arch::new().dispatch(Attend { queries, cache, scores });
}

struct Attend<'a, 'b> {
    queries: &'a mut [Query<'b>],
    cache: Cache<'a>,
    scores: &'a mut Vec<f32>,
}

impl WithSimd for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut queries, cache, scores } = self;
        while !queries.is_empty() {
            let count = if queries.len() >= 8 { 8 } else { queries.len().min(4) };
            let (tile, rest) = queries.split_at_mut(count);
            let positions = tile.iter().map(|query| query.length).max().unwrap_or(0);
            let row = positions.next_multiple_of(POSITIONS);
            scores.resize(8 * row, 0.0);
            match count {
                8 => score::<S, 8>(simd, tile, cache, scores, row),
                4 => score::<S, 4>(simd, tile, cache, scores, row),
                3 => score::<S, 3>(simd, tile, cache, scores, row),
                2 => score::<S, 2>(simd, tile, cache, scores, row),
                _ => score::<S, 1>(simd, tile, cache, scores, row),
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
                    4 => mix::<S, 4>(simd, tile, cache, scores, row),
                    3 => mix::<S, 3>(simd, tile, cache, scores, row),
                    2 => mix::<S, 2>(simd, tile, cache, scores, row),
                    _ => mix::<S, 1>(simd, tile, cache, scores, row),
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
    cache: Cache<'_>,
    scores: &mut [f32],
    row: usize,
) {
    let q: [&[f32]; N] = std::array::from_fn(|n| queries[n].q);
    let size = q[0].len();
    let scale = simd.splat_f32s(1.0 / (size as f32).sqrt());
    for block in 0..row / POSITIONS {
        let keys = &cache.keys[(block * cache.width + cache.offset) * POSITIONS..][..size * POSITIONS];
        let (keys, _) = S::as_simd_f32s(keys);
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
    cache: Cache<'_>,
    scores: &[f32],
    row: usize,
) {
    let size = queries[0].q.len();
    let positions = queries.iter().map(|query| query.length).max().unwrap_or(0);
    let scores: [&[f32]; N] = std::array::from_fn(|n| &scores[n * row..][..positions]);
    let step = 4 * S::F32_LANES;
    let mut at = 0;
    // Four registers of the head at a time, then one, then the numbers that are left.
    while at < size {
        let count = if at + step <= size { 4 } else { 1 };
        let width = (count * S::F32_LANES).min(size - at);
        let value = |p: usize| &cache.values[p * cache.width + cache.offset + at..][..width];
        if count == 4 {
            let mut sums = [[simd.splat_f32s(0.0); 4]; N];
            for p in 0..positions {
                let (value, _) = S::as_simd_f32s(value(p));
                for (sums, scores) in sums.iter_mut().zip(scores) {
                    let score = simd.splat_f32s(scores[p]);
                    for (sum, value) in sums.iter_mut().zip(value) {
                        *sum = simd.mul_add_e_f32s(score, *value, *sum);
                    }
                }
            }
            for (query, sums) in queries.iter_mut().zip(sums) {
                let (out, _) = S::as_mut_simd_f32s(&mut query.out[at..at + width]);
                out.copy_from_slice(&sums);
            }
        } else {
            let mut sums = [simd.splat_f32s(0.0); N];
            for p in 0..positions {
                let value = simd.partial_load_f32s(value(p));
                for (sum, scores) in sums.iter_mut().zip(scores) {
                    *sum = simd.mul_add_e_f32s(simd.splat_f32s(scores[p]), value, *sum);
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
        for (size, heads, positions) in [(1, 1, 1), (16, 2, 5), (20, 1, 33), (64, 3, 100), (80, 1, 17)] {
            let width = size * heads;
            let mut random = |count: usize| -> Vec<f32> { (0..count).map(|_| noise.normal()).collect() };
            let (all, values) = (random(positions * width), random(positions * width));
            let mut keys = Vec::new();
            all.chunks(width).enumerate().for_each(|(p, key)| push_keys(&mut keys, p, key));
            let q = random(11 * size);
            let lengths: Vec<usize> = (0..11).map(|n| 1 + n * 7 % positions).collect();
            for head in 0..heads {
                let cache = Cache { keys: &keys, values: &values, width, offset: head * size };
                let run = |range: std::ops::Range<usize>| {
                    let mut out = vec![f32::NAN; range.len() * size];
                    let mut queries: Vec<Query<'_>> = range
                        .zip(out.chunks_mut(size))
                        .map(|(n, out)| Query { q: &q[n * size..][..size], length: lengths[n], out })
                        .collect();
                    attend(&mut queries, cache, &mut Vec::new());
                    out
                };
                let together = run(0..11);
                for n in 0..11 {
                    assert_eq!(run(n..n + 1), together[n * size..][..size]);
                    let dot = |p: usize| -> f64 {
                        let key = &all[p * width + head * size..][..size];
                        let q = &q[n * size..][..size];
                        q.iter().zip(key).map(|(a, b)| f64::from(a * b)).sum::<f64>() / (size as f64).sqrt()
                    };
                    let scores: Vec<f64> = (0..lengths[n]).map(|p| dot(p).exp()).collect();
                    let total: f64 = scores.iter().sum();
                    for i in 0..size {
                        let expected: f64 = scores
                            .iter()
                            .enumerate()
                            .map(|(p, s)| s / total * f64::from(values[p * width + head * size + i]))
                            .sum();
                        assert!((expected - f64::from(together[n * size + i])).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
