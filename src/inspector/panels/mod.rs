//! The panels, a file each: functions of a [`super::Snapshot`] and a `Ui` that return [`super::Request`]s.

mod dialogue;
mod evaluation;
mod levels;
mod performance;
mod players;
mod privacy;
mod recordings;
mod training;

pub use dialogue::dialogue;
pub use evaluation::evaluation;
pub use levels::levels;
pub use performance::performance;
pub use players::players;
pub use privacy::privacy;
pub use recordings::recordings;
pub(super) use recordings::{EVENTS, SESSIONS};
pub use training::training;
