//! What a game sends to and hears from its trainings. Outcomes are `EntityEvent`s on the training's entity, and
//! `Message`s.

use crate::error::Error;
use crate::training::{Fitted, Progress, TrainingRun};
use bevy::prelude::*;
use std::sync::Arc;

/// Starts a training on an entity, which gets the component [`super::Training`].
#[derive(EntityEvent, Clone)]
pub struct StartTraining {
    /// Which entity.
    #[event_target]
    pub entity: Entity,
    /// What is trained.
    pub run: TrainingRun,
    /// How many threads compute, each with the lowest priority (0: one for each core). The same run gives the same
    /// weights for the same number.
    pub threads: usize,
}

impl StartTraining {
    /// Starts `run` on `entity`, with one thread.
    pub fn new(entity: Entity, run: TrainingRun) -> Self {
        Self { entity, run, threads: 1 }
    }

    /// With so many threads.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }
}

/// Saves and lets the training rest after the step under way.
#[derive(EntityEvent, Clone, Copy, Debug)]
pub struct PauseTraining(pub Entity);

/// Goes on with a training that was paused.
#[derive(EntityEvent, Clone, Copy, Debug)]
pub struct ResumeTraining(pub Entity);

/// Saves and ends the training after the step under way: [`TrainingStopped`].
#[derive(EntityEvent, Clone, Copy, Debug)]
pub struct StopTraining(pub Entity);

/// The training has come further. At most one a frame.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct TrainingProgress {
    /// Which training.
    #[event_target]
    pub entity: Entity,
    /// Where it stands.
    pub progress: Progress,
    /// Every optimiser step that became whole since the last event, in order: a curve of these misses none.
    pub completed: Vec<Progress>,
}

/// The training is done; its best model is in `fitted.checkpoint`.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct TrainingFinished {
    /// Which training.
    #[event_target]
    pub entity: Entity,
    /// How it went.
    pub fitted: Fitted,
}

/// The training was stopped and has saved. [`TrainingRun::resume`] goes on with it.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct TrainingStopped {
    /// Which training.
    #[event_target]
    pub entity: Entity,
    /// The optimiser step it stands at. `None`: it had not begun, and left nothing to resume.
    pub step: Option<u64>,
}

/// The training failed. What it saved last stands, and [`TrainingRun::resume`] goes on from there.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct TrainingFailed {
    /// Which training.
    #[event_target]
    pub entity: Entity,
    /// Why.
    pub error: Arc<Error>,
}
