//! What a game sends to and hears from its NPCs. Each event is an `EntityEvent` on the NPC and a `Message`.

use super::{Act, Goal, LineOutcome, RecordedExchange};
use crate::error::Error;
use bevy::prelude::*;
use std::sync::Arc;

/// Asks an NPC to answer. An empty text means that the player only walks up.
#[derive(EntityEvent, Clone, Debug)]
pub struct Say {
    /// Who is spoken to.
    #[event_target]
    pub to: Entity,
    /// Who speaks; nothing: the only [`super::Player`], or nobody in particular.
    pub by: Option<Entity>,
    /// What they say.
    pub text: String,
}

impl Say {
    /// `text`, said to `npc` by the player.
    pub fn new(npc: Entity, text: impl Into<String>) -> Self {
        Self { to: npc, by: None, text: text.into() }
    }
}

/// A line of an NPC: an entity from [`Say`] until it is judged, or the next line but twenty is said.
#[derive(Component, Clone, Debug)]
pub struct Line {
    /// What is shown so far.
    pub text: String,
    /// Whether more will come.
    pub open: bool,
}

/// Whose line it is.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[relationship(relationship_target = Lines)]
pub struct LineOf(pub Entity);

/// The lines of an NPC, oldest first. Despawned with it.
#[derive(Component, Clone, Debug, Default)]
#[relationship_target(relationship = LineOf, linked_spawn)]
pub struct Lines(Vec<Entity>);

/// An answer was asked for.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct LineStarted {
    /// Who will speak.
    #[event_target]
    pub npc: Entity,
    /// The line.
    pub line: Entity,
}

/// More words are there. At most one a frame and line.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct LineGrew {
    /// Who speaks.
    #[event_target]
    pub npc: Entity,
    /// The line.
    pub line: Entity,
    /// What is new.
    pub added: String,
    /// All of it so far.
    pub text: String,
}

/// A sentence is whole.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct SentenceFinished {
    /// Who speaks.
    #[event_target]
    pub npc: Entity,
    /// The line.
    pub line: Entity,
    /// The sentence.
    pub sentence: String,
}

/// The line is whole.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct LineFinished {
    /// Who spoke.
    #[event_target]
    pub npc: Entity,
    /// The line.
    pub line: Entity,
    /// Who was spoken to.
    pub player: Option<Entity>,
    /// All of it.
    pub text: String,
    /// What it does.
    pub act: Act,
    /// The quest it offers ([`Act::Offer`]) or pays for ([`Act::Thank`]).
    pub goal: Option<Goal>,
    /// The fact of the persona it tells.
    pub fact: Option<String>,
    /// Whether an authored line stands in for the model's.
    pub fallback: bool,
    /// Tokens generated.
    pub tokens: usize,
}

/// The model could not answer; an authored line is shown in its place.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct LineFailed {
    /// Who should have spoken.
    #[event_target]
    pub npc: Entity,
    /// The line.
    pub line: Entity,
    /// Why.
    pub error: Arc<Error>,
    /// The authored line that is shown.
    pub text: String,
}

/// Tell the plugin how a player took a line; it is passed on as [`ExchangeJudged`], and the line is despawned.
#[derive(Event, Clone, Debug)]
pub struct LineJudged {
    /// The line.
    pub line: Entity,
    /// How it was taken.
    pub outcome: LineOutcome,
}

/// An exchange with its outcome, as training wants it recorded.
#[derive(Message, Clone, Debug, serde::Serialize)]
pub struct ExchangeJudged {
    /// Whose talk it was.
    #[serde(skip)]
    pub player: Option<Entity>,
    /// What was said and how it was taken.
    #[serde(flatten)]
    pub exchange: RecordedExchange,
}
