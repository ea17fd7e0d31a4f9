//! [`Fit`]: the training job. One optimiser step a step; batches of validation and resume points in between.

use super::calibration::{Calibration, cooled};
use super::config::TrainingConfig;
use super::curve::Curve;
use super::data_card::{DataCard, DataNotes};
use super::directory::{Claim, Start};
use super::environment::record_start;
use super::feed::{Feed, Held};
use super::learner::{Learner, LossSum, Step, learner};
use super::packing::PackedRow;
use super::private::PrivacyState;
use super::progress::{Fitted, Progress, Stage};
use super::source::DataSets;
use super::state::{self, Standing};
use super::tensorboard::EventFile;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::model::{Card, Checkpoint, ModelConfig, Weights};
use crate::nn::{Compute, Tensors};
use crate::seed::Seed;
use crate::text::Tokenizer;
use rayon::ThreadPool;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Fits a model to data.
///
/// The directory it writes is a checkpoint (the model to keep so far) with the run's state, curve and data
/// report beside. It can be killed at any moment: [`Fit::resume`] goes on from the last resume point, and
/// curve and weights come out as if nothing had happened (same machine, same number of threads).
pub struct Fit {
    config: TrainingConfig,
    tokenizer: Tokenizer,
    data: DataSets,
    card: Card,
    out: PathBuf,
    compute: Compute,
    /// The threads that compute, as many as were asked for whatever else the process does.
    pool: Arc<ThreadPool>,
    shape: ModelConfig,
    learner: Box<dyn Learner>,
    standing: Standing,
    feed: Feed,
    held: Held,
    /// The validation under way.
    tally: Tally,
    /// Tokens a second of the last optimiser step.
    speed: f64,
    curve: Curve,
    events: EventFile,
    seed: Seed,
    about: DataCard,
    _claim: Claim,
}

/// What a run is made from.
pub struct RunSetup {
    /// How it learns.
    pub config: TrainingConfig,
    /// How its text becomes tokens.
    pub tokenizer: Tokenizer,
    /// What it learns, and what is held out.
    pub data: DataSets,
    /// What the model is; its provenance is filled in.
    pub card: Card,
    /// The model it begins with: the one that the config names, or weights of the config's own `model` that are more than
    /// noise.
    pub base: Option<(ModelConfig, Weights)>,
    /// What is to be said of the data.
    pub notes: DataNotes,
}

/// Where a run's adapter is saved, within its directory.
const ADAPTER: &str = "adapter";

/// How far a validation has come.
#[derive(Clone, Default)]
struct Tally {
    batches: usize,
    /// The part and the row that come next.
    at: (usize, usize),
    loss: LossSum,
    calibration: Calibration,
}

impl Fit {
    /// A new run in the directory `out`, which must hold neither a run nor a model.
    pub fn new(setup: RunSetup, out: &Path, compute: &Compute) -> Result<Self> {
        Self::begin(setup, Claim::take(out, false)?, compute)
    }

    /// Goes on with the run in `out`. Config, data and base must be those it was started with. A run that was
    /// killed before its first resume point begins anew.
    pub fn resume(setup: RunSetup, out: &Path, compute: &Compute) -> Result<Self> {
        Self::begin(setup, Claim::take(out, true)?, compute)
    }

    /// Begins or goes on, in a directory that was claimed before. A new run saves its first resume point
    /// at once.
    pub fn begin(setup: RunSetup, claim: Claim, compute: &Compute) -> Result<Self> {
        let RunSetup { config, tokenizer, data, card, base, notes } = setup;
        config.validate("config")?;
        let (shape, base) = match (base, &config.model) {
            (Some((shape, weights)), None) => (shape, Some(weights)),
            (None, Some(model)) => (model.config(tokenizer.vocab_size()), None),
            // From scratch, but not from noise.
            (Some((shape, weights)), Some(model)) if shape == model.config(tokenizer.vocab_size()) => {
                (shape, Some(weights))
            }
            _ => {
                let remedy = "give the model that `base` names, and only then";
                return Err(Error::config(
                    "config",
                    "base",
                    "model and config do not belong together",
                    remedy,
                ));
            }
        };
        fits(&config, &tokenizer, &shape)?;
        let hash = data_hash(&data, base.as_ref());
        let about = notes.card(&data, &hash)?;
        let begun = claim.start();
        let resumed = match begun {
            Start::Fresh => None,
            _ => Some(load(&claim, &config, &hash)?),
        };
        let mut learner = learner(&config, &shape, base.as_ref(), compute)?;
        let standing = match resumed {
            None => Standing {
                privacy: config.privacy.map(|_| PrivacyState::new()).transpose()?,
                ..Standing::new(config.clone(), hash)
            },
            Some((standing, tensors)) => {
                let file = claim.out().join(state::STATE).display().to_string();
                learner.load_state(&tensors, standing.step, &file)?;
                standing
            }
        };
        let parts = Parts { config, tokenizer, data, card, claim, shape, learner, standing, about };
        let mut fit = Self::assemble(parts, compute)?;
        fit.pool.install(|| record_start(&fit.out, begun))?;
        fit.about.save(&fit.out)?;
        if begun == Start::Fresh {
            fit.save()?;
        } else if fit.standing.kept() {
            // The model of this very step may not have come to the disk whole: its state is always saved first.
            fit.save_model()?;
        }
        Ok(fit)
    }

    fn assemble(parts: Parts, compute: &Compute) -> Result<Self> {
        let Parts { config, tokenizer, data, card, claim, shape, learner, standing, about } = parts;
        let held = Held::new(&*data.validation, config.sequence)?;
        let seed = Seed::new(config.seed);
        let feed = Feed::new(&*data.train, &config, &standing)?;
        let pool = compute.pool()?;
        let last = if standing.due() { standing.step.checked_sub(1) } else { Some(standing.step) };
        let curve = Curve::open(claim.out(), last)?;
        let events = EventFile::open(claim.out(), last)?;
        let out = claim.out().to_owned();
        Ok(Self {
            config,
            tokenizer,
            data,
            card,
            out,
            compute: compute.clone(),
            pool: Arc::new(pool),
            shape,
            learner,
            standing,
            feed,
            held,
            tally: Tally::default(),
            speed: 0.0,
            curve,
            events,
            seed,
            about,
            _claim: claim,
        })
    }

    /// Where the run stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What it learns from.
    pub fn data_card(&self) -> &DataCard {
        &self.about
    }

    /// Saves a resume point now (before stopping). A validation under way is done again after a resume.
    pub fn save(&mut self) -> Result<()> {
        self.curve.sync()?;
        self.events.sync()?;
        let tensors: Tensors = self.learner.state()?;
        state::save(&self.out, &self.standing, &tensors)
    }

    /// One batch of the validation; its loss after the last.
    fn validate(&mut self) -> Result<Option<f64>> {
        let calibration = self.config.calibrate.then_some(&mut self.tally.calibration);
        let (rows, next) = self.held.batch(&*self.data.validation, self.tally.at, self.config.rows)?;
        let loss = self.learner.evaluate(rows, calibration)?;
        if !loss.nats.is_finite() {
            let loss = (loss.nats / loss.weight) as f32;
            return Err(Error::Diverged { step: self.standing.step, loss });
        }
        self.tally.loss.add(loss);
        self.tally.batches += 1;
        if let Some(next) = next {
            self.tally.at = next;
            return Ok(None);
        }
        let tally = std::mem::take(&mut self.tally);
        self.standing.calibration = tally.calibration.best();
        let pairs = self.config.objective.is_preference();
        self.standing.pair_accuracy = pairs.then(|| tally.loss.right / tally.loss.weight);
        Ok(Some(tally.loss.nats / tally.loss.weight))
    }

    fn save_model(&self) -> Result<()> {
        let mut card = self.card.clone();
        card.stored_as = self.config.stored_as;
        let provenance = &mut card.provenance;
        provenance.data_hash.clone_from(&self.standing.data_hash);
        (provenance.seed, provenance.steps) = (self.config.seed, self.standing.step);
        let mut weights = self.learner.weights()?;
        let mut val_loss = self.standing.val_loss;
        if let Some((temperature, loss)) = self.standing.calibration {
            weights = cooled(&weights, temperature)?;
            val_loss = Some(loss);
            provenance.figures.insert("calibration_temperature".to_owned(), temperature);
        }
        let accuracy = self.standing.pair_accuracy.map(|share| ("pair_accuracy".to_owned(), share));
        provenance.figures.extend(accuracy);
        if let (Some(epsilon), Some(privacy)) = (self.epsilon(), self.config.privacy) {
            let figures = [("privacy_epsilon", epsilon), ("privacy_delta", privacy.delta)];
            provenance.figures.extend(figures.map(|(name, value)| (name.to_owned(), value)));
        }
        provenance.figures.extend(val_loss.map(|loss| ("val_loss".to_owned(), loss)));
        let checkpoint =
            Checkpoint { config: self.shape.clone(), weights, tokenizer: self.tokenizer.clone(), card };
        checkpoint.save(&self.out)?;
        match (self.learner.adapter()?, &self.shape) {
            (Some(adapter), ModelConfig::Transformer(shape)) => adapter.save(&self.out.join(ADAPTER), shape),
            _ => Ok(()),
        }
    }

    fn learn(&mut self) -> Result<()> {
        let begun = Instant::now();
        let step = self.standing.step + 1;
        let rows = self.feed.next(&*self.data.train, &mut self.standing)?;
        let private =
            self.feed.private(&*self.data.train, self.config.privacy.as_ref(), &self.standing, step);
        let plan = Step {
            number: step,
            lr: self.config.rate(step),
            seed: self.seed.derive("dropout").derive_index(step),
            // Three times what guessing costs.
            limit: 3.0 * (self.tokenizer.vocab_size().max(2) as f32).ln(),
        };
        let value = self.learner.learn(&rows, private.as_ref(), &plan)?;
        self.standing.privacy = self.spent();
        let standing = &mut self.standing;
        (standing.step, standing.validated, standing.train_loss) = (step, false, Some(value));
        let players = private.iter().flat_map(|batch| batch.units.iter().flatten());
        let count: usize = rows.iter().chain(players).map(PackedRow::count).sum();
        self.speed = count as f64 / begun.elapsed().as_secs_f64().max(1e-9);
        Ok(())
    }

    /// What hiding the players has cost after one more step.
    fn spent(&self) -> Option<PrivacyState> {
        let (units, privacy) = (self.feed.units()?, self.config.privacy.as_ref()?);
        let mut spent = self.standing.privacy.clone()?;
        spent.accountant.step(privacy.noise_multiplier, units.rate(privacy));
        Some(spent)
    }

    /// What hiding the players has cost so far.
    fn epsilon(&self) -> Option<f64> {
        Some(self.standing.privacy.as_ref()?.accountant.epsilon(self.config.privacy?.delta))
    }

    /// Whether another step would cost more than may be spent.
    fn is_spent(&self) -> bool {
        let most = self.config.privacy.and_then(|privacy| Some((privacy.max_epsilon?, privacy.delta)));
        most.is_some_and(|(most, delta)| {
            self.spent().is_some_and(|spent| spent.accountant.epsilon(delta) > most)
        })
    }

    /// The step is whole: its line, and what is to be saved, in the order that a kill between any two
    /// leaves a run that can go on (the curve, then the state, then the model).
    fn complete(&mut self, val_loss: Option<f64>) -> Result<Progress> {
        let progress = self.progress(Stage::Stepped, val_loss);
        self.curve.add(&progress)?;
        self.events.add(&progress)?;
        if let Some(loss) = val_loss {
            self.standing.judge(loss);
        }
        let step = self.standing.step;
        let kept = val_loss.is_some() && self.standing.kept();
        if kept || (step > 0 && step.is_multiple_of(self.config.checkpoint_every)) {
            self.save()?;
        }
        if kept {
            self.save_model()?;
        }
        Ok(progress)
    }

    fn progress(&self, stage: Stage, val_loss: Option<f64>) -> Progress {
        Progress {
            step: self.standing.step,
            steps: self.config.steps,
            train_loss: self.standing.train_loss,
            val_loss,
            pair_accuracy: self.standing.pair_accuracy.filter(|_| val_loss.is_some()),
            epsilon: self.epsilon(),
            lr: self.config.rate(self.standing.step),
            tokens_per_s: self.speed,
            stage,
        }
    }

    fn advance(&mut self) -> Result<ControlFlow<Fitted, Progress>> {
        if !self.standing.due() {
            let patience = self.config.patience;
            let early = (patience > 0 && self.standing.since_best >= patience) || self.is_spent();
            if early || self.standing.step >= self.config.steps {
                self.save()?;
                return Ok(ControlFlow::Break(self.fitted(early)));
            }
            self.learn()?;
            if !self.standing.due() {
                return self.complete(None).map(ControlFlow::Continue);
            }
        } else if let Some(loss) = self.validate()? {
            return self.complete(Some(loss)).map(ControlFlow::Continue);
        }
        let of = self.held.batches(self.config.rows).max(self.tally.batches);
        let stage = Stage::Validating { done: self.tally.batches, of };
        Ok(ControlFlow::Continue(self.progress(stage, None)))
    }

    fn fitted(&self, early: bool) -> Fitted {
        let standing = &self.standing;
        Fitted {
            steps: standing.step,
            best_val_loss: standing.best_val_loss.unwrap_or(f64::NAN),
            best_step: standing.best_step,
            first_val_loss: standing.first_val_loss.unwrap_or(f64::NAN),
            early,
            epsilon: self.epsilon(),
            seconds: standing.seconds,
            checkpoint: self.out.clone(),
        }
    }
}

/// What a new run is assembled of.
struct Parts {
    config: TrainingConfig,
    tokenizer: Tokenizer,
    data: DataSets,
    card: Card,
    claim: Claim,
    shape: ModelConfig,
    learner: Box<dyn Learner>,
    standing: Standing,
    about: DataCard,
}

/// Whether rows and tokens of a run fit the model.
fn fits(config: &TrainingConfig, tokenizer: &Tokenizer, shape: &ModelConfig) -> Result<()> {
    if config.sequence > shape.context() {
        let reason =
            format!("{} tokens do not fit the base's context of {}", config.sequence, shape.context());
        return Err(Error::config("config", "sequence", reason, "choose a shorter one"));
    }
    if tokenizer.vocab_size() > shape.vocab_size() {
        return Err(Error::Vocabulary {
            file: "tokenizer".into(),
            reason: format!("it has {} tokens and the model {}", tokenizer.vocab_size(), shape.vocab_size()),
            remedy: "use the base's own tokenizer".into(),
        });
    }
    Ok(())
}

/// The resume point of a run, which must be one of this config and this data.
fn load(claim: &Claim, config: &TrainingConfig, hash: &str) -> Result<(Standing, Tensors)> {
    let (standing, tensors) = state::load(claim.out())?;
    let file = claim.out().join(state::STATE).display().to_string();
    if let Some((field, reason)) = state::difference(&standing.config, config) {
        return Err(Error::config(file, field, reason, "give the config the run was started with"));
    }
    if standing.data_hash != hash {
        let reason = "the data (or the base) is not what the run was started with";
        return Err(Error::config(file, "--data", reason, "give the same files, or start a new run"));
    }
    Ok((standing, tensors))
}

fn data_hash(data: &DataSets, base: Option<&Weights>) -> String {
    let base = base.map_or_else(String::new, |weights| format!(" {}", weights.hash()));
    let all = format!("{} {}{base}", data.train.hash(), data.validation.hash());
    blake3::hash(all.as_bytes()).to_hex().to_string()
}

impl Job for Fit {
    type Output = Fitted;
    type Update = Progress;

    fn step(&mut self) -> Result<ControlFlow<Fitted, Progress>> {
        let begun = Instant::now();
        let told = if self.compute.device.is_cpu() {
            Arc::clone(&self.pool).install(|| self.advance())
        } else {
            self.advance()
        };
        self.standing.seconds += begun.elapsed().as_secs_f64();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;
    use crate::training::config::tests::small;
    use crate::training::text_source::text_sets;

    const TEXT: &str = "the cat sat on the mat and the dog sat on the log and so on and on they sat ";

    fn setup(config: &TrainingConfig) -> RunSetup {
        let text = TEXT.repeat(12);
        let tokenizer = Tokenizer::characters(&text).unwrap();
        let data = text_sets(&text, &tokenizer, config.sequence).unwrap();
        let (card, notes) = (Card::new("text"), DataNotes::default());
        RunSetup { config: config.clone(), tokenizer, data, card, base: None, notes }
    }

    fn start(config: &TrainingConfig, out: &Path) -> Result<Fit> {
        Fit::new(setup(config), out, &Compute::cpu(2))
    }

    fn go_on(config: &TrainingConfig, out: &Path) -> Result<Fit> {
        Fit::resume(setup(config), out, &Compute::cpu(2))
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
    fn a_run_killed_within_a_validation_goes_on_with_the_same_curve() {
        let config = TrainingConfig { rows: 1, ..small() };
        let (straight, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        job::run(start(&config, straight.path()).unwrap(), |_| ()).unwrap();
        let mut fit = start(&config, broken.path()).unwrap();
        let mut halves = 0;
        // Stopped in the midst of the validation of step 5, saved there, and later dropped unsaved.
        while halves < 2 {
            let ControlFlow::Continue(progress) = fit.step().unwrap() else { unreachable!() };
            halves += usize::from(progress.step == 5 && progress.stage != Stage::Stepped);
        }
        fit.save().unwrap();
        drop(fit);
        let mut fit = go_on(&config, broken.path()).unwrap();
        assert_eq!(fit.standing().step, 5);
        let _ = fit.step().unwrap();
        drop(fit);
        job::run(go_on(&config, broken.path()).unwrap(), |_| ()).unwrap();
        let read = |dir: &Path| std::fs::read_to_string(dir.join("curve.jsonl")).unwrap();
        assert_eq!(read(straight.path()), read(broken.path()));
        // A finished run that is resumed says the same again.
        let again = job::run(go_on(&config, broken.path()).unwrap(), |_| ()).unwrap();
        assert_eq!(again.steps, config.steps);
        assert_eq!(read(straight.path()), read(broken.path()));
    }

    #[test]
    fn a_best_model_that_was_half_written_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut fit = start(&small(), dir.path()).unwrap();
        while fit.standing().best_val_loss.is_none() {
            let _ = fit.step().unwrap();
        }
        drop(fit);
        let whole = Checkpoint::load(dir.path()).unwrap().weights.hash();
        // Killed between the files of a checkpoint.
        std::fs::write(dir.path().join("model.safetensors"), b"half").unwrap();
        assert!(Checkpoint::load(dir.path()).is_err());
        drop(go_on(&small(), dir.path()).unwrap());
        assert_eq!(Checkpoint::load(dir.path()).unwrap().weights.hash(), whole);
    }

    #[test]
    fn a_changed_config_or_other_data_or_an_occupied_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(start(&small(), dir.path()).unwrap());
        let error = start(&small(), dir.path()).err().unwrap().to_string();
        assert!(error.contains("--resume"), "{error}");
        let other = TrainingConfig { learning_rate: 0.02, ..small() };
        let error = go_on(&other, dir.path()).err().unwrap().to_string();
        assert!(error.contains("`learning_rate`"), "{error}");
        let mut wider = small();
        wider.model.as_mut().unwrap().hidden_size = 32;
        let error = go_on(&wider, dir.path()).err().unwrap().to_string();
        assert!(error.contains("`model.hidden_size`"), "{error}");
        let mut other = setup(&small());
        other.data = text_sets(&TEXT.repeat(13), &other.tokenizer, 16).unwrap();
        let error = Fit::resume(other, dir.path(), &Compute::cpu(2)).err().unwrap();
        assert!(error.to_string().contains("--data"), "{error}");
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
    fn the_last_model_is_kept_when_asked_for_though_it_is_not_the_best() {
        use crate::training::Keep;
        let dir = tempfile::tempdir().unwrap();
        // Too fast to settle: the last validation is not the best.
        let config = TrainingConfig { keep: Keep::Last, learning_rate: 0.5, validate_every: 1, ..small() };
        let config = TrainingConfig { schedule: crate::training::Schedule::Constant, ..config };
        let fitted = job::run(start(&config, dir.path()).unwrap(), |_| ()).unwrap();
        assert!(fitted.best_step < fitted.steps, "{fitted:?}");
        let whole = Checkpoint::load(dir.path()).unwrap();
        assert_eq!(whole.card.provenance.steps, fitted.steps);
        std::fs::write(dir.path().join("model.safetensors"), b"half").unwrap();
        drop(go_on(&config, dir.path()).unwrap());
        assert_eq!(Checkpoint::load(dir.path()).unwrap().weights.hash(), whole.weights.hash());
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

    #[test]
    fn an_adapter_is_trained_on_a_frozen_base_and_resumes() {
        use crate::training::Adaptation;
        let dir = tempfile::tempdir().unwrap();
        job::run(start(&small(), dir.path()).unwrap(), |_| ()).unwrap();
        let base = Checkpoint::load(dir.path()).unwrap();
        let targets = vec!["q_proj".into(), "up_proj".into()];
        let adapter = Some(Adaptation::Lora { rank: 2, alpha: 4.0, targets });
        let config = TrainingConfig { model: None, base: Some("base".into()), adapter, ..small() };
        let setup = || {
            let base = Some((base.config.clone(), base.weights.clone()));
            RunSetup { config: config.clone(), base, ..setup(&small()) }
        };
        let (straight, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let fitted = job::run(Fit::new(setup(), straight.path(), &Compute::cpu(2)).unwrap(), |_| ()).unwrap();
        assert!(fitted.best_val_loss < fitted.first_val_loss);
        let mut fit = Fit::new(setup(), broken.path(), &Compute::cpu(2)).unwrap();
        while fit.standing().step < 9 {
            let _ = fit.step().unwrap();
        }
        drop(fit);
        job::run(Fit::resume(setup(), broken.path(), &Compute::cpu(2)).unwrap(), |_| ()).unwrap();
        assert_eq!(losses(straight.path()), losses(broken.path()));
        // The checkpoint is the base with the adapter that stands beside it.
        let merged = Checkpoint::load(broken.path()).unwrap().weights;
        let adapter = crate::model::Adapter::load(&broken.path().join(ADAPTER)).unwrap();
        assert_eq!(adapter.merge_into(&base.weights).unwrap().hash(), merged.hash());
        let mut other = setup();
        other.base = None;
        assert!(Fit::resume(other, broken.path(), &Compute::cpu(2)).is_err());
    }
}
