//! [`Wording`]: what the giver of a quest says, in their voice.
//!
//! Lines are written by people, with slots for what exists; the line that was said least is said next. For what a quest
//! asks beside its main errand, a clause is added.

use super::quest::{Action, Quest, QuestKind};
use super::world::QuestWorld;
use crate::dialogue::{definite, number_word};
use crate::error::{Error, Result};
use crate::seed::Stream;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A line an NPC can offer a quest with. Slots: `{item} {item_place} {person} {person_place} {creature} {creature_place}
/// {place} {level} {reward}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferLine {
    /// For which quests.
    pub kind: QuestKind,
    /// In which voice.
    pub voice: String,
    /// The line.
    pub says: String,
}

/// What givers say.
#[derive(Debug)]
pub struct Wording {
    lines: Vec<OfferLine>,
    /// How often each was said.
    said: Mutex<Vec<u32>>,
}

/// The lines that come with the crate.
const LINES: &str = include_str!("../../assets/quests/offers.ron");

impl Wording {
    /// The lines that come with the crate.
    pub fn new() -> Result<Self> {
        Self::from_ron(LINES, "assets/quests/offers.ron")
    }

    /// A game's own lines: a RON list of [`OfferLine`].
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let lines: Vec<OfferLine> = crate::files::parse_ron(text, file)?;
        for line in &lines {
            let mut rest = line.says.as_str();
            while let Some((_, from)) = rest.split_once('{') {
                let (slot, after) = from.split_once('}').unwrap_or((from, ""));
                if !SLOTS.contains(&slot) {
                    let reason = format!("`{{{slot}}}` is no slot, in `{}`", line.says);
                    return Err(Error::config(
                        file,
                        "says",
                        reason,
                        format!("use one of {}", SLOTS.join(", ")),
                    ));
                }
                rest = after;
            }
        }
        Ok(Self { said: Mutex::new(vec![0; lines.len()]), lines })
    }

    /// The lines.
    pub fn lines(&self) -> &[OfferLine] {
        &self.lines
    }

    /// What the giver says: the line that was said least of those of the quest's kind, in the giver's voice if there is
    /// one.
    pub fn say(&self, quest: &Quest, world: &QuestWorld, dice: &mut Stream) -> String {
        let slots = slots(quest, world);
        let voice = world.person(&quest.giver).and_then(|person| person.voice.as_deref());
        let fits = |at: &usize| {
            let line = &self.lines[*at];
            line.kind == quest.kind
                && voice.is_none_or(|voice| voice == line.voice)
                && filled(&line.says, &slots).is_some()
        };
        let mut fitting: Vec<usize> = (0..self.lines.len()).filter(fits).collect();
        if fitting.is_empty() {
            fitting = (0..self.lines.len())
                .filter(|at| {
                    self.lines[*at].kind == quest.kind && filled(&self.lines[*at].says, &slots).is_some()
                })
                .collect();
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let least = fitting.iter().map(|at| said[*at]).min().unwrap_or(0);
        fitting.retain(|at| said[*at] == least);
        let main = match dice.pick(&fitting) {
            Some(&at) => {
                said[at] += 1;
                filled(&self.lines[at].says, &slots).unwrap_or_default()
            }
            None => format!("There is work for you, and {} in it.", slots["reward"]),
        };
        drop(said);
        let mut text = main;
        for clause in self.rest(quest, world, dice) {
            text.push(' ');
            text.push_str(&clause);
        }
        text
    }

    /// What a quest asks beside its main errand.
    fn rest(&self, quest: &Quest, world: &QuestWorld, dice: &mut Stream) -> Vec<String> {
        let there = |name: &str| {
            let place = world.item(name).and_then(|item| item.place.as_deref());
            place.map_or_else(String::new, |place| format!(" at {}", definite(place)))
        };
        let mut clauses = Vec::new();
        let mut fetched = 0;
        let mut seen = 0;
        let mut talked = 0;
        for step in &quest.steps[..quest.steps.len().saturating_sub(1)] {
            match &step.action {
                Action::Fetch { item } => {
                    fetched += 1;
                    let main = matches!(quest.kind, QuestKind::Fetch | QuestKind::Deliver) && fetched == 1;
                    if !main {
                        let (item, at) = (definite(item), there(item));
                        clauses.push(one_of(
                            dice,
                            &[
                                format!("You will need {item}{at}."),
                                format!("And bring {item}{at}, too."),
                                format!("Look for {item}{at} while you are about it."),
                            ],
                        ));
                    }
                }
                Action::Find { place } => {
                    seen += 1;
                    if seen > 1 {
                        let place = definite(place);
                        clauses.push(one_of(
                            dice,
                            &[
                                format!("Then see about {place}."),
                                format!("{place} as well, if your feet allow."),
                                format!("And pass by {place}."),
                            ],
                        ));
                    }
                }
                Action::Talk { person } => {
                    talked += 1;
                    let main = quest.kind == QuestKind::Talk && talked == 1;
                    if !main && quest.kind != QuestKind::Escort {
                        clauses.push(one_of(
                            dice,
                            &[
                                format!("Ask {person} about it."),
                                format!("{person} knows more."),
                                format!("Have a word with {person} on the way."),
                            ],
                        ));
                    }
                }
                _ => {}
            }
        }
        clauses
    }
}

fn one_of(dice: &mut Stream, all: &[String]) -> String {
    let clause = dice.pick(all).cloned().unwrap_or_default();
    capital(&clause)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

const SLOTS: [&str; 10] = [
    "item",
    "item_place",
    "person",
    "person_place",
    "creature",
    "creature_place",
    "place",
    "level",
    "reward",
    "here",
];

/// What the slots stand for in a quest.
fn slots(quest: &Quest, world: &QuestWorld) -> HashMap<&'static str, String> {
    let mut slots = HashMap::new();
    let coins = if quest.reward == 1 { "coin" } else { "coins" };
    slots.insert("reward", format!("{} {coins}", number_word(quest.reward)));
    let giver = world.person(&quest.giver).and_then(|person| person.place.clone());
    slots.extend(giver.map(|place| ("here", definite(&place))));
    let mut first = |slot: &'static str, text: Option<String>| {
        if let Some(text) = text {
            slots.entry(slot).or_insert_with(|| definite(&text));
        }
    };
    let person_place = |name: &str| world.person(name).and_then(|person| person.place.clone());
    // The report at the end names nobody new.
    for step in &quest.steps[..quest.steps.len().saturating_sub(1)] {
        match &step.action {
            Action::Fetch { item } | Action::Craft { item } => {
                if quest.kind == QuestKind::Craft && matches!(step.action, Action::Fetch { .. }) {
                    continue;
                }
                first("item", Some(item.clone()));
                let thing = world.item(item);
                let held = thing.and_then(|thing| person_place(thing.holder.as_deref()?));
                first("item_place", thing.and_then(|thing| thing.place.clone()).or(held));
            }
            Action::Deliver { to, .. } if *to != quest.giver => {
                first("person", Some(to.clone()));
                first("person_place", person_place(to));
            }
            Action::Talk { person } => {
                first("person", Some(person.clone()));
                first("person_place", person_place(person));
            }
            Action::Escort { person, to } => {
                first("person", Some(person.clone()));
                first("place", Some(to.clone()));
            }
            Action::Slay { creature } => {
                first("creature", Some(creature.clone()));
                first("creature_place", world.creature(creature).and_then(|beast| beast.place.clone()));
            }
            Action::Find { place } | Action::Go { place } => first("place", Some(place.clone())),
            Action::Solve { level, .. } => first("level", Some(level.clone())),
            Action::Deliver { .. } => {}
        }
    }
    slots
}

/// A line with its slots filled; nothing if one of them stands for nothing here.
fn filled(line: &str, slots: &HashMap<&'static str, String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, from)) = rest.split_once('{') {
        let (slot, after) = from.split_once('}')?;
        let word = slots.get(slot)?;
        // A name that begins a sentence begins large.
        let begins = text.trim_end().is_empty() && before.trim().is_empty()
            || before.trim_end().ends_with(['.', '!', '?', ':']) && !before.trim().is_empty();
        text.push_str(before);
        text.push_str(&if begins { capital(word) } else { word.clone() });
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}
