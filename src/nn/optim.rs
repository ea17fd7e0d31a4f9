//! [`AdamW`] (Loshchilov and Hutter 2019) with moments that can be saved, and gradient clipping.
//! candle's own keeps its moments private, so a run could not be resumed.

use crate::error::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The constants of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; vectors (norms, biases) are spared.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 }
    }
}

/// The optimiser's state for named variables.
pub struct AdamW {
    config: AdamWConfig,
    vars: Vec<(String, Var)>,
    moments: Vec<(Tensor, Tensor)>,
    steps: u64,
}

impl AdamW {
    /// An optimiser at step 0. The names are those under which moments are saved.
    pub fn new(vars: &[(String, Var)], config: AdamWConfig) -> Result<Self> {
        let zeros = |(_, var): &(String, Var)| Ok((var.zeros_like()?, var.zeros_like()?));
        Ok(Self {
            config,
            moments: vars.iter().map(zeros).collect::<Result<_>>()?,
            vars: vars.to_vec(),
            steps: 0,
        })
    }

    /// One step with this learning rate. A variable without gradient stays as it is.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> Result<()> {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let t = self.steps as f64;
        let (correct1, correct2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        for ((_, var), (first, second)) in self.vars.iter().zip(&mut self.moments) {
            let Some(grad) = grads.get(var) else { continue };
            // Moments must not keep the graph of the backward pass alive.
            let grad = grad.detach();
            *first = ((&*first * beta1)? + (&grad * (1.0 - beta1))?)?;
            *second = ((&*second * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
            let denominator = ((&*second / correct2)?.sqrt()? + eps)?;
            let update = ((&*first / correct1)? / denominator)?;
            let decay = if var.rank() > 1 { lr * weight_decay } else { 0.0 };
            var.set(&((var.as_tensor().detach() * (1.0 - decay))? - (update * lr)?)?)?;
        }
        Ok(())
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments, by name.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let named = self.vars.iter().zip(&self.moments);
        named
            .flat_map(|((name, _), (first, second))| {
                [
                    (format!("adamw.first.{name}"), first.clone()),
                    (format!("adamw.second.{name}"), second.clone()),
                ]
            })
            .collect()
    }

    /// Puts moments back. Every one must be there in its shape.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, steps: u64, file: &str) -> Result<()> {
        for ((name, var), (first, second)) in self.vars.iter().zip(&mut self.moments) {
            for (moment, kind) in [(first, "first"), (second, "second")] {
                let key = format!("adamw.{kind}.{name}");
                let found =
                    state.get(&key).filter(|found| found.shape() == var.shape()).ok_or_else(|| {
                        let reason = "a moment of the optimiser is missing or has another shape";
                        Error::weights(file, &key, reason, "the model's config was changed; start a new run")
                    })?;
                *moment = found.to_dtype(DType::F32)?.to_device(var.device())?;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// Scales all gradients down so that their global norm is at most `max` (0: leaves them). Returns the norm
/// before, summed in the order of names so that it does not vary from run to run.
pub fn clip_global_norm(vars: &[(String, Var)], grads: &mut GradStore, max: f64) -> Result<f64> {
    let mut sum = 0.0f64;
    for (_, var) in vars {
        if let Some(grad) = grads.get(var) {
            sum += f64::from(grad.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        }
    }
    let norm = sum.sqrt();
    if max > 0.0 && norm > max {
        let scale = max / norm;
        for (_, var) in vars {
            if let Some(grad) = grads.get(var) {
                let scaled = (grad * scale)?;
                grads.insert(var, scaled);
            }
        }
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn var(values: &[f32]) -> Vec<(String, Var)> {
        let tensor = Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
        vec![("w".to_owned(), Var::from_tensor(&tensor).unwrap())]
    }

    fn grads(vars: &[(String, Var)]) -> GradStore {
        vars[0].1.sqr().unwrap().sum_all().unwrap().backward().unwrap()
    }

    fn values(vars: &[(String, Var)]) -> Vec<f32> {
        vars[0].1.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_first_step_is_the_formula() {
        let vars = var(&[2.0]);
        let mut adam =
            AdamW::new(&vars, AdamWConfig { weight_decay: 0.5, ..AdamWConfig::default() }).unwrap();
        adam.step(&grads(&vars), 0.1).unwrap();
        // m/(1-b1) = g, v/(1-b2) = g^2: the step is lr * sign(g); the decay is lr * wd * w.
        assert!((values(&vars)[0] - (2.0 - 0.1 - 0.1)).abs() < 1e-6, "{:?}", values(&vars));
    }

    #[test]
    fn saved_moments_continue_the_same_run() {
        let straight = var(&[1.0, -3.0]);
        let mut adam = AdamW::new(&straight, AdamWConfig::default()).unwrap();
        (0..6).for_each(|_| adam.step(&grads(&straight), 0.1).unwrap());
        let first = var(&[1.0, -3.0]);
        let mut adam = AdamW::new(&first, AdamWConfig::default()).unwrap();
        (0..3).for_each(|_| adam.step(&grads(&first), 0.1).unwrap());
        let (state, steps) = (adam.state(), adam.steps());
        let second = var(&values(&first));
        let mut adam = AdamW::new(&second, AdamWConfig::default()).unwrap();
        adam.load_state(&state, steps, "s").unwrap();
        (0..3).for_each(|_| adam.step(&grads(&second), 0.1).unwrap());
        assert_eq!(values(&straight), values(&second));
        assert!(adam.load_state(&BTreeMap::new(), 0, "s").unwrap_err().to_string().contains("adamw.first.w"));
    }

    #[test]
    fn clipping_bounds_the_global_norm() {
        let vars = var(&[3.0, 4.0]);
        let mut store = grads(&vars);
        assert!((clip_global_norm(&vars, &mut store, 1.0).unwrap() - 10.0).abs() < 1e-5);
        assert!((clip_global_norm(&vars, &mut store, 0.0).unwrap() - 1.0).abs() < 1e-5);
    }
}
