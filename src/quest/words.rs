//! [`Wording`]: what the giver of a quest says, in their voice.
//!
//! Lines are written by people, with slots for what exists; the line that was said least is said next. For what a quest
//! asks beside its main errand, a clause is added.

use super::graph::{Action, Quest, QuestKind};
use super::world::QuestWorld;
use crate::dialogue::{compass, definite, indefinite, number_word};
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
    /// Whether it is the offer itself, or what may be said around it.
    #[serde(default)]
    pub part: LinePart,
    /// The line.
    pub says: String,
}

/// Where a line stands in what a giver says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinePart {
    /// The offer itself.
    #[default]
    Offer,
    /// Before the offer: a rumour, a warning, the weather.
    Before,
    /// After the offer: the way.
    After,
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

    /// What the giver says: an offer of the quest's kind, in the giver's voice if there is one, often with a line before or
    /// after it; of each the one that was said least.
    pub fn say(&self, quest: &Quest, world: &QuestWorld, dice: &mut Stream) -> String {
        let slots = slots(quest, world);
        let [before, after] = [dice.chance(AROUND), dice.chance(AROUND)];
        let mut parts = Vec::new();
        parts.extend(before.then(|| self.line(LinePart::Before, quest, world, &slots, dice)).flatten());
        let plain = || format!("There is work for you, and {} in it.", slots["reward"]);
        parts.push(self.line(LinePart::Offer, quest, world, &slots, dice).unwrap_or_else(plain));
        parts.extend(after.then(|| self.line(LinePart::After, quest, world, &slots, dice)).flatten());
        parts.extend(self.rest(quest, world, dice));
        parts.join(" ")
    }

    /// One of the lines for a part that can be said here, and was said least.
    fn line(
        &self,
        part: LinePart,
        quest: &Quest,
        world: &QuestWorld,
        slots: &HashMap<&'static str, String>,
        dice: &mut Stream,
    ) -> Option<String> {
        let voice = world.person(&quest.giver).and_then(|person| person.voice.as_deref());
        let fits = |at: &usize| {
            let line = &self.lines[*at];
            line.kind == quest.kind && line.part == part && filled(&line.says, slots).is_some()
        };
        let all: Vec<usize> = (0..self.lines.len()).filter(fits).collect();
        let own = |at: &usize| voice.is_none_or(|voice| self.lines[*at].voice == voice);
        let mut fitting: Vec<usize> = all.iter().copied().filter(own).collect();
        // An offer must be made, in another voice if need be.
        if fitting.is_empty() && part == LinePart::Offer {
            fitting = all;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let least = fitting.iter().map(|at| said[*at]).min()?;
        fitting.retain(|at| said[*at] == least);
        let at = *dice.pick(&fitting)?;
        said[at] += 1;
        filled(&self.lines[at].says, slots)
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
                                format!("{item}{at} would be of use."),
                                format!("It cannot be done without {item}{at}."),
                                format!("First get hold of {item}{at}."),
                                format!("Do not forget {item}{at}."),
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
                                format!("While you are out, look in on {place}."),
                                format!("Tell me how things stand at {place} besides."),
                                format!("{place} lies almost on your way."),
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
                                format!("Nobody could tell you more than {person}."),
                                format!("You might hear what {person} thinks."),
                                format!("Start with {person}, who has seen it."),
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

/// How often something is said before the offer, and after it.
const AROUND: f32 = 0.5;

const SLOTS: [&str; 16] = [
    "an_item",
    "a_creature",
    "person_role",
    "direction",
    "weather",
    "time",
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
    slots.extend(world.weather.clone().map(|weather| ("weather", weather)));
    slots.extend(world.time.clone().map(|time| ("time", time)));
    let mut target = None;
    let mut first = |slot: &'static str, text: Option<String>| {
        if let Some(text) = text {
            if slot == "place" || slot.ends_with("_place") {
                target.get_or_insert_with(|| text.clone());
            }
            if slot == "item" || slot == "creature" {
                let one = if slot == "item" { "an_item" } else { "a_creature" };
                slots.entry(one).or_insert_with(|| indefinite(&text));
            }
            slots.entry(slot).or_insert_with(|| definite(&text));
        }
    };
    let role = |name: &str| world.person(name).map(|person| person.role.clone());
    let person_place = |name: &str| world.person(name).and_then(|person| person.place.clone());
    let mut roles = Vec::new();
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
                roles.push(role(to));
                first("person_place", person_place(to));
            }
            Action::Talk { person } => {
                first("person", Some(person.clone()));
                roles.push(role(person));
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
    slots.extend(roles.into_iter().flatten().next().map(|role| ("person_role", role)));
    // The way to what it is about, from where it is told.
    let at = |name: Option<&str>| world.place(name?).map(|place| place.at);
    let home = world.person(&quest.giver).and_then(|person| person.place.as_deref());
    let way = at(home).zip(at(target.as_deref())).and_then(|(from, to)| compass(from, to));
    slots.extend(way.map(|way| ("direction", way.to_owned())));
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
