//! Who plays: what a player does, will do next, and likes.
//!
//! A play history is a sequence of event tokens ([`EventVocabulary`]), read and continued by the crate's one sequence
//! model. Questions ("will they leave?") are tokens too, and so are the answers. Not here: what is made of it for the
//! player (`quest`), and Bevy outside `plugin.rs`.

mod answer;
mod attributes;
mod baselines;
mod churn;
mod events;
mod histories;
mod logistic;
mod model;
mod outcome;
#[cfg(feature = "bevy")]
pub mod plugin;
mod profile;
mod protocol;
mod source;
mod style;
mod together;
mod training;
mod vocabulary;

pub use answer::{ChurnTask, Task};
pub use attributes::Attributes;
pub use churn::evaluate_churn;
pub use events::{EventView, OutcomeView};
pub use histories::{Event, Histories, History};
pub use model::{Happened, PlayerModel, PlayerState};
pub use outcome::evaluate_outcome;
pub use profile::PlayerProfile;
pub use protocol::{Held, Protocol, evaluate_next};
pub use source::Split;
pub use style::{Axis, Clusters, Feed, StyleAxes, drift};
pub use training::{Begin, PlayerTraining};
pub use vocabulary::EventVocabulary;
