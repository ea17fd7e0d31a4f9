//! [`FlatOptimizer`]: the optimisers of [`OptimizerConfig`], in place over flat [`Parameters`].

use super::kernels::vectorized;
use super::optim::{MOMENTS, OptimizerConfig};
use super::parameters::Parameters;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// How many values are summed, or updated, at a time.
const BLOCK: usize = 1 << 13;

/// Named tensors in plain memory: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// An optimiser's state, laid out like a gradient.
pub struct FlatOptimizer {
    config: OptimizerConfig,
    moments: Vec<Vec<f32>>,
    steps: u64,
}

impl FlatOptimizer {
    /// An optimiser at step 0.
    pub fn new(parameters: &Parameters, config: OptimizerConfig) -> Self {
        Self { moments: vec![vec![0.0; parameters.trainable()]; config.moments()], config, steps: 0 }
    }

    /// One step with this learning rate; gradients count `scale` times. What does not learn stays as it is.
    pub fn step(&mut self, parameters: &mut Parameters, grads: &[f32], lr: f64, scale: f64) {
        self.steps += 1;
        let rule = Rule::new(self.config, self.steps, lr, scale);
        let mut moments: Vec<&mut [f32]> = self.moments.iter_mut().map(Vec::as_mut_slice).collect();
        let list: Vec<_> = parameters.list().to_vec();
        for parameter in list.iter().filter(|parameter| parameter.trainable) {
            let range = parameter.grads.clone();
            let decay = if parameter.shape.len() > 1 { rule.decay } else { 0.0 };
            let weights = parameters.values_mut()[parameter.range.clone()].par_chunks_mut(BLOCK);
            let steps = weights.zip(grads[range.clone()].par_chunks(BLOCK));
            match moments.as_mut_slice() {
                [] => steps.for_each(|(w, g)| rule.apply(w, g, &mut [], &mut [], decay)),
                [first] => steps
                    .zip(first[range].par_chunks_mut(BLOCK))
                    .for_each(|((w, g), m)| rule.apply(w, g, m, &mut [], decay)),
                [first, second, ..] => steps
                    .zip(first[range.clone()].par_chunks_mut(BLOCK))
                    .zip(second[range].par_chunks_mut(BLOCK))
                    .for_each(|(((w, g), m), v)| rule.apply(w, g, m, v, decay)),
            }
        }
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments, by name.
    pub fn state(&self, parameters: &Parameters) -> Tensors {
        let named = MOMENTS.iter().zip(&self.moments);
        named
            .flat_map(|(kind, moment)| {
                let split = parameters.split_trainable(moment).into_iter();
                split.map(move |(name, tensor)| (format!("optimizer.{kind}.{name}"), tensor))
            })
            .collect()
    }

    /// Puts moments back. Every one must be there in its shape.
    pub fn load_state(
        &mut self,
        parameters: &Parameters,
        state: &Tensors,
        steps: u64,
        file: &str,
    ) -> Result<()> {
        for (kind, moment) in MOMENTS.iter().zip(&mut self.moments) {
            for parameter in parameters.list().iter().filter(|parameter| parameter.trainable) {
                let key = format!("optimizer.{kind}.{}", parameter.name);
                let found = state.get(&key).filter(|(shape, _)| *shape == parameter.shape);
                let (_, values) = found.ok_or_else(|| {
                    let reason = "a moment of the optimiser is missing or has another shape";
                    Error::weights(file, &key, reason, "the model's config was changed; start a new run")
                })?;
                moment[parameter.grads.clone()].copy_from_slice(values);
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// What a step does to each value.
struct Rule {
    config: OptimizerConfig,
    lr: f32,
    scale: f32,
    decay: f32,
    /// `1 / (1 - beta^t)` of both moments.
    corrections: [f32; 2],
}

impl Rule {
    fn new(config: OptimizerConfig, step: u64, lr: f64, scale: f64) -> Self {
        let correction = |beta: f64| (1.0 / (1.0 - beta.powf(step as f64))) as f32;
        let (decay, corrections) = match config {
            OptimizerConfig::GradientDescent => (0.0, [1.0; 2]),
            OptimizerConfig::Sgd { weight_decay, .. } => (weight_decay, [1.0; 2]),
            OptimizerConfig::Adam { beta1, beta2, weight_decay, .. }
            | OptimizerConfig::AdamW { beta1, beta2, weight_decay, .. } => {
                (weight_decay, [correction(beta1), correction(beta2)])
            }
        };
        Self { config, lr: lr as f32, scale: scale as f32, decay: decay as f32, corrections }
    }

    fn apply(&self, weights: &mut [f32], grads: &[f32], first: &mut [f32], second: &mut [f32], decay: f32) {
        let (lr, scale) = (self.lr, self.scale);
        vectorized(
            #[inline(always)]
            || match self.config {
                OptimizerConfig::GradientDescent => {
                    weights.iter_mut().zip(grads).for_each(|(w, g)| *w -= lr * scale * g);
                }
                OptimizerConfig::Sgd { momentum, nesterov, .. } => {
                    let momentum = momentum as f32;
                    if first.is_empty() {
                        for (w, g) in weights.iter_mut().zip(grads) {
                            *w -= lr * (scale * g + decay * *w);
                        }
                        return;
                    }
                    for ((w, g), m) in weights.iter_mut().zip(grads).zip(first) {
                        let grad = scale * g + decay * *w;
                        *m = momentum * *m + grad;
                        *w -= lr * if nesterov { grad + momentum * *m } else { *m };
                    }
                }
                OptimizerConfig::Adam { beta1, beta2, eps, .. } => {
                    let constants = [beta1 as f32, beta2 as f32, eps as f32];
                    for (((w, g), m), v) in weights.iter_mut().zip(grads).zip(first).zip(second) {
                        *w -= lr * adam(m, v, scale * g + decay * *w, constants, self.corrections);
                    }
                }
                OptimizerConfig::AdamW { beta1, beta2, eps, .. } => {
                    let constants = [beta1 as f32, beta2 as f32, eps as f32];
                    let kept = 1.0 - lr * decay;
                    for (((w, g), m), v) in weights.iter_mut().zip(grads).zip(first).zip(second) {
                        *w = *w * kept - lr * adam(m, v, scale * g, constants, self.corrections);
                    }
                }
            },
        );
    }
}

/// Takes a gradient into both moments; the update, without the learning rate.
#[inline(always)]
fn adam(m: &mut f32, v: &mut f32, grad: f32, [beta1, beta2, eps]: [f32; 3], corrections: [f32; 2]) -> f32 {
    *m = beta1 * *m + (1.0 - beta1) * grad;
    *v = beta2 * *v + (1.0 - beta2) * grad * grad;
    *m * corrections[0] / ((*v * corrections[1]).sqrt() + eps)
}

/// The norm of all gradients, summed in blocks of a fixed order so that it does not vary from run to run.
pub fn global_norm(grads: &[f32]) -> f64 {
    let blocks: Vec<f64> = grads
        .par_chunks(BLOCK)
        .map(|block| {
            let sum = vectorized(
                #[inline(always)]
                || super::kernels::dot(block, block),
            );
            f64::from(sum)
        })
        .collect();
    blocks.iter().sum::<f64>().sqrt()
}

/// By how much gradients of this norm are scaled so that their norm is at most `max` (0: any).
pub fn clip_scale(norm: f64, max: f64) -> f64 {
    if max > 0.0 && norm > max { max / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::optim::tests::EXPECTED;

    fn parameters(values: &[f32]) -> Parameters {
        let mut parameters = Parameters::default();
        parameters.push("w", &[1, values.len()], values);
        parameters
    }

    fn step(optimizer: &mut FlatOptimizer, parameters: &mut Parameters, lr: f64) {
        let grads: Vec<f32> = parameters.values().iter().map(|w| 2.0 * w).collect();
        optimizer.step(parameters, &grads, lr, 1.0);
    }

    #[test]
    fn the_updates_are_those_of_pytorch() {
        for (config, expected) in EXPECTED {
            let mut parameters = parameters(&[2.0, -1.0]);
            let mut optimizer = FlatOptimizer::new(&parameters, config);
            (0..5).for_each(|_| step(&mut optimizer, &mut parameters, 0.05));
            for (ours, theirs) in parameters.values().iter().zip(expected) {
                assert!((f64::from(*ours) - theirs).abs() < 3e-6, "{config:?}: {ours}, not {theirs}");
            }
        }
    }

    #[test]
    fn saved_moments_continue_the_same_run() {
        for (config, _) in EXPECTED {
            let mut straight = parameters(&[1.0, -3.0]);
            let mut optimizer = FlatOptimizer::new(&straight, config);
            (0..6).for_each(|_| step(&mut optimizer, &mut straight, 0.1));
            let mut broken = parameters(&[1.0, -3.0]);
            let mut optimizer = FlatOptimizer::new(&broken, config);
            (0..3).for_each(|_| step(&mut optimizer, &mut broken, 0.1));
            let state = optimizer.state(&broken);
            let mut optimizer = FlatOptimizer::new(&broken, config);
            optimizer.load_state(&broken, &state, 3, "s").unwrap();
            (0..3).for_each(|_| step(&mut optimizer, &mut broken, 0.1));
            assert_eq!(straight.values(), broken.values());
        }
        let parameters = parameters(&[1.0]);
        let mut optimizer = FlatOptimizer::new(&parameters, OptimizerConfig::default());
        let error = optimizer.load_state(&parameters, &Tensors::new(), 0, "s").unwrap_err().to_string();
        assert!(error.contains("optimizer.first.w"), "{error}");
    }

    #[test]
    fn vectors_do_not_decay_and_what_is_frozen_stays() {
        let mut parameters = Parameters::default();
        parameters.push("matrix", &[1, 2], &[1.0, 2.0]);
        parameters.push("vector", &[2], &[1.0, 2.0]);
        parameters.push("frozen", &[1, 2], &[1.0, 2.0]);
        parameters.train_only(|name| name != "frozen");
        let mut optimizer = FlatOptimizer::new(&parameters, OptimizerConfig::default());
        optimizer.step(&mut parameters, &[0.0; 4], 0.1, 1.0);
        let expected = [0.99, 1.98, 1.0, 2.0, 1.0, 2.0];
        assert!(parameters.values().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn the_norm_is_global_and_clipping_bounds_it() {
        let grads: Vec<f32> = (0..20_000).map(|i| if i % 2 == 0 { 3.0 } else { 4.0 }).collect();
        let norm = global_norm(&grads);
        assert!((norm - 500.0).abs() < 1e-6, "{norm}");
        assert!((clip_scale(norm, 1.0) - 0.002).abs() < 1e-12);
        assert_eq!((clip_scale(norm, 0.0), clip_scale(0.5, 1.0)), (1.0, 1.0));
    }
}
