//! Quests: small graphs of typed steps over what exists now, checked by a planner, worded in the giver's voice, chosen for
//! the player, with a reason anybody can read.
//!
//! [`Generator`] proposes under the world's grammar (only what is there, and what the giver knows), [`Planner`] finds how a
//! quest can be finished, [`review`] says what has become of it when the world has changed, and [`Chooser`] picks the one
//! for this player. Not here: how levels are made ([`LevelSource`] asks for them), and Bevy outside `plugin.rs`.

mod change;
mod check;
mod choose;
mod evaluate;
#[cfg(feature = "bevy")]
mod facts;
mod generate;
mod graph;
mod log;
mod plan;
#[cfg(feature = "bevy")]
pub mod plugin;
mod review;
mod reward;
mod simulate;
#[cfg(test)]
mod tests;
mod words;
mod world;

pub use change::{disturb, random_world};
pub use check::{finishable, strangers};
pub use choose::{
    Arm, Caps, Choice, Chooser, Felt, KINDS, Population, Suggestion, Taste, affinities, finishing,
    note_event, suggest_difficulty,
};
pub use evaluate::{QuestTrial, evaluate_quests};
#[cfg(feature = "bevy")]
pub use facts::{Coins, HeldBy, PlayableLevel, QuestFacts, Recipes, Strength, Way};
pub use generate::{Generator, LevelSource, Request};
pub use graph::{Action, Quest, QuestKind, Step};
pub use log::{Changed, NotTaken, OpenQuest, QuestBook};
pub use plan::{MOST_STEPS, Move, Obstacle, Plan, Planner};
pub use review::{Standing, review, review_with};
pub use reward::RewardTable;
pub use simulate::{Learning, Simulation, simulate};
pub use words::{LinePart, OfferLine, Wording};
pub use world::{Beast, Means, Person, QuestWorld, Recipe, Riddle, Thing};
