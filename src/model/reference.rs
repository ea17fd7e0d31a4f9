//! `PyTorch`'s loss and gradients for small models (`tests/data/gradients`, by `benches/peers/gradients.py`), for tests.

use super::weights::{Weights, decoded};
use safetensors::SafeTensors;
use std::path::Path;

/// A model, a packed batch, and what `PyTorch` makes of them. Everything of the batch is `[rows, length]`.
pub(crate) struct Reference {
    /// The model's config.json.
    pub config: Vec<u8>,
    /// By our names.
    pub weights: Weights,
    /// Of every weight.
    pub gradients: Weights,
    /// Tokens of a row.
    pub length: usize,
    pub ids: Vec<u32>,
    pub targets: Vec<u32>,
    /// Where in its row each token's sample begins.
    pub starts: Vec<u32>,
    /// How much each target counts.
    pub loss_weights: Vec<f32>,
    /// `[rows, length, vocab]`.
    pub logits: Vec<f32>,
    /// The weighted mean cross-entropy.
    pub loss: f32,
}

/// All references, by name.
pub(crate) const NAMES: [&str; 10] = [
    "llama",
    "llama_untied_biases",
    "qwen2",
    "qwen3",
    "gpt2",
    "gpt2_without_biases",
    "rnn",
    "gru",
    "lstm",
    "lstm_untied",
];

impl Reference {
    pub(crate) fn read(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/gradients/{name}.safetensors"));
        let bytes = std::fs::read(path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = metadata.metadata().as_ref().unwrap()["config"].clone().into_bytes();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let f32s = |name: &str| decoded(name, &file.tensor(name).unwrap(), name).unwrap();
        let u32s = |name: &str| -> Vec<u32> {
            file.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
        };
        let own = |name: &str| name.starts_with("batch.") || ["loss", "logits"].contains(&name);
        let named = |prefix: &str| {
            let names = file.names().into_iter().filter(|name| !own(name));
            let names = names.filter(|name| name.starts_with("gradient.") != prefix.is_empty());
            let tensor = |name: &str| {
                let shape = file.tensor(name).unwrap().shape().to_vec();
                (name.strip_prefix(prefix).unwrap().to_owned(), (shape, f32s(name)))
            };
            Weights::new(names.map(tensor).collect()).unwrap()
        };
        Self {
            config,
            weights: named(""),
            gradients: named("gradient."),
            length: file.tensor("batch.ids").unwrap().shape()[1],
            ids: u32s("batch.ids"),
            targets: u32s("batch.targets"),
            starts: u32s("batch.starts"),
            loss_weights: f32s("batch.weights"),
            logits: f32s("logits"),
            loss: f32s("loss")[0],
        }
    }

    /// The largest difference from the reference's gradient of one weight, relative to the largest value of that gradient
    /// and at least 1e-3 of it.
    pub(crate) fn distance(&self, name: &str, gradient: &[f32]) -> f32 {
        let (_, expected) = self.gradients.get(name).unwrap();
        assert_eq!(gradient.len(), expected.len(), "{name}");
        let most = expected.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
        gradient.iter().zip(expected).fold(0f32, |far, (a, b)| far.max((a - b).abs())) / most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dropout, ModelConfig, Network, Packed};
    use crate::nn::tape::{Pool, Tape};

    impl Reference {
        fn batch(&self) -> Packed {
            let at = |n: usize| (n % self.length) as u32;
            Packed {
                ids: self.ids.clone(),
                positions: self.starts.iter().enumerate().map(|(n, start)| at(n) - start).collect(),
                starts: self.starts.clone(),
                length: self.length,
            }
        }
    }

    #[test]
    fn every_architecture_has_pytorchs_logits_loss_and_gradients() {
        for name in NAMES {
            let reference = Reference::read(name);
            let config = ModelConfig::from_json(&reference.config, name).unwrap();
            let network = Network::from_weights(&config, &reference.weights).unwrap();
            let mut pool = Pool::default();
            let mut tape = Tape::new(network.parameters(), &mut pool);
            let logits = network.forward(&mut tape, &reference.batch(), Dropout::default());
            let differences = tape.value(logits).iter().zip(&reference.logits).map(|(a, b)| (a - b).abs());
            let far = differences.fold(0f32, f32::max);
            assert!(far < 2e-5, "{name}: logits are {far} away");
            let losses = tape.loss(logits, &reference.targets, 0.0);
            let total: f32 = reference.loss_weights.iter().sum();
            let seed: Vec<f32> = reference.loss_weights.iter().map(|weight| weight / total).collect();
            let loss: f32 = tape.value(losses).iter().zip(&seed).map(|(loss, weight)| loss * weight).sum();
            assert!((loss - reference.loss).abs() < 1e-5, "{name}: {loss} against {}", reference.loss);
            let mut grads = vec![0.0; network.parameters().len()];
            tape.backward(losses, &seed, &mut grads);
            for parameter in network.parameters().list() {
                let far = reference.distance(&parameter.name, &grads[parameter.range.clone()]);
                assert!(far < 1e-4, "{name}: the gradient of {} is {far} away", parameter.name);
            }
        }
    }

    #[test]
    fn the_references_exercise_packing_and_weights() {
        for name in NAMES {
            let reference = Reference::read(name);
            // A row's samples begin where they say, and padding has no weight.
            for (n, start) in reference.starts.iter().enumerate() {
                let at = n % reference.length;
                assert!(*start as usize <= at && reference.starts[n - at + *start as usize] == *start);
            }
            assert!(reference.loss_weights.contains(&0.0));
            assert!(reference.starts.iter().any(|start| *start > 0));
        }
    }
}
