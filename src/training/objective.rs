//! [`Objective`]: what a run makes smaller.

use super::learner::LossSum;
use super::packing::PackedRow;
use crate::nn::tape::Contrast;
use serde::{Deserialize, Serialize};

/// What a run makes smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// The negative log-likelihood of the data.
    #[default]
    Likelihood,
    /// Direct preference optimisation (Rafailov et al. 2023) on pairs of answers, against the base as it was.
    Preference {
        /// How dear it is to leave the base: the lower, the further taste may lead.
        #[serde(default = "beta")]
        beta: f32,
        /// How much the negative log-likelihood of a chosen answer, in nats a token, counts beside; it keeps a model from
        /// making both answers unlikely (Pang et al. 2024).
        #[serde(default)]
        likelihood: f32,
        /// How much the negative log-likelihood of each token of what is rehearsed beside the pairs counts, where something
        /// is (a corpus among the data): it keeps the language where it is.
        #[serde(default)]
        rehearsal: f32,
    },
    /// The right token against a few drawn uniformly, for vocabularies of many thousand (as `SASRec` and `gSASRec` are trained).
    /// The validation loss is then 1 - NDCG@10 of the right token among the whole vocabulary, ties at their expected rank.
    Sampled {
        /// How many are drawn for each batch.
        negatives: usize,
        /// What is made of the scores.
        #[serde(default = "corrected")]
        contrast: Contrast,
    },
}

fn corrected() -> Contrast {
    Contrast::Softmax { corrected: true }
}

fn beta() -> f32 {
    0.1
}

impl Objective {
    /// Whether pairs of answers are learned.
    pub(super) fn is_preference(&self) -> bool {
        matches!(self, Self::Preference { .. })
    }

    /// Whether the right token is told from drawn ones.
    pub fn is_sampled(&self) -> bool {
        matches!(self, Self::Sampled { .. })
    }

    /// Each constant: its name, whether it is in range, and the range.
    pub(super) fn rules(&self) -> Vec<(&'static str, bool, &'static str)> {
        match *self {
            Self::Likelihood => Vec::new(),
            Self::Sampled { negatives, contrast } => {
                let power = match contrast {
                    Contrast::Binary { power } => power,
                    Contrast::Softmax { .. } => 1.0,
                };
                vec![
                    ("objective.negatives", (1..=1 << 16).contains(&negatives), "1 to 65536"),
                    ("objective.contrast.power", power > 0.0 && power <= 1.0, "above 0, at most 1"),
                ]
            }
            Self::Preference { beta, likelihood, rehearsal } => vec![
                ("objective.beta", beta > 0.0 && beta <= 100.0, "above 0, at most 100"),
                ("objective.likelihood", (0.0..=100.0).contains(&likelihood), "0 to 100"),
                ("objective.rehearsal", (0.0..=100.0).contains(&rehearsal), "0 to 100"),
            ],
        }
    }

    /// By what a sum of losses is divided: the weight of all tokens, or the number of pairs (1 where there is none).
    pub(super) fn weight(&self, rows: &[PackedRow]) -> f64 {
        match self {
            Self::Likelihood | Self::Sampled { .. } => rows.iter().map(PackedRow::weight).sum(),
            Self::Preference { .. } => rows.iter().map(|row| row.pairs().len() as f64).sum::<f64>().max(1.0),
        }
    }

    /// The sum of losses, and its slope in each token's negative log-likelihood. `nll` and `weights` are those of the rows'
    /// tokens, one row after the other.
    pub(super) fn judge(&self, rows: &[PackedRow], nll: &[f32], weights: &[f32]) -> (LossSum, Vec<f32>) {
        let mut sum = LossSum::default();
        let Self::Preference { beta, likelihood, rehearsal } = *self else {
            for (nll, weight) in nll.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
                sum.nats += f64::from(*nll) * f64::from(*weight);
                sum.weight += f64::from(*weight);
            }
            return (sum, weights.to_vec());
        };
        // What belongs to no pair is rehearsed.
        let mut slopes: Vec<f32> = weights.iter().map(|weight| rehearsal * weight.max(0.0)).collect();
        for (row, slopes) in rows.iter().zip(slopes.chunks_mut((nll.len() / rows.len().max(1)).max(1))) {
            for pair in row.pairs() {
                slopes[pair.chosen.clone()].fill(0.0);
                slopes[pair.rejected.clone()].fill(0.0);
            }
        }
        sum.nats +=
            nll.iter().zip(&slopes).map(|(nll, slope)| f64::from(*nll) * f64::from(*slope)).sum::<f64>();
        let length = nll.len() / rows.len().max(1);
        for (n, pair) in
            rows.iter().enumerate().flat_map(|(n, row)| row.pairs().iter().map(move |pair| (n, pair)))
        {
            let within = |range: &std::ops::Range<usize>| n * length + range.start..n * length + range.end;
            let (chosen, rejected) = (within(&pair.chosen), within(&pair.rejected));
            let total = |range: &std::ops::Range<usize>| -> (f64, f64) {
                let tokens = nll[range.clone()].iter().zip(&weights[range.clone()]);
                tokens.fold((0.0, 0.0), |(nats, count), (nll, w)| {
                    (nats + f64::from(*nll) * f64::from(w.max(0.0)), count + f64::from(w.max(0.0)))
                })
            };
            let ((nats, tokens), (other, _)) = (total(&chosen), total(&rejected));
            // How much more the chosen answer has gained than the other.
            let gained = (other - nats) - f64::from(pair.margin);
            let z = f64::from(beta) * gained;
            // softplus(-z), whose slope is -sigmoid(-z).
            let loss = (-z).max(0.0) + (-z.abs()).exp().ln_1p();
            let pull = 1.0 / (1.0 + z.exp()) * f64::from(beta);
            let share = if tokens > 0.0 { f64::from(likelihood) / tokens } else { 0.0 };
            sum.nats += loss + share * nats;
            sum.weight += 1.0;
            // What no step has moved differs in the last bits only.
            sum.right += if gained.abs() < 1e-3 { 0.5 } else { f64::from(u8::from(gained > 0.0)) };
            for (range, slope) in [(chosen, pull + share), (rejected, -pull)] {
                for at in range {
                    slopes[at] = slope as f32 * weights[at].max(0.0);
                }
            }
        }
        (sum, slopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::packing::pack;
    use crate::training::source::{Rejected, Sample};

    fn rows() -> Vec<PackedRow> {
        let pair = |first: u32, margin| {
            let mut sample = Sample::new((first..first + 5).collect(), vec![0.0, 0.0, 1.0, 1.0, 1.0]);
            sample.rejected =
                Some(Rejected { ids: vec![first, first + 1, 9, 8], loss: vec![0.0, 0.0, 1.0, 1.0], margin });
            sample
        };
        let rehearsed = Sample::new(vec![1, 2, 3, 4], vec![0.0, 0.1, 1.0, 1.0]);
        pack([pair(0, 0.5), rehearsed, pair(20, -1.0), pair(40, 0.0)].into_iter(), 16)
    }

    #[test]
    fn the_slope_is_that_of_the_loss() {
        let rows = rows();
        assert_eq!(rows.iter().map(|row| row.pairs().len()).sum::<usize>(), 3);
        let weights: Vec<f32> = rows.iter().flat_map(|row| row.weights().iter().copied()).collect();
        let nll: Vec<f32> = (0..weights.len()).map(|i| 0.3 + 0.1 * (i % 7) as f32).collect();
        for objective in
            [Objective::Likelihood, Objective::Preference { beta: 0.7, likelihood: 0.4, rehearsal: 0.3 }]
        {
            let (_, slopes) = objective.judge(&rows, &nll, &weights);
            for at in 0..nll.len() {
                let loss = |delta: f32| {
                    let mut moved = nll.clone();
                    moved[at] += delta;
                    objective.judge(&rows, &moved, &weights).0.nats
                };
                let numeric = (loss(1e-2) - loss(-1e-2)) / 2e-2;
                assert!((numeric - f64::from(slopes[at])).abs() < 1e-3, "{at}: {numeric}, {}", slopes[at]);
            }
        }
    }

    #[test]
    fn a_pair_that_the_reference_ranks_alike_is_half_right_and_one_that_gained_is_right() {
        let objective = Objective::Preference { beta: 0.1, likelihood: 0.0, rehearsal: 0.0 };
        let rows = rows();
        let weights: Vec<f32> = rows.iter().flat_map(|row| row.weights().iter().copied()).collect();
        // Three tokens chosen, two rejected: all at 1 nat, the other is one nat ahead.
        let (sum, _) = objective.judge(&rows, &vec![1.0; weights.len()], &weights);
        assert_eq!((sum.weight, sum.right), (3.0, 0.5));
        assert_eq!(objective.weight(&rows), 3.0);
    }
}
