//! The Bevy side of compute: the worker, model assets, diagnostics, the test harness.
//!
//! `Receive` runs in `PreUpdate`, `Dispatch` in `PostUpdate`; `Update` belongs to the game. Not here: what
//! the work means (each domain's `plugin.rs`).

mod decoding;
mod diagnostics;
mod generate;
mod governor;
pub mod harness;
mod model_asset;
pub mod training;
mod training_events;
mod worker;

pub(crate) use decoding::Decoding;
pub use diagnostics::{DialogueStats, SkaldDiagnosticsPlugin};
pub use generate::{
    Generate, GeneratePlugin, GenerateStats, Generation, GenerationFailed, GenerationFinished,
};
pub use governor::FrameGovernor;
pub use model_asset::{LoadingModels, ModelAsset, ModelDirectoryAppExt, ModelLoader, ModelLoaderError};
pub use training::{Training, TrainingPlugin, TrainingState};
pub use training_events::{
    PauseTraining, ResumeTraining, StartTraining, StopTraining, TrainingFailed, TrainingFinished,
    TrainingProgress, TrainingStopped,
};
pub use worker::{ComputeWorker, Execution, JobEvent, JobHandle, Lane};

use bevy::prelude::*;
use std::sync::Arc;

/// The crate's system sets.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SkaldSystems {
    /// `PreUpdate`: what the worker has done becomes events and components.
    Receive,
    /// `PostUpdate`: what the game asked for is handed to the worker.
    Dispatch,
    /// `Last`: figures are written down.
    Measure,
}

/// The worker and the model assets.
#[derive(Clone, Debug, Default)]
pub struct RuntimePlugin {
    /// Where jobs are stepped.
    pub execution: Execution,
}

impl Plugin for RuntimePlugin {
    fn build(&self, app: &mut App) {
        let worker = match ComputeWorker::new(self.execution) {
            Ok(worker) => worker,
            // A machine that gives no thread still plays: the work is done inside the frame.
            Err(reason) => {
                warn!("{reason}; work is done inside the frame");
                let steps = Execution::PerFrame(1);
                ComputeWorker::new(steps).expect("no thread is started for PerFrame")
            }
        };
        let loading = LoadingModels::default();
        app.insert_resource(FrameGovernor::new(Arc::clone(worker.pace())))
            .insert_resource(loading.clone())
            .insert_resource(worker)
            .init_resource::<DialogueStats>()
            .init_asset::<ModelAsset>()
            .register_asset_loader(ModelLoader { loading })
            .configure_sets(PreUpdate, SkaldSystems::Receive)
            .configure_sets(PostUpdate, SkaldSystems::Dispatch)
            .configure_sets(Last, SkaldSystems::Measure)
            .add_systems(PostUpdate, step_in_frame.after(SkaldSystems::Dispatch))
            .add_systems(First, begin_frame)
            .add_systems(Last, end_frame.after(SkaldSystems::Measure));
    }
}

fn begin_frame(mut governor: ResMut<FrameGovernor>) {
    governor.begin();
}

fn end_frame(mut governor: ResMut<FrameGovernor>) {
    governor.end();
}

fn step_in_frame(worker: Res<ComputeWorker>) {
    worker.step_frame();
}
