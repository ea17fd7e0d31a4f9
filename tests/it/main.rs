//! One binary for all integration tests.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail as the tests do")]

#[cfg(feature = "bevy")]
mod dialogue;
#[cfg(feature = "cli")]
mod evaluation;
#[cfg(feature = "bevy")]
mod game_training;
mod recording;
#[cfg(feature = "cli")]
mod training;
