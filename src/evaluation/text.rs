//! Figures for generated text: variety, repetition, copying.

use std::collections::{HashMap, HashSet};

fn words(line: &str) -> Vec<String> {
    crate::text::normalise(line).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Different n-grams over all n-grams of the lines (Li et al. 2016, distinct-n); `None` without any.
/// Compare only at equal numbers of lines.
pub fn distinct(lines: &[String], n: usize) -> Option<f64> {
    let (mut all, mut seen) = (0usize, HashSet::new());
    for line in lines {
        let words = words(line);
        for gram in words.windows(n.max(1)) {
            all += 1;
            seen.insert(gram.to_vec());
        }
    }
    (all > 0).then(|| seen.len() as f64 / all as f64)
}

/// The share of lines that contain some four words twice, or that were said before in the list.
pub fn repetition(lines: &[String]) -> Option<f64> {
    let mut said = HashSet::new();
    let repeats = lines.iter().filter(|line| {
        let words = words(line);
        let mut grams = HashSet::new();
        let stutters = words.windows(4).any(|gram| !grams.insert(gram.to_vec()));
        !said.insert(words) || stutters
    });
    (!lines.is_empty()).then(|| repeats.count() as f64 / lines.len() as f64)
}

/// What a model was trained on, to look for copies.
pub struct TrainingText {
    whole: HashSet<Vec<String>>,
    grams: HashMap<Vec<String>, ()>,
}

/// How many words in a row count as overlap.
const OVERLAP: usize = 8;

impl TrainingText {
    /// Indexes the training lines.
    pub fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let (mut whole, mut grams) = (HashSet::new(), HashMap::new());
        for line in lines {
            let words = words(line);
            for gram in words.windows(OVERLAP) {
                grams.insert(gram.to_vec(), ());
            }
            whole.insert(words);
        }
        Self { whole, grams }
    }

    /// The share of lines that stand in the training text, after normalisation.
    pub fn copied(&self, lines: &[String]) -> Option<f64> {
        let copied = lines.iter().filter(|line| self.whole.contains(&words(line))).count();
        (!lines.is_empty()).then(|| copied as f64 / lines.len() as f64)
    }

    /// The share of lines with eight words in a row from the training text, among lines that long.
    pub fn overlap(&self, lines: &[String]) -> Option<f64> {
        let long: Vec<Vec<String>> = lines.iter().map(|l| words(l)).filter(|w| w.len() >= OVERLAP).collect();
        let overlap =
            long.iter().filter(|w| w.windows(OVERLAP).any(|gram| self.grams.contains_key(gram))).count();
        (!long.is_empty()).then(|| overlap as f64 / long.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn distinct_counts_types_over_tokens() {
        assert_eq!(distinct(&lines(&["a b a", "b a"]), 1), Some(0.4));
        assert_eq!(distinct(&lines(&["a b a", "b a"]), 2), Some(2.0 / 3.0));
        assert_eq!(distinct(&[], 1), None);
    }

    #[test]
    fn stutters_and_doubles_are_repetition() {
        assert_eq!(repetition(&lines(&["a b c d x a b c d", "e f", "E f.", "g"])), Some(0.5));
    }

    #[test]
    fn copies_are_found_whatever_their_marks() {
        let training = TrainingText::new(["The cat sat on the mat by the door.", "Hm."].into_iter());
        let said =
            lines(&["the cat sat on the mat by the door", "so the cat sat on the mat by the fire", "no"]);
        assert_eq!(training.copied(&said), Some(1.0 / 3.0));
        assert_eq!(training.overlap(&said), Some(1.0));
        assert_eq!(training.copied(&[]), None);
    }
}
