//! [`Backend`]: whatever answers prompts, many at a time.
//!
//! A prompt is text in which control tokens stand literally (`<player>`, `{place}`): whoever writes it
//! has cleaned what a player typed. Backends are stepped; nothing here blocks or spawns.

use super::constraint::Constraint;
use super::sampling::Sampling;
use crate::error::{Error, Result};
use crate::model::LoadedAdapter;
use crate::seed::Seed;
use crate::text::Message;
use std::sync::Arc;

/// Names a request within its backend. Unique for the backend's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text to go on with, control tokens literal.
    Text(String),
    /// A conversation, laid out as the model was taught. Control tokens in it lose their meaning. What does not fit the
    /// context is dropped from the middle: first messages of the system and the last ones stay.
    Chat(Vec<Message>),
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One answer that is wanted.
pub struct Request {
    /// What is to be answered.
    pub prompt: Prompt,
    /// How to draw.
    pub sampling: Sampling,
    /// The stream this answer draws from. The same model, prompt and seed give the same answer, alone
    /// or in any batch.
    pub seed: Seed,
    /// What may be said; nothing: anything.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Higher goes first when there is no room for all.
    pub priority: i32,
    /// What changes the model for this answer ([`crate::decode::LoadedModel::adapter`]); a backend without weights passes
    /// it over.
    pub adapter: Option<Arc<LoadedAdapter>>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token or text.
    Stop,
    /// `max_tokens`, or the model's context is full.
    Length,
}

/// What happened to a request in a step.
#[derive(Debug)]
pub enum Output {
    /// More text. Control tokens (acts, slots) stand literally; always whole characters.
    Delta {
        /// Which request.
        id: RequestId,
        /// The new text.
        text: String,
    },
    /// The answer is whole.
    Finished {
        /// Which request.
        id: RequestId,
        /// Why it ended.
        finish: Finish,
        /// How many tokens were generated.
        tokens: usize,
        /// The mean log-probability per token, in nats.
        mean_log_probability: f32,
        /// How many messages of a conversation did not fit the context.
        dropped: usize,
    },
    /// The answer cannot be had. What was said so far stands.
    Failed {
        /// Which request.
        id: RequestId,
        /// Why.
        error: Error,
    },
}

/// Answers prompts, many at a time, a step at a time.
pub trait Backend: Send {
    /// Takes a request. It starts in a later step.
    fn submit(&mut self, request: Request) -> RequestId;

    /// Forgets a request, at whatever point it is. One that is unknown or done is passed over.
    fn cancel(&mut self, id: RequestId);

    /// One step of every running sequence. `Err` is for the backend as a whole; a single request fails
    /// through [`Output::Failed`].
    fn step(&mut self, outputs: &mut Vec<Output>) -> Result<()>;

    /// Whether nothing is waiting or running.
    fn is_idle(&self) -> bool;

    /// Sets how many prompt tokens a step may take, so that steps stay short. A backend without prompts to prefill passes it
    /// over.
    fn limit(&mut self, _prompt_tokens: usize) {}

    /// Bytes of keys and values in memory.
    fn kv_bytes(&self) -> usize {
        0
    }
}
