//! [`Quest`]: a small graph of typed steps over things that exist.

use serde::{Deserialize, Serialize};

/// What a player is to do in a step. Names are the world's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Be at a place.
    Go {
        /// The place.
        place: String,
    },
    /// Talk to a person where they are.
    Talk {
        /// The person.
        person: String,
    },
    /// Get a thing: pick it up where it lies, or buy it from whoever has it.
    Fetch {
        /// The thing.
        item: String,
    },
    /// Give a thing that one has to a person.
    Deliver {
        /// The thing.
        item: String,
        /// The person.
        to: String,
    },
    /// Slay a creature.
    Slay {
        /// The creature.
        creature: String,
    },
    /// Bring a person somewhere.
    Escort {
        /// The person.
        person: String,
        /// The place.
        to: String,
    },
    /// Look around at a place and see what is there.
    Find {
        /// The place.
        place: String,
    },
    /// Make a thing of what its recipe says.
    Craft {
        /// The thing.
        item: String,
    },
    /// Solve a level.
    Solve {
        /// The level.
        level: String,
        /// Which one the level generator is to make, if there is one.
        #[serde(default)]
        made: Option<String>,
    },
}

/// What a quest is mostly about; what players like and dislike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum QuestKind {
    /// Getting things.
    Fetch,
    /// Bringing things to people.
    Deliver,
    /// Fighting.
    Slay,
    /// Seeing places.
    Explore,
    /// Talking to people.
    Talk,
    /// Bringing people somewhere.
    Escort,
    /// Making things.
    Craft,
    /// Solving levels.
    Solve,
}

impl QuestKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Fetch,
        Self::Deliver,
        Self::Slay,
        Self::Explore,
        Self::Talk,
        Self::Escort,
        Self::Craft,
        Self::Solve,
    ];

    /// Its name in data: the subject of recorded quest events ("quest:slay").
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Deliver => "deliver",
            Self::Slay => "slay",
            Self::Explore => "explore",
            Self::Talk => "talk",
            Self::Escort => "escort",
            Self::Craft => "craft",
            Self::Solve => "solve",
        }
    }

    /// Its place in [`Self::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|kind| *kind == self).unwrap_or(0)
    }
}

/// A step of a quest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is to be done.
    pub action: Action,
    /// Which steps must be done before, by their place in the quest.
    #[serde(default)]
    pub after: Vec<usize>,
}

impl Action {
    /// The names of all that it is about.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Go { place } | Self::Find { place } => vec![place],
            Self::Talk { person } => vec![person],
            Self::Fetch { item } | Self::Craft { item } => vec![item],
            Self::Deliver { item, to } => vec![item, to],
            Self::Slay { creature } => vec![creature],
            Self::Escort { person, to } => vec![person, to],
            Self::Solve { level, .. } => vec![level],
        }
    }
}

/// A quest: steps, of which the last reports to whoever gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quest {
    /// Who gives it.
    pub giver: String,
    /// What it is mostly about.
    pub kind: QuestKind,
    /// What is to be done. A step comes after those it waits for.
    pub steps: Vec<Step>,
    /// How hard it is, 0 to 1.
    pub difficulty: f32,
    /// What it pays, in coins.
    pub reward: u32,
    /// What the giver says.
    pub text: String,
    /// Why this one, for this player; empty: for no reason.
    #[serde(default)]
    pub because: String,
}

impl Quest {
    /// What no other open quest may use: things that are moved or used up, persons who are brought somewhere, creatures
    /// that die.
    pub fn locks(&self) -> Vec<(&'static str, &str)> {
        let mut locks: Vec<(&'static str, &str)> = self
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Fetch { item } | Action::Deliver { item, .. } | Action::Craft { item } => {
                    Some(("item", item.as_str()))
                }
                Action::Slay { creature } => Some(("creature", creature.as_str())),
                Action::Escort { person, .. } => Some(("person", person.as_str())),
                Action::Solve { level, .. } => Some(("level", level.as_str())),
                _ => None,
            })
            .collect();
        locks.sort_unstable();
        locks.dedup();
        locks
    }

    /// Whether both can be open at once.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let own = self.locks();
        if own.iter().any(|lock| other.locks().contains(lock)) {
            return false;
        }
        // Whoever is led away cannot be waited for elsewhere.
        let waits = |quest: &Self| -> Vec<String> {
            let people = quest.steps.iter().filter_map(|step| match &step.action {
                Action::Talk { person } => Some(person.clone()),
                Action::Deliver { to, .. } => Some(to.clone()),
                _ => None,
            });
            people.collect()
        };
        let leads = |quest: &Self, people: &[String]| {
            quest.locks().iter().any(|(kind, name)| *kind == "person" && people.iter().any(|p| p == name))
        };
        !leads(self, &waits(other)) && !leads(other, &waits(self))
    }

    /// What makes two quests the same to a player: what is done with what, whoever asks.
    pub fn signature(&self) -> String {
        let actions: Vec<String> = self.steps.iter().map(|step| format!("{:?}", step.action)).collect();
        actions[..actions.len().saturating_sub(1)].join(";")
    }
}
