//! [`SkaldPlugins`]: everything a game adds.

use crate::decode::{Sampling, Scripted};
use crate::dialogue::{DialoguePlugin, Speaker};
use crate::level::LevelPlugin;
use crate::player::plugin::PlayerPlugin;
use crate::quest::plugin::QuestPlugin;
use crate::runtime::{Execution, GeneratePlugin, RuntimePlugin, TrainingPlugin};
use bevy::app::{PluginGroup, PluginGroupBuilder};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything a game adds, after `DefaultPlugins` (or `MinimalPlugins` and `AssetPlugin`).
///
/// Added by default:
///
/// | plugin | gives |
/// |---|---|
/// | [`RuntimePlugin`] | the compute worker, model assets |
/// | [`GeneratePlugin`] | `Generate`: answers and values of any model |
/// | [`TrainingPlugin`] | `StartTraining`, trainings in the background |
/// | [`DialoguePlugin`] | `Npc`, `Say`, lines |
/// | [`PlayerPlugin`] | `PlayerDid`, `PlayerProfile` |
/// | [`QuestPlugin`] | `OfferQuest`, `QuestLog` |
/// | [`LevelPlugin`] | `GenerateLevel`, levels with their solutions |
///
/// Added separately:
///
/// | plugin | gives |
/// |---|---|
/// | [`crate::recording::plugin::RecordingPlugin`] | `app.record::<M>()` |
/// | [`crate::runtime::SkaldDiagnosticsPlugin`] | figures in Bevy's `DiagnosticsStore` |
#[derive(Clone)]
pub struct SkaldPlugins {
    /// Who speaks. The default is the model at `models/village` among the app's assets.
    pub speaker: Speaker,
    /// Derives every random stream: the same seed and the same talk give the same lines.
    pub seed: u64,
    /// Where the work is done.
    pub execution: Execution,
    /// By when an NPC must have begun to answer; then an authored line is shown.
    pub deadline: Duration,
    /// How words are drawn.
    pub sampling: Sampling,
}

impl Default for SkaldPlugins {
    fn default() -> Self {
        Self {
            speaker: Speaker::Model("models/village".into()),
            seed: 0,
            execution: Execution::default(),
            deadline: Duration::from_millis(1500),
            sampling: Sampling::default(),
        }
    }
}

impl SkaldPlugins {
    /// With the model at this asset path (a checkpoint directory).
    #[must_use]
    pub fn with_model(self, path: impl Into<String>) -> Self {
        Self { speaker: Speaker::Model(path.into()), ..self }
    }

    /// With this seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// With the work done there.
    #[must_use]
    pub fn with_execution(self, execution: Execution) -> Self {
        Self { execution, ..self }
    }

    /// With every line the same, for tests: deterministic, four steps a frame.
    #[must_use]
    pub fn scripted(self, line: impl Into<String>) -> Self {
        let line = line.into();
        let make = move || Box::new(Scripted::line(line.clone())) as Box<dyn crate::decode::Backend>;
        Self {
            speaker: Speaker::Backend(Arc::new(Mutex::new(make))),
            execution: Execution::PerFrame(4),
            ..self
        }
    }
}

impl PluginGroup for SkaldPlugins {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>()
            .add(RuntimePlugin { execution: self.execution })
            .add(GeneratePlugin)
            .add(TrainingPlugin)
            .add(LevelPlugin)
            .add(DialoguePlugin {
                speaker: self.speaker,
                seed: self.seed,
                sampling: self.sampling,
                deadline: self.deadline,
            })
            .add(PlayerPlugin)
            .add(QuestPlugin)
    }
}
