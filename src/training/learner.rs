//! [`Learner`]: what takes a batch and learns from it. On the CPU the tape ([`Network`]), on a GPU candle
//! ([`Transformer`]).

use super::calibration::Calibration;
use super::config::{Adaptation, TrainingConfig};
use super::objective::Objective;
use super::packing::{Batch, PackedRow, packed};
use super::private::PrivateBatch;
use crate::error::{Error, Result};
use crate::model::{Adapter, Dropout, Family, ModelConfig, Network, Transformer, Weights};
use crate::nn::kernels::{Matrix, matmul};
use crate::nn::optim::{Optimizer, clip_global_norm};
use crate::nn::tape::{Pool, Tape};
use crate::nn::{Compute, FlatOptimizer, Mode, Parameter, Tensors, clip_scale, cross_entropy, global_norm};
use crate::seed::Seed;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// How one optimiser step is done.
pub(super) struct Step {
    /// Its number, the first being 1.
    pub(super) number: u64,
    pub(super) lr: f64,
    /// Everything drawn.
    pub(super) seed: Seed,
    /// A loss above this is no learning any more.
    pub(super) limit: f32,
}

impl Step {
    fn check(&self, loss: f32, norm: f64) -> Result<()> {
        if loss.is_finite() && loss <= self.limit && norm.is_finite() {
            return Ok(());
        }
        Err(Error::Diverged { step: self.number, loss })
    }
}

/// A sum of losses in nats, and the weight it is of: tokens, or pairs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossSum {
    pub(super) nats: f64,
    pub(super) weight: f64,
    /// Pairs whose chosen answer gained on the other since the reference; half of one for each that did neither.
    pub(super) right: f64,
}

impl LossSum {
    pub(super) fn add(&mut self, other: Self) {
        self.nats += other.nats;
        self.weight += other.weight;
        self.right += other.right;
    }
}

/// What takes a batch and learns from it.
pub(super) trait Learner: Send {
    /// One optimiser step; its loss before the update, in nats a token. A loss that diverged changes nothing.
    /// `private` is what hidden players add.
    fn learn(&mut self, rows: &[PackedRow], private: Option<&PrivateBatch>, step: &Step) -> Result<f32>;

    /// The loss of rows, without learning from them.
    fn evaluate(&mut self, rows: &[PackedRow], calibration: Option<&mut Calibration>) -> Result<LossSum>;

    /// A copy of the weights that are evaluated and saved (the averaged ones, where they are averaged).
    fn weights(&self) -> Result<Weights>;

    /// The adapter that learns, if it is one.
    fn adapter(&self) -> Result<Option<Adapter>> {
        Ok(None)
    }

    /// Everything that a resumed run needs, by name.
    fn state(&self) -> Result<Tensors>;

    /// Puts a state back. `file` is for messages.
    fn load_state(&mut self, state: &Tensors, steps: u64, file: &str) -> Result<()>;
}

/// The learner for a device.
pub(super) fn learner(
    config: &TrainingConfig,
    shape: &ModelConfig,
    base: Option<&Weights>,
    compute: &Compute,
) -> Result<Box<dyn Learner>> {
    let seed = Seed::new(config.seed);
    if compute.device.is_cpu() {
        let network = match (base, config.adapter.as_ref().and_then(Adaptation::lora)) {
            (Some(base), Some(lora)) => Network::with_adapter(shape, base, &lora, seed)?,
            (Some(base), None) => Network::from_weights(shape, base)?,
            (None, _) => Network::new(shape, seed)?,
        };
        return Ok(Box::new(TapeLearner::new(config, network)));
    }
    let transformer = match shape {
        ModelConfig::Transformer(shape)
            if shape.family == Family::Llama
                && config.ema.is_none()
                && config.adapter.is_none()
                && config.privacy.is_none()
                && config.objective == Objective::Likelihood =>
        {
            shape
        }
        _ => {
            return Err(Error::Device {
                wanted: format!("{:?}", compute.device.location()),
                reason: "only plain Llama-style transformers are trained on a GPU".into(),
                remedy: "choose `--device cpu`".into(),
            });
        }
    };
    let model = match base {
        Some(base) => Transformer::from_weights(transformer, base, &compute.device)?,
        None => Transformer::new(transformer, seed, &compute.device)?,
    };
    Ok(Box::new(CandleLearner {
        optimizer: Optimizer::new(model.vars(), config.optimizer)?,
        config: config.clone(),
        device: compute.device.clone(),
        model,
    }))
}

/// Learns on the CPU.
struct TapeLearner {
    config: TrainingConfig,
    network: Network,
    optimizer: FlatOptimizer,
    pool: Pool,
    grads: Vec<f32>,
    /// The sum of the hidden players' gradients; empty where none are hidden.
    private: Vec<f32>,
    /// The running mean of the weights; empty where none is kept.
    averaged: Vec<f32>,
}

impl TapeLearner {
    fn new(config: &TrainingConfig, network: Network) -> Self {
        let parameters = network.parameters();
        Self {
            optimizer: FlatOptimizer::new(parameters, config.optimizer),
            grads: vec![0.0; parameters.trainable()],
            private: vec![0.0; if config.privacy.is_some() { parameters.trainable() } else { 0 }],
            averaged: if config.ema.is_some() { parameters.values().to_vec() } else { Vec::new() },
            pool: Pool::default(),
            config: config.clone(),
            network,
        }
    }

    /// The gradient of the mean loss of rows, in `self.grads`; the mean.
    fn gradient(&mut self, rows: &[PackedRow], seed: Seed) -> f64 {
        let weight = self.config.objective.weight(rows);
        self.grads.fill(0.0);
        let mut nats = 0.0;
        let parts = self.config.accumulate.clamp(1, rows.len().max(1));
        for (n, rows) in rows.chunks(rows.len().div_ceil(parts).max(1)).enumerate() {
            let seed = seed.derive_index(n as u64).to_u64();
            nats += self.accumulate(rows, weight, Dropout { rate: self.config.dropout, seed });
        }
        if rows.is_empty() { 0.0 } else { nats / weight }
    }

    /// What hidden players add to the gradient of the others, `self.grads`; the mean loss of those drawn.
    fn add_private(&mut self, batch: &PrivateBatch, step: &Step) -> Result<f64> {
        let mut sum = std::mem::take(&mut self.private);
        let public = self.grads.clone();
        sum.fill(0.0);
        let mut mean = 0.0;
        for (n, rows) in batch.units.iter().enumerate() {
            let seed = step.seed.derive("player").derive_index(n as u64);
            mean += self.gradient(rows, seed) / batch.units.len() as f64;
            let norm = global_norm(&self.grads);
            step.check(mean as f32, norm)?;
            batch.add(&mut sum, &self.grads, norm);
        }
        self.grads = public;
        batch.finish(&sum, &mut self.grads);
        self.private = sum;
        Ok(mean)
    }

    /// Adds the gradient of the mean loss over `weight` to `self.grads`; the sum of losses.
    fn accumulate(&mut self, rows: &[PackedRow], weight: f64, dropout: Dropout) -> f64 {
        let (batch, targets, weights) = packed(rows);
        let mut tape = Tape::new(self.network.parameters(), &mut self.pool);
        let loss = match self.config.objective {
            Objective::Sampled { negatives, contrast } => {
                let head = self.network.head();
                let vocabulary = self.network.config().vocab_size();
                let mut dice = Seed::new(dropout.seed).derive("negatives").stream();
                let negatives: Vec<u32> = (0..negatives).map(|_| dice.below(vocabulary) as u32).collect();
                let hidden = self.network.hidden(&mut tape, &batch, dropout);
                tape.sampled_loss(hidden, head, &targets, &negatives, contrast)
            }
            _ => {
                let logits = self.network.forward(&mut tape, &batch, dropout);
                tape.loss(logits, &targets, self.config.label_smoothing)
            }
        };
        let (sum, mut slopes) = self.config.objective.judge(rows, tape.value(loss), &weights);
        slopes.iter_mut().for_each(|slope| *slope = (f64::from(*slope) / weight) as f32);
        tape.backward(loss, &slopes, &mut self.grads);
        sum.nats
    }

    fn average(&mut self) {
        let Some(decay) = self.config.ema else { return };
        let (decay, weights) = (decay as f32, self.network.parameters().values());
        self.averaged.iter_mut().zip(weights).for_each(|(mean, w)| *mean = decay * *mean + (1.0 - decay) * w);
    }

    /// Runs with the averaged weights in the network's place.
    fn with_averaged<T>(&mut self, run: impl FnOnce(&mut Self) -> T) -> T {
        if self.averaged.is_empty() {
            return run(self);
        }
        self.network.parameters_mut().values_mut().swap_with_slice(&mut self.averaged);
        let out = run(self);
        self.network.parameters_mut().values_mut().swap_with_slice(&mut self.averaged);
        out
    }
}

/// How far the right tokens are from the top: 1 - NDCG@10 among the whole vocabulary, ties at their expected rank,
/// summed over the rows that count.
fn misplaced((hidden, width): (&[f32], usize), head: &[f32], targets: &[u32], weights: &[f32]) -> LossSum {
    const ROWS: usize = 64;
    let vocabulary = head.len() / width.max(1);
    let counted: Vec<usize> = (0..targets.len()).filter(|at| weights[*at] > 0.0).collect();
    let of = |rows: &[usize]| {
        let mut x = vec![0.0; rows.len() * width];
        for (x, at) in x.chunks_exact_mut(width).zip(rows) {
            x.copy_from_slice(&hidden[at * width..][..width]);
        }
        let mut scores = vec![0.0; rows.len() * vocabulary];
        let (a, b) = (Matrix::new(&x, width), Matrix::new(head, width).t());
        matmul((&mut scores, vocabulary), [rows.len(), width, vocabulary], a, b, [0.0, 1.0], false);
        let mut sum = LossSum::default();
        for (scores, at) in scores.chunks_exact(vocabulary).zip(rows) {
            let own = scores[targets[*at] as usize];
            let above = scores.iter().filter(|score| **score > own).count();
            let ties = scores.iter().filter(|score| **score == own).count().saturating_sub(1);
            let place = above as f64 + ties as f64 / 2.0;
            let gain = if place < 10.0 { 1.0 / (place + 2.0).log2() } else { 0.0 };
            // Scores that are no numbers place nothing: the run has diverged.
            let lost = if own.is_finite() { 1.0 - gain } else { f64::NAN };
            sum.add(LossSum {
                nats: lost * f64::from(weights[*at]),
                weight: f64::from(weights[*at]),
                right: 0.0,
            });
        }
        sum
    };
    let parts: Vec<LossSum> = counted.par_chunks(ROWS).map(of).collect();
    parts.into_iter().fold(LossSum::default(), |mut sum, part| {
        sum.add(part);
        sum
    })
}

/// What the name of an averaged weight begins with, in a state.
const AVERAGED: &str = "averaged.";

impl Learner for TapeLearner {
    fn learn(&mut self, rows: &[PackedRow], private: Option<&PrivateBatch>, step: &Step) -> Result<f32> {
        let mut loss = self.gradient(rows, step.seed) as f32;
        step.check(loss, 0.0)?;
        if let Some(batch) = private {
            let mean = self.add_private(batch, step)? as f32;
            if rows.is_empty() {
                loss = mean;
            }
        }
        let norm = global_norm(&self.grads);
        step.check(loss, norm)?;
        let scale = clip_scale(norm, self.config.clip_norm);
        self.optimizer.step(self.network.parameters_mut(), &self.grads, step.lr, scale);
        self.average();
        Ok(loss)
    }

    fn evaluate(&mut self, rows: &[PackedRow], calibration: Option<&mut Calibration>) -> Result<LossSum> {
        let (batch, targets, weights) = packed(rows);
        Ok(self.with_averaged(|this| {
            let mut tape = Tape::new(this.network.parameters(), &mut this.pool);
            if let Objective::Sampled { .. } = this.config.objective {
                let hidden = this.network.hidden(&mut tape, &batch, Dropout::default());
                let width = tape.width(hidden);
                let head = this.network.parameters().value(this.network.head());
                return misplaced((tape.value(hidden), width), head, &targets, &weights);
            }
            let logits = this.network.forward(&mut tape, &batch, Dropout::default());
            let loss = tape.loss(logits, &targets, 0.0);
            if let Some(calibration) = calibration {
                calibration.add(tape.value(logits), tape.width(logits), &targets, &weights);
            }
            this.config.objective.judge(rows, tape.value(loss), &weights).0
        }))
    }

    fn weights(&self) -> Result<Weights> {
        if self.averaged.is_empty() {
            return self.network.weights();
        }
        Weights::new(self.network.parameters().split(&self.averaged))
    }

    fn adapter(&self) -> Result<Option<Adapter>> {
        self.network.adapter()
    }

    fn state(&self) -> Result<Tensors> {
        let parameters = self.network.parameters();
        let mut state = self.optimizer.state(parameters);
        // What is frozen is read from the base again.
        state.extend(parameters.split_where(parameters.values(), |parameter| parameter.trainable));
        if !self.averaged.is_empty() {
            let averaged = parameters.split(&self.averaged).into_iter();
            state.extend(averaged.map(|(name, tensor)| (format!("{AVERAGED}{name}"), tensor)));
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &Tensors, steps: u64, file: &str) -> Result<()> {
        self.optimizer.load_state(self.network.parameters(), state, steps, file)?;
        for parameter in self.network.parameters().list().to_vec() {
            let Parameter { name, range, shape, trainable, .. } = &parameter;
            if *trainable {
                let values = whole(state, name, shape, file)?;
                self.network.parameters_mut().values_mut()[range.clone()].copy_from_slice(values);
            }
            if !self.averaged.is_empty() {
                let values = whole(state, &format!("{AVERAGED}{name}"), shape, file)?;
                self.averaged[range.clone()].copy_from_slice(values);
            }
        }
        Ok(())
    }
}

/// A tensor of a state, in its shape and finite.
fn whole<'a>(state: &'a Tensors, name: &str, shape: &[usize], file: &str) -> Result<&'a [f32]> {
    let found =
        state.get(name).filter(|(found, values)| found == shape && values.iter().all(|v| v.is_finite()));
    let broken =
        || Error::weights(file, name, "a weight is missing, damaged or has another shape", "start a new run");
    found.map(|(_, values)| values.as_slice()).ok_or_else(broken)
}

/// Learns on a GPU.
struct CandleLearner {
    config: TrainingConfig,
    device: Device,
    model: Transformer,
    optimizer: Optimizer,
}

fn plain(tensor: &Tensor) -> Result<(Vec<usize>, Vec<f32>)> {
    Ok((tensor.dims().to_vec(), tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?))
}

impl Learner for CandleLearner {
    fn learn(&mut self, rows: &[PackedRow], _private: Option<&PrivateBatch>, step: &Step) -> Result<f32> {
        let batch = Batch::new(rows, &self.device)?;
        let mut noise = step.seed.stream();
        let mode = Mode::Train { dropout: self.config.dropout, noise: &mut noise };
        let logits = self.model.forward(&batch.tokens, mode)?;
        let loss = cross_entropy(&logits, &batch.targets, &batch.weights, self.config.label_smoothing)?;
        let value = loss.to_scalar::<f32>()?;
        step.check(value, 0.0)?;
        let mut grads = loss.backward()?;
        let norm = clip_global_norm(self.model.vars(), &mut grads, self.config.clip_norm)?;
        step.check(value, norm)?;
        self.optimizer.step(&grads, step.lr)?;
        Ok(value)
    }

    fn evaluate(&mut self, rows: &[PackedRow], calibration: Option<&mut Calibration>) -> Result<LossSum> {
        let batch = Batch::new(rows, &self.device)?;
        let logits = self.model.forward(&batch.tokens, Mode::Evaluate)?;
        let loss = cross_entropy(&logits, &batch.targets, &batch.weights, 0.0)?.to_scalar::<f32>()?;
        if let Some(calibration) = calibration {
            let vocab = logits.dim(2)?;
            let (_, targets, weights) = packed(rows);
            calibration.add(&plain(&logits)?.1, vocab, &targets, &weights);
        }
        let weight: f64 = rows.iter().map(PackedRow::weight).sum();
        Ok(LossSum { nats: f64::from(loss) * weight, weight, right: 0.0 })
    }

    fn weights(&self) -> Result<Weights> {
        self.model.weights()
    }

    fn state(&self) -> Result<Tensors> {
        let vars = self.model.vars().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        vars.chain(self.optimizer.state()).map(|(name, tensor)| Ok((name, plain(&tensor)?))).collect()
    }

    fn load_state(&mut self, state: &Tensors, steps: u64, file: &str) -> Result<()> {
        let tensor = |(shape, values): &(Vec<usize>, Vec<f32>)| {
            Tensor::from_slice(values, shape.as_slice(), &self.device)
        };
        for (name, var) in self.model.vars() {
            let values = whole(state, name, var.dims(), file)?;
            var.set(&Tensor::from_slice(values, var.dims(), &self.device)?)?;
        }
        let moments = state.iter().filter(|(name, _)| name.starts_with("optimizer."));
        let moments =
            moments.map(|(name, values)| Ok((name.clone(), tensor(values)?))).collect::<Result<_>>()?;
        self.optimizer.load_state(&moments, steps, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::model_config_tests::every;
    use crate::training::config::tests::small;
    use crate::training::packing::pack;
    use crate::training::source::Sample;

    fn rows(count: usize) -> Vec<PackedRow> {
        let mut noise = Seed::new(5).stream();
        let samples = (0..count).map(|_| {
            let ids: Vec<u32> = (0..33).map(|_| noise.below(300) as u32).collect();
            let loss = ids.iter().enumerate().map(|(i, _)| f32::from(u8::from(i > 0))).collect();
            Sample::new(ids, loss)
        });
        pack(samples, 32)
    }

    fn step(number: u64) -> Step {
        Step { number, lr: 0.01, seed: Seed::new(3).derive_index(number), limit: 100.0 }
    }

    fn learner(config: &TrainingConfig, shape: &ModelConfig) -> TapeLearner {
        TapeLearner::new(config, Network::new(shape, Seed::new(1)).unwrap())
    }

    #[test]
    fn loss_falls_on_one_batch_for_every_architecture() {
        let (config, rows) = (small(), rows(2));
        for shape in every() {
            let mut learner = learner(&config, &shape);
            let first = learner.learn(&rows, None, &step(1)).unwrap();
            let last = (2..40).map(|n| learner.learn(&rows, None, &step(n)).unwrap()).last().unwrap();
            assert!(last < 0.8 * first, "{}: {first} to {last}", shape.architecture());
        }
    }

    #[test]
    fn accumulation_gives_the_gradient_of_the_whole_batch() {
        let (config, rows) = (TrainingConfig { dropout: 0.0, ..small() }, rows(4));
        for shape in every() {
            let grads = |parts: usize| {
                let mut learner = learner(&TrainingConfig { accumulate: parts, ..config.clone() }, &shape);
                learner.learn(&rows, None, &step(1)).unwrap();
                learner.grads
            };
            let (whole, parts) = (grads(1), grads(3));
            assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + a.abs())));
        }
    }

    #[test]
    fn averaged_weights_lag_behind_and_are_the_ones_that_are_saved_and_measured() {
        let (config, rows) = (TrainingConfig { ema: Some(0.9), ..small() }, rows(2));
        let shape = &every()[0];
        let mut learner = learner(&config, shape);
        let before = learner.weights().unwrap().hash();
        (1..20).for_each(|n| assert!(learner.learn(&rows, None, &step(n)).unwrap() > 0.0));
        let raw = learner.network.weights().unwrap();
        let saved = learner.weights().unwrap();
        assert!(saved.hash() != before && saved.hash() != raw.hash());
        let loss = learner.evaluate(&rows, None).unwrap();
        let mut plain = TapeLearner::new(&small(), Network::from_weights(shape, &saved).unwrap());
        assert_eq!(loss.nats, plain.evaluate(&rows, None).unwrap().nats);
        assert_eq!(learner.network.weights().unwrap().hash(), raw.hash());
        let state = learner.state().unwrap();
        let mut again = TapeLearner::new(&config, Network::from_weights(shape, &raw).unwrap());
        again.load_state(&state, 19, "s").unwrap();
        learner.learn(&rows, None, &step(20)).unwrap();
        again.learn(&rows, None, &step(20)).unwrap();
        assert_eq!(learner.weights().unwrap().hash(), again.weights().unwrap().hash());
    }
}
