//! [`Training`]: a training in the background of a running game.
//!
//! Trigger [`StartTraining`] on an entity; [`TrainingFinished`], [`TrainingStopped`] or [`TrainingFailed`] ends it,
//! and nobody must handle any of them. It is the very run of `skald train`, as a job of the [`ComputeWorker`]: data is
//! read there too, its threads have the lowest priority, and a step begins only when no line is being spoken.
//! Despawning the entity, removing [`Training`], or closing the app stops it at its next step; it saves first.
//!
//! A designer's button that trains on what was recorded, and the game speaks with the result from its next line on:
//!
//! ```
//! # use bevy::prelude::*;
//! use bevy_skald::prelude::*;
//!
//! fn train(mut commands: Commands) {
//!     let data = ["assets/dialogue", "playtest.sqlite"];
//!     let run = TrainingRun::dialogue("assets/training/dialogue.ron", data, "out/village");
//!     let training = commands.spawn_empty().id();
//!     commands.trigger(StartTraining::new(training, run));
//! }
//!
//! fn speak(finished: On<TrainingFinished>, mut commands: Commands) {
//!     commands.trigger(SpeakWith::new(&finished.fitted.checkpoint));
//! }
//!
//! # let mut app = bevy_skald::runtime::harness::app();
//! # app.add_plugins(SkaldPlugins::default().scripted("Good morning."));
//! app.add_observer(speak);
//! ```
//!
//! A process that is killed loses at most the steps since the run's last resume point.

use super::training_events::{
    PauseTraining, ResumeTraining, StartTraining, StopTraining, TrainingFailed, TrainingFinished,
    TrainingProgress, TrainingStopped,
};
use super::{ComputeWorker, JobEvent, JobHandle, Lane, SkaldSystems};
use crate::nn::Compute;
use crate::training::{Progress, Stage, Train, TrainControl, Trained};
use bevy::ecs::event::EntityTrigger;
use bevy::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Trainings. Part of [`crate::SkaldPlugins`]; needs [`super::RuntimePlugin`].
#[derive(Clone, Debug, Default)]
pub struct TrainingPlugin;

impl Plugin for TrainingPlugin {
    fn build(&self, app: &mut App) {
        app.add_message::<TrainingProgress>()
            .add_message::<TrainingFinished>()
            .add_message::<TrainingStopped>()
            .add_message::<TrainingFailed>()
            .add_observer(start_training)
            .add_observer(pause_training)
            .add_observer(resume_training)
            .add_observer(stop_training)
            .add_systems(PreUpdate, receive_trainings.in_set(SkaldSystems::Receive));
    }
}

/// What a training is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingState {
    /// It reads and tokenises its data.
    Preparing,
    /// It learns.
    Running,
    /// It rests, saved.
    Paused,
    /// It was stopped, saved.
    Stopped,
    /// It is done.
    Finished,
    /// It failed.
    Failed,
}

/// A training: on its entity from [`StartTraining`] until it is removed, which stops it.
#[derive(Component)]
pub struct Training {
    state: TrainingState,
    progress: Option<Progress>,
    prepared: bool,
    control: TrainControl,
    work: Work,
}

enum Work {
    Running(JobHandle<Train>),
    /// The lock is never taken: it only makes the job shareable.
    Resting(Mutex<Box<Train>>),
    Ended,
}

impl Training {
    fn new(train: Train, worker: &ComputeWorker) -> Self {
        let control = train.control();
        let work = Work::Running(worker.spawn(Lane::Training, "training", train));
        Self { state: TrainingState::Preparing, progress: None, prepared: false, control, work }
    }

    /// What it is doing.
    pub fn state(&self) -> TrainingState {
        self.state
    }

    /// How far it has come.
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Whether it is at work or rests.
    pub fn is_open(&self) -> bool {
        !matches!(self.work, Work::Ended)
    }

    fn next(&self) -> Option<JobEvent<Option<Progress>, Trained>> {
        if let Work::Running(handle) = &self.work { handle.try_next() } else { None }
    }

    /// Lets a resting one be stepped again.
    fn wake(&mut self, worker: &ComputeWorker) {
        match std::mem::replace(&mut self.work, Work::Ended) {
            Work::Resting(train) => {
                let train = train.into_inner().unwrap_or_else(PoisonError::into_inner);
                self.state = if self.prepared { TrainingState::Running } else { TrainingState::Preparing };
                self.work = Work::Running(worker.spawn(Lane::Training, "training", *train));
            }
            other => self.work = other,
        }
    }

    fn end(&mut self, state: TrainingState) {
        (self.state, self.work) = (state, Work::Ended);
    }
}

fn start_training(
    start: On<StartTraining>,
    entities: Query<Option<&Training>>,
    worker: Res<ComputeWorker>,
    mut commands: Commands,
) {
    match entities.get(start.entity) {
        Err(_) => warn!("StartTraining was sent to {}, which is not there; spawn it first", start.entity),
        Ok(Some(training)) if training.is_open() => {
            warn!("StartTraining was sent to {}, which is training; stop that first", start.entity);
        }
        Ok(_) => {
            let train = Train::new(start.run.clone(), Compute::cpu(start.threads).politely());
            commands.entity(start.entity).insert(Training::new(train, &worker));
        }
    }
}

fn pause_training(pause: On<PauseTraining>, trainings: Query<&Training>) {
    if let Ok(training) = trainings.get(pause.0) {
        training.control.pause();
    }
}

fn resume_training(
    resume: On<ResumeTraining>,
    mut trainings: Query<&mut Training>,
    worker: Res<ComputeWorker>,
) {
    if let Ok(mut training) = trainings.get_mut(resume.0) {
        training.control.resume();
        training.wake(&worker);
    }
}

fn stop_training(stop: On<StopTraining>, mut trainings: Query<&mut Training>, worker: Res<ComputeWorker>) {
    if let Ok(mut training) = trainings.get_mut(stop.0) {
        training.control.stop();
        training.wake(&worker);
    }
}

/// Turns what the jobs told into events, progress once a frame and training.
fn receive_trainings(
    mut trainings: Query<(Entity, &mut Training)>,
    worker: Res<ComputeWorker>,
    mut commands: Commands,
) {
    for (entity, mut training) in &mut trainings {
        let (mut latest, mut completed, mut ended) = (None, Vec::new(), None);
        while let Some(event) = training.next() {
            match event {
                JobEvent::Update(progress) => {
                    training.prepared = true;
                    training.state = TrainingState::Running;
                    completed.extend(progress.iter().filter(|p| p.stage == Stage::Stepped).cloned());
                    latest = progress.or(latest);
                }
                JobEvent::Finished(end) => ended = Some(Ok(end)),
                JobEvent::Failed(error) => ended = Some(Err(error)),
            }
            if ended.is_some() {
                break;
            }
        }
        if let Some(progress) = latest {
            training.progress = Some(progress.clone());
            both(&mut commands, TrainingProgress { entity, progress, completed });
        }
        match ended {
            None => {}
            Some(Ok(Trained::Paused(train))) => {
                training.state = TrainingState::Paused;
                training.work = Work::Resting(Mutex::new(train));
                // It was to go on, or to stop, before it rested.
                if !training.control.pauses() {
                    training.wake(&worker);
                }
            }
            Some(Ok(Trained::Stopped(step))) => {
                training.end(TrainingState::Stopped);
                both(&mut commands, TrainingStopped { entity, step });
            }
            Some(Ok(Trained::Finished(fitted))) => {
                training.end(TrainingState::Finished);
                both(&mut commands, TrainingFinished { entity, fitted });
            }
            Some(Err(error)) => {
                warn!("{error}; the training has ended");
                training.end(TrainingState::Failed);
                both(&mut commands, TrainingFailed { entity, error: Arc::new(error) });
            }
        }
    }
}

fn both<'a, E>(commands: &mut Commands, event: E)
where
    E: EntityEvent + Message + Clone,
    E: Event<Trigger<'a> = EntityTrigger>,
{
    commands.trigger(event.clone());
    commands.write_message(event);
}
