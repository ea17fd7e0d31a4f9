//! One binary for all integration tests.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail as the tests do")]

mod recording;
#[cfg(feature = "cli")]
mod training;
