//! What a run tells on its way and at its end.

use serde::Serialize;
use std::path::PathBuf;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// An optimiser step is whole, its validation included: the line of `step` is complete.
    Stepped,
    /// The validation that belongs to `step` is under way, and its `val_loss` is still to come.
    Validating {
        /// Batches done.
        done: usize,
        /// Batches in all.
        of: usize,
    },
}

/// What training tells after each step of the job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Optimiser steps done. Step 0 is the untrained (or as yet unchanged) model.
    pub step: u64,
    /// Optimiser steps in all.
    pub steps: u64,
    /// The step's loss in nats a token, before its update (nothing at step 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f32>,
    /// The validation loss in nats a token, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Of held-out pairs, the share whose chosen answer gained on the other, when there was a validation of such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_accuracy: Option<f64>,
    /// What hiding the players has cost so far, where they are hidden: the run is (`epsilon`, delta)-private.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// Tokens learned from a second, validation and padding not counted (0 at step 0, left out in JSON).
    #[serde(skip_serializing_if = "is_zero")]
    pub tokens_per_s: f64,
    /// What the run is doing. Whoever writes a line for each step waits for [`Stage::Stepped`].
    #[serde(skip)]
    pub stage: Stage,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
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
    /// Whether it ended before `steps`, because validation no longer improved or the privacy budget was spent.
    pub early: bool,
    /// What hiding the players cost, where they were hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Seconds of work, those before a resume included.
    pub seconds: f64,
    /// Where the best model is.
    pub checkpoint: PathBuf,
}
