//! How the learning rate goes: a linear warm-up, then one of three ways down.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// Half a cosine (Loshchilov and Hutter 2017, without restarts).
    #[default]
    Cosine,
    /// A straight line.
    Linear,
    /// It does not.
    Constant,
}

/// A learning rate over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// How it falls.
    pub schedule: Schedule,
    /// Steps over which it rises from 0.
    pub warmup: u64,
    /// Steps in all.
    pub steps: u64,
    /// The highest rate.
    pub high: f64,
    /// The rate at the end.
    pub low: f64,
}

impl Rates {
    /// The rate of optimiser step `step`, the first being 1 (0: before the first). Beyond `steps` it stays.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.high * step as f64 / self.warmup as f64;
        }
        let left = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / left).min(1.0);
        let share = match self.schedule {
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Schedule::Linear => 1.0 - done,
            Schedule::Constant => 1.0,
        };
        self.low + (self.high - self.low) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { schedule: Schedule::Cosine, warmup: 4, steps: 20, high: 0.01, low: 0.0 };

    #[test]
    fn the_rate_rises_and_falls() {
        assert_eq!(RATES.at(0), 0.0);
        assert!((RATES.at(2) - 0.005).abs() < 1e-12);
        assert!((RATES.at(4) - 0.01).abs() < 1e-12);
        assert!((RATES.at(12) - 0.005).abs() < 1e-12);
        assert!(RATES.at(20) < 1e-12 && RATES.at(30) < 1e-12);
        let linear = Rates { schedule: Schedule::Linear, low: 0.002, ..RATES };
        assert!((linear.at(12) - 0.006).abs() < 1e-12);
        assert_eq!(Rates { schedule: Schedule::Constant, ..RATES }.at(19), 0.01);
    }

    #[test]
    fn without_warm_up_the_first_rate_is_the_highest_and_a_warm_up_may_outlast_the_run() {
        assert_eq!(Rates { warmup: 0, ..RATES }.at(0), 0.01);
        assert!((Rates { warmup: 100, ..RATES }.at(20) - 0.002).abs() < 1e-12);
    }
}
