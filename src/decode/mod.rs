//! Many sequences at once: requests, the batched scheduler, sampling, constraints.
//!
//! A [`Backend`] answers [`Request`]s a step at a time. [`Scheduler`] runs our own model, [`Scripted`]
//! speaks authored lines. Not here: what a prompt means (the domains), and when a step is taken
//! (the runtime).

mod backend;
mod constraint;
mod grammar;
mod loaded;
mod prefix;
#[cfg(feature = "remote")]
mod remote;
mod sampling;
mod saved;
mod scheduler;
mod scripted;
mod sequence;

pub use backend::{Backend, Finish, Output, Prompt, Request, RequestId};
pub use constraint::Constraint;
pub use grammar::{Form, Grammar};
pub use loaded::LoadedModel;
#[cfg(test)]
pub(crate) use loaded::random_model;
#[cfg(feature = "remote")]
pub use remote::{Remote, RemoteConfig};
pub use sampling::{Dry, Sampling};
pub use saved::SavedKv;
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerCounters};
pub use scripted::Scripted;
