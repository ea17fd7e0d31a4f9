//! Learns from how a game is played and gives it back as NPC dialogue.

pub mod decode;
pub mod dialogue;
pub mod error;
pub mod evaluation;
pub mod files;
pub mod job;
pub mod model;
pub mod nn;
pub mod recording;
#[cfg(feature = "bevy")]
pub mod runtime;
pub mod seed;
pub mod text;
pub mod training;

pub use error::{Error, Result};
