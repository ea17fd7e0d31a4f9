//! [`Taste`]: what pairs of answers say of single tokens.

use super::source::Sample;
use std::collections::BTreeSet;

/// Steps of the regression: all pairs in each.
const STEPS: usize = 300;
/// How far each step goes.
const RATE: f32 = 2.0;
/// How much a token's weight is drawn back to 0.
const DECAY: f32 = 1e-3;

/// How well answers with a token are liked: a logistic regression over which tokens an answer has, from pairs of answers
/// (Bradley & Terry 1952). With it, what is rehearsed counts by how well it would be liked, as in reward-weighted regression
/// (Peters & Schaal 2007), so that a corpus does not teach again what players dislike.
#[derive(Clone, Debug, Default)]
pub struct Taste {
    weights: Vec<f32>,
}

/// The different tokens of what counts most in a sequence.
fn tokens(ids: &[u32], loss: &[f32]) -> BTreeSet<u32> {
    ids.iter().zip(loss).filter(|(_, weight)| **weight >= 1.0).map(|(id, _)| *id).collect()
}

impl Taste {
    /// Learns from pairs; samples without a rejected answer say nothing.
    pub fn of(pairs: &[Sample]) -> Self {
        let differences: Vec<Vec<(u32, f32)>> = pairs
            .iter()
            .filter_map(|pair| {
                let [chosen, rejected] = [(&pair.ids, &pair.loss), {
                    let other = pair.rejected.as_ref()?;
                    (&other.ids, &other.loss)
                }]
                .map(|(ids, loss)| tokens(ids, loss));
                let more = chosen.difference(&rejected).map(|id| (*id, 1.0));
                Some(more.chain(rejected.difference(&chosen).map(|id| (*id, -1.0))).collect())
            })
            .collect();
        let size = differences.iter().flatten().map(|(id, _)| *id as usize + 1).max().unwrap_or(0);
        let mut taste = Self { weights: vec![0.0; size] };
        let rate = RATE / differences.len().max(1) as f32;
        for _ in 0..STEPS {
            let mut slopes = vec![0.0; size];
            for difference in &differences {
                let score: f32 = difference.iter().map(|(id, sign)| sign * taste.weight(*id)).sum();
                let pull = 1.0 / (1.0 + score.exp());
                difference.iter().for_each(|(id, sign)| slopes[*id as usize] += sign * pull);
            }
            for (weight, slope) in taste.weights.iter_mut().zip(slopes) {
                *weight += rate * slope - RATE * DECAY * *weight;
            }
        }
        taste
    }

    fn weight(&self, id: u32) -> f32 {
        self.weights.get(id as usize).copied().unwrap_or(0.0)
    }

    /// Makes each answer of a sequence (tokens that count 1 in a row) count by the chance that it is preferred to one of
    /// which nothing is known.
    pub fn apply(&self, sample: &mut Sample) {
        let mut from = 0;
        while from < sample.loss.len() {
            let counts = |weight: &f32| *weight >= 1.0;
            let length = sample.loss[from..].iter().take_while(|weight| counts(weight)).count();
            let span = from..from + length;
            let answer = tokens(&sample.ids[span.clone()], &sample.loss[span.clone()]);
            let score: f32 = answer.into_iter().map(|id| self.weight(id)).sum();
            let share = 1.0 / (1.0 + (-score).exp());
            sample.loss[span].iter_mut().for_each(|weight| *weight *= share);
            from += length.max(1);
        }
    }
}

impl Taste {
    /// Makes each token of a pair count by how much it is why one answer is preferred: tokens that are liked in the chosen
    /// answer, tokens that are disliked in the other, the weightiest 1 (token-level importance, as in TIS-DPO, Liu et al.
    /// 2024). So what the answers have in common, and what merely stands beside the style, stays as it is.
    pub fn weigh(&self, pair: &mut Sample) {
        let Some(other) = &mut pair.rejected else { return };
        let mut sides = [(&pair.ids, &mut pair.loss, 1.0), (&other.ids, &mut other.loss, -1.0)];
        let share = |id: u32, sign: f32| (sign * self.weight(id)).max(0.0);
        let most = sides.iter().flat_map(|(ids, loss, sign)| {
            let counted = ids.iter().zip(loss.iter()).filter(|(_, weight)| **weight > 0.0);
            counted.map(move |(id, _)| share(*id, *sign))
        });
        let most = most.fold(0.0, f32::max);
        // Nothing is known of any of its tokens: all count.
        if most > 0.0 {
            for (ids, loss, sign) in &mut sides {
                ids.iter().zip(loss.iter_mut()).for_each(|(id, weight)| *weight *= share(*id, *sign) / most);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Rejected;

    fn pair(chosen: &[u32], rejected: &[u32]) -> Sample {
        let weights = |ids: &[u32]| ids.iter().map(|id| f32::from(u8::from(*id > 0))).collect();
        let mut sample = Sample::new(chosen.to_vec(), weights(chosen));
        sample.rejected = Some(Rejected { ids: rejected.to_vec(), loss: weights(rejected), margin: 0.0 });
        sample
    }

    #[test]
    fn what_is_disliked_counts_little_and_what_nobody_judged_counts_half() {
        let pairs: Vec<Sample> = (3..60).map(|n| pair(&[0, n, 1], &[0, n + 57, 2])).collect();
        let taste = Taste::of(&pairs);
        let mut sample =
            Sample::new(vec![0, 200, 1, 0, 201, 2, 0, 202], vec![0.0, 1.0, 1.0, 0.1, 1.0, 1.0, 0.0, 1.0]);
        taste.apply(&mut sample);
        let loss = &sample.loss;
        assert!(loss[1] > 0.8 && loss[1] == loss[2], "{loss:?}");
        assert!(loss[4] < 0.2 && loss[4] == loss[5], "{loss:?}");
        assert_eq!([loss[0], loss[3], loss[6], loss[7]], [0.0, 0.1, 0.0, 0.5]);
    }

    #[test]
    fn of_a_pair_the_tokens_count_that_are_why() {
        let pairs: Vec<Sample> = (3..60).map(|n| pair(&[0, n, 1], &[0, n + 57, 2])).collect();
        let taste = Taste::of(&pairs);
        let mut one = pair(&[0, 2, 1, 300], &[0, 1, 2, 300]);
        taste.weigh(&mut one);
        let other = one.rejected.unwrap();
        assert_eq!(one.loss[..2], [0.0, 0.0]);
        assert_eq!(other.loss[..2], [0.0, 0.0]);
        assert!(one.loss[2].max(other.loss[2]) == 1.0 && one.loss[2].min(other.loss[2]) > 0.5);
        assert_eq!([one.loss[3], other.loss[3]], [0.0, 0.0]);
        let mut unknown = pair(&[0, 400], &[0, 401]);
        taste.weigh(&mut unknown);
        assert_eq!(unknown, pair(&[0, 400], &[0, 401]));
    }

    #[test]
    fn no_pairs_say_nothing() {
        let mut sample = Sample::new(vec![0, 5], vec![0.0, 1.0]);
        Taste::of(&[Sample::new(vec![1], vec![1.0])]).apply(&mut sample);
        assert_eq!(sample.loss, [0.0, 0.5]);
    }
}
