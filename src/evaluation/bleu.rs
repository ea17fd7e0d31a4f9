//! BLEU (Papineni et al. 2002), the figure of sacrebleu, 0 to 100.

use super::overlap::{Pair, counts, is_space};

/// Splits off every pair of neighbours for which `found` holds, without overlap, and writes `put` of it.
fn replace_pairs(
    text: &str,
    found: impl Fn(char, char) -> bool,
    put: impl Fn(char, char) -> [char; 4],
) -> String {
    let letters: Vec<char> = text.chars().collect();
    let (mut out, mut i) = (String::with_capacity(text.len()), 0);
    while i < letters.len() {
        match letters.get(i + 1) {
            Some(&next) if found(letters[i], next) => {
                out.extend(put(letters[i], next));
                i += 2;
            }
            _ => {
                out.push(letters[i]);
                i += 1;
            }
        }
    }
    out
}

/// The `13a` tokenizer of mteval and sacrebleu.
pub fn tokenize_13a(text: &str) -> Vec<String> {
    let text = text.trim_end_matches(is_space);
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut spaced = String::from(" ");
    for c in text.chars() {
        let symbol = matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
        if symbol {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let digit = |c: char| c.is_ascii_digit();
    let stop = |c: char| c == '.' || c == ',';
    let spaced = replace_pairs(&spaced, |a, b| !digit(a) && stop(b), |a, b| [a, ' ', b, ' ']);
    // Two spaces make no other token than one.
    let spaced = replace_pairs(&spaced, |a, b| stop(a) && !digit(b), |a, b| [' ', a, ' ', b]);
    let spaced = replace_pairs(&spaced, |a, b| digit(a) && b == '-', |a, b| [a, ' ', b, ' ']);
    spaced.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// What BLEU adds up over pairs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BleuCounts {
    /// Per order: n-grams that are in a reference too, and all.
    correct: [f64; 4],
    total: [f64; 4],
    /// Tokens said, and of the reference closest in length.
    length: f64,
    wanted: f64,
}

impl BleuCounts {
    pub(super) fn of(pair: &Pair) -> Self {
        let hypothesis = tokenize_13a(&pair.hypothesis);
        let references: Vec<Vec<String>> = pair.references.iter().map(|r| tokenize_13a(r)).collect();
        let closest =
            references.iter().map(Vec::len).min_by_key(|wide| (wide.abs_diff(hypothesis.len()), *wide));
        let mut all =
            Self { length: hypothesis.len() as f64, wanted: closest.unwrap_or(0) as f64, ..Self::default() };
        for n in 1..=4 {
            let known: Vec<_> = references.iter().map(|tokens| counts(tokens, n)).collect();
            for (run, count) in counts(&hypothesis, n) {
                let most = known.iter().filter_map(|known| known.get(run)).max().copied().unwrap_or(0);
                all.correct[n - 1] += count.min(most) as f64;
                all.total[n - 1] += count as f64;
            }
        }
        all
    }

    pub(super) fn add(&mut self, other: &Self, weight: f64) {
        for n in 0..4 {
            self.correct[n] += weight * other.correct[n];
            self.total[n] += weight * other.total[n];
        }
        self.length += weight * other.length;
        self.wanted += weight * other.wanted;
    }

    pub(super) fn score(&self) -> f64 {
        if self.correct.iter().all(|count| *count == 0.0) || self.total.contains(&0.0) {
            return 0.0;
        }
        let (mut smooth, mut logs) = (1.0, 0.0);
        for (correct, total) in self.correct.iter().zip(self.total) {
            let precision = if *correct == 0.0 {
                smooth *= 2.0;
                1.0 / (smooth * total)
            } else {
                correct / total
            };
            logs += (100.0 * precision).ln();
        }
        let short = self.length < self.wanted;
        let brevity = if short { (1.0 - self.wanted / self.length).exp() } else { 1.0 };
        brevity * (logs / 4.0).exp()
    }
}

/// Corpus BLEU (Papineni et al. 2002), 0 to 100, as sacrebleu computes it by default: 4-grams, `13a` tokens,
/// exponential smoothing, the closest reference length.
pub fn bleu(pairs: &[Pair]) -> f64 {
    let mut sum = BleuCounts::default();
    pairs.iter().for_each(|pair| sum.add(&BleuCounts::of(pair), 1.0));
    sum.score()
}
