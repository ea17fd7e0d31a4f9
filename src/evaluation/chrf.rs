//! chrF2 (Popović 2015), the figure of sacrebleu, 0 to 100.

use super::overlap::{Pair, counts, is_space};
use std::collections::HashMap;

/// What chrF adds up over pairs. Of each order: n-grams of the hypothesis, of its best reference, of both.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChrfCounts([[f64; 3]; 6]);

impl ChrfCounts {
    fn between(hypothesis: &[char], reference: &[char]) -> Self {
        Self(std::array::from_fn(|i| {
            let (said, wanted) = (counts(hypothesis, i + 1), counts(reference, i + 1));
            let both: usize =
                said.iter().map(|(run, count)| (*count).min(wanted.get(run).copied().unwrap_or(0))).sum();
            let sum = |counts: &HashMap<&[char], usize>| counts.values().sum::<usize>() as f64;
            [if wanted.is_empty() { 0.0 } else { sum(&said) }, sum(&wanted), both as f64]
        }))
    }

    pub(super) fn of(pair: &Pair) -> Self {
        let letters = |text: &str| -> Vec<char> { text.chars().filter(|c| !is_space(*c)).collect() };
        let hypothesis = letters(&pair.hypothesis);
        let mut best: Option<(f64, Self)> = None;
        for reference in &pair.references {
            let counts = Self::between(&hypothesis, &letters(reference));
            let score = counts.score();
            if best.as_ref().is_none_or(|(so_far, _)| score > *so_far) {
                best = Some((score, counts));
            }
        }
        best.map_or_else(Self::default, |(_, counts)| counts)
    }

    pub(super) fn add(&mut self, other: &Self, weight: f64) {
        let both = self.0.as_flattened_mut().iter_mut().zip(other.0.as_flattened());
        both.for_each(|(sum, count)| *sum += weight * count);
    }

    pub(super) fn score(&self) -> f64 {
        let whole: Vec<_> = self.0.iter().filter(|[said, wanted, _]| *said > 0.0 && *wanted > 0.0).collect();
        if whole.is_empty() {
            return 0.0;
        }
        let mean = |share: fn(&[f64; 3]) -> f64| {
            whole.iter().map(|order| share(order)).sum::<f64>() / whole.len() as f64
        };
        let (precision, recall) =
            (mean(|[said, _, both]| both / said), mean(|[_, wanted, both]| both / wanted));
        // Beta is 2, so recall weighs four times as much.
        if precision + recall > 0.0 {
            100.0 * 5.0 * precision * recall / (4.0 * precision + recall)
        } else {
            0.0
        }
    }
}

/// Corpus chrF2 (Popović 2015), 0 to 100, as sacrebleu computes it by default: characters up to 6-grams without
/// white space, beta 2, the best reference of each pair.
pub fn chrf2(pairs: &[Pair]) -> f64 {
    let mut sum = ChrfCounts::default();
    pairs.iter().for_each(|pair| sum.add(&ChrfCounts::of(pair), 1.0));
    sum.score()
}
