//! Many sequences at once: requests, the batched scheduler, sampling, constraints.
//!
//! A [`Backend`] answers [`Request`]s a step at a time. [`Scheduler`] runs our own model, [`Scripted`]
//! speaks authored lines. Not here: what a prompt means (the domains), and when a step is taken
//! (the runtime).

mod backend;
mod constraint;
mod grammar;
mod loaded;
mod sampling;
mod scheduler;
mod scripted;

pub use backend::{Backend, Finish, Output, Request, RequestId};
pub use constraint::Constraint;
pub use grammar::{Form, Grammar};
pub use loaded::LoadedModel;
pub use sampling::Sampling;
pub use scheduler::{Scheduler, SchedulerConfig};
pub use scripted::Scripted;
