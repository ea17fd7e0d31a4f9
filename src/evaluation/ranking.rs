//! Figures for rankings and probabilities: hit rate, NDCG and MRR with ties broken fairly, AUC, log-loss, Brier
//! score and calibration error.

/// Where the one right item stands in a ranking.
///
/// Items with the same score stand in random order, so figures are expectations over those orders: a scorer that
/// says the same of everything gets what guessing gets, not the first place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// How many items score higher.
    pub above: usize,
    /// How many others score the same.
    pub ties: usize,
}

impl Rank {
    /// The rank of `scores[target]`; a score that is no number is the lowest. Nothing if there is no such item.
    pub fn of(scores: &[f32], target: usize) -> Option<Self> {
        let value = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
        let own = value(*scores.get(target)?);
        let above = scores.iter().filter(|score| value(**score) > own).count();
        let same = scores.iter().filter(|score| value(**score) == own).count();
        Some(Self { above, ties: same - 1 })
    }

    /// The mean of `gain` over the places the item may take, counted from 1.
    fn expected(&self, gain: impl Fn(usize) -> f64) -> f64 {
        let places = self.above + 1..=self.above + 1 + self.ties;
        let count = places.clone().count() as f64;
        places.map(gain).sum::<f64>() / count
    }

    /// HR@k: how likely it is among the first `k`.
    pub fn hit(&self, k: usize) -> f64 {
        self.expected(|place| f64::from(u8::from(place <= k)))
    }

    /// NDCG@k (Järvelin and Kekäläinen 2002) with one relevant item.
    pub fn ndcg(&self, k: usize) -> f64 {
        self.expected(|place| if place <= k { 1.0 / (1.0 + place as f64).log2() } else { 0.0 })
    }

    /// MRR@k; `usize::MAX` for the whole list.
    pub fn reciprocal(&self, k: usize) -> f64 {
        self.expected(|place| if place <= k { 1.0 / place as f64 } else { 0.0 })
    }
}

/// NDCG@k with graded relevance. Tied scores share the mean of their gains (McSherry and Najork 2008), as in
/// scikit-learn. Nothing if no item is relevant or the lengths differ.
pub fn ndcg(relevance: &[f64], scores: &[f64], k: usize) -> Option<f64> {
    if relevance.len() != scores.len() {
        return None;
    }
    let discount = |place: usize| if place < k { 1.0 / (place as f64 + 2.0).log2() } else { 0.0 };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (mut dcg, mut at) = (0.0, 0);
    while at < order.len() {
        let tied = order[at..].iter().take_while(|i| scores[**i] == scores[order[at]]).count().max(1);
        let gain: f64 = order[at..at + tied].iter().map(|i| relevance[*i]).sum::<f64>() / tied as f64;
        dcg += gain * (at..at + tied).map(discount).sum::<f64>();
        at += tied;
    }
    let mut ideal = relevance.to_vec();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let best: f64 = ideal.iter().enumerate().map(|(place, gain)| gain * discount(place)).sum();
    (best > 0.0).then(|| dcg / best)
}

/// The area under the ROC curve; ties count half (Mann-Whitney). Nothing if only one label occurs.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len().min(labels.len())).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut wins, mut negatives, mut positives, mut at) = (0.0, 0.0, 0.0, 0);
    while at < order.len() {
        let tied = order[at..].iter().take_while(|i| scores[**i] == scores[order[at]]).count().max(1);
        let right = order[at..at + tied].iter().filter(|i| labels[**i]).count() as f64;
        let wrong = tied as f64 - right;
        wins += right * (negatives + wrong / 2.0);
        negatives += wrong;
        positives += right;
        at += tied;
    }
    (negatives > 0.0 && positives > 0.0).then(|| wins / (negatives * positives))
}

/// Mean negative log-likelihood of binary labels, in nats. Probabilities are kept 1e-15 from 0 and 1.
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    mean(probabilities, labels, |p, label| {
        let p = p.clamp(1e-15, 1.0 - 1e-15);
        -(if label { p } else { 1.0 - p }).ln()
    })
}

/// Mean squared error of probabilities (Brier 1950).
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    mean(probabilities, labels, |p, label| (p - f64::from(u8::from(label))).powi(2))
}

fn mean(probabilities: &[f64], labels: &[bool], of: impl Fn(f64, bool) -> f64) -> Option<f64> {
    let count = probabilities.len().min(labels.len());
    let sum: f64 = probabilities.iter().zip(labels).map(|(p, label)| of(*p, *label)).sum();
    (count > 0).then(|| sum / count as f64)
}

/// A bin of a reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReliabilityBin {
    /// How many predictions fall in it.
    pub count: usize,
    /// Their mean probability.
    pub predicted: f64,
    /// The share that came true.
    pub observed: f64,
}

/// A reliability diagram with bins of equal width over 0 to 1, the lower bounds open (Guo et al. 2017).
pub fn reliability(probabilities: &[f64], labels: &[bool], bins: usize) -> Vec<ReliabilityBin> {
    let mut diagram = vec![ReliabilityBin::default(); bins.max(1)];
    for (p, label) in probabilities.iter().zip(labels) {
        let at = ((p * diagram.len() as f64).ceil() as usize).saturating_sub(1).min(diagram.len() - 1);
        let bin = &mut diagram[at];
        bin.count += 1;
        bin.predicted += p;
        bin.observed += f64::from(u8::from(*label));
    }
    for bin in diagram.iter_mut().filter(|bin| bin.count > 0) {
        bin.predicted /= bin.count as f64;
        bin.observed /= bin.count as f64;
    }
    diagram
}

/// Expected calibration error over `bins` of equal width.
pub fn ece(probabilities: &[f64], labels: &[bool], bins: usize) -> Option<f64> {
    let diagram = reliability(probabilities, labels, bins);
    let count: usize = diagram.iter().map(|bin| bin.count).sum();
    let gaps = diagram.iter().map(|bin| bin.count as f64 * (bin.predicted - bin.observed).abs());
    (count > 0).then(|| gaps.sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_constant_scorer_gets_what_guessing_gets() {
        let scores = [0.5; 20];
        let rank = Rank::of(&scores, 7).unwrap();
        assert!((rank.hit(10) - 0.5).abs() < 1e-12);
        let guess: f64 = (1..=10).map(|place| 1.0 / (1.0 + f64::from(place)).log2()).sum::<f64>() / 20.0;
        assert!((rank.ndcg(10) - guess).abs() < 1e-12);
        assert!(Rank::of(&scores, 20).is_none());
        // Nor does one that says nothing at all.
        assert_eq!(Rank::of(&[f32::NAN; 4], 0).unwrap(), Rank { above: 0, ties: 3 });
    }

    #[test]
    fn the_best_item_is_first() {
        let rank = Rank::of(&[0.1, 0.9, 0.3], 1).unwrap();
        assert_eq!((rank.hit(1), rank.ndcg(1), rank.reciprocal(usize::MAX)), (1.0, 1.0, 1.0));
        let last = Rank::of(&[0.1, 0.9, 0.3], 0).unwrap();
        assert_eq!((last.hit(2), last.reciprocal(usize::MAX)), (0.0, 1.0 / 3.0));
        assert!((last.ndcg(3) - 0.5).abs() < 1e-12);
    }

    /// Figures of scikit-learn, by `benches/peers/ranking.py`.
    #[test]
    fn figures_equal_those_of_scikit_learn() {
        let text = include_str!("../../tests/data/ranking.jsonl");
        let mut seen = 0;
        for line in text.lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let floats = |name: &str| -> Vec<f64> {
                case[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
            };
            let (scores, relevance) = (floats("scores"), floats("relevance"));
            let labels: Vec<bool> = relevance.iter().map(|r| *r > 0.0).collect();
            let near = |name: &str, ours: Option<f64>| {
                let (ours, theirs) = (ours.unwrap(), case[name].as_f64().unwrap());
                assert!((ours - theirs).abs() < 5e-5, "{name}: {ours}, not {theirs}: {line}");
            };
            near("auc", auc(&scores, &labels));
            near("log_loss", log_loss(&scores, &labels));
            near("brier", brier(&scores, &labels));
            near("ndcg5", ndcg(&relevance, &scores, 5));
            near("ndcg", ndcg(&relevance, &scores, usize::MAX));
            near("ece10", ece(&scores, &labels, 10));
            seen += 1;
        }
        assert!(seen >= 100, "{seen}");
    }

    #[test]
    fn what_cannot_be_measured_is_nothing() {
        assert!(auc(&[0.1, 0.2], &[true, true]).is_none() && auc(&[], &[]).is_none());
        assert!(ndcg(&[0.0, 0.0], &[0.1, 0.2], 5).is_none() && ndcg(&[1.0], &[], 5).is_none());
        assert!(ece(&[], &[], 10).is_none() && log_loss(&[], &[]).is_none() && brier(&[], &[]).is_none());
    }

    proptest! {
        #[test]
        fn ties_are_the_mean_over_their_orders(above in 0usize..5, ties in 0usize..5, k in 1usize..8) {
            let rank = Rank { above, ties };
            let places: Vec<usize> = (above + 1..=above + 1 + ties).collect();
            let hits = places.iter().filter(|place| **place <= k).count() as f64 / places.len() as f64;
            prop_assert!((rank.hit(k) - hits).abs() < 1e-12);
            prop_assert!(rank.ndcg(k) <= rank.hit(k) + 1e-12 && rank.reciprocal(k) <= rank.ndcg(k) + 1e-12);
        }
    }
}
