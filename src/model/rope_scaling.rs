//! [`RopeScaling`]: how rotary positions are stretched beyond the context that a model was first trained with.

use super::config::TransformerConfig;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// How rotary frequencies are changed. The names are those of `rope_scaling` in Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// Positions are divided by `factor` (Chen et al. 2023).
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Long wavelengths are stretched by `factor`, short ones not, those between by degrees (Llama 3.1).
    Llama3 {
        /// The stretch of long wavelengths.
        factor: f32,
        /// Wavelengths over `original_max_position_embeddings / low_freq_factor` are stretched.
        low_freq_factor: f32,
        /// Wavelengths under `original_max_position_embeddings / high_freq_factor` are not.
        high_freq_factor: f32,
        /// The first context, in tokens.
        original_max_position_embeddings: usize,
    },
    /// `YaRN` (Peng et al. 2023): frequencies of few turns are stretched, and attention is sharpened.
    Yarn {
        /// The stretch.
        factor: f32,
        /// The first context, in tokens.
        original_max_position_embeddings: usize,
        /// Frequencies of more turns than this in the first context stay.
        beta_fast: f32,
        /// Frequencies of fewer turns than this are stretched in full.
        beta_slow: f32,
        /// What cosines and sines are multiplied by.
        attention_factor: f32,
        /// Whether the bounds between are rounded outwards to whole dimensions.
        truncate: bool,
    },
    /// Each frequency has its own divisor, `[head_dim / 2]`.
    Factors(Vec<f32>),
}

impl RopeScaling {
    /// `YaRN`'s own choice of `attention_factor`.
    pub fn yarn_attention(factor: f32) -> f32 {
        if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
    }

    /// What each of these frequencies (radians a token) is divided by.
    pub(super) fn divisors(&self, frequencies: &[f64], theta: f32) -> Vec<f64> {
        match self {
            Self::Linear { factor } => vec![f64::from(*factor); frequencies.len()],
            Self::Factors(factors) => factors.iter().map(|factor| f64::from(*factor)).collect(),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
                let divisor = |frequency: &f64| {
                    let turns = *original_max_position_embeddings as f64 * frequency / TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    1.0 / ((1.0 - kept) / f64::from(*factor) + kept)
                };
                frequencies.iter().map(divisor).collect()
            }
            Self::Yarn {
                factor, original_max_position_embeddings, beta_fast, beta_slow, truncate, ..
            } => {
                let dim = 2.0 * frequencies.len() as f64;
                // The dimension whose frequency makes so many turns in the first context.
                let place = |turns: f32| {
                    let length = *original_max_position_embeddings as f64 / (f64::from(turns) * TAU);
                    dim * length.ln() / (2.0 * f64::from(theta).ln())
                };
                let (low, high) = (place(*beta_fast), place(*beta_slow));
                let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(dim - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                let divisor = |i: usize| {
                    let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    1.0 / (stretched / f64::from(*factor) + 1.0 - stretched)
                };
                (0..frequencies.len()).map(divisor).collect()
            }
        }
    }

    /// Refuses what makes no frequencies.
    pub(super) fn validate(&self, config: &TransformerConfig, file: &str) -> Result<()> {
        let wrong = |field: &str, reason: String| {
            let remedy = "check that this is the config of a supported model";
            Err(Error::config(file, format!("rope_scaling.{field}"), reason, remedy))
        };
        let factor = match self {
            Self::Linear { factor } | Self::Llama3 { factor, .. } | Self::Yarn { factor, .. } => *factor,
            Self::Factors(_) => 1.0,
        };
        if !(1.0..=4096.0).contains(&factor) {
            return wrong("factor", format!("{factor} is not in 1 to 4096"));
        }
        match self {
            Self::Linear { .. } => {}
            Self::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } => {
                if !(*low > 0.0 && high > low && high.is_finite()) {
                    return wrong("high_freq_factor", format!("{high} is not above {low}"));
                }
            }
            Self::Yarn { beta_fast, beta_slow, attention_factor, .. } => {
                if !(*beta_slow > 0.0 && beta_fast > beta_slow && beta_fast.is_finite()) {
                    return wrong("beta_fast", format!("{beta_fast} is not above {beta_slow}"));
                }
                if !(*attention_factor > 0.0 && *attention_factor < 100.0) {
                    return wrong("attention_factor", format!("{attention_factor} is not in 0 to 100"));
                }
                if config.rope_theta <= 1.0 {
                    return wrong("rope_theta", "it is 1, which makes no frequencies".into());
                }
            }
            Self::Factors(factors) => {
                if factors.len() != config.head_dim / 2 {
                    let reason = format!("{} factors for {} frequencies", factors.len(), config.head_dim / 2);
                    return wrong("long_factor", reason);
                }
                if let Some(factor) = factors.iter().find(|factor| !(1e-3..=1e6).contains(*factor)) {
                    return wrong("long_factor", format!("{factor} is out of range"));
                }
            }
        }
        match self {
            Self::Llama3 { original_max_position_embeddings: length, .. }
            | Self::Yarn { original_max_position_embeddings: length, .. }
                if *length == 0 || *length > 1 << 21 =>
            {
                wrong("original_max_position_embeddings", format!("{length} is not in 1 to 2097152"))
            }
            _ => Ok(()),
        }
    }
}

impl TransformerConfig {
    /// The rotary frequencies, `[head_dim / 2]` in radians a token, and what cosines and sines are multiplied by.
    pub fn rotary_frequencies(&self) -> (Vec<f64>, f32) {
        let power = |i: usize| f64::from(self.rope_theta).powf(-2.0 * i as f64 / self.head_dim as f64);
        let mut frequencies: Vec<f64> = (0..self.head_dim / 2).map(power).collect();
        let Some(scaling) = &self.rope_scaling else { return (frequencies, 1.0) };
        let divisors = scaling.divisors(&frequencies, self.rope_theta);
        frequencies.iter_mut().zip(divisors).for_each(|(frequency, divisor)| *frequency /= divisor);
        match scaling {
            RopeScaling::Yarn { attention_factor, .. } => (frequencies, *attention_factor),
            _ => (frequencies, 1.0),
        }
    }
}
