//! ROUGE (Lin 2004), the figures of rouge-score 0.1.2, 0 to 1.

use super::overlap::{Pair, counts};
use super::porter;
use std::collections::{BTreeSet, HashMap};

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rouge {
    /// Of what was generated, the share that is in the reference.
    pub precision: f64,
    /// Of the reference, the share that was generated.
    pub recall: f64,
    /// F1.
    pub f1: f64,
}

impl Rouge {
    fn of(both: usize, said: usize, wanted: usize) -> Self {
        let share = |of: usize| if of == 0 { 0.0 } else { both as f64 / of as f64 };
        let (precision, recall) = (share(said), share(wanted));
        let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        Self { precision, recall, f1 }
    }
}

/// Whether words are stemmed before they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// As written.
    Whole,
    /// By the Porter stemmer with NLTK's extensions, if longer than three letters (`use_stemmer=True`).
    Stemmed,
}

/// The tokens of rouge-score: runs of `a-z` and `0-9` in the lower-case text.
fn tokens(text: &str, words: Words) -> Vec<String> {
    let lower = text.to_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    parts
        .filter(|part| !part.is_empty())
        .map(|part| match words {
            Words::Stemmed if part.len() > 3 => porter::stem(part),
            _ => part.to_owned(),
        })
        .collect()
}

/// ROUGE-N (Lin 2004) of one pair; of several references the one with the highest F1.
pub fn rouge_n(pair: &Pair, n: usize, words: Words) -> Rouge {
    best(pair, words, |said, wanted| {
        let (known, total) = (counts(wanted, n), |tokens: &[String]| (tokens.len() + 1).saturating_sub(n));
        let both = counts(said, n)
            .into_iter()
            .map(|(run, count)| count.min(known.get(run).copied().unwrap_or(0)))
            .sum();
        Rouge::of(both, total(said), total(wanted))
    })
}

/// ROUGE-L (Lin 2004) of one pair: the longest common subsequence of the whole texts.
pub fn rouge_l(pair: &Pair, words: Words) -> Rouge {
    best(pair, words, of_whole)
}

fn of_whole(said: &[String], wanted: &[String]) -> Rouge {
    let mut row = vec![0usize; wanted.len() + 1];
    for token in said {
        let mut above_left = 0;
        for (i, other) in wanted.iter().enumerate() {
            let above = row[i + 1];
            row[i + 1] = if token == other { above_left + 1 } else { above.max(row[i]) };
            above_left = above;
        }
    }
    Rouge::of(row[wanted.len()], said.len(), wanted.len())
}

/// ROUGE-Lsum (Lin 2004, section 3.2) of one pair: lines are sentences, and each of the reference is compared with
/// the union of what it shares with all of the hypothesis.
pub fn rouge_lsum(pair: &Pair, words: Words) -> Rouge {
    let sentences = |text: &str| -> Vec<Vec<String>> {
        text.split('\n').filter(|line| !line.is_empty()).map(|line| tokens(line, words)).collect()
    };
    let said = sentences(&pair.hypothesis);
    highest(pair.references.iter().map(|reference| {
        let wanted = sentences(reference);
        if let ([said], [wanted]) = (&said[..], &wanted[..]) {
            return of_whole(said, wanted);
        }
        let (mut left, mut asked) = (bag(&said), bag(&wanted));
        let mut both = 0;
        for sentence in &wanted {
            let shared: BTreeSet<usize> = said.iter().flat_map(|other| common(sentence, other)).collect();
            for at in shared {
                // A word counts no more often than either text has it.
                if let (Some(left), Some(asked)) = (left.get_mut(&sentence[at]), asked.get_mut(&sentence[at]))
                    && *left > 0
                    && *asked > 0
                {
                    both += 1;
                    *left -= 1;
                    *asked -= 1;
                }
            }
        }
        let total = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
        Rouge::of(both, total(&said), total(&wanted))
    }))
}

fn bag(sentences: &[Vec<String>]) -> HashMap<&String, usize> {
    let mut bag = HashMap::new();
    sentences.iter().flatten().for_each(|word| *bag.entry(word).or_insert(0) += 1);
    bag
}

/// Which words of `wanted` stand in a longest common subsequence; among equals the one rouge-score takes.
fn common(wanted: &[String], said: &[String]) -> Vec<usize> {
    let wide = said.len() + 1;
    let mut table = vec![0u32; (wanted.len() + 1) * wide];
    for (i, word) in wanted.iter().enumerate() {
        for (j, other) in said.iter().enumerate() {
            table[(i + 1) * wide + j + 1] = if word == other {
                table[i * wide + j] + 1
            } else {
                table[i * wide + j + 1].max(table[(i + 1) * wide + j])
            };
        }
    }
    let (mut i, mut j, mut found) = (wanted.len(), said.len(), Vec::new());
    while i > 0 && j > 0 {
        if wanted[i - 1] == said[j - 1] {
            (i, j) = (i - 1, j - 1);
            found.push(i);
        } else if table[i * wide + j - 1] > table[(i - 1) * wide + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    found
}

fn best(pair: &Pair, words: Words, score: impl Fn(&[String], &[String]) -> Rouge) -> Rouge {
    let said = tokens(&pair.hypothesis, words);
    highest(pair.references.iter().map(|reference| score(&said, &tokens(reference, words))))
}

/// The first with the highest F1.
fn highest(scores: impl Iterator<Item = Rouge>) -> Rouge {
    scores.reduce(|best, next| if next.f1 > best.f1 { next } else { best }).unwrap_or_default()
}

/// The share of the letters in `texts` that ROUGE drops because they are not among `a-z`.
pub fn rouge_blind<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let (mut letters, mut dropped) = (0usize, 0usize);
    for letter in texts.flat_map(str::chars).filter(|c| c.is_alphabetic()) {
        letters += 1;
        dropped += usize::from(!letter.is_ascii());
    }
    dropped as f64 / letters.max(1) as f64
}
