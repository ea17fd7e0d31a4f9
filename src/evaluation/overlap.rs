//! Overlap with references: BLEU, chrF2 and ROUGE, the figures of sacrebleu and rouge-score (0 to 100, and 0 to 1).

use std::collections::HashMap;

/// A generated text and the texts it should be like.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// What was generated.
    pub hypothesis: String,
    /// What would be right, at least one.
    pub references: Vec<String>,
}

/// What Python's `str.split` splits at: Unicode white space and four control characters.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

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

/// How often each run of `n` items occurs.
fn counts<T: std::hash::Hash + Eq>(items: &[T], n: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for run in items.windows(n) {
        *counts.entry(run).or_insert(0) += 1;
    }
    counts
}

/// Corpus BLEU (Papineni et al. 2002), 0 to 100, as sacrebleu computes it by default: 4-grams, `13a` tokens,
/// exponential smoothing, the closest reference length.
pub fn bleu(pairs: &[Pair]) -> f64 {
    let (mut correct, mut total) = ([0usize; 4], [0usize; 4]);
    let (mut length, mut wanted) = (0usize, 0usize);
    for pair in pairs {
        let hypothesis = tokenize_13a(&pair.hypothesis);
        let references: Vec<Vec<String>> = pair.references.iter().map(|r| tokenize_13a(r)).collect();
        length += hypothesis.len();
        wanted += references
            .iter()
            .map(Vec::len)
            .min_by_key(|wide| (wide.abs_diff(hypothesis.len()), *wide))
            .unwrap_or(0);
        for n in 1..=4 {
            let known: Vec<_> = references.iter().map(|tokens| counts(tokens, n)).collect();
            for (run, count) in counts(&hypothesis, n) {
                let most = known.iter().filter_map(|known| known.get(run)).max().copied().unwrap_or(0);
                correct[n - 1] += count.min(most);
                total[n - 1] += count;
            }
        }
    }
    if correct.iter().all(|count| *count == 0) || total.contains(&0) {
        return 0.0;
    }
    let (mut smooth, mut logs) = (1.0, 0.0);
    for (correct, total) in correct.iter().zip(total) {
        let precision = if *correct == 0 {
            smooth *= 2.0;
            1.0 / (smooth * total as f64)
        } else {
            *correct as f64 / total as f64
        };
        logs += (100.0 * precision).ln();
    }
    let short = length < wanted;
    let brevity = if short { (1.0 - wanted as f64 / length as f64).exp() } else { 1.0 };
    brevity * (logs / 4.0).exp()
}

/// Counts of one order for chrF: n-grams of the hypothesis, of the reference, of both.
type Order = [f64; 3];

fn chrf_orders(hypothesis: &[char], reference: &[char]) -> [Order; 6] {
    std::array::from_fn(|i| {
        let (said, wanted) = (counts(hypothesis, i + 1), counts(reference, i + 1));
        let both: usize =
            said.iter().map(|(run, count)| (*count).min(wanted.get(run).copied().unwrap_or(0))).sum();
        let sum = |counts: &HashMap<&[char], usize>| counts.values().sum::<usize>() as f64;
        [if wanted.is_empty() { 0.0 } else { sum(&said) }, sum(&wanted), both as f64]
    })
}

fn chrf_of(orders: &[Order; 6]) -> f64 {
    let whole: Vec<&Order> = orders.iter().filter(|[said, wanted, _]| *said > 0.0 && *wanted > 0.0).collect();
    if whole.is_empty() {
        return 0.0;
    }
    let mean = |share: fn(&Order) -> f64| whole.iter().map(|o| share(o)).sum::<f64>() / whole.len() as f64;
    let (precision, recall) = (mean(|[said, _, both]| both / said), mean(|[_, wanted, both]| both / wanted));
    // Beta is 2, so recall weighs four times as much.
    if precision + recall > 0.0 { 100.0 * 5.0 * precision * recall / (4.0 * precision + recall) } else { 0.0 }
}

/// Corpus chrF2 (Popović 2015), 0 to 100, as sacrebleu computes it by default: characters up to 6-grams without
/// white space, beta 2, the best reference of each pair.
pub fn chrf2(pairs: &[Pair]) -> f64 {
    let letters = |text: &str| -> Vec<char> { text.chars().filter(|c| !is_space(*c)).collect() };
    let mut sums = [[0.0; 3]; 6];
    for pair in pairs {
        let hypothesis = letters(&pair.hypothesis);
        let mut best: Option<(f64, [Order; 6])> = None;
        for reference in &pair.references {
            let orders = chrf_orders(&hypothesis, &letters(reference));
            let score = chrf_of(&orders);
            if best.as_ref().is_none_or(|(so_far, _)| score > *so_far) {
                best = Some((score, orders));
            }
        }
        for (sum, order) in sums.iter_mut().zip(best.map_or([[0.0; 3]; 6], |(_, orders)| orders)) {
            sum.iter_mut().zip(order).for_each(|(sum, count)| *sum += count);
        }
    }
    chrf_of(&sums)
}

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

/// The tokens of rouge-score: runs of `a-z` and `0-9` in the lower-case text.
fn rouge_tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// ROUGE-N (Lin 2004) of one pair, as rouge-score computes it without stemming; of several references the one
/// with the highest F1.
pub fn rouge_n(pair: &Pair, n: usize) -> Rouge {
    best(pair, |said, wanted| {
        let (known, total) = (counts(wanted, n), |tokens: &[String]| (tokens.len() + 1).saturating_sub(n));
        let both = counts(said, n)
            .into_iter()
            .map(|(run, count)| count.min(known.get(run).copied().unwrap_or(0)))
            .sum();
        Rouge::of(both, total(said), total(wanted))
    })
}

/// ROUGE-L (Lin 2004) of one pair: the longest common subsequence.
pub fn rouge_l(pair: &Pair) -> Rouge {
    best(pair, |said, wanted| {
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
    })
}

fn best(pair: &Pair, score: impl Fn(&[String], &[String]) -> Rouge) -> Rouge {
    let said = rouge_tokens(&pair.hypothesis);
    let mut best = Rouge::default();
    for (i, reference) in pair.references.iter().enumerate() {
        let rouge = score(&said, &rouge_tokens(reference));
        if i == 0 || rouge.f1 > best.f1 {
            best = rouge;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(hypothesis: &str, references: &[&str]) -> Pair {
        let references = references.iter().map(|text| (*text).to_owned()).collect();
        Pair { hypothesis: hypothesis.to_owned(), references }
    }

    /// Figures of sacrebleu 2.x and rouge-score 0.1.2, by `benches/peers/metrics.py --fixture`.
    #[test]
    fn figures_equal_those_of_sacrebleu_and_rouge_score() {
        let text = include_str!("../../tests/data/overlap.jsonl");
        let mut seen = 0;
        for line in text.lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let strings = |value: &serde_json::Value| -> Vec<String> {
                value.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
            };
            let pairs: Vec<Pair> = case["pairs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| Pair {
                    hypothesis: pair[0].as_str().unwrap().to_owned(),
                    references: strings(&pair[1]),
                })
                .collect();
            let near = |name: &str, ours: f64| {
                let theirs = case[name].as_f64().unwrap();
                assert!((ours - theirs).abs() < 5e-5, "{name}: {ours}, not {theirs}: {line}");
            };
            near("bleu", bleu(&pairs));
            near("chrf2", chrf2(&pairs));
            near("rouge1", rouge_n(&pairs[0], 1).f1);
            near("rouge2", rouge_n(&pairs[0], 2).f1);
            near("rouge_l", rouge_l(&pairs[0]).f1);
            seen += 1;
        }
        assert!(seen >= 100, "{seen}");
    }

    #[test]
    fn the_same_text_scores_highest_and_another_lowest() {
        let same = [pair("the cat sat on the mat", &["the cat sat on the mat"])];
        assert!((bleu(&same) - 100.0).abs() < 1e-9 && (chrf2(&same) - 100.0).abs() < 1e-9);
        assert_eq!(rouge_l(&same[0]).f1, 1.0);
        let other = [pair("xyz", &["the cat"])];
        assert_eq!((bleu(&other), chrf2(&other), rouge_n(&other[0], 1).f1), (0.0, 0.0, 0.0));
        assert_eq!((bleu(&[]), chrf2(&[])), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn any_text_has_a_score_in_range(a in "\\PC{0,40}", b in "\\PC{0,40}", c in "\\PC{0,40}") {
            let pairs = [pair(&a, &[&b, &c])];
            for score in [bleu(&pairs), chrf2(&pairs), 100.0 * rouge_l(&pairs[0]).f1] {
                prop_assert!((0.0..=100.0001).contains(&score), "{score}");
            }
        }
    }
}
