//! [`EventView`]: which parts of recorded events a player model sees.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which parts of recorded events a player model sees. What is left out is not learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventView {
    /// The kinds of events. None: all that are recorded.
    pub kinds: Vec<String>,
    /// The payload's field that says what an event is about: an item, a level, a quest.
    pub subject: Option<String>,
    /// The payload's field that says how it went.
    pub outcome: Option<OutcomeView>,
    /// Whether the time since the last event counts.
    pub gaps: bool,
    /// Subjects that occur less often are one and the same to the model.
    pub min_count: u32,
}

impl Default for EventView {
    fn default() -> Self {
        Self { kinds: Vec::new(), subject: Some("subject".into()), outcome: None, gaps: false, min_count: 1 }
    }
}

/// How an event went: a number, cut into bins with equally many training events, or a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeView {
    /// The payload's field.
    pub field: String,
    /// Bins of a number.
    #[serde(default = "bins")]
    pub bins: usize,
}

fn bins() -> usize {
    8
}

impl EventView {
    /// Refuses what makes no sense, naming the field.
    pub fn validate(&self, file: &str) -> Result<()> {
        let bins = self.outcome.as_ref().is_none_or(|outcome| (1..=256).contains(&outcome.bins));
        let rules = [
            ("events.outcome.bins", bins, "1 to 256"),
            ("events.min_count", self.min_count > 0, "1 or more"),
            ("events.kinds", self.kinds.len() <= 4096, "at most 4096"),
        ];
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => {
                Err(Error::config(file, *field, "the value is out of range", format!("choose {range}")))
            }
            None => Ok(()),
        }
    }
}
