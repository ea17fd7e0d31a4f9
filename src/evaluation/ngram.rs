//! [`NGram`]: the baseline that stands beside every language model (Witten and Bell 1991, interpolated).

use std::collections::HashMap;

/// Counts after one context.
#[derive(Default)]
struct Counts {
    total: u64,
    next: HashMap<u32, u64>,
}

/// An interpolated Witten-Bell n-gram over token ids.
///
/// `p(w | c) = (count(c w) + types(c) p(w | c')) / (count(c) + types(c))`, where `c'` is `c` without its first
/// token; below the empty context stands the uniform distribution over the vocabulary.
pub struct NGram {
    order: usize,
    vocab: usize,
    contexts: HashMap<Vec<u32>, Counts>,
}

impl NGram {
    /// Counts the n-grams of `sequences`. `order` 5 looks at four tokens before.
    pub fn train<'a>(order: usize, vocab: usize, sequences: impl Iterator<Item = &'a [u32]>) -> Self {
        let order = order.max(1);
        let mut contexts: HashMap<Vec<u32>, Counts> = HashMap::new();
        for sequence in sequences {
            for (i, &token) in sequence.iter().enumerate() {
                for length in 0..order.min(i + 1) {
                    let counts = contexts.entry(sequence[i - length..i].to_vec()).or_default();
                    counts.total += 1;
                    *counts.next.entry(token).or_default() += 1;
                }
            }
        }
        Self { order, vocab: vocab.max(1), contexts }
    }

    /// The negative log-likelihood of `token` after `before`, in nats.
    pub fn nll(&self, before: &[u32], token: u32) -> f64 {
        let mut p = 1.0 / self.vocab as f64;
        for length in 0..self.order.min(before.len() + 1) {
            let Some(counts) = self.contexts.get(&before[before.len() - length..]) else { break };
            let types = counts.next.len() as f64;
            let count = counts.next.get(&token).copied().unwrap_or(0) as f64;
            p = (count + types * p) / (counts.total as f64 + types);
        }
        -p.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_after_any_context() {
        let data = [0u32, 1, 2, 0, 1, 3, 0, 1, 2];
        let model = NGram::train(3, 5, [&data[..]].into_iter());
        for before in [&[][..], &[0], &[0, 1], &[4, 4], &[2, 0, 1]] {
            let sum: f64 = (0..5).map(|token| (-model.nll(before, token)).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{before:?}: {sum}");
        }
        assert!(model.nll(&[0, 1], 2) < model.nll(&[0, 1], 3));
    }

    #[test]
    fn on_tiny_shakespeare_it_is_the_documented_figure() {
        let path = "../shared/data/text/tinyshakespeare.txt";
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not here");
            return;
        };
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        let (train, held) = ids.split_at(ids.len() * 9 / 10);
        let vocab = text.bytes().collect::<std::collections::HashSet<_>>().len();
        let model = NGram::train(5, vocab, [train].into_iter());
        let sum: f64 = (0..held.len()).map(|i| model.nll(&held[i.saturating_sub(4)..i], held[i])).sum();
        let loss = sum / held.len() as f64;
        assert!((loss - 1.6688).abs() < 0.002, "{loss}");
    }
}
