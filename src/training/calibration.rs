//! Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017): one number, fitted on the
//! validation set, by which all logits are divided. It changes how sure a model is, not what it prefers.

use crate::error::Result;
use crate::model::Weights;

/// How many temperatures are tried.
const TRIED: usize = 28;

/// The `i`th temperature, in steps of 7 % from 0.6 to 3.7; 1 is among them nearly enough not to matter.
fn temperature(i: usize) -> f64 {
    0.6 * 1.07f64.powi(i as i32)
}

/// What a validation set costs at each temperature.
#[derive(Clone, Debug)]
pub(super) struct Calibration {
    nats: [f64; TRIED],
    weight: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { nats: [0.0; TRIED], weight: 0.0 }
    }
}

impl Calibration {
    /// Takes in a batch: `logits [tokens, vocab]`, the targets and how much each counts.
    pub(super) fn add(&mut self, logits: &[f32], vocab: usize, targets: &[u32], weights: &[f32]) {
        for ((row, target), weight) in logits.chunks_exact(vocab).zip(targets).zip(weights) {
            if *weight <= 0.0 {
                continue;
            }
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let chosen = f64::from(row[*target as usize] - max);
            for (i, nats) in self.nats.iter_mut().enumerate() {
                let inverse = 1.0 / temperature(i);
                let sum: f32 = row.iter().map(|logit| ((logit - max) * inverse as f32).exp()).sum();
                *nats += f64::from(*weight) * (f64::from(sum).ln() - chosen * inverse);
            }
            self.weight += f64::from(*weight);
        }
    }

    /// The temperature that costs least, and the mean loss there, in nats.
    pub(super) fn best(&self) -> Option<(f64, f64)> {
        let best = (0..TRIED).min_by(|a, b| self.nats[*a].total_cmp(&self.nats[*b]))?;
        (self.weight > 0.0).then(|| (temperature(best), self.nats[best] / self.weight))
    }
}

/// The weights of a network whose logits are divided by `temperature`: those of its last norm are, as logits
/// are linear in them, or those of its head where there is no norm.
pub(super) fn cooled(weights: &Weights, temperature: f64) -> Result<Weights> {
    let last = if weights.get("model.norm.weight").is_some() { "model.norm." } else { "lm_head." };
    let divide = |(name, shape, values): (&str, &[usize], &[f32])| {
        let by = if name.starts_with(last) { temperature as f32 } else { 1.0 };
        (name.to_owned(), (shape.to_vec(), values.iter().map(|value| value / by).collect()))
    };
    Weights::new(weights.iter().map(divide).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decoder, ModelConfig, Network, Row, Scratch};
    use crate::seed::Seed;

    #[test]
    fn the_temperature_of_overconfident_logits_is_found() {
        // Targets drawn from softmax(x), logits 2x: dividing by 2 costs least.
        let (rows, vocab) = (4000, 5);
        let mut noise = Seed::new(3).stream();
        let (mut logits, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let x: Vec<f32> = (0..vocab).map(|_| noise.normal()).collect();
            let total: f32 = x.iter().map(|x| x.exp()).sum();
            let mut at = noise.uniform() * total;
            let drawn = x.iter().position(|x| {
                at -= x.exp();
                at <= 0.0
            });
            targets.push(drawn.unwrap_or(vocab - 1) as u32);
            logits.extend(x.iter().map(|x| 2.0 * x));
        }
        let mut calibration = Calibration::default();
        assert!(calibration.best().is_none());
        calibration.add(&logits, vocab, &targets, &vec![1.0; rows]);
        let (temperature, loss) = calibration.best().unwrap();
        assert!((1.8..2.25).contains(&temperature), "{temperature}");
        let at = |t: f64| {
            let nll = |(row, target): (&[f32], &u32)| {
                let sum: f64 = row.iter().map(|x| (f64::from(*x) / t).exp()).sum();
                sum.ln() - f64::from(row[*target as usize]) / t
            };
            logits.chunks_exact(vocab).zip(&targets).map(nll).sum::<f64>() / rows as f64
        };
        assert!((at(temperature) - loss).abs() < 1e-4);
        assert!(loss < at(1.0) - 0.05);
    }

    #[test]
    fn cooled_weights_divide_the_logits() {
        for config in crate::model::model_config_tests::every() {
            let network = Network::new(&config, Seed::new(1)).unwrap();
            // A tied head without a norm before it cannot be cooled without changing what goes in.
            if matches!(&config, ModelConfig::Recurrent(config) if config.tie_word_embeddings) {
                continue;
            }
            let logits = |weights: Weights| {
                let decoder = Decoder::new(&config, &weights).unwrap();
                let (mut cache, mut logits) = (decoder.cache(), Vec::new());
                let row = Row {
                    cache: &mut cache,
                    tokens: &[1, 2, 3],
                    logits: &mut logits,
                    all: true,
                    adapter: None,
                };
                decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
                logits
            };
            let weights = network.weights().unwrap();
            let (whole, half) = (logits(weights.clone()), logits(cooled(&weights, 2.0).unwrap()));
            assert!(whole.iter().zip(&half).all(|(a, b)| (a / 2.0 - b).abs() < 1e-5));
            assert!(whole.iter().any(|a| a.abs() > 1e-3));
        }
    }
}
