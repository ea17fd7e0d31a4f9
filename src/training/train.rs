//! [`Train`]: a whole training as one job, from reading the data to the last step, for whoever has other things to do:
//! a running game, the inspector.
//!
//! Between two steps it can be paused and stopped. However it ends, its directory can be gone on with: a job that
//! is dropped saves first, unless it failed or panicked; then the last resume point stands.

use super::directory::Claim;
use super::fit::{Fit, RunSetup};
use super::progress::{Fitted, Progress};
use crate::error::Result;
use crate::job::Job;
use crate::nn::Compute;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

type Prepare = dyn Fn() -> Result<RunSetup> + Send + Sync;

/// What is to be trained, and where to. Nothing is read before the training begins.
#[derive(Clone)]
pub struct TrainingRun {
    out: PathBuf,
    resume: bool,
    prepare: Arc<Prepare>,
}

impl TrainingRun {
    /// A new run in the directory `out`, which must hold neither a run nor a model. `prepare` reads and tokenises the
    /// data; it is called off the game's thread, once for each start.
    pub fn new(
        out: impl Into<PathBuf>,
        prepare: impl Fn() -> Result<RunSetup> + Send + Sync + 'static,
    ) -> Self {
        Self { out: out.into(), resume: false, prepare: Arc::new(prepare) }
    }

    /// What `skald train DOMAIN` does: config and data are files, which `prepare` reads when the training begins; the
    /// model's card says the command.
    pub(crate) fn from_files(
        domain: &str,
        config: PathBuf,
        data: Vec<PathBuf>,
        out: PathBuf,
        prepare: impl Fn(&Path, &[PathBuf]) -> Result<RunSetup> + Send + Sync + 'static,
    ) -> Self {
        let names: Vec<String> = data.iter().map(|path| path.display().to_string()).collect();
        let command = format!(
            "skald train {domain} --config {} --data {} --out {}",
            config.display(),
            names.join(" "),
            out.display()
        );
        Self::new(out, move || {
            let mut prepared = prepare(&config, &data)?;
            prepared.card.provenance.command.clone_from(&command);
            Ok(prepared)
        })
    }

    /// Goes on with the run in the directory instead. Config and data must be those it was started with.
    #[must_use]
    pub fn resume(self) -> Self {
        Self { resume: true, ..self }
    }

    /// The run's directory.
    pub fn out(&self) -> &Path {
        &self.out
    }
}

/// What whoever started a training wants of it.
#[derive(Clone, Debug, Default)]
pub struct TrainControl(Arc<AtomicU8>);

const GO_ON: u8 = 0;
const PAUSE: u8 = 1;
const STOP: u8 = 2;

impl TrainControl {
    /// Lets it end with [`Trained::Paused`] at its next step, unless it is being stopped.
    pub fn pause(&self) {
        let _ = self.0.compare_exchange(GO_ON, PAUSE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Takes [`Self::pause`] back.
    pub fn resume(&self) {
        let _ = self.0.compare_exchange(PAUSE, GO_ON, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Lets it save and end with [`Trained::Stopped`] at its next step.
    pub fn stop(&self) {
        self.0.store(STOP, Ordering::Relaxed);
    }

    /// Whether it is to rest.
    pub fn pauses(&self) -> bool {
        self.0.load(Ordering::Relaxed) == PAUSE
    }
}

/// How a [`Train`] ended.
pub enum Trained {
    /// The run is whole.
    Finished(Fitted),
    /// It was asked to stop and has saved, at this optimiser step. `None`: it had not begun, and left nothing behind.
    Stopped(Option<u64>),
    /// It was asked to pause and has saved. Step it again to go on.
    Paused(Box<Train>),
}

/// The job. Its first step prepares the data, and tells `None`; the others are those of [`Fit`].
pub struct Train {
    run: TrainingRun,
    compute: Compute,
    control: TrainControl,
    fit: Option<Fit>,
    /// Whether there is something to save.
    unsaved: bool,
}

impl Train {
    /// A training that has not begun.
    pub fn new(run: TrainingRun, compute: Compute) -> Self {
        Self { run, compute, control: TrainControl::default(), fit: None, unsaved: false }
    }

    /// The reins.
    pub fn control(&self) -> TrainControl {
        self.control.clone()
    }

    fn prepare(&self) -> Result<Fit> {
        let (run, compute) = (&self.run, &self.compute);
        // Claimed before the data is read, which may be long.
        let claim = Claim::take(&run.out, run.resume)?;
        compute.pool()?.install(|| Fit::begin((run.prepare)()?, claim, compute))
    }

    /// Takes the run out, saved.
    fn put_down(&mut self) -> Result<Option<Fit>> {
        let mut fit = self.fit.take();
        if let Some(fit) = &mut fit
            && std::mem::take(&mut self.unsaved)
        {
            fit.save()?;
        }
        Ok(fit)
    }
}

impl Job for Train {
    type Output = Trained;
    type Update = Option<Progress>;

    fn step(&mut self) -> Result<ControlFlow<Trained, Option<Progress>>> {
        match self.control.0.load(Ordering::Relaxed) {
            STOP => {
                let fit = self.put_down()?;
                return Ok(ControlFlow::Break(Trained::Stopped(fit.map(|fit| fit.standing().step))));
            }
            PAUSE => {
                let mut rest = Self::new(self.run.clone(), self.compute.clone());
                rest.control = self.control();
                rest.fit = self.put_down()?;
                return Ok(ControlFlow::Break(Trained::Paused(Box::new(rest))));
            }
            _ => {}
        }
        // Not within `self` while it works: what fails or panics is not saved.
        let Some(mut fit) = self.fit.take() else {
            self.fit = Some(self.prepare()?);
            return Ok(ControlFlow::Continue(None));
        };
        match fit.step()? {
            ControlFlow::Continue(progress) => {
                (self.fit, self.unsaved) = (Some(fit), true);
                Ok(ControlFlow::Continue(Some(progress)))
            }
            ControlFlow::Break(fitted) => Ok(ControlFlow::Break(Trained::Finished(fitted))),
        }
    }
}

impl Drop for Train {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure; the last resume point stands.
        let _ = self.put_down();
    }
}
