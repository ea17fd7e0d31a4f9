//! Figures for generated text: repetition, copying, novelty.

use std::collections::{HashMap, HashSet};

/// The words of a line as they are compared.
pub(super) fn words(line: &str) -> Vec<String> {
    crate::text::normalise(line).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Which lines contain some four words twice, or were said before in the list.
pub fn repeats(lines: &[String]) -> Vec<bool> {
    let mut said = HashSet::new();
    let repeats = |line: &String| {
        let words = words(line);
        let mut grams = HashSet::new();
        let stutters = words.windows(4).any(|gram| !grams.insert(gram.to_vec()));
        !said.insert(words) || stutters
    };
    lines.iter().map(repeats).collect()
}

/// What a model was trained on, to look for copies.
pub struct TrainingText {
    whole: HashSet<Vec<u32>>,
    /// The training lines' words by number, and where every end of a line begins, in order.
    lines: Vec<Vec<u32>>,
    ends: Vec<(usize, usize)>,
    numbers: HashMap<String, u32>,
}

/// How many words in a row count as overlap.
const OVERLAP: usize = 8;

impl TrainingText {
    /// Indexes the training lines.
    pub fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |word: String| {
            let next = numbers.len() as u32;
            *numbers.entry(word).or_insert(next)
        };
        let lines: Vec<Vec<u32>> =
            lines.map(|line| words(line).into_iter().map(&mut number).collect()).collect();
        let starts = |(at, line): (usize, &Vec<u32>)| (0..line.len()).map(move |start| (at, start));
        let mut ends: Vec<(usize, usize)> = lines.iter().enumerate().flat_map(starts).collect();
        ends.sort_by(|a, b| lines[a.0][a.1..].cmp(&lines[b.0][b.1..]));
        Self { whole: lines.iter().cloned().collect(), lines, ends, numbers }
    }

    /// The line's words by number; one that the training text lacks has a number of its own.
    fn numbers(&self, line: &str) -> Vec<u32> {
        words(line).iter().map(|word| self.numbers.get(word).copied().unwrap_or(u32::MAX)).collect()
    }

    /// Whether the line stands in the training text, after normalisation.
    pub fn holds(&self, line: &str) -> bool {
        self.whole.contains(&self.numbers(line))
    }

    /// How many words in a row the line shares with a training line, at most, and how many it has.
    fn longest_run(&self, line: &str) -> (usize, usize) {
        let numbers = self.numbers(line);
        let end = |at: usize| self.ends.get(at).map_or(&[][..], |&(line, start)| &self.lines[line][start..]);
        let shared = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        // Of sorted texts, one of the two neighbours shares most.
        let run = |start: usize| {
            let rest = &numbers[start..];
            let place = self.ends.partition_point(|&(line, start)| self.lines[line][start..] < *rest);
            shared(rest, end(place)).max(if place == 0 { 0 } else { shared(rest, end(place - 1)) })
        };
        ((0..numbers.len()).map(run).max().unwrap_or(0), numbers.len())
    }

    /// The share of a line's words outside its longest run of words that stands in a training line too: 0 for a
    /// copy or a part of one, 1 without a word in common. Nothing for a line without words.
    pub fn novelty(&self, line: &str) -> Option<f64> {
        let (run, length) = self.longest_run(line);
        (length > 0).then(|| 1.0 - run as f64 / length as f64)
    }

    /// Whether eight words in a row stand in a training line. Nothing for a shorter line.
    pub fn overlaps(&self, line: &str) -> Option<bool> {
        let (run, length) = self.longest_run(line);
        (length >= OVERLAP).then_some(run >= OVERLAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn stutters_and_doubles_are_repetition() {
        let said = lines(&["a b c d x a b c d", "e f", "E f.", "g"]);
        assert_eq!(repeats(&said), [true, false, true, false]);
    }

    #[test]
    fn copies_are_found_whatever_their_marks() {
        let training = TrainingText::new(["The cat sat on the mat by the door.", "Hm."].into_iter());
        let copy = "the cat sat on the mat by the door";
        let near = "so the cat sat on the mat by the fire";
        assert!(training.holds(copy) && !training.holds(near) && !training.holds("no"));
        assert_eq!([copy, near, "no"].map(|line| training.overlaps(line)), [Some(true), Some(true), None]);
        assert_eq!(training.overlaps("a cat sat on the mat by a door"), Some(false));
    }

    #[test]
    fn novelty_is_what_the_longest_shared_run_leaves() {
        let training = TrainingText::new(["the cat sat on the mat", "a dog ran"].into_iter());
        let novelty = |line: &str| training.novelty(line);
        assert_eq!(novelty("The cat sat on the mat!"), Some(0.0));
        assert_eq!(novelty("sat on the"), Some(0.0));
        assert_eq!(novelty("a bird sat on the dog"), Some(0.5));
        assert_eq!((novelty("nothing known here"), novelty("...")), (Some(1.0), None));
        assert_eq!(TrainingText::new(std::iter::empty()).novelty("a"), Some(1.0));
    }

    proptest! {
        #[test]
        fn the_longest_run_is_the_one_that_a_search_finds(
            training in prop::collection::vec("[abc]( [abc]){0,8}", 0..6), line in "[abcd]( [abcd]){0,8}",
        ) {
            let index = TrainingText::new(training.iter().map(String::as_str));
            let words = words(&line);
            let found = (1..=words.len()).rev().find(|n| {
                let known = |run: &[String]| training.iter().any(|t| super::words(t).windows(*n).any(|w| w == run));
                words.windows(*n).any(known)
            });
            prop_assert_eq!(index.longest_run(&line), (found.unwrap_or(0), words.len()));
        }
    }
}
