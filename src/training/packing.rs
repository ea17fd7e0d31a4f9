//! Samples packed into rows of equal length.
//!
//! Attention never crosses from one sample to the next and positions begin anew, so a packed batch gives
//! the same gradient as its samples alone, without computing padding.

use super::source::Sample;
use crate::error::Result;
use crate::model::Packed;
use crate::nn::Tokens;
use candle_core::{Device, Tensor};
use std::ops::Range;

/// A row of packed samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedRow {
    ids: Vec<u32>,
    targets: Vec<u32>,
    weights: Vec<f32>,
    positions: Vec<u32>,
    segments: Vec<u32>,
    samples: u32,
    pairs: Vec<PackedPair>,
}

/// Two answers to one prompt, within a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackedPair {
    pub(super) chosen: Range<usize>,
    pub(super) rejected: Range<usize>,
    /// By how much the reference prefers the chosen one, in nats.
    pub(super) margin: f32,
}

impl PackedRow {
    fn add(&mut self, sample: &Sample, length: usize) {
        let chosen = self.add_one(&sample.ids, &sample.loss, length);
        if let Some(rejected) = &sample.rejected {
            let margin = rejected.margin;
            let rejected = self.add_one(&rejected.ids, &rejected.loss, length);
            self.pairs.push(PackedPair { chosen, rejected, margin });
        }
    }

    fn add_one(&mut self, ids: &[u32], loss: &[f32], length: usize) -> Range<usize> {
        self.samples += 1;
        // The last token is a target only; a sample too long for a row is cut at its end.
        let (start, count) = (self.ids.len(), ids.len().saturating_sub(1).min(length - self.ids.len()));
        self.ids.extend(&ids[..count]);
        self.targets.extend(&ids[1..=count]);
        self.weights.extend(&loss[1..=count]);
        self.positions.extend(0..count as u32);
        self.segments.extend(std::iter::repeat_n(self.samples, count));
        start..start + count
    }

    /// The pairs of answers in it.
    pub(super) fn pairs(&self) -> &[PackedPair] {
        &self.pairs
    }

    /// Whether any of its tokens counts for the loss.
    pub(super) fn counts(&self) -> bool {
        self.weights.iter().any(|weight| *weight > 0.0)
    }

    /// How much its tokens count in all.
    pub(super) fn weight(&self) -> f64 {
        self.weights.iter().copied().map(f64::from).sum()
    }

    /// What is to be predicted.
    #[cfg(test)]
    pub(super) fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// How much each token counts.
    #[cfg(test)]
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Tokens that are not padding.
    pub(super) fn count(&self) -> usize {
        self.segments.iter().filter(|segment| **segment > 0).count()
    }

    /// Where in the row each token's sample begins; padding is a sample of its own, token by token.
    fn starts(&self) -> impl Iterator<Item = u32> {
        let mut start = 0;
        self.segments.iter().enumerate().map(move |(i, segment)| {
            if *segment == 0 || i == 0 || self.segments[i - 1] != *segment {
                start = i as u32;
            }
            start
        })
    }

    fn pad(&mut self, length: usize) {
        self.ids.resize(length, 0);
        self.targets.resize(length, 0);
        self.weights.resize(length, 0.0);
        self.positions.resize(length, 0);
        self.segments.resize(length, 0);
    }
}

/// Packs samples, in their order, into rows of `length` tokens.
pub fn pack(samples: impl Iterator<Item = Sample>, length: usize) -> Vec<PackedRow> {
    let mut rows: Vec<PackedRow> = Vec::new();
    for sample in samples.filter(|sample| sample.ids.len() > 1) {
        let other = sample.rejected.as_ref().map_or(0, |other| other.ids.len().saturating_sub(1));
        // Half a pair teaches nothing.
        if sample.rejected.is_some() && sample.ids.len() - 1 + other > length {
            continue;
        }
        let needed = (sample.ids.len() - 1 + other).min(length);
        // The first of the last few rows with room: tight, and still in the order of the shuffle.
        let recent = rows.len().saturating_sub(8);
        let room = rows[recent..].iter().position(|row| row.ids.len() + needed <= length);
        let at = room.map_or(rows.len(), |at| recent + at);
        if at == rows.len() {
            rows.push(PackedRow::default());
        }
        rows[at].add(&sample, length);
    }
    rows.iter_mut().for_each(|row| row.pad(length));
    rows
}

/// A batch for the CPU, its targets, and how much each counts.
pub(super) fn packed(rows: &[PackedRow]) -> (Packed, Vec<u32>, Vec<f32>) {
    let all =
        |field: fn(&PackedRow) -> &Vec<u32>| rows.iter().flat_map(|row| field(row).iter().copied()).collect();
    let batch = Packed {
        ids: all(|row| &row.ids),
        positions: all(|row| &row.positions),
        starts: rows.iter().flat_map(PackedRow::starts).collect(),
        length: rows.first().map_or(0, |row| row.ids.len()),
    };
    (batch, all(|row| &row.targets), rows.iter().flat_map(|row| row.weights.iter().copied()).collect())
}

/// A batch on a device.
pub struct Batch {
    /// What goes in.
    pub tokens: Tokens,
    /// What should come out, `[rows, length]` u32.
    pub targets: Tensor,
    /// How much each target counts, `[rows, length]`.
    pub weights: Tensor,
}

impl Batch {
    /// Rows as tensors.
    pub fn new(rows: &[PackedRow], device: &Device) -> Result<Self> {
        let shape = (rows.len(), rows.first().map_or(0, |row| row.ids.len()));
        let u32s = |field: fn(&PackedRow) -> &Vec<u32>| -> Result<Tensor> {
            let values: Vec<u32> = rows.iter().flat_map(|row| field(row).iter().copied()).collect();
            Ok(Tensor::from_vec(values, shape, device)?)
        };
        let weights: Vec<f32> = rows.iter().flat_map(|row| row.weights.iter().copied()).collect();
        Ok(Self {
            tokens: Tokens {
                ids: u32s(|row| &row.ids)?,
                positions: u32s(|row| &row.positions)?,
                segments: u32s(|row| &row.segments)?,
            },
            targets: u32s(|row| &row.targets)?,
            weights: Tensor::from_vec(weights, shape, device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(length: usize, first: u32) -> Sample {
        let mut loss = vec![1.0; length];
        loss.iter_mut().take(1).for_each(|w| *w = 0.0);
        Sample::new((first..first + length as u32).collect(), loss)
    }

    #[test]
    fn a_row_predicts_the_next_token_of_the_same_sample() {
        let rows = pack([sample(4, 10), sample(3, 20)].into_iter(), 6);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].ids, [10, 11, 12, 20, 21, 0]);
        assert_eq!(rows[0].targets, [11, 12, 13, 21, 22, 0]);
        assert_eq!(rows[0].positions, [0, 1, 2, 0, 1, 0]);
        assert_eq!(rows[0].segments, [1, 1, 1, 2, 2, 0]);
        assert_eq!(rows[0].weights, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        let (batch, targets, _) = packed(&rows);
        assert_eq!((batch.starts, batch.length), (vec![0, 0, 0, 3, 3, 5], 6));
        assert_eq!((batch.positions, targets), (rows[0].positions.clone(), rows[0].targets.clone()));
        assert_eq!((rows[0].weight(), rows[0].count()), (5.0, 5));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_but_the_ends_of_long_samples(lengths in prop::collection::vec(0usize..30, 1..40), row in 2usize..20) {
            let rows = pack(lengths.iter().map(|&n| sample(n, 0)), row);
            let kept: usize = rows.iter().flat_map(|r| &r.segments).filter(|s| **s > 0).count();
            let expected: usize = lengths.iter().map(|n| n.saturating_sub(1).min(row)).sum();
            prop_assert_eq!(kept, expected);
            prop_assert!(rows.iter().all(|r| r.ids.len() == row && r.segments.len() == row));
        }
    }
}
