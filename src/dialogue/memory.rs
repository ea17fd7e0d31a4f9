//! [`Memory`]: what an NPC remembers of its talks with one player. Saved and loaded with the game.

use super::act::Act;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many lines are remembered so that none is said twice.
const RECENT: usize = 40;
/// How many exchanges are shown to the model again.
const EXCHANGES: usize = 2;

/// One exchange, as the model saw it (names are slots).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What the player said; empty: they just walked up.
    pub player: String,
    /// What the answer did.
    pub act: Act,
    /// The answer.
    pub line: String,
}

/// What was last talked about: names in the world. A follow-up ("and where is that?") goes on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Focus {
    /// A person.
    pub person: Option<String>,
    /// A place.
    pub place: Option<String>,
    /// A thing.
    pub item: Option<String>,
    /// A creature.
    pub creature: Option<String>,
}

/// What one NPC remembers of one player.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The last exchanges of the present talk, oldest first.
    pub exchanges: VecDeque<Exchange>,
    /// The last lines said, as token numbers would differ between models: as text with slots.
    pub said: VecDeque<String>,
    /// Whether they have talked before.
    pub met: bool,
    /// Facts already told.
    pub told: Vec<String>,
    /// Deeds already remarked on.
    pub remarked: Vec<String>,
    /// Subjects of goals that were offered.
    pub offered: Vec<String>,
    /// Subjects of goals that are done and were thanked for.
    pub settled: Vec<String>,
    /// What was last talked about.
    pub focus: Focus,
    /// How many lines were said in all; the next line's random stream is numbered by it.
    pub lines: u64,
}

impl Memory {
    /// Remembers an exchange that took place.
    pub fn remember(&mut self, exchange: Exchange) {
        self.said.push_back(exchange.line.clone());
        self.exchanges.push_back(exchange);
        while self.exchanges.len() > EXCHANGES {
            self.exchanges.pop_front();
        }
        while self.said.len() > RECENT {
            self.said.pop_front();
        }
        self.met = true;
    }

    /// The talk is over: the next one starts afresh, but the two have met.
    pub fn part(&mut self) {
        self.exchanges.clear();
        self.focus = Focus::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_survives_saving() {
        let mut memory = Memory::default();
        for n in 0..100 {
            memory.remember(Exchange { player: String::new(), act: Act::Greet, line: n.to_string() });
        }
        assert_eq!((memory.exchanges.len(), memory.said.len()), (EXCHANGES, RECENT));
        let saved = serde_json::to_string(&memory).unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&saved).unwrap(), memory);
        memory.part();
        assert!(memory.exchanges.is_empty() && memory.met);
    }
}
