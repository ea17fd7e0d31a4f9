//! [`Persona`]: who an NPC is, in a RON file that a writer can edit.

use super::act::Act;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who an NPC is. Written as `name.persona.ron`; unknown fields are refused with their line.
///
/// ```
/// let mira = bevy_skald::dialogue::Persona::from_ron(r#"(
///     name: "Mira", role: "baker", voice: "warm", wares: "warm loaves", price: 3,
///     facts: ["the bridge washed out in spring"],
///     fallbacks: ["One moment, my hands are full."],
/// )"#, "mira.persona.ron").unwrap();
/// assert_eq!(mira.voice, "warm");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "bevy", derive(bevy::asset::Asset, bevy::reflect::TypePath))]
pub struct Persona {
    /// Their name.
    pub name: String,
    /// Their trade, a bare noun ("baker").
    pub role: String,
    /// How they speak: one of the voices the model was trained on (`skald model inspect` lists them).
    /// A voice the model does not know is spoken in the average of all.
    pub voice: String,
    /// What they sell, a bare plural or mass noun; nothing: they do not trade.
    #[serde(default)]
    pub wares: Option<String>,
    /// What one of it costs, in coins.
    #[serde(default = "one")]
    pub price: u32,
    /// What they know and may tell: clauses that start small and have no full stop.
    #[serde(default)]
    pub facts: Vec<String>,
    /// What they must not tell. Never shown to the model, so no prompt can get it out; a persona
    /// with secrets may answer with [`Act::KeepSecret`].
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Whom they know best: name to what that person is to them. Others are talked about less.
    #[serde(default)]
    pub relations: BTreeMap<String, String>,
    /// Their mood, which makes some acts likelier.
    #[serde(default)]
    pub mood: Mood,
    /// What they want done, in order: the first whose subject exists is offered as a quest.
    #[serde(default)]
    pub goals: Vec<Goal>,
    /// The acts they may do; nothing: all.
    #[serde(default)]
    pub acts: Option<Vec<Act>>,
    /// Authored lines, shown when the model is missing, late or broken. Slots are allowed.
    pub fallbacks: Vec<String>,
}

fn one() -> u32 {
    1
}

/// A mood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mood {
    /// As ever.
    #[default]
    Calm,
    /// Jokes and small talk come easily.
    Cheerful,
    /// Given to lament.
    Grieving,
    /// Refuses and scolds more.
    Angry,
    /// Warns more.
    Afraid,
}

impl Mood {
    /// What the mood adds to an act's logit.
    pub fn bias(self, act: Act) -> f32 {
        match (self, act) {
            (Self::Cheerful, Act::Joke | Act::SmallTalk | Act::Praise) => 0.7,
            (Self::Cheerful, Act::Lament | Act::Scold) | (Self::Grieving, Act::Joke) => -1.0,
            (Self::Grieving, Act::Lament) | (Self::Angry, Act::Refuse | Act::Scold) => 0.9,
            (Self::Angry, Act::Praise | Act::Joke) => -0.7,
            (Self::Afraid, Act::Warn | Act::Ask) => 0.8,
            _ => 0.0,
        }
    }
}

/// Something an NPC wants done. Names are those of the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Goal {
    /// Bring a thing from where it lies.
    Fetch {
        /// The thing.
        item: String,
        /// Coins.
        reward: u32,
    },
    /// Be rid of a creature.
    Slay {
        /// The creature.
        creature: String,
        /// Coins.
        reward: u32,
    },
    /// Take a thing to somebody.
    Deliver {
        /// The thing.
        item: String,
        /// The person.
        to: String,
        /// Coins.
        reward: u32,
    },
    /// Look at a place.
    Visit {
        /// The place.
        place: String,
        /// Coins.
        reward: u32,
    },
}

impl Goal {
    /// The kind's control word: `fetch`, `slay`, `deliver` or `visit`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "fetch",
            Self::Slay { .. } => "slay",
            Self::Deliver { .. } => "deliver",
            Self::Visit { .. } => "visit",
        }
    }

    /// What it pays, in coins.
    pub fn reward(&self) -> u32 {
        match self {
            Self::Fetch { reward, .. }
            | Self::Slay { reward, .. }
            | Self::Deliver { reward, .. }
            | Self::Visit { reward, .. } => *reward,
        }
    }

    /// The name of what it is about: the item, creature or place.
    pub fn subject(&self) -> &str {
        match self {
            Self::Fetch { item, .. } | Self::Deliver { item, .. } => item,
            Self::Slay { creature, .. } => creature,
            Self::Visit { place, .. } => place,
        }
    }
}

impl Persona {
    /// Reads a persona. Errors name the line, or the field that makes no sense.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let persona: Self = crate::files::parse_ron(text, file)?;
        persona.validate(file)?;
        Ok(persona)
    }

    /// Reads a persona from bytes (which must be UTF-8).
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::config(file, "(whole file)", "the text is not UTF-8", "save it as UTF-8"))?;
        Self::from_ron(text, file)
    }

    fn validate(&self, file: &str) -> Result<()> {
        let check = |field: &str, text: &str| {
            let bad = if text.trim().is_empty() {
                "is empty"
            } else if text.chars().count() > 300 {
                "is longer than 300 characters"
            } else if text.chars().any(|c| c.is_control() || matches!(c, '<' | '>')) {
                "holds a control character, `<` or `>`"
            } else {
                return Ok(());
            };
            Err(Error::config(file, field, format!("the text {bad}"), "write a short plain text"))
        };
        check("name", &self.name)?;
        check("role", &self.role)?;
        check("voice", &self.voice)?;
        self.wares.iter().try_for_each(|w| check("wares", w))?;
        for (field, texts) in [("facts", &self.facts), ("secrets", &self.secrets)] {
            texts.iter().try_for_each(|t| check(field, t))?;
        }
        if let Some(fact) = self.facts.iter().find(|fact| self.secrets.contains(fact)) {
            let reason = format!("`{fact}` is both a fact and a secret");
            return Err(Error::config(file, "secrets", reason, "keep it in one of the two"));
        }
        if self.fallbacks.is_empty() {
            return Err(Error::config(
                file,
                "fallbacks",
                "there is no authored line",
                "write at least one, it is shown when the model cannot answer in time",
            ));
        }
        for line in &self.fallbacks {
            check("fallbacks", line)?;
            super::slot::pieces(line).map_err(|reason| {
                Error::config(file, "fallbacks", reason, "use a slot's name between braces, or no braces")
            })?;
        }
        Ok(())
    }

    /// Whether this persona may do `act` at all.
    pub fn allows(&self, act: Act) -> bool {
        self.acts.as_ref().is_none_or(|acts| acts.contains(&act))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: &str = r#"(name: "A", role: "b", voice: "c", fallbacks: ["Hm."])"#;

    #[test]
    fn a_short_persona_is_enough() {
        let persona = Persona::from_ron(MIN, "a.persona.ron").unwrap();
        assert!(persona.allows(Act::Offer) && persona.price == 1);
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line() {
        let text = "(name: \"A\",\n role: \"b\", voise: \"c\", fallbacks: [\"Hm.\"])";
        let error = Persona::from_ron(text, "a.persona.ron").unwrap_err().to_string();
        assert!(error.contains("a.persona.ron:2") && error.contains("voise"), "{error}");
    }

    #[test]
    fn a_persona_without_fallback_or_with_a_bad_slot_is_refused() {
        let error = Persona::from_ron(&MIN.replace("\"Hm.\"", ""), "a").unwrap_err().to_string();
        assert!(error.contains("fallbacks"), "{error}");
        let error = Persona::from_ron(&MIN.replace("Hm.", "{plase}"), "a").unwrap_err().to_string();
        assert!(error.contains("plase"), "{error}");
    }

    #[test]
    fn a_fact_cannot_be_a_secret() {
        let text = MIN.replace("voice", "facts: [\"x\"], secrets: [\"x\"], voice");
        assert!(Persona::from_ron(&text, "a").unwrap_err().to_string().contains("both"));
    }
}
