//! What DP-SGD costs in privacy: Rényi differential privacy of the Poisson-sampled Gaussian mechanism (Mironov, Talwar
//! and Zhang 2019), turned into (epsilon, delta) by theorem 21 of Balle et al. 2020. Orders and figures are those of
//! Opacus's `RDPAccountant`.
//!
//! The guarantee is for a [`PrivacyUnit`]: each step takes each unit with the same probability, on its own, clips the
//! sum of the unit's gradients to `clip_norm`, and adds normal noise of deviation `noise_multiplier * clip_norm`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::{LN_2, PI, SQRT_2};

/// Whose presence in the data cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrivacyUnit {
    /// All that one player did.
    #[default]
    Player,
}

/// How private a training is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacyConfig {
    /// The noise's standard deviation as a multiple of `clip_norm`.
    pub noise_multiplier: f64,
    /// The highest norm of a unit's gradient.
    pub clip_norm: f64,
    /// How likely the guarantee may fail.
    pub delta: f64,
    /// How many players a step draws on average.
    pub players_per_step: f64,
    /// The run ends before it costs more than this epsilon. None: it ends with its steps, and says what it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_epsilon: Option<f64>,
    /// Whose presence is hidden.
    #[serde(default)]
    pub unit: PrivacyUnit,
}

impl PrivacyConfig {
    /// Each value: its name, whether it is in range, and the range.
    pub fn rules(&self) -> Vec<(&'static str, bool, &'static str)> {
        let positive = |value: f64, most: f64| value > 0.0 && value <= most;
        vec![
            ("privacy.noise_multiplier", positive(self.noise_multiplier, 1e6), "above 0, at most 1000000"),
            ("privacy.clip_norm", positive(self.clip_norm, 1e6), "above 0, at most 1000000"),
            ("privacy.delta", self.delta > 0.0 && self.delta < 1.0, "above 0, below 1"),
            ("privacy.players_per_step", positive(self.players_per_step, 1e9), "above 0"),
            (
                "privacy.max_epsilon",
                self.max_epsilon.is_none_or(|most| positive(most, 1e6)),
                "above 0, or none",
            ),
        ]
    }

    /// Refuses a `delta` that would let a whole unit be published: it must be below one in `units`, the number of
    /// players in the training part. `file` is for messages.
    pub fn check(&self, units: usize, file: &str) -> Result<()> {
        if self.players_per_step > units as f64 {
            let reason = format!("there are only {units} players to learn from");
            return Err(Error::config(
                file,
                "privacy.players_per_step",
                reason,
                "draw fewer, or record more players",
            ));
        }
        if self.delta * (units as f64) < 1.0 {
            return Ok(());
        }
        let reason = format!("with {units} players the value protects nobody");
        Err(Error::config(file, "privacy.delta", reason, format!("choose less than 1/{units}")))
    }
}

/// Steps of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Spent {
    noise_multiplier: f64,
    sample_rate: f64,
    steps: u64,
}

/// Adds up what the steps of a training cost. Its state is saved with the run's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accountant {
    spent: Vec<Spent>,
}

impl Accountant {
    /// Counts a step in which each unit was taken with probability `sample_rate`.
    pub fn step(&mut self, noise_multiplier: f64, sample_rate: f64) {
        self.steps(noise_multiplier, sample_rate, 1);
    }

    /// Counts `steps` such steps.
    pub fn steps(&mut self, noise_multiplier: f64, sample_rate: f64, steps: u64) {
        match self.spent.last_mut() {
            Some(last) if (last.noise_multiplier, last.sample_rate) == (noise_multiplier, sample_rate) => {
                last.steps = last.steps.saturating_add(steps);
            }
            _ => self.spent.push(Spent { noise_multiplier, sample_rate, steps }),
        }
    }

    /// The epsilon for which all steps so far are (epsilon, `delta`)-private: 0 before the first, infinite where
    /// nothing can be promised (no noise, or values that make no sense).
    pub fn epsilon(&self, delta: f64) -> f64 {
        if self.spent.iter().all(|spent| spent.steps == 0) {
            return 0.0;
        }
        let least = orders()
            .map(|order| {
                let of = |s: &Spent| rdp(s.sample_rate, s.noise_multiplier, order) * s.steps as f64;
                let rdp: f64 = self.spent.iter().filter(|spent| spent.steps > 0).map(of).sum();
                // Balle et al. 2020, theorem 21.
                rdp - (delta.ln() + order.ln()) / (order - 1.0) + ((order - 1.0) / order).ln()
            })
            .fold(f64::INFINITY, f64::min);
        if delta > 0.0 && delta < 1.0 { least.max(0.0) } else { f64::INFINITY }
    }
}

/// The least noise multiplier, to four digits, with which `steps` steps at `sample_rate` are (`epsilon`,
/// `delta`)-private.
///
/// # Errors
/// [`Error::Unsatisfiable`] if no noise up to 1,000,000 is enough, or if the values make no sense.
pub fn noise_for(epsilon: f64, delta: f64, sample_rate: f64, steps: u64) -> Result<f64> {
    let enough = |noise: f64| {
        let mut accountant = Accountant::default();
        accountant.steps(noise, sample_rate, steps);
        accountant.epsilon(delta) <= epsilon
    };
    let (mut low, mut high) = (0.0, 1.0);
    while !enough(high) {
        (low, high) = (high, high * 2.0);
        if high > 1e6 {
            return Err(Error::Unsatisfiable {
                rule: format!("epsilon {epsilon} at delta {delta}, {steps} steps, sample rate {sample_rate}"),
                remedy: "allow a larger epsilon or delta, or take fewer steps".into(),
            });
        }
    }
    while high - low > 1e-4 * high {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
        if high < 1e-3 {
            break;
        }
    }
    Ok(high)
}

/// The orders Opacus looks at: 1.1 to 10.9 in tenths, and 12 to 63.
fn orders() -> impl Iterator<Item = f64> {
    let tenths = (1..100).map(|tenth| 1.0 + f64::from(tenth) / 10.0);
    tenths.chain((12..64).map(f64::from))
}

/// The Rényi divergence of order `order` (above 1) that one step costs.
fn rdp(rate: f64, noise: f64, order: f64) -> f64 {
    if !(0.0..=1.0).contains(&rate) || noise.is_nan() || noise <= 0.0 {
        return f64::INFINITY;
    }
    if rate == 0.0 {
        return 0.0;
    }
    if rate == 1.0 {
        return order / (2.0 * noise * noise);
    }
    let log_a = if order.fract() == 0.0 {
        log_a_whole(rate, noise, order)
    } else {
        log_a_fraction(rate, noise, order)
    };
    // What could not be computed promises nothing; other orders may. A divergence is not negative, but rounding may
    // make it so where it is next to nothing.
    if log_a.is_nan() { f64::INFINITY } else { (log_a / (order - 1.0)).max(0.0) }
}

/// `ln A` for a whole order (section 3.3, the binomial sum).
fn log_a_whole(rate: f64, noise: f64, order: f64) -> f64 {
    let mut coefficient = 0.0;
    let mut sum = f64::NEG_INFINITY;
    let mut i = 0.0;
    while i <= order {
        let chosen = coefficient + i * rate.ln() + (order - i) * (-rate).ln_1p();
        sum = log_add(sum, chosen + (i * i - i) / (2.0 * noise * noise));
        coefficient += ((order - i) / (i + 1.0)).ln();
        i += 1.0;
    }
    sum
}

/// `ln A` for any order above 1: the binomial series of either side of `z0`, where the two densities meet.
fn log_a_fraction(rate: f64, noise: f64, order: f64) -> f64 {
    let z0 = noise * noise * (1.0 / rate - 1.0).ln() + 0.5;
    let (ln_rate, ln_rest) = (rate.ln(), (-rate).ln_1p());
    let half_erfc = |x: f64| log_erfc(x / (SQRT_2 * noise)) - LN_2;
    let square = |n: f64| (n * n - n) / (2.0 * noise * noise);
    // Terms change their sign once the order is passed.
    let mut sums = [f64::NEG_INFINITY; 2];
    let (mut coefficient, mut positive) = (0.0f64, true);
    // Orders near 1 take some 10,000 terms; the bound is for values far outside what is trained with.
    for i in (0..30_000).map(f64::from) {
        let j = order - i;
        let left = coefficient + i * ln_rate + j * ln_rest + square(i) + half_erfc(i - z0);
        let right = coefficient + j * ln_rate + i * ln_rest + square(j) + half_erfc(z0 - j);
        let sum = &mut sums[usize::from(!positive)];
        *sum = log_add(*sum, log_add(left, right));
        if left.max(right) < -30.0 {
            return sums[0] + (-(sums[1] - sums[0]).exp()).ln_1p();
        }
        let factor = (order - i) / (i + 1.0);
        coefficient += factor.abs().ln();
        positive ^= factor < 0.0;
    }
    f64::NAN
}

/// `ln(e^a + e^b)`.
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = (a.min(b), a.max(b));
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// `ln erfc(x)`, also where `erfc` is too small for a number.
fn log_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return libm::erfc(x).ln();
    }
    // Abramowitz and Stegun 7.1.23; the next term is below 1e-12.
    let s = 1.0 / (2.0 * x * x);
    -x * x - (x * PI.sqrt()).ln() + (s * (-1.0 + 3.0 * s - 15.0 * s * s)).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epsilon(noise: f64, rate: f64, steps: u64, delta: f64) -> f64 {
        let mut accountant = Accountant::default();
        accountant.steps(noise, rate, steps);
        accountant.epsilon(delta)
    }

    /// Opacus's epsilons, by `benches/peers/privacy.py`.
    #[test]
    fn epsilons_equal_those_of_opacus() {
        let (mut seen, mut worst) = (0, 0.0f64);
        for line in include_str!("../../tests/data/privacy.jsonl").lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let number = |value: &serde_json::Value| value.as_f64().unwrap();
            let mut accountant = Accountant::default();
            for part in case["history"].as_array().unwrap() {
                accountant.steps(number(&part[0]), number(&part[1]), part[2].as_u64().unwrap());
            }
            let (ours, theirs) = (accountant.epsilon(number(&case["delta"])), number(&case["epsilon"]));
            let off = (ours - theirs.max(0.0)).abs() / theirs.max(1e-6);
            assert!(off < 1e-6, "{ours}, not {theirs}: {line}");
            worst = worst.max(off);
            seen += 1;
        }
        assert!(seen >= 300, "{seen}");
        println!("{seen} cases, the largest difference {worst:e}");
    }

    #[test]
    fn what_protects_nobody_costs_infinity() {
        for (noise, rate) in [(0.0, 0.1), (-1.0, 0.1), (f64::NAN, 0.1), (1.0, 1.5), (1.0, f64::NAN)] {
            assert_eq!(epsilon(noise, rate, 1, 1e-5), f64::INFINITY, "{noise} {rate}");
        }
        for delta in [0.0, 1.0, -1.0, f64::NAN] {
            assert_eq!(epsilon(1.0, 0.1, 1, delta), f64::INFINITY, "{delta}");
        }
        assert_eq!(Accountant::default().epsilon(1e-5), 0.0);
        assert!(epsilon(1.0, 0.0, 100, 1e-5) < epsilon(1.0, 0.1, 100, 1e-5));
    }

    #[test]
    fn every_order_costs_something_and_higher_ones_no_less() {
        for (rate, noise) in [(0.03, 0.5), (0.22, 1.44), (0.001, 4.0)] {
            let costs: Vec<f64> = orders().map(|order| rdp(rate, noise, order)).collect();
            assert!(costs[0] > 0.0 && costs.is_sorted(), "{costs:?}");
        }
    }

    #[test]
    fn senseless_configs_are_refused_by_field() {
        let good = PrivacyConfig {
            noise_multiplier: 1.0,
            clip_norm: 1.0,
            delta: 1e-5,
            players_per_step: 8.0,
            max_epsilon: None,
            unit: PrivacyUnit::Player,
        };
        let broken = |config: PrivacyConfig| -> Vec<&'static str> {
            config.rules().into_iter().filter(|(_, holds, _)| !holds).map(|(field, ..)| field).collect()
        };
        assert!(broken(good).is_empty());
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let noise = PrivacyConfig { noise_multiplier: value, ..good };
            assert_eq!(broken(noise), ["privacy.noise_multiplier"]);
            assert_eq!(broken(PrivacyConfig { clip_norm: value, ..good }), ["privacy.clip_norm"]);
            assert_eq!(broken(PrivacyConfig { delta: value, ..good }), ["privacy.delta"]);
            let players = PrivacyConfig { players_per_step: value, ..good };
            assert_eq!(broken(players), ["privacy.players_per_step"]);
            let budget = PrivacyConfig { max_epsilon: Some(value), ..good };
            assert_eq!(broken(budget), ["privacy.max_epsilon"]);
        }
        assert!(good.check(99_999, "a.ron").is_ok());
        assert!(good.check(7, "a.ron").unwrap_err().to_string().contains("privacy.players_per_step"));
        let error = good.check(100_000, "a.ron").unwrap_err().to_string();
        assert!(error.contains("a.ron") && error.contains("privacy.delta"), "{error}");
        let error = ron::from_str::<PrivacyConfig>("(noise: 1.0)").unwrap_err().to_string();
        assert!(error.contains("noise"), "{error}");
    }

    #[test]
    fn an_accountant_comes_back_and_adds_up() {
        let mut accountant = Accountant::default();
        (0..10).for_each(|_| accountant.step(1.1, 0.01));
        accountant.steps(0.8, 0.02, 5);
        let again: Accountant = ron::from_str(&ron::to_string(&accountant).unwrap()).unwrap();
        assert_eq!(again, accountant);
        assert!(accountant.epsilon(1e-5) > epsilon(1.1, 0.01, 10, 1e-5));
        assert_eq!(accountant.spent.len(), 2);
    }

    #[test]
    fn noise_that_is_asked_for_is_enough_and_not_much_more() {
        for (target, delta, rate, steps) in
            [(1.0, 1e-5, 0.01, 1000), (8.0, 1e-6, 0.2, 500), (3.0, 1e-5, 1.0, 10)]
        {
            let noise = noise_for(target, delta, rate, steps).unwrap();
            assert!(epsilon(noise, rate, steps, delta) <= target);
            assert!(epsilon(noise * 0.999, rate, steps, delta) > target, "{noise}");
        }
        let refused = noise_for(0.01, 1e-9, 0.5, 1000).unwrap_err().to_string();
        assert!(refused.contains("epsilon 0.01"), "{refused}");
        assert!(noise_for(f64::NAN, 1e-5, 0.1, 10).is_err() && noise_for(1.0, 1e-5, 2.0, 10).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn more_noise_costs_less_and_more_steps_cost_more(
            noise in 0.4f64..5.0, rate in 0.0005f64..0.3, steps in 1u64..5000,
        ) {
            let here = epsilon(noise, rate, steps, 1e-5);
            prop_assert!(here.is_finite());
            prop_assert!(epsilon(noise * 1.2, rate, steps, 1e-5) <= here + 1e-9);
            prop_assert!(epsilon(noise, rate, steps * 2, 1e-5) >= here - 1e-9);
            prop_assert!(epsilon(noise, rate, steps, 1e-6) >= here - 1e-9);
        }

        #[test]
        fn no_values_hang_or_panic(noise in any::<f64>(), rate in any::<f64>(), steps in any::<u64>(), delta in any::<f64>()) {
            prop_assert!(epsilon(noise, rate, steps, delta) >= 0.0);
        }
    }
}
