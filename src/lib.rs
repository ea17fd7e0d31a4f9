//! Learns from how a game is played and gives it back as NPC dialogue, made on the player's own machine.
//!
//! See the README for a tour; [`SkaldPlugins`] is where a game begins.

pub mod decode;
pub mod dialogue;
pub mod error;
pub mod evaluation;
pub mod files;
#[cfg(feature = "panels")]
pub mod inspector;
pub mod job;
pub mod level;
pub mod model;
pub mod nn;
pub mod player;
#[cfg(feature = "bevy")]
mod plugins;
pub mod quest;
pub mod recording;
#[cfg(feature = "bevy")]
pub mod runtime;
pub mod seed;
pub mod text;
pub mod training;

pub use error::{Error, Result};
#[cfg(feature = "bevy")]
pub use plugins::SkaldPlugins;

/// What a game needs, in one line.
#[cfg(feature = "bevy")]
pub mod prelude {
    pub use crate::SkaldPlugins;
    pub use crate::decode::Sampling;
    pub use crate::dialogue::{
        Act, Ambience, Creature, Deeds, DialogueModel, ExchangeJudged, Goal, Item, KnownTo, Line, LineFailed,
        LineFinished, LineGrew, LineJudged, LineOf, LineOutcome, LineStarted, Lines, LocatedIn, Memories,
        Npc, NpcAdapter, Persona, Place, Player, Say, SentenceFinished, SpeakWith, Speaker,
    };
    pub use crate::level::{
        ColumnsCame, GenerateLevel, LevelFailed, LevelFinished, LevelGrew, LevelRequest, LevelSolution,
        MoreColumns, TileGrid,
    };
    pub use crate::runtime::{
        DialogueStats, Execution, ModelAsset, ModelDirectoryAppExt, PauseTraining, ResumeTraining,
        SkaldDiagnosticsPlugin, SkaldSystems, StartTraining, StopTraining, Training, TrainingFailed,
        TrainingFinished, TrainingProgress, TrainingState, TrainingStopped,
    };
    pub use crate::training::TrainingRun;
}

/// The guide's code compiles.
#[cfg(all(doctest, feature = "bevy"))]
#[doc = include_str!("../docs/guide.md")]
struct GuideDoctests;

/// The README's code compiles.
#[cfg(all(doctest, feature = "bevy"))]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
