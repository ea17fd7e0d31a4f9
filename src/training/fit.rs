//! [`Fit`]: the training job. One optimiser step a step; validations and resume points in between.

use super::config::{Keep, TrainingConfig};
use super::curve::Curve;
use super::packing::{Batch, PackedRow, epoch, pack};
use super::source::{DataSets, SampleSource};
use super::state::{self, Standing};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::model::{Card, Checkpoint, Transformer, Weights};
use crate::nn::optim::{AdamW, clip_global_norm};
use crate::nn::{Mode, cross_entropy};
use crate::seed::Seed;
use crate::text::Tokenizer;
use candle_core::Device;
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What training tells after each step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps in all.
    pub steps: u64,
    /// The step's loss, in nats a token (nothing at step 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f32>,
    /// The validation loss, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// Tokens learned from a second, padding not counted.
    pub tokens_per_s: f64,
}

/// How training ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fitted {
    /// Optimiser steps done.
    pub steps: u64,
    /// The best validation loss, in nats a token.
    pub best_val_loss: f64,
    /// The step of the best.
    pub best_step: u64,
    /// The validation loss before the first step.
    pub first_val_loss: f64,
    /// Whether it ended before `steps` because validation no longer improved.
    pub early: bool,
    /// Seconds of work, those before a resume included.
    pub seconds: f64,
    /// Where the best model is.
    pub checkpoint: PathBuf,
}

/// Fits a model to data. See the module's documentation.
pub struct Fit {
    config: TrainingConfig,
    tokenizer: Tokenizer,
    data: DataSets,
    card: Card,
    out: PathBuf,
    device: Device,
    model: Transformer,
    optimizer: AdamW,
    standing: Standing,
    rows: Vec<PackedRow>,
    validation: Vec<PackedRow>,
    curve: Curve,
    seed: Seed,
}

impl Fit {
    /// A new run in the directory `out`, which must not hold one already. `card` says what the model is;
    /// its provenance is filled in.
    pub fn new(
        config: TrainingConfig,
        tokenizer: Tokenizer,
        data: DataSets,
        card: Card,
        out: &Path,
        device: &Device,
    ) -> Result<Self> {
        if state::exists(out) {
            return Err(Error::config(
                out.display().to_string(),
                "--out",
                "the directory already holds a run",
                "go on with it (`--resume`), or choose another directory",
            ));
        }
        std::fs::create_dir_all(out).map_err(|e| Error::io("make the run's directory", out, e))?;
        let model =
            Transformer::new(&config.transformer(tokenizer.vocab_size()), Seed::new(config.seed), device)?;
        let standing = Standing {
            step: 0,
            epoch: 0,
            cursor: 0,
            best_val_loss: None,
            best_step: 0,
            since_best: 0,
            first_val_loss: None,
            validated: false,
            seconds: 0.0,
            data_hash: data_hash(&data),
            config: config.clone(),
        };
        Self::assemble(config, tokenizer, data, card, out, device, model, standing)
    }

    /// Goes on with the run in `out`. Config and data must be those it was started with.
    pub fn resume(
        config: TrainingConfig,
        tokenizer: Tokenizer,
        data: DataSets,
        card: Card,
        out: &Path,
        device: &Device,
    ) -> Result<Self> {
        let (standing, tensors) = state::load(out, device)?;
        let file = out.join(state::STATE).display().to_string();
        if let Some((field, reason)) = state::difference(&standing.config, &config) {
            return Err(Error::config(file, field, reason, "give the config the run was started with"));
        }
        if standing.data_hash != data_hash(&data) {
            let reason = "the data is not what the run was started with";
            return Err(Error::config(file, "--data", reason, "give the same files, or start a new run"));
        }
        let shape = config.transformer(tokenizer.vocab_size());
        let mut weights = std::collections::BTreeMap::new();
        for (name, _) in shape.tensors() {
            if let Some(tensor) = tensors.get(&name) {
                weights.insert(name, (tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1::<f32>()?));
            }
        }
        let model = Transformer::from_weights(&shape, &Weights::new(weights)?, device)?;
        let step = standing.step;
        let mut fit = Self::assemble(config, tokenizer, data, card, out, device, model, standing)?;
        fit.optimizer.load_state(&tensors, step, &file)?;
        Ok(fit)
    }

    fn assemble(
        config: TrainingConfig,
        tokenizer: Tokenizer,
        data: DataSets,
        card: Card,
        out: &Path,
        device: &Device,
        model: Transformer,
        standing: Standing,
    ) -> Result<Self> {
        let held: &dyn SampleSource = &*data.validation;
        let validation = pack((0..held.len()).map(|i| held.fixed(i)), config.sequence);
        if Batch::new(&validation, &Device::Cpu)?.weight == 0.0 {
            return Err(Error::Data {
                source_name: "validation set".into(),
                reason: "no token counts for the loss".into(),
                remedy: "give more data".into(),
            });
        }
        let seed = Seed::new(config.seed);
        let rows = epoch(&*data.train, seed, standing.epoch, config.sequence)?;
        let optimizer = AdamW::new(model.vars(), config.optimizer)?;
        let curve = Curve::open(&out.join("curve.jsonl"), standing.step)?;
        let (out, device) = (out.to_owned(), device.clone());
        Ok(Self {
            config,
            tokenizer,
            data,
            card,
            out,
            device,
            model,
            optimizer,
            standing,
            rows,
            validation,
            curve,
            seed,
        })
    }

    /// Where the run stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Saves a resume point now (before stopping).
    pub fn save(&mut self) -> Result<()> {
        self.curve.flush()?;
        let mut tensors = self.optimizer.state();
        tensors.extend(self.model.vars().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())));
        state::save(&self.out, &self.standing, &tensors)
    }

    fn due(&self) -> bool {
        let step = self.standing.step;
        !self.standing.validated
            && (step.is_multiple_of(self.config.validate_every) || step == self.config.steps)
    }

    fn validate(&mut self) -> Result<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for rows in self.validation.chunks(self.config.rows) {
            let batch = Batch::new(rows, &self.device)?;
            if batch.weight > 0.0 {
                let logits = self.model.forward(&batch.tokens, Mode::Evaluate)?;
                let loss = cross_entropy(&logits, &batch.targets, &batch.weights, 0.0)?.to_scalar::<f32>()?;
                sum += f64::from(loss) * batch.weight;
                weight += batch.weight;
            }
        }
        let loss = sum / weight;
        let standing = &mut self.standing;
        standing.validated = true;
        standing.first_val_loss.get_or_insert(loss);
        if standing.best_val_loss.is_none_or(|best| loss < best) {
            (standing.best_val_loss, standing.best_step, standing.since_best) =
                (Some(loss), standing.step, 0);
            self.save_model(loss)?;
        } else {
            standing.since_best += 1;
            if self.config.keep == Keep::Last {
                self.save_model(loss)?;
            }
        }
        Ok(loss)
    }

    fn save_model(&self, val_loss: f64) -> Result<()> {
        let mut card = self.card.clone();
        card.stored_as = self.config.stored_as;
        let provenance = &mut card.provenance;
        provenance.data_hash.clone_from(&self.standing.data_hash);
        (provenance.seed, provenance.steps) = (self.config.seed, self.standing.step);
        provenance.figures.insert("val_loss".into(), val_loss);
        let checkpoint = Checkpoint {
            config: self.model.config().clone(),
            weights: self.model.weights()?,
            tokenizer: self.tokenizer.clone(),
            card,
        };
        checkpoint.save(&self.out)
    }

    fn next_rows(&mut self) -> Result<Vec<PackedRow>> {
        let mut batch = Vec::with_capacity(self.config.rows);
        while batch.len() < self.config.rows {
            if self.standing.cursor >= self.rows.len() {
                self.standing.epoch += 1;
                self.standing.cursor = 0;
                self.rows = epoch(&*self.data.train, self.seed, self.standing.epoch, self.config.sequence)?;
            }
            batch.push(self.rows[self.standing.cursor].clone());
            self.standing.cursor += 1;
        }
        Ok(batch)
    }

    fn learn(&mut self) -> Result<(f32, usize)> {
        let step = self.standing.step + 1;
        let batch = Batch::new(&self.next_rows()?, &self.device)?;
        self.standing.step = step;
        self.standing.validated = false;
        if batch.weight == 0.0 {
            // Nothing in these rows counts: the step is spent without a gradient.
            return Ok((0.0, batch.count));
        }
        let mut noise = self.seed.derive("dropout").derive_index(step).stream();
        let mode = Mode::Train { dropout: self.config.dropout, noise: &mut noise };
        let logits = self.model.forward(&batch.tokens, mode)?;
        let loss = cross_entropy(&logits, &batch.targets, &batch.weights, self.config.label_smoothing)?;
        let value = loss.to_scalar::<f32>()?;
        // Three times what guessing costs is no learning any more.
        let guess = (self.tokenizer.vocab_size() as f32).ln();
        if !value.is_finite() || value > 3.0 * guess {
            return Err(Error::Diverged { step, loss: value });
        }
        let mut grads = loss.backward()?;
        let norm = clip_global_norm(self.model.vars(), &mut grads, self.config.clip_norm)?;
        if !norm.is_finite() {
            return Err(Error::Diverged { step, loss: value });
        }
        self.optimizer.step(&grads, self.config.rate(step))?;
        Ok((value, batch.count))
    }

    fn fitted(&self, early: bool) -> Fitted {
        let standing = &self.standing;
        Fitted {
            steps: standing.step,
            best_val_loss: standing.best_val_loss.unwrap_or(f64::NAN),
            best_step: standing.best_step,
            first_val_loss: standing.first_val_loss.unwrap_or(f64::NAN),
            early,
            seconds: standing.seconds,
            checkpoint: self.out.clone(),
        }
    }
}

fn data_hash(data: &DataSets) -> String {
    blake3::hash(format!("{} {}", data.train.hash(), data.validation.hash()).as_bytes()).to_hex().to_string()
}

impl Job for Fit {
    type Output = Fitted;
    type Update = Progress;

    fn step(&mut self) -> Result<ControlFlow<Fitted, Progress>> {
        let start = Instant::now();
        let (mut train_loss, mut val_loss, mut count) = (None, None, 0);
        let before_the_first = self.standing.step == 0 && self.due();
        if !before_the_first {
            let patience = self.config.patience;
            let early = patience > 0 && self.standing.since_best >= patience;
            if early || self.standing.step >= self.config.steps {
                self.save()?;
                return Ok(ControlFlow::Break(self.fitted(early)));
            }
            let (loss, tokens) = self.learn()?;
            (train_loss, count) = (Some(loss), tokens);
        }
        let learned = start.elapsed().as_secs_f64();
        if self.due() {
            val_loss = Some(self.validate()?);
        }
        let seconds = start.elapsed().as_secs_f64();
        self.standing.seconds += seconds;
        let progress = Progress {
            step: self.standing.step,
            steps: self.config.steps,
            train_loss,
            val_loss,
            lr: self.config.rate(self.standing.step.max(1)),
            tokens_per_s: count as f64 / learned.max(1e-9),
        };
        self.curve.add(&progress)?;
        if self.standing.step > 0 && self.standing.step.is_multiple_of(self.config.checkpoint_every) {
            self.save()?;
        }
        Ok(ControlFlow::Continue(progress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;
    use crate::training::config::tests::small;
    use crate::training::text_source::text_sets;

    const TEXT: &str = "the cat sat on the mat and the dog sat on the log and so on and on they sat ";

    fn parts(config: &TrainingConfig) -> (TrainingConfig, Tokenizer, DataSets, Card) {
        let text = TEXT.repeat(12);
        let tokenizer = Tokenizer::characters(&text).unwrap();
        let data = text_sets(&text, &tokenizer, config.sequence).unwrap();
        (config.clone(), tokenizer, data, Card::new("text"))
    }

    fn start(config: &TrainingConfig, out: &Path) -> Result<Fit> {
        let (config, tokenizer, data, card) = parts(config);
        Fit::new(config, tokenizer, data, card, out, &Device::Cpu)
    }

    fn go_on(config: &TrainingConfig, out: &Path) -> Result<Fit> {
        let (config, tokenizer, data, card) = parts(config);
        Fit::resume(config, tokenizer, data, card, out, &Device::Cpu)
    }

    fn losses(out: &Path) -> Vec<(u64, Option<f64>, Option<f64>)> {
        let text = std::fs::read_to_string(out.join("curve.jsonl")).unwrap();
        let parse = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            (value["step"].as_u64().unwrap(), value["train_loss"].as_f64(), value["val_loss"].as_f64())
        };
        text.lines().map(parse).collect()
    }

    #[test]
    fn loss_falls_and_the_best_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = TrainingConfig { steps: 60, ..small() };
        let fitted = job::run(start(&config, dir.path()).unwrap(), |_| ()).unwrap();
        assert!(fitted.best_val_loss < 0.85 * fitted.first_val_loss, "{fitted:?}");
        let checkpoint = Checkpoint::load(dir.path()).unwrap();
        assert_eq!(checkpoint.card.provenance.steps, fitted.best_step);
        assert!((checkpoint.card.provenance.figures["val_loss"] - fitted.best_val_loss).abs() < 1e-9);
    }

    #[test]
    fn a_checkpoint_resumes_the_same_run() {
        let (straight, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        job::run(start(&small(), straight.path()).unwrap(), |_| ()).unwrap();
        let mut fit = start(&small(), broken.path()).unwrap();
        // Past the resume point at step 7, without saving: as if killed.
        while fit.standing().step < 9 {
            let _ = fit.step().unwrap();
        }
        drop(fit);
        let fit = go_on(&small(), broken.path()).unwrap();
        assert_eq!(fit.standing().step, 7);
        job::run(fit, |_| ()).unwrap();
        assert_eq!(losses(straight.path()), losses(broken.path()));
        let hash = |dir: &Path| Checkpoint::load(dir).unwrap().weights.hash();
        assert_eq!(hash(straight.path()), hash(broken.path()));
        let last = |dir: &Path| std::fs::read(dir.join(state::STATE)).unwrap().len();
        assert!(last(straight.path()) > 0);
    }

    #[test]
    fn a_changed_config_or_an_occupied_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut fit = start(&small(), dir.path()).unwrap();
        fit.save().unwrap();
        let error = start(&small(), dir.path()).err().unwrap().to_string();
        assert!(error.contains("--resume"), "{error}");
        let other = TrainingConfig { learning_rate: 0.02, ..small() };
        let error = go_on(&other, dir.path()).err().unwrap().to_string();
        assert!(error.contains("learning_rate"), "{error}");
        std::fs::write(dir.path().join(state::STATE), b"garbage").unwrap();
        assert!(go_on(&small(), dir.path()).err().unwrap().to_string().contains(state::STATE));
    }

    #[test]
    fn divergence_is_a_typed_error_and_the_best_stays() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            TrainingConfig { learning_rate: 10.0, clip_norm: 0.0, warmup_steps: 0, steps: 200, ..small() };
        let error = job::run(start(&config, dir.path()).unwrap(), |_| ()).unwrap_err();
        assert!(matches!(error, Error::Diverged { .. }), "{error}");
        Checkpoint::load(dir.path()).unwrap();
    }

    #[test]
    fn patience_ends_a_run_that_no_longer_improves() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            TrainingConfig { steps: 100_000, learning_rate: 1e-9, validate_every: 1, patience: 3, ..small() };
        let config = TrainingConfig { warmup_steps: 0, min_learning_rate: 0.0, ..config };
        let fitted = job::run(start(&config, dir.path()).unwrap(), |_| ()).unwrap();
        assert!(fitted.early && fitted.steps < 2000, "{fitted:?}");
    }
}
