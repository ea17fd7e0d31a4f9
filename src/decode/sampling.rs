//! [`Sampling`]: from logits to the next token.
//!
//! The order is the usual one (as in `transformers` and llama.cpp): bias, penalties, DRY, temperature, top-k, typical, top-p
//! (Holtzman et al. 2020), min-p (Nguyen et al. 2024). Constraints have run before, so truncation only
//! ever chooses among what is allowed.

use crate::error::{Error, Result};
use crate::seed::Stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Taken from the logit of a token for each time it is in the answer; 0 leaves them.
    pub frequency_penalty: f32,
    /// Taken from the logits of tokens already in the answer, once; 0 leaves them.
    pub presence_penalty: f32,
    /// Takes `multiplier * base^(n - allowed)` from the logit of a token that would make the answer repeat a run of its
    /// own tokens that is `n` long (DRY, p-e-w 2024).
    pub dry: Option<Dry>,
    /// Added to the logits of these tokens (-100 forbids, as good as).
    pub logit_bias: BTreeMap<u32, f32>,
    /// Keeps the tokens whose information is nearest to what is expected, up to this probability (locally typical, Meister
    /// et al. 2023); 1 keeps all.
    pub typical_p: f32,
    /// The longest answer, in tokens. 0 gives an empty answer.
    pub max_tokens: usize,
    /// The answer ends before any of these texts.
    pub stop: Vec<String>,
}

/// How repeated runs are made rarer; see [`Sampling::dry`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dry {
    /// What a run one longer than allowed costs.
    pub multiplier: f32,
    /// How many times more each further token costs.
    pub base: f32,
    /// Runs up to this length cost nothing.
    pub allowed: usize,
}

impl Default for Dry {
    fn default() -> Self {
        Self { multiplier: 0.8, base: 1.75, allowed: 2 }
    }
}

impl Dry {
    /// The longest run that is looked for.
    const LONGEST: usize = 64;

    /// What each token costs that would go on with a run that the answer already has.
    fn costs(&self, answer: &[u32]) -> BTreeMap<u32, f32> {
        let mut costs = BTreeMap::new();
        for at in 1..answer.len() {
            let same = answer[..at].iter().rev().zip(answer.iter().rev()).take(Self::LONGEST);
            let run = same.take_while(|(a, b)| a == b).count();
            if run > self.allowed {
                let cost = self.multiplier * self.base.powi((run - self.allowed) as i32 - 1);
                let most: &mut f32 = costs.entry(answer[at]).or_insert(0.0);
                *most = most.max(cost);
            }
        }
        costs
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.2,
            top_k: 0,
            top_p: 0.9,
            min_p: 0.1,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry: None,
            logit_bias: BTreeMap::new(),
            typical_p: 1.0,
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
            ("frequency_penalty", (-10.0..=10.0).contains(&self.frequency_penalty), "-10 to 10"),
            ("presence_penalty", (-10.0..=10.0).contains(&self.presence_penalty), "-10 to 10"),
            (
                "dry",
                self.dry.is_none_or(|dry| {
                    (0.0..=100.0).contains(&dry.multiplier) && (1.0..=10.0).contains(&dry.base)
                }),
                "a multiplier of 0 to 100 and a base of 1 to 10",
            ),
            (
                "logit_bias",
                self.logit_bias.values().all(|bias| (-1000.0..=1000.0).contains(bias)),
                "-1000 to 1000 each",
            ),
            ("typical_p", self.typical_p > 0.0 && self.typical_p <= 1.0, "above 0, at most 1"),
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
        let before: Option<Vec<f32>> = self.changes().then(|| logits.to_vec());
        self.penalise(logits, answer);
        let token = if self.temperature == 0.0 { argmax(logits)? } else { self.draw(logits, noise)? };
        let logit = before.as_ref().map_or_else(|| logits[token as usize], |before| before[token as usize]);
        Some((token, logit - log_sum))
    }

    /// Whether the logits are changed before anything is drawn.
    fn changes(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || self.dry.is_some()
            || !self.logit_bias.is_empty()
    }

    fn penalise(&self, logits: &mut [f32], answer: &[u32]) {
        for (token, bias) in &self.logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        if self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0 {
            let mut seen: BTreeMap<u32, f32> = BTreeMap::new();
            answer.iter().for_each(|token| *seen.entry(*token).or_insert(0.0) += 1.0);
            for (token, count) in seen {
                if let Some(logit) = logits.get_mut(token as usize) {
                    let penalty = self.repetition_penalty;
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                    *logit -= self.frequency_penalty * count + self.presence_penalty;
                }
            }
        }
        for (token, cost) in self.dry.map_or_else(BTreeMap::new, |dry| dry.costs(answer)) {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit -= cost;
            }
        }
    }

    /// Keeps the most typical of what is sorted by likelihood, in that order.
    fn typical(&self, kept: &mut Vec<(u32, f32)>) {
        let max = kept.first().map_or(0.0, |(_, logit)| *logit);
        let weights: Vec<f64> = kept.iter().map(|(_, logit)| f64::from(logit - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        let information: Vec<f64> = weights.iter().map(|weight| -(weight / total).ln()).collect();
        let expected: f64 = weights
            .iter()
            .zip(&information)
            .filter(|(weight, _)| **weight > 0.0)
            .map(|(weight, nats)| weight / total * nats)
            .sum();
        let mut order: Vec<usize> = (0..kept.len()).collect();
        let distance = |at: usize| (information[at] - expected).abs();
        order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)).then(a.cmp(b)));
        let mut sum = 0.0;
        let enough = order.iter().position(|at| {
            sum += weights[*at];
            sum >= total * f64::from(self.typical_p)
        });
        order.truncate(enough.map_or(order.len(), |last| last + 1));
        order.sort_unstable();
        *kept = order.into_iter().map(|at| kept[at]).collect();
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
        if self.typical_p < 1.0 {
            self.typical(&mut kept);
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
    fn bias_frequency_presence_and_dry_change_what_is_likely() {
        let greedy = Sampling { temperature: 0.0, ..plain() };
        let first = |sampling: &Sampling, answer: &[u32]| {
            sampling.sample(&mut [2.0, 1.9, 1.0], answer, &mut Seed::new(0).stream()).unwrap().0
        };
        assert_eq!(first(&Sampling { logit_bias: [(2, 5.0)].into(), ..greedy.clone() }, &[]), 2);
        let frequent = Sampling { frequency_penalty: 0.06, ..greedy.clone() };
        assert_eq!([first(&frequent, &[0]), first(&frequent, &[0, 0])], [0, 1]);
        assert_eq!(first(&Sampling { presence_penalty: 0.2, ..greedy.clone() }, &[0, 0]), 1);
        // After `5 6 7 0 .. 5 6 7` a 0 would make a run of four.
        let dry = Sampling { dry: Some(Dry::default()), ..greedy };
        assert_eq!(first(&dry, &[5, 6, 7, 0, 9, 5, 6, 7]), 1);
        assert_eq!(first(&dry, &[8, 6, 7, 0, 9, 5, 6, 7]), 0);
        let costs = Dry::default().costs(&[5, 6, 7, 0, 9, 5, 6, 7]);
        assert_eq!(costs, [(0, 0.8)].into());
    }

    #[test]
    fn typical_sampling_leaves_out_the_too_likely_and_the_too_rare() {
        // Probabilities 0.6, 0.2, 0.1, 0.1: the information expected is 1.09 nats, which 0.2 (1.6) and 0.6 (0.51) are nearest to.
        let logits: Vec<f32> = [0.6f32, 0.2, 0.1, 0.1].iter().map(|p| p.ln()).collect();
        let counts = counts(&Sampling { typical_p: 0.15, ..plain() }, &logits);
        assert_eq!(counts, [0, 4000, 0, 0]);
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
