//! [`Slot`]: a place in a line that the world fills.
//!
//! The model never writes a name. It writes `{place}`, and what appears there is a place that exists
//! now and that the speaker may know. A model of a few megabytes therefore cannot invent one.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! slots {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A slot of the dialogue language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Slot { $($(#[$doc])* $name),+ }

        impl Slot {
            /// Every slot.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name between the braces.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

slots! {
    /// The player's name, used as address.
    Player = "player",
    /// The speaker's own name.
    SelfName = "self",
    /// The speaker's trade, a bare noun ("baker").
    Role = "role",
    /// What the speaker sells, bare ("warm loaves").
    Ware = "ware",
    /// Where the speaker stands ("the bakery").
    Here = "here",
    /// Another person's name.
    Person = "person",
    /// That person's trade, a bare noun.
    PersonRole = "person_role",
    /// Where that person is now, with article.
    PersonPlace = "person_place",
    /// A place, with article.
    Place = "place",
    /// A compass word toward what is being talked about.
    Direction = "direction",
    /// A thing, definite ("the silver locket").
    Item = "item",
    /// A thing, indefinite ("a silver locket").
    AnItem = "an_item",
    /// Where that thing is, with article.
    ItemPlace = "item_place",
    /// A number word; coins follow.
    Price = "price",
    /// A creature, definite.
    Creature = "creature",
    /// A creature, indefinite.
    ACreature = "a_creature",
    /// Where the creature is, with article.
    CreaturePlace = "creature_place",
    /// What the player did, a past-tense verb phrase after "you".
    Deed = "deed",
    /// Something the speaker knows, a clause.
    Fact = "fact",
    /// The weather, a mass noun.
    Weather = "weather",
    /// The time of day.
    Time = "time",
    /// What a quest pays ("twenty coins").
    Reward = "reward",
    /// Player lines only: something the speaker has never heard of.
    Unknown = "unknown",
}

impl Slot {
    /// The slot's token, `{name}`.
    pub fn token(self) -> String {
        format!("{{{}}}", self.name())
    }

    /// The slot named so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|slot| slot.name() == name)
    }

    /// The slot whose token this is.
    pub fn from_token(token: &str) -> Option<Self> {
        Self::from_name(token.strip_prefix('{')?.strip_suffix('}')?)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A piece of a line: plain words, or a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Plain words.
    Text(&'a str),
    /// A slot.
    Slot(Slot),
}

/// Cuts a delexicalised line into words and slots. `Err` names what stands between braces but is no slot.
pub fn pieces(line: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(open) = rest.find(['{', '}']) {
        let (text, from) = rest.split_at(open);
        if !text.is_empty() {
            found.push(Piece::Text(text));
        }
        let close = from.find('}').filter(|_| from.starts_with('{')).ok_or("a brace stands alone")?;
        let name = &from[1..close];
        found.push(Piece::Slot(Slot::from_name(name).ok_or_else(|| {
            let known: Vec<_> = Slot::ALL.iter().map(|slot| slot.name()).collect();
            format!("`{{{name}}}` is no slot; there are {}", known.join(", "))
        })?));
        rest = &from[close + 1..];
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest));
    }
    Ok(found)
}

/// The slots of a line, in order; braces that hold no slot are passed over.
pub fn slots_of(line: &str) -> Vec<Slot> {
    line.split('{').skip(1).filter_map(|part| Slot::from_name(part.split_once('}')?.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_falls_into_words_and_slots() {
        let found = pieces("{place}? That's {direction} of here.").unwrap();
        assert_eq!(found[0], Piece::Slot(Slot::Place));
        assert_eq!(found[1], Piece::Text("? That's "));
        assert_eq!(found.len(), 4);
        assert_eq!(slots_of("{place} {direction}"), [Slot::Place, Slot::Direction]);
    }

    #[test]
    fn an_unknown_slot_is_named() {
        assert!(pieces("go to {plase}").unwrap_err().contains("plase"));
        assert!(pieces("a } alone").is_err());
        assert!(pieces("an { alone").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_cut_or_refused_without_loss(line in ".{0,60}") {
            if let Ok(found) = pieces(&line) {
                let again: String = found.iter().map(|piece| match piece {
                    Piece::Text(text) => (*text).to_owned(),
                    Piece::Slot(slot) => slot.token(),
                }).collect();
                prop_assert_eq!(again, line);
            }
        }
    }
}
