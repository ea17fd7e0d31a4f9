//! One binary for all integration tests.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail as the tests do")]

#[cfg(feature = "bevy")]
mod dialogue;
mod erasure;
#[cfg(feature = "cli")]
mod evaluation;
#[cfg(feature = "bevy")]
mod game_training;
#[cfg(feature = "bevy")]
mod generate;
#[cfg(feature = "bevy")]
mod levels;
#[cfg(feature = "bevy")]
mod player;
#[cfg(feature = "bevy")]
mod quest;
mod recording;
#[cfg(feature = "cli")]
mod training;
