//! Variety of generated lines: distinct-n and self-BLEU.

use super::bleu::tokenize_13a;
use super::overlap::counts;
use super::report::Measured;
use super::text::words;
use crate::seed::Seed;
use std::collections::{BTreeMap, HashMap};

/// Different n-grams over all n-grams of the lines (Li et al. 2016, distinct-n); `None` without any.
/// Compare only at equal numbers of lines.
pub fn distinct(lines: &[String], n: usize) -> Option<f64> {
    Grams::of(lines, n).distinct()
}

/// The n-grams of lines: how many, how many different, and of each line how many, and how many that no other has.
struct Grams {
    all: usize,
    different: usize,
    of_line: Vec<(usize, usize)>,
}

impl Grams {
    fn of(lines: &[String], n: usize) -> Self {
        let mut owners: HashMap<Vec<String>, Option<usize>> = HashMap::new();
        let mut of_line = vec![(0, 0); lines.len()];
        for (i, line) in lines.iter().enumerate() {
            for gram in words(line).windows(n.max(1)) {
                of_line[i].0 += 1;
                let owner = owners.entry(gram.to_vec()).or_insert(Some(i));
                *owner = owner.filter(|owner| *owner == i);
            }
        }
        owners.values().flatten().for_each(|&owner| of_line[owner].1 += 1);
        Self { all: of_line.iter().map(|(all, _)| all).sum(), different: owners.len(), of_line }
    }

    fn distinct(&self) -> Option<f64> {
        (self.all > 0).then(|| self.different as f64 / self.all as f64)
    }

    /// The 95 % interval by the jackknife over lines (Tukey 1958): a bootstrap would draw lines twice, and so find
    /// less variety than there is.
    fn interval(&self) -> Option<[f64; 2]> {
        let figure = self.distinct()?;
        let lines = self.of_line.len() as f64;
        let without = |&(all, own): &(usize, usize)| {
            (self.all > all).then(|| (self.different - own) as f64 / (self.all - all) as f64)
        };
        let left: Vec<f64> = self.of_line.iter().map(without).collect::<Option<_>>()?;
        let mean = left.iter().sum::<f64>() / lines;
        let squares: f64 = left.iter().map(|value| (value - mean).powi(2)).sum();
        let reach = 1.96 * ((lines - 1.0) / lines * squares).sqrt();
        (lines > 1.0).then(|| [(figure - reach).max(0.0), (figure + reach).min(1.0)])
    }
}

/// The orders of self-BLEU that are told.
const ORDERS: std::ops::RangeInclusive<usize> = 2..=5;

/// How often an n-gram occurs in the line that has it most, which line that is, and how often in any other.
#[derive(Clone, Copy, Default)]
struct Most {
    count: usize,
    line: usize,
    other: usize,
}

/// The sentence BLEU of each line against all others (Zhu et al. 2018, Texygen), 0 to 1, with n-grams up to each of
/// the orders 2 to 5: NLTK's `sentence_bleu` with `SmoothingFunction().method1`, over `13a` tokens.
fn self_bleu_of_lines(lines: &[String]) -> BTreeMap<String, Vec<f64>> {
    let tokens: Vec<Vec<String>> = lines.iter().map(|line| tokenize_13a(line)).collect();
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    tokens.iter().for_each(|line| *lengths.entry(line.len()).or_default() += 1);
    // Sums of the logarithms of the precisions of all orders so far.
    let mut logs = vec![0.0; lines.len()];
    let mut scores = BTreeMap::new();
    for n in 1..=*ORDERS.end() {
        let mut known: HashMap<&[String], Most> = HashMap::new();
        for (i, line) in tokens.iter().enumerate() {
            for (gram, count) in counts(line, n) {
                let most = known.entry(gram).or_default();
                if count > most.count {
                    *most = Most { count, line: i, other: most.count };
                } else {
                    most.other = most.other.max(count);
                }
            }
        }
        for (i, line) in tokens.iter().enumerate() {
            let (mut correct, mut total) = (0, 0);
            for (gram, count) in counts(line, n) {
                let most = known.get(gram).copied().unwrap_or_default();
                correct += count.min(if most.line == i { most.other } else { most.count });
                total += count;
            }
            let precision = if correct > 0 { correct as f64 } else { 0.1 } / total.max(1) as f64;
            // Without a single word in common there is no score.
            logs[i] += if n == 1 && correct == 0 { f64::NEG_INFINITY } else { precision.ln() };
        }
        if ORDERS.contains(&n) {
            let score = |(line, log): (&Vec<String>, &f64)| {
                let (said, closest) = (line.len(), closest(line.len(), &lengths));
                let short = said < closest;
                let brevity = if short { (1.0 - closest as f64 / said as f64).exp() } else { 1.0 };
                if log.is_finite() { brevity * (log / n as f64).exp() } else { 0.0 }
            };
            scores.insert(format!("self_bleu_{n}"), tokens.iter().zip(&logs).map(score).collect());
        }
    }
    scores
}

/// The length among those of the other lines that is closest to `own`; of two the shorter.
fn closest(own: usize, lengths: &BTreeMap<usize, usize>) -> usize {
    if lengths.get(&own).is_some_and(|count| *count > 1) {
        return own;
    }
    let below = lengths.range(..own).next_back().map(|(length, _)| *length);
    let above = lengths.range(own + 1..).next().map(|(length, _)| *length);
    match (below, above) {
        (Some(below), Some(above)) if own - below > above - own => above,
        (Some(below), _) => below,
        (None, above) => above.unwrap_or(0),
    }
}

/// `distinct_1` and `distinct_2` with intervals by the jackknife; with two lines or more `self_bleu_2` to
/// `self_bleu_5`, means over lines, bootstrapped over them with all other lines as references throughout.
pub fn variety_figures(lines: &[String], seed: Seed) -> Measured {
    let mut measured = match lines {
        [] | [_] => Measured::default(),
        _ => Measured::means(&self_bleu_of_lines(lines), seed),
    };
    for n in [1, 2] {
        let (name, grams) = (format!("distinct_{n}"), Grams::of(lines, n));
        measured.figures.extend(grams.distinct().map(|figure| (name.clone(), figure)));
        measured.ci95.extend(grams.interval().map(|interval| (name, interval)));
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn distinct_counts_types_over_tokens() {
        assert_eq!(distinct(&lines(&["a b a", "b a"]), 1), Some(0.4));
        assert_eq!(distinct(&lines(&["a b a", "b a"]), 2), Some(2.0 / 3.0));
        assert_eq!(distinct(&[], 1), None);
    }

    /// Figures of NLTK, by `benches/peers/metrics.py overlap_self`.
    #[test]
    fn self_bleu_equals_nltk() {
        let text = include_str!("../../tests/data/overlap_self.jsonl");
        let mut seen = 0;
        for line in text.lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let lines: Vec<String> = serde_json::from_value(case["lines"].clone()).unwrap();
            let ours = variety_figures(&lines, Seed::new(1)).figures;
            for (name, theirs) in case["figures"].as_object().unwrap() {
                assert!(
                    (ours[name] - theirs.as_f64().unwrap()).abs() < 5e-5,
                    "{name}: {}: {line}",
                    ours[name]
                );
            }
            seen += 1;
        }
        assert!(seen >= 50, "{seen}");
    }

    #[test]
    fn doubles_are_no_variety_and_one_line_has_none_to_compare_with() {
        let same = variety_figures(&lines(&["the cat sat on the mat"; 3]), Seed::new(1));
        assert_eq!((same.figures["self_bleu_4"], same.ci95["self_bleu_4"]), (1.0, [1.0, 1.0]));
        let other = variety_figures(&lines(&["a b c d e", "f g h i j"]), Seed::new(1));
        assert_eq!((other.figures["self_bleu_4"], other.figures["distinct_1"]), (0.0, 1.0));
        let one = variety_figures(&lines(&["a b"]), Seed::new(1));
        assert!(!one.figures.contains_key("self_bleu_4") && one.ci95.is_empty());
    }

    #[test]
    fn the_jackknife_is_that_of_leaving_out_each_line() {
        let all = lines(&["a b c", "a b", "c d e f", "", "a a a"]);
        let [low, high] = Grams::of(&all, 1).interval().unwrap();
        let left: Vec<f64> = (0..all.len())
            .map(|i| {
                let mut rest = all.clone();
                rest.remove(i);
                distinct(&rest, 1).unwrap()
            })
            .collect();
        let mean = left.iter().sum::<f64>() / 5.0;
        let error = (0.8 * left.iter().map(|v| (v - mean).powi(2)).sum::<f64>()).sqrt();
        let figure = distinct(&all, 1).unwrap();
        assert!(
            (low - (figure - 1.96 * error)).abs() < 1e-12 && (high - (figure + 1.96 * error)).abs() < 1e-12
        );
    }

    proptest! {
        #[test]
        fn any_lines_have_figures_in_range(lines in prop::collection::vec("[a-c é,.]{0,12}", 0..6)) {
            for (name, figure) in variety_figures(&lines, Seed::new(1)).figures {
                prop_assert!((0.0..=1.0 + 1e-9).contains(&figure), "{name}: {figure}");
            }
        }
    }
}
