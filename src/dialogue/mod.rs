//! NPC dialogue: personas, world facts, the world grammar, lines.
//!
//! What the player types is linked to what exists ([`link`]), the talk becomes a prompt ([`prompt`]), the
//! model answers under a grammar made of the live world ([`grammar`]), and slots become names as the words
//! come ([`Speech`]). The model never writes a name, so it cannot invent one.
//!
//! Not here: how sequences are decoded ([`crate::decode`]) or learned ([`crate::training`]).

mod act;
#[cfg(feature = "bevy")]
mod adapted;
mod chat;
mod corpus;
pub mod evaluate;
#[cfg(feature = "bevy")]
pub mod events;
#[cfg(feature = "bevy")]
mod facts;
pub mod grammar;
mod ground;
pub mod link;
mod memory;
mod persona;
#[cfg(feature = "bevy")]
mod persona_asset;
#[cfg(feature = "bevy")]
pub mod plugin;
mod preference;
pub mod prompt;
mod slot;
mod source;
mod speak;
#[cfg(feature = "bevy")]
mod swap;
mod training;
#[cfg(feature = "bevy")]
mod voices;
mod world;

pub use act::Act;
#[cfg(feature = "bevy")]
pub use adapted::NpcAdapter;
pub use corpus::{Corpus, CorpusTurn, Dialogue, Part, unique_slots};
#[cfg(feature = "bevy")]
pub use events::{
    ExchangeJudged, Line, LineFailed, LineFinished, LineGrew, LineJudged, LineOf, LineStarted, Lines, Say,
    SentenceFinished,
};
#[cfg(feature = "bevy")]
pub use facts::{Ambience, Creature, Deeds, Facts, Item, KnownTo, LocatedIn, Place, Player};
pub use ground::{GoalState, Ground, LineGround};
pub use memory::{Exchange, Focus, Memory};
pub use persona::{Goal, Mood, Persona};
#[cfg(feature = "bevy")]
pub use persona_asset::{PersonaLoader, PersonaLoaderError};
#[cfg(feature = "bevy")]
pub use plugin::{DialogueConfig, DialogueModel, DialoguePlugin, Memories, Npc, Speaker};
pub use preference::{Answer, Asked, PreferencePair, Preferences, preference_samples, read_picks};
pub use slot::{Piece, Slot, pieces, slots_of};
pub use source::{
    DialogueData, DialogueReport, DialogueSource, LineOutcome, Played, RecordedExchange, data_sets, test_set,
    tokenizer_lines, written_lines,
};
pub use speak::{Manner, Speech, Spoken, Turn, fallback, lexicalise};
#[cfg(feature = "bevy")]
pub use swap::SpeakWith;
pub use training::{DialogueTraining, read_talks};
pub use world::{
    CreatureFact, ItemFact, PersonFact, PlaceFact, PlayerFact, World, compass, definite, indefinite,
    number_word,
};
