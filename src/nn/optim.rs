//! [`Optimizer`]: gradient descent, SGD with momentum, Adam and AdamW, with moments that can be saved, and gradient
//! clipping. candle's own keep their moments private, so a run could not be resumed.

use crate::error::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which optimiser, and its constants. Updates are those of PyTorch's optimisers of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum OptimizerConfig {
    /// The gradient, times the learning rate.
    GradientDescent,
    /// Stochastic gradient descent.
    Sgd {
        /// How much of the last update stays.
        #[serde(default)]
        momentum: f64,
        /// Looks ahead along the momentum (Nesterov).
        #[serde(default)]
        nesterov: bool,
        /// Added to the gradient, times the weights (L2); vectors (norms, biases) are spared.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam (Kingma and Ba 2015).
    Adam {
        /// Decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// Added to the gradient, times the weights (L2); vectors are spared.
        #[serde(default)]
        weight_decay: f64,
    },
    /// AdamW (Loshchilov and Hutter 2019).
    AdamW {
        /// Decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// Decoupled weight decay; vectors are spared.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.95
}

fn eps() -> f64 {
    1e-8
}

fn decay() -> f64 {
    0.1
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::AdamW { beta1: beta1(), beta2: beta2(), eps: eps(), weight_decay: decay() }
    }
}

impl OptimizerConfig {
    /// Each constant: its name, whether it is in range, and the range.
    pub fn rules(&self) -> Vec<(&'static str, bool, &'static str)> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let decays = |value: f64| (0.0..10.0).contains(&value);
        match *self {
            Self::GradientDescent => Vec::new(),
            Self::Sgd { momentum, nesterov, weight_decay } => vec![
                ("optimizer.momentum", share(momentum), "0 or more, below 1"),
                ("optimizer.nesterov", !nesterov || momentum > 0.0, "false, or a `momentum` above 0"),
                ("optimizer.weight_decay", decays(weight_decay), "0 or more, below 10"),
            ],
            Self::Adam { beta1, beta2, eps, weight_decay }
            | Self::AdamW { beta1, beta2, eps, weight_decay } => vec![
                ("optimizer.beta1", share(beta1), "0 or more, below 1"),
                ("optimizer.beta2", share(beta2), "0 or more, below 1"),
                ("optimizer.eps", eps > 0.0 && eps < 1.0, "above 0, below 1"),
                ("optimizer.weight_decay", decays(weight_decay), "0 or more, below 10"),
            ],
        }
    }

    /// How many moments a variable has.
    pub(super) fn moments(&self) -> usize {
        match self {
            Self::GradientDescent => 0,
            Self::Sgd { momentum, .. } => usize::from(*momentum > 0.0),
            Self::Adam { .. } | Self::AdamW { .. } => 2,
        }
    }
}

/// What moments are called in a file.
pub(super) const MOMENTS: [&str; 2] = ["first", "second"];

/// The optimiser's state for named variables.
pub struct Optimizer {
    config: OptimizerConfig,
    vars: Vec<(String, Var)>,
    moments: Vec<Vec<Tensor>>,
    steps: u64,
}

impl Optimizer {
    /// An optimiser at step 0. The names are those under which moments are saved.
    pub fn new(vars: &[(String, Var)], config: OptimizerConfig) -> Result<Self> {
        let zeros = |(_, var): &(String, Var)| (0..config.moments()).map(|_| Ok(var.zeros_like()?)).collect();
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
        for ((_, var), moments) in self.vars.iter().zip(&mut self.moments) {
            let Some(grad) = grads.get(var) else { continue };
            // Neither the moments nor the weights may keep the graph of the backward pass alive.
            let (grad, weights) = (grad.detach(), var.as_tensor().detach());
            let spared = |decay: f64| if var.rank() > 1 { decay } else { 0.0 };
            let coupled = |decay: f64| match spared(decay) {
                0.0 => Ok(grad.clone()),
                decay => &grad + (&weights * decay)?,
            };
            let next = match self.config {
                OptimizerConfig::GradientDescent => (weights - (grad * lr)?)?,
                OptimizerConfig::Sgd { momentum, nesterov, weight_decay } => {
                    let grad = coupled(weight_decay)?;
                    let update = match moments.first_mut() {
                        None => grad,
                        Some(last) => {
                            *last = ((&*last * momentum)? + &grad)?;
                            if nesterov { (grad + (&*last * momentum)?)? } else { last.clone() }
                        }
                    };
                    (weights - (update * lr)?)?
                }
                OptimizerConfig::Adam { beta1, beta2, eps, weight_decay } => {
                    let update = adam(moments, &coupled(weight_decay)?, [beta1, beta2, eps], self.steps)?;
                    (weights - (update * lr)?)?
                }
                OptimizerConfig::AdamW { beta1, beta2, eps, weight_decay } => {
                    let update = adam(moments, &grad, [beta1, beta2, eps], self.steps)?;
                    ((weights * (1.0 - lr * spared(weight_decay)))? - (update * lr)?)?
                }
            };
            var.set(&next)?;
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
            .flat_map(|((name, _), moments)| {
                let of =
                    |(kind, moment): (&&str, &Tensor)| (format!("optimizer.{kind}.{name}"), moment.clone());
                MOMENTS.iter().zip(moments).map(of).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Puts moments back. Every one must be there in its shape.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, steps: u64, file: &str) -> Result<()> {
        for ((name, var), moments) in self.vars.iter().zip(&mut self.moments) {
            for (kind, moment) in MOMENTS.iter().zip(moments) {
                let key = format!("optimizer.{kind}.{name}");
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

/// Takes a gradient into both moments; the update, without the learning rate.
fn adam(moments: &mut [Tensor], grad: &Tensor, [beta1, beta2, eps]: [f64; 3], step: u64) -> Result<Tensor> {
    let [first, second] = moments else {
        return Err(Error::backend("optimising", "Adam has two moments"));
    };
    let t = step as f64;
    *first = ((&*first * beta1)? + (grad * (1.0 - beta1))?)?;
    *second = ((&*second * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
    let denominator = ((&*second / (1.0 - beta2.powf(t)))?.sqrt()? + eps)?;
    Ok(((&*first / (1.0 - beta1.powf(t)))? / denominator)?)
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
pub(super) mod tests {
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

    /// After five steps from (2, -1) with the gradient 2w, by PyTorch 2.15's `torch.optim` (f64,
    /// `benches/peers/optimizers.py`).
    pub(in crate::nn) const EXPECTED: [(OptimizerConfig, [f64; 2]); 6] = [
        (OptimizerConfig::GradientDescent, [1.18098, -0.59049]),
        (
            OptimizerConfig::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.1 },
            [1.14853748061875, -0.574268740309375],
        ),
        (OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }, [-0.05832, 0.02916]),
        (
            OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 },
            [-0.26971532103455, 0.134857660517275],
        ),
        (
            OptimizerConfig::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 },
            [1.7506337650863717, -0.7514778912346847],
        ),
        (
            OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.5 },
            [1.5257827518612554, -0.6457206670499741],
        ),
    ];

    #[test]
    fn the_updates_are_those_of_pytorch() {
        for (config, expected) in EXPECTED {
            let vars = var(&[2.0, -1.0]);
            let mut optimizer = Optimizer::new(&vars, config).unwrap();
            (0..5).for_each(|_| optimizer.step(&grads(&vars), 0.05).unwrap());
            for (ours, theirs) in values(&vars).iter().zip(expected) {
                assert!((f64::from(*ours) - theirs).abs() < 2e-6, "{config:?}: {ours}, not {theirs}");
            }
        }
    }

    #[test]
    fn saved_moments_continue_the_same_run() {
        let sgd = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 };
        for config in [OptimizerConfig::default(), OptimizerConfig::GradientDescent, sgd] {
            let straight = var(&[1.0, -3.0]);
            let mut optimizer = Optimizer::new(&straight, config).unwrap();
            (0..6).for_each(|_| optimizer.step(&grads(&straight), 0.1).unwrap());
            let first = var(&[1.0, -3.0]);
            let mut optimizer = Optimizer::new(&first, config).unwrap();
            (0..3).for_each(|_| optimizer.step(&grads(&first), 0.1).unwrap());
            let (state, steps) = (optimizer.state(), optimizer.steps());
            let second = var(&values(&first));
            let mut optimizer = Optimizer::new(&second, config).unwrap();
            optimizer.load_state(&state, steps, "s").unwrap();
            (0..3).for_each(|_| optimizer.step(&grads(&second), 0.1).unwrap());
            assert_eq!(values(&straight), values(&second));
        }
        let vars = var(&[1.0]);
        let mut optimizer = Optimizer::new(&vars, OptimizerConfig::default()).unwrap();
        let error = optimizer.load_state(&BTreeMap::new(), 0, "s").unwrap_err().to_string();
        assert!(error.contains("optimizer.first.w"), "{error}");
    }

    #[test]
    fn constants_out_of_range_are_named_and_configs_read_from_ron() {
        let read = |text: &str| ron::from_str::<OptimizerConfig>(text);
        assert_eq!(read("AdamW()").unwrap(), OptimizerConfig::default());
        assert_eq!(read("GradientDescent").unwrap(), OptimizerConfig::GradientDescent);
        let bad = |text: &str| {
            let rules = read(text).unwrap().rules();
            rules.iter().find(|(_, holds, _)| !holds).map(|(field, ..)| *field)
        };
        assert_eq!(bad("Sgd(momentum: 1.5)"), Some("optimizer.momentum"));
        assert_eq!(bad("Sgd(nesterov: true)"), Some("optimizer.nesterov"));
        assert_eq!(bad("Adam(eps: 0.0)"), Some("optimizer.eps"));
        assert_eq!(bad("AdamW(weight_decay: -1.0)"), Some("optimizer.weight_decay"));
        assert_eq!(bad("Sgd(momentum: 0.9, nesterov: true)"), None);
        assert!(read("Sgd(momemtum: 0.9)").is_err());
    }

    #[test]
    fn clipping_bounds_the_global_norm() {
        let vars = var(&[3.0, 4.0]);
        let mut store = grads(&vars);
        assert!((clip_global_norm(&vars, &mut store, 1.0).unwrap() - 10.0).abs() < 1e-5);
        assert!((clip_global_norm(&vars, &mut store, 0.0).unwrap() - 1.0).abs() < 1e-5);
    }
}
