//! [`Sampling`]: from logits to the next token.
//!
//! The order is the usual one (as in `transformers` and llama.cpp): penalties, temperature, top-k, top-p
//! (Holtzman et al. 2020), min-p (Nguyen et al. 2024). Constraints have run before, so truncation only
//! ever chooses among what is allowed.

use crate::error::{Error, Result};
use crate::seed::Stream;
use serde::{Deserialize, Serialize};

/// How the next token is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the k likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this likely relative to the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides (or multiplies, when negative) the logits of tokens already in the answer
    /// (Keskar et al. 2019); 1 leaves them.
    pub repetition_penalty: f32,
    /// The longest answer, in tokens. 0 gives an empty answer.
    pub max_tokens: usize,
    /// The answer ends before any of these texts.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.2,
            top_k: 0,
            top_p: 0.9,
            min_p: 0.1,
            repetition_penalty: 1.0,
            max_tokens: 80,
            stop: Vec::new(),
        }
    }
}

impl Sampling {
    /// Refuses what makes no sense, naming the field. `file` is where the values came from.
    pub fn validate(&self, file: &str) -> Result<()> {
        let rules = [
            (
                "temperature",
                self.temperature.is_finite() && (0.0..=10.0).contains(&self.temperature),
                "0 to 10",
            ),
            ("top_p", self.top_p > 0.0 && self.top_p <= 1.0, "above 0, at most 1"),
            ("min_p", (0.0..1.0).contains(&self.min_p), "at least 0, below 1"),
            ("repetition_penalty", (0.5..=5.0).contains(&self.repetition_penalty), "0.5 to 5"),
            ("max_tokens", self.max_tokens <= 100_000, "at most 100000"),
            ("stop", self.stop.iter().all(|stop| !stop.is_empty()), "texts that are not empty"),
        ];
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => {
                Err(Error::config(file, *field, "the value is out of range", format!("choose {range}")))
            }
            None => Ok(()),
        }
    }

    /// Draws a token. `logits` (`-inf`: forbidden) are changed in place; `answer` is what was generated
    /// so far. Returns the token and its log-probability under the unpenalised, untempered distribution
    /// over what was allowed; `None` when everything is forbidden.
    pub fn sample(&self, logits: &mut [f32], answer: &[u32], noise: &mut Stream) -> Option<(u32, f32)> {
        let log_sum = log_sum_exp(logits)?;
        let before: Option<Vec<f32>> = (self.repetition_penalty != 1.0).then(|| logits.to_vec());
        if self.repetition_penalty != 1.0 {
            let mut seen = answer.to_vec();
            seen.sort_unstable();
            seen.dedup();
            for token in seen {
                if let Some(logit) = logits.get_mut(token as usize) {
                    let penalty = self.repetition_penalty;
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
            }
        }
        let token = if self.temperature == 0.0 { argmax(logits)? } else { self.draw(logits, noise)? };
        let logit = before.as_ref().map_or_else(|| logits[token as usize], |before| before[token as usize]);
        Some((token, logit - log_sum))
    }

    fn draw(&self, logits: &[f32], noise: &mut Stream) -> Option<u32> {
        let mut kept: Vec<(u32, f32)> = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| logit.is_finite())
            .map(|(token, logit)| (token as u32, logit / self.temperature))
            .collect();
        // Ties are broken by token number, so the order never depends on the sort.
        let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        kept.sort_unstable_by(likelier);
        if self.top_k > 0 {
            kept.truncate(self.top_k);
        }
        let max = kept.first()?.1;
        let mut weights: Vec<f64> = kept.iter().map(|(_, logit)| f64::from(logit - max).exp()).collect();
        if self.top_p < 1.0 {
            let total: f64 = weights.iter().sum();
            let mut sum = 0.0;
            let enough = weights.iter().position(|w| {
                sum += w;
                sum >= total * f64::from(self.top_p)
            });
            weights.truncate(enough.map_or(weights.len(), |last| last + 1));
        }
        if self.min_p > 0.0 {
            let keep = weights.iter().take_while(|w| **w >= f64::from(self.min_p)).count();
            weights.truncate(keep.max(1));
        }
        let mut left = noise.uniform_f64() * weights.iter().sum::<f64>();
        for (weight, (token, _)) in weights.iter().zip(&kept) {
            left -= weight;
            if left < 0.0 {
                return Some(*token);
            }
        }
        Some(kept[weights.len() - 1].0)
    }
}

fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if logit.is_finite() && best.is_none_or(|(_, b)| logit > b) {
            best = Some((token, logit));
        }
    }
    best.map(|(token, _)| token as u32)
}

fn log_sum_exp(logits: &[f32]) -> Option<f32> {
    let max = logits[argmax(logits)? as usize];
    let sum: f64 = logits.iter().filter(|l| l.is_finite()).map(|l| f64::from(l - max).exp()).sum();
    Some(max + sum.ln() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn plain() -> Sampling {
        Sampling { temperature: 1.0, top_p: 1.0, min_p: 0.0, ..Sampling::default() }
    }

    fn counts(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
        let mut noise = Seed::new(1).stream();
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            let (token, _) = sampling.sample(&mut logits.to_vec(), &[], &mut noise).unwrap();
            counts[token as usize] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_softmax() {
        let counts = counts(&plain(), &[0.0, 1.0, 2.0, f32::NEG_INFINITY]);
        let expected = [0.0900, 0.2447, 0.6652, 0.0];
        for (count, expected) in counts.iter().zip(expected) {
            assert!((*count as f64 / 4000.0 - expected).abs() < 0.03, "{counts:?}");
        }
    }

    #[test]
    fn truncation_keeps_only_the_likely() {
        let logits = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(counts(&Sampling { top_k: 2, ..plain() }, &logits)[..2], [0, 0]);
        assert_eq!(counts(&Sampling { top_p: 0.6, ..plain() }, &logits)[..3], [0, 0, 0]);
        assert_eq!(counts(&Sampling { min_p: 0.2, ..plain() }, &logits)[..2], [0, 0]);
        assert_eq!(counts(&Sampling { temperature: 0.0, ..plain() }, &logits)[3], 4000);
    }

    #[test]
    fn a_penalty_makes_repeats_rarer_and_all_forbidden_is_none() {
        let mut logits = [2.0, 1.9];
        let greedy = Sampling { temperature: 0.0, repetition_penalty: 1.5, ..plain() };
        assert_eq!(greedy.sample(&mut logits, &[0], &mut Seed::new(0).stream()).unwrap().0, 1);
        let mut none = [f32::NEG_INFINITY; 3];
        assert!(plain().sample(&mut none, &[], &mut Seed::new(0).stream()).is_none());
    }

    #[test]
    fn log_probabilities_are_those_of_the_model() {
        let (_, logp) = plain().sample(&mut [0.0, 0.0], &[], &mut Seed::new(0).stream()).unwrap();
        assert!((logp + std::f32::consts::LN_2).abs() < 1e-6);
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        let error = Sampling { top_p: 0.0, ..plain() }.validate("options").unwrap_err().to_string();
        assert!(error.contains("top_p"), "{error}");
        assert!(Sampling { temperature: f32::NAN, ..plain() }.validate("options").is_err());
    }
}
