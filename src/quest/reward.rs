//! [`RewardTable`]: what quests pay, as a designer balances it.

use super::graph::{Quest, QuestKind};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What quests pay, in coins. RON; unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardTable {
    /// For a quest of a kind; kinds that are left out pay what `other` says.
    pub kinds: BTreeMap<QuestKind, u32>,
    /// For a quest of any other kind.
    pub other: u32,
    /// For each step.
    pub step: u32,
    /// For each way between neighbouring places.
    pub way: u32,
    /// By how much the hardest quest pays more than the easiest, as a share.
    pub difficulty: f32,
    /// The least a quest pays.
    pub least: u32,
    /// The most a quest pays.
    pub most: u32,
}

impl Default for RewardTable {
    fn default() -> Self {
        Self { kinds: BTreeMap::new(), other: 4, step: 2, way: 1, difficulty: 1.0, least: 2, most: 60 }
    }
}

impl RewardTable {
    /// Reads a table. `file` is for messages.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let table: Self = crate::files::parse_ron(text, file)?;
        table.validate(file)?;
        Ok(table)
    }

    /// Refuses a table that no quest can be paid by.
    pub fn validate(&self, file: &str) -> Result<()> {
        let rules = [
            ("most", self.most >= self.least, "at least `least`"),
            ("most", (1..=1_000_000).contains(&self.most), "1 to 1000000"),
            ("difficulty", (0.0..=100.0).contains(&self.difficulty), "0 to 100"),
            ("step", self.step <= 1_000_000, "at most 1000000"),
            ("way", self.way <= 1_000_000, "at most 1000000"),
        ];
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => {
                Err(Error::config(file, *field, "no quest can be paid so", format!("choose {range}")))
            }
            None => Ok(()),
        }
    }

    /// What a quest pays that takes so many ways.
    pub fn reward(&self, quest: &Quest, distance: usize) -> u32 {
        let base = f64::from(self.kinds.get(&quest.kind).copied().unwrap_or(self.other));
        let work = f64::from(self.step) * quest.steps.len() as f64 + f64::from(self.way) * distance as f64;
        let paid = (base + work) * (1.0 + f64::from(self.difficulty * quest.difficulty.clamp(0.0, 1.0)));
        (paid.round() as u32).clamp(self.least, self.most)
    }
}
