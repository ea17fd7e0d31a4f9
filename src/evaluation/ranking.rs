//! Figures for rankings and probabilities: hit rate, NDCG and MRR with ties at their expected rank, AUC, log-loss,
//! Brier score and calibration error.

/// Where the one right item stands in a ranking.
///
/// Items with the same score share the mean of their places, so an item tied with all others stands in the middle,
/// not first. Where many are tied, look at what guessing gets beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// How many items score higher.
    pub above: usize,
    /// How many others score the same.
    pub ties: usize,
}

impl Rank {
    /// The rank of `scores[target]`; a score that is no number is the lowest. Nothing if there is no such item.
    pub fn of<S: Copy + Into<f64>>(scores: &[S], target: usize) -> Option<Self> {
        let value = |score: S| {
            let score: f64 = score.into();
            if score.is_nan() { f64::NEG_INFINITY } else { score }
        };
        let own = value(*scores.get(target)?);
        let above = scores.iter().filter(|score| value(**score) > own).count();
        let same = scores.iter().filter(|score| value(**score) == own).count();
        Some(Self { above, ties: same - 1 })
    }

    /// The expected place, from 0.
    pub fn place(&self) -> f64 {
        self.above as f64 + self.ties as f64 / 2.0
    }

    /// HR@k: whether it is among the first `k`.
    pub fn hit(&self, k: usize) -> f64 {
        f64::from(u8::from(self.place() < k as f64))
    }

    /// NDCG@k (Järvelin and Kekäläinen 2002) with one relevant item.
    pub fn ndcg(&self, k: usize) -> f64 {
        self.hit(k) / (self.place() + 2.0).log2()
    }

    /// MRR@k; `usize::MAX` for the whole list.
    pub fn reciprocal(&self, k: usize) -> f64 {
        self.hit(k) / (self.place() + 1.0)
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
    auc_of(&ascending(scores), scores, labels, &vec![1.0; scores.len()])
}

/// The order of `scores`, lowest first.
pub(super) fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    order
}

/// As [`auc`], each row counted so often; `order` is that of [`ascending`].
pub(super) fn auc_of(order: &[usize], scores: &[f64], labels: &[bool], counts: &[f64]) -> Option<f64> {
    let (mut wins, mut negatives, mut positives) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let (mut right, mut wrong) = (0.0, 0.0);
        for &i in tied {
            *(if labels[i] { &mut right } else { &mut wrong }) += counts[i];
        }
        wins += right * (negatives + wrong / 2.0);
        negatives += wrong;
        positives += right;
    }
    (negatives > 0.0 && positives > 0.0).then(|| wins / (negatives * positives))
}

/// Mean negative log-likelihood of binary labels, in nats. Probabilities are kept 1e-12 from 0 and 1.
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    mean(probabilities, labels, surprise)
}

/// The negative log-likelihood of one label.
pub(super) fn surprise(p: f64, label: bool) -> f64 {
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    -(if label { p } else { 1.0 - p }).ln()
}

/// Mean squared error of probabilities (Brier 1950).
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    mean(probabilities, labels, squared_error)
}

pub(super) fn squared_error(p: f64, label: bool) -> f64 {
    (p - f64::from(u8::from(label))).powi(2)
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
    pub count: f64,
    /// Their mean probability.
    pub predicted: f64,
    /// The share that came true.
    pub observed: f64,
}

/// A reliability diagram with bins of equal width over 0 to 1, the lower bounds open (Guo et al. 2017).
pub fn reliability(probabilities: &[f64], labels: &[bool], bins: usize) -> Vec<ReliabilityBin> {
    reliability_of(probabilities, labels, &vec![1.0; probabilities.len()], bins)
}

/// As [`reliability`], each row counted so often.
pub(super) fn reliability_of(
    probabilities: &[f64],
    labels: &[bool],
    counts: &[f64],
    bins: usize,
) -> Vec<ReliabilityBin> {
    let mut diagram = vec![ReliabilityBin::default(); bins.max(1)];
    for ((p, label), count) in probabilities.iter().zip(labels).zip(counts) {
        let at = ((p * diagram.len() as f64).ceil() as usize).saturating_sub(1).min(diagram.len() - 1);
        let bin = &mut diagram[at];
        bin.count += count;
        bin.predicted += count * p;
        bin.observed += count * f64::from(u8::from(*label));
    }
    for bin in diagram.iter_mut().filter(|bin| bin.count > 0.0) {
        bin.predicted /= bin.count;
        bin.observed /= bin.count;
    }
    diagram
}

/// Expected calibration error over `bins` of equal width.
pub fn ece(probabilities: &[f64], labels: &[bool], bins: usize) -> Option<f64> {
    ece_of(&reliability(probabilities, labels, bins))
}

/// The expected calibration error of a diagram.
pub(super) fn ece_of(diagram: &[ReliabilityBin]) -> Option<f64> {
    let count: f64 = diagram.iter().map(|bin| bin.count).sum();
    let gaps = diagram.iter().map(|bin| bin.count * (bin.predicted - bin.observed).abs());
    (count > 0.0).then(|| gaps.sum::<f64>() / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_item_tied_with_all_others_stands_in_the_middle() {
        let rank = Rank::of(&[0.5f32; 21], 7).unwrap();
        assert_eq!((rank.place(), rank.hit(10), rank.hit(11)), (10.0, 0.0, 1.0));
        assert!((rank.ndcg(20) - 1.0 / 12f64.log2()).abs() < 1e-12);
        assert!(Rank::of(&[0.5; 21], 21).is_none());
        // Nor is one first that says nothing at all.
        assert_eq!(Rank::of(&[f32::NAN; 4], 0).unwrap(), Rank { above: 0, ties: 3 });
    }

    #[test]
    fn the_best_item_is_first() {
        let rank = Rank::of(&[0.1f32, 0.9, 0.3], 1).unwrap();
        assert_eq!((rank.hit(1), rank.ndcg(1), rank.reciprocal(usize::MAX)), (1.0, 1.0, 1.0));
        let last = Rank::of(&[0.1f32, 0.9, 0.3], 0).unwrap();
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
        fn figures_grow_with_k_and_fall_with_the_place(above in 0usize..9, ties in 0usize..9, k in 1usize..12) {
            let rank = Rank { above, ties };
            prop_assert_eq!(rank.place(), above as f64 + ties as f64 / 2.0);
            let lower = Rank { above: above + 1, ties };
            for figure in [Rank::hit, Rank::ndcg, Rank::reciprocal] {
                prop_assert!(figure(&rank, k) <= figure(&rank, k + 1));
                prop_assert!(figure(&lower, k) <= figure(&rank, k));
            }
            prop_assert!(rank.ndcg(k) <= rank.hit(k) && rank.reciprocal(k) <= rank.ndcg(k));
        }

        #[test]
        fn a_row_counted_twice_is_two_rows(rows in prop::collection::vec((0u8..5, any::<bool>(), 0u8..3), 1..20)) {
            let scores: Vec<f64> = rows.iter().map(|(score, ..)| f64::from(*score) / 4.0).collect();
            let labels: Vec<bool> = rows.iter().map(|(_, label, _)| *label).collect();
            let counts: Vec<f64> = rows.iter().map(|(.., count)| f64::from(*count)).collect();
            let written = |i: usize| std::iter::repeat_n(i, usize::from(rows[i].2));
            let out: Vec<usize> = (0..rows.len()).flat_map(written).collect();
            let out_scores: Vec<f64> = out.iter().map(|i| scores[*i]).collect();
            let out_labels: Vec<bool> = out.iter().map(|i| labels[*i]).collect();
            prop_assert_eq!(auc_of(&ascending(&scores), &scores, &labels, &counts), auc(&out_scores, &out_labels));
            let (a, b) = (reliability_of(&scores, &labels, &counts, 7), reliability(&out_scores, &out_labels, 7));
            for (a, b) in a.iter().zip(&b) {
                prop_assert!(a.count == b.count && (a.predicted - b.predicted).abs() < 1e-12);
                prop_assert!((a.observed - b.observed).abs() < 1e-12);
            }
        }
    }
}
