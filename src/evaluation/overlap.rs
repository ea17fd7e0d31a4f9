//! Overlap with references: BLEU, chrF2 and ROUGE together, with intervals.

use super::bleu::BleuCounts;
use super::chrf::ChrfCounts;
use super::report::{Measured, means};
use super::rouge::{Words, rouge_l, rouge_lsum, rouge_n};
use crate::seed::Seed;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A generated text and the texts it should be like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pair {
    /// What was generated.
    pub hypothesis: String,
    /// What would be right, at least one.
    pub references: Vec<String>,
}

/// What Python's `str.split` splits at: Unicode white space and four control characters.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// How often each run of `n` items occurs.
pub(super) fn counts<T: Hash + Eq>(items: &[T], n: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for run in items.windows(n) {
        *counts.entry(run).or_insert(0) += 1;
    }
    counts
}

/// What the figures of pairs are made of.
struct Overlap {
    /// The ROUGE figures of each pair.
    columns: BTreeMap<String, Vec<f64>>,
    parts: Vec<(BleuCounts, ChrfCounts)>,
}

impl Overlap {
    fn of(pairs: &[Pair]) -> Self {
        let mut columns = BTreeMap::new();
        for (words, suffix) in [(Words::Whole, ""), (Words::Stemmed, "_stem")] {
            let mut put = |name: &str, score: &dyn Fn(&Pair) -> f64| {
                columns.insert(format!("{name}{suffix}"), pairs.iter().map(score).collect());
            };
            put("rouge1", &|pair| rouge_n(pair, 1, words).f1);
            put("rouge2", &|pair| rouge_n(pair, 2, words).f1);
            put("rougeL", &|pair| rouge_l(pair, words).f1);
            put("rougeLsum", &|pair| rouge_lsum(pair, words).f1);
        }
        Self {
            columns,
            parts: pairs.iter().map(|pair| (BleuCounts::of(pair), ChrfCounts::of(pair))).collect(),
        }
    }

    /// The figures with each pair counted so often. Nothing without pairs.
    fn figures(&self, counts: &[f64]) -> BTreeMap<String, f64> {
        let mut figures = means(&self.columns, counts);
        if !self.parts.is_empty() {
            let (mut bleu, mut chrf) = (BleuCounts::default(), ChrfCounts::default());
            for ((of_bleu, of_chrf), &count) in self.parts.iter().zip(counts).filter(|(_, n)| **n > 0.0) {
                bleu.add(of_bleu, count);
                chrf.add(of_chrf, count);
            }
            figures.insert("bleu".into(), bleu.score());
            figures.insert("chrf2".into(), chrf.score());
        }
        figures
    }
}

/// `bleu` and `chrf2` (0 to 100), and `rouge1`, `rouge2`, `rougeL` and `rougeLsum` (F1, the mean over pairs, the best
/// reference of each), also with `_stem`. Nothing without pairs.
pub fn overlap_figures(pairs: &[Pair]) -> BTreeMap<String, f64> {
    Overlap::of(pairs).figures(&vec![1.0; pairs.len()])
}

/// [`overlap_figures`] with intervals, bootstrapped over pairs.
pub fn overlap_measured(pairs: &[Pair], seed: Seed) -> Measured {
    let overlap = Overlap::of(pairs);
    Measured::bootstrapped(pairs.len(), seed, |counts| overlap.figures(counts))
}

/// The floor of the overlap: to each pair's references the first reference of the pair before it. Nothing when
/// there is no other.
pub fn misplaced(pairs: &[Pair]) -> Vec<Pair> {
    let written: Vec<String> = pairs.iter().filter_map(|pair| pair.references.first().cloned()).collect();
    if written.len() < 2 || written.len() < pairs.len() {
        return Vec::new();
    }
    let before = written.iter().cycle().skip(written.len() - 1);
    let pairs = pairs.iter().zip(before);
    pairs
        .map(|(pair, before)| Pair { hypothesis: before.clone(), references: pair.references.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{bleu, chrf2};
    use proptest::prelude::*;

    fn pair(hypothesis: &str, references: &[&str]) -> Pair {
        let references = references.iter().map(|text| (*text).to_owned()).collect();
        Pair { hypothesis: hypothesis.to_owned(), references }
    }

    /// Figures of sacrebleu 2.6.0 and rouge-score 0.1.2, by `benches/peers/metrics.py overlap`.
    #[test]
    fn figures_equal_those_of_sacrebleu_and_rouge_score() {
        let text = include_str!("../../tests/data/overlap.jsonl");
        let mut seen = 0;
        for line in text.lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let pairs: Vec<(String, Vec<String>)> = serde_json::from_value(case["pairs"].clone()).unwrap();
            let pairs: Vec<Pair> =
                pairs.into_iter().map(|(hypothesis, references)| Pair { hypothesis, references }).collect();
            let ours = overlap_figures(&pairs);
            for (name, theirs) in case["figures"].as_object().unwrap() {
                let (ours, theirs) = (ours[name], theirs.as_f64().unwrap());
                assert!((ours - theirs).abs() < 5e-5, "{name}: {ours}, not {theirs}: {line}");
            }
            assert_eq!(ours.len(), case["figures"].as_object().unwrap().len());
            seen += 1;
        }
        assert!(seen >= 100, "{seen}");
    }

    #[test]
    fn the_same_text_scores_highest_and_another_lowest() {
        let same = [pair("the cat sat on the mat", &["the cat sat on the mat"])];
        assert!((bleu(&same) - 100.0).abs() < 1e-9 && (chrf2(&same) - 100.0).abs() < 1e-9);
        assert_eq!(rouge_l(&same[0], Words::Whole).f1, 1.0);
        let other = [pair("xyz", &["the cat"])];
        assert_eq!((bleu(&other), chrf2(&other), rouge_n(&other[0], 1, Words::Stemmed).f1), (0.0, 0.0, 0.0));
        assert_eq!((bleu(&[]), chrf2(&[])), (0.0, 0.0));
        assert_eq!(overlap_measured(&[], Seed::new(1)), Measured::default());
        assert!(misplaced(&same).is_empty());
    }

    #[test]
    fn every_figure_lies_in_its_interval_over_many_pairs() {
        let pairs: Vec<Pair> = (0..60)
            .map(|n| pair(&format!("the cat {n} sat on the mat"), &["the cat 7 sat on a mat", "a dog"]))
            .collect();
        let measured = overlap_measured(&pairs, Seed::new(1));
        for (name, figure) in &measured.figures {
            let [low, high] = measured.ci95[name];
            assert!(low <= *figure && *figure <= high && low > 0.0, "{name}: {figure} in {low} to {high}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_score_in_range(a in "\\PC{0,40}", b in "\\PC{0,40}", c in "[a-e \n]{0,40}") {
            let pairs = [pair(&a, &[&b, &c]), pair(&c, &[&a])];
            for (name, figure) in overlap_figures(&pairs) {
                let most = if name.starts_with("rouge") { 1.0 } else { 100.0001 };
                prop_assert!((0.0..=most).contains(&figure), "{name}: {figure}");
            }
        }
    }
}
