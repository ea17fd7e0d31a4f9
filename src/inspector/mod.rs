//! The inspector: what was recorded, what is trained, what is said and built, in one window.
//!
//! Three layers, each usable alone:
//!
//! * **panels** ([`panels`]): functions of a [`Snapshot`] and a `Ui` that return [`Request`]s. They read no file, start
//!   nothing and draw the same twice, because egui may draw a frame more than once. What somebody types before a button
//!   is pressed is kept in egui's own memory.
//! * **the desk** ([`Desk`]): opens stores and models, pages and trains on threads of its own, and answers through one
//!   bounded mailbox that is emptied once a frame.
//! * **the plugin** (`InspectorPlugin`, feature `inspector`): F12 in a game, `skald inspect` without one.
//!
//! The first two need egui and no Bevy (feature `panels`): their tests build in seconds, and any other host of egui can
//! show them. egui is the very one that `bevy_egui` has; Cargo unifies them.

mod desk;
mod frame;
mod layout;
mod look;
pub mod panels;
#[cfg(feature = "inspector")]
mod plugin;
mod request;
mod snapshot;
#[cfg(test)]
mod tests;

pub use desk::{Desk, Places};
pub use frame::show;
pub use layout::{Layout, Panel};
#[cfg(feature = "inspector")]
pub use plugin::InspectorPlugin;
pub use request::{Erase, Job, Recipe, Request};
pub use snapshot::{
    Answered, Curve, EvaluationView, LevelView, LiveView, ModelView, RunView, SeenToken, Snapshot, StoreView,
    TalkView, TrainingView,
};
