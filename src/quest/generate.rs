//! The generator: proposes quests over what exists now, as its giver knows it, and keeps those that can be finished.

use super::graph::{Action, Quest, QuestKind, Step};
use super::plan::{Plan, Planner};
use super::reward::RewardTable;
use super::words::Wording;
use super::world::QuestWorld;
use crate::seed::Stream;
use std::collections::HashSet;

/// Where levels come from: the level generator, without this room knowing it.
pub trait LevelSource: Send + Sync {
    /// A level of a kind, about as hard as `difficulty` (0 to 1): its name for the game, and how hard it is. None: there is
    /// no such level.
    fn level(&self, kind: &str, difficulty: f32, seed: u64) -> Option<(String, f32)>;
}

/// What a quest must suit.
#[derive(Default)]
pub struct Request<'a> {
    /// What is to be done, mostly. None: anything.
    pub kind: Option<QuestKind>,
    /// How hard it should be, 0 to 1. None: as it comes.
    pub difficulty: Option<f32>,
    /// The quests that are open: no two may want one thing.
    pub open: &'a [Quest],
    /// Signatures of quests the player had.
    pub past: Option<&'a HashSet<String>>,
    /// Where levels come from. None: those of the world are played as they are.
    pub levels: Option<&'a dyn LevelSource>,
}

/// A world made ready for generating in it, for one giver.
pub struct Generator<'w> {
    world: &'w QuestWorld,
    giver: &'w str,
    planner: &'w Planner<'w>,
    rewards: &'w RewardTable,
    wording: &'w Wording,
    /// Names the giver knows and that are there: places, persons but for the giver, things, creatures, levels.
    known: Known,
}

struct Known {
    places: Vec<String>,
    people: Vec<String>,
    /// With whether somebody holds it.
    items: Vec<String>,
    creatures: Vec<String>,
    recipes: Vec<usize>,
    levels: Vec<usize>,
}

/// How often another one is tried before none is found.
const TRIES: usize = 24;

impl<'w> Generator<'w> {
    /// Gets ready. Nothing if the giver is not in the world.
    pub fn new(
        world: &'w QuestWorld,
        giver: &'w str,
        planner: &'w Planner<'w>,
        rewards: &'w RewardTable,
        wording: &'w Wording,
    ) -> Option<Self> {
        world.person(giver)?;
        let own = world.known_to(giver);
        let knows_item = |name: &String| own.items.iter().any(|item| item.name == *name);
        let known = Known {
            people: own.people.iter().filter(|p| p.name != giver).map(|p| p.name.clone()).collect(),
            items: own
                .items
                .iter()
                .filter(|item| !own.player.has.contains(&item.name) && item.holder.as_deref() != Some(giver))
                .map(|item| item.name.clone())
                .collect(),
            creatures: own.creatures.iter().map(|creature| creature.name.clone()).collect(),
            recipes: (0..world.recipes.len())
                .filter(|at| world.recipes[*at].of.iter().all(knows_item))
                .collect(),
            levels: (0..world.levels.len())
                .filter(|at| own.levels.iter().any(|level| level.name == world.levels[*at].name))
                .collect(),
            places: own.places.into_iter().map(|place| place.name).collect(),
        };
        Some(Self { world, giver, planner, rewards, wording, known })
    }

    /// The kinds of quests that can be thought of here at all.
    pub fn kinds(&self) -> Vec<QuestKind> {
        let there = |kind: &QuestKind| match kind {
            QuestKind::Fetch => !self.known.items.is_empty(),
            QuestKind::Deliver => !self.known.items.is_empty() && !self.known.people.is_empty(),
            QuestKind::Slay => !self.known.creatures.is_empty(),
            QuestKind::Explore => self.known.places.len() > 1,
            QuestKind::Talk => !self.known.people.is_empty(),
            QuestKind::Escort => !self.known.people.is_empty() && self.known.places.len() > 1,
            QuestKind::Craft => !self.known.recipes.is_empty(),
            QuestKind::Solve => !self.known.levels.is_empty(),
        };
        QuestKind::ALL.into_iter().filter(there).collect()
    }

    /// A quest that suits, with its plan. Nothing if none was found: the world is empty, everything is locked by open
    /// quests, or nothing can be reached.
    pub fn propose(&self, request: &Request<'_>, dice: &mut Stream) -> Option<(Quest, Plan)> {
        let kinds = match request.kind {
            Some(kind) => vec![kind],
            None => self.kinds(),
        };
        let mut best: Option<(f32, Quest, Plan)> = None;
        for _ in 0..TRIES {
            let kind = *dice.pick(&kinds)?;
            let Some(steps) = self.steps(kind, request, dice) else { continue };
            let mut quest = Quest {
                giver: self.giver.to_owned(),
                kind,
                steps,
                difficulty: 0.0,
                reward: 0,
                text: String::new(),
                because: String::new(),
            };
            if request.past.is_some_and(|past| past.contains(&quest.signature()))
                || request.open.iter().any(|open| !open.agrees_with(&quest))
            {
                continue;
            }
            let Ok(plan) = self.planner.plan(&quest, 0) else { continue };
            quest.difficulty = self.difficulty(&quest, &plan, request);
            let off = request.difficulty.map_or(0.0, |wanted| (wanted - quest.difficulty).abs());
            if best.as_ref().is_none_or(|(least, ..)| off < *least) {
                best = Some((off, quest, plan));
            }
            if off < 0.1 {
                break;
            }
        }
        let (_, mut quest, plan) = best?;
        quest.reward = self.rewards.reward(&quest, plan.distance);
        quest.text = self.wording.say(&quest, self.world, dice);
        Some((quest, plan))
    }

    /// How hard a quest is: what is fought against what the player can, how much there is to do, how far it is, and how hard
    /// its level was asked to be.
    fn difficulty(&self, quest: &Quest, plan: &Plan, request: &Request<'_>) -> f32 {
        let own = self.world.player.strength.max(1) as f32;
        let mut hard = 0.06 * (quest.steps.len().saturating_sub(1)) as f32;
        hard += 0.25 * (plan.distance as f32 / 12.0).min(1.0);
        for step in &quest.steps {
            hard += match &step.action {
                Action::Slay { creature } => {
                    let strength = self.world.creature(creature).map_or(0, |beast| beast.strength);
                    0.6 * (strength as f32 / own).min(1.0)
                }
                Action::Solve { .. } => 0.6 * request.difficulty.unwrap_or(0.5),
                _ => 0.0,
            };
        }
        hard.clamp(0.0, 1.0)
    }

    fn steps(&self, kind: QuestKind, request: &Request<'_>, dice: &mut Stream) -> Option<Vec<Step>> {
        let known = &self.known;
        let mut build = Build::default();
        let item = |dice: &mut Stream| dice.pick(&known.items).cloned();
        let person = |dice: &mut Stream| dice.pick(&known.people).cloned();
        let place = |dice: &mut Stream| dice.pick(&known.places).cloned();
        match kind {
            QuestKind::Fetch => {
                let first = item(dice)?;
                // Two errands in one, in any order; or a question first, to whoever is near.
                let also = if dice.chance(0.25) { item(dice).filter(|other| *other != first) } else { None };
                let ask = if also.is_none() && dice.chance(0.2) { person(dice) } else { None };
                let asked = ask.map(|person| build.add(Action::Talk { person }, &[]));
                let after: Vec<usize> = asked.into_iter().collect();
                for item in std::iter::once(first).chain(also) {
                    let got = build.add(Action::Fetch { item: item.clone() }, &after);
                    build.add(Action::Deliver { item, to: self.giver.to_owned() }, &[got]);
                }
            }
            QuestKind::Deliver => {
                let (item, to) = (item(dice)?, person(dice)?);
                if self.world.item(&item).and_then(|thing| thing.holder.as_ref()) == Some(&to) {
                    return None;
                }
                let got = build.add(Action::Fetch { item: item.clone() }, &[]);
                build.add(Action::Deliver { item, to }, &[got]);
            }
            QuestKind::Slay => {
                let creature = dice.pick(&known.creatures)?.clone();
                let lair = self.world.creature(&creature)?.place.clone();
                let slain = build.add(Action::Slay { creature }, &[]);
                // What lies where it was, as long as one is there.
                let loot =
                    known.items.iter().find(|name| self.world.item(name).is_some_and(|i| i.place == lair));
                if let Some(item) = loot.filter(|_| dice.chance(0.3)) {
                    let got = build.add(Action::Fetch { item: item.clone() }, &[slain]);
                    build.add(Action::Deliver { item: item.clone(), to: self.giver.to_owned() }, &[got]);
                }
            }
            QuestKind::Explore => {
                let home = self.world.person(self.giver)?.place.clone();
                let first = place(dice).filter(|place| Some(place) != home.as_ref())?;
                build.add(Action::Find { place: first.clone() }, &[]);
                if dice.chance(0.35) {
                    let other = place(dice).filter(|other| *other != first && Some(other) != home.as_ref());
                    if let Some(place) = other {
                        build.add(Action::Find { place }, &[]);
                    }
                }
            }
            QuestKind::Talk => {
                let first = person(dice)?;
                let met = build.add(Action::Talk { person: first.clone() }, &[]);
                if dice.chance(0.35)
                    && let Some(person) = person(dice).filter(|other| *other != first)
                {
                    build.add(Action::Talk { person }, &[met]);
                }
            }
            QuestKind::Escort => {
                let (person, to) = (person(dice)?, place(dice)?);
                if self.world.person(&person)?.place.as_ref() == Some(&to) {
                    return None;
                }
                let met = build.add(Action::Talk { person: person.clone() }, &[]);
                build.add(Action::Escort { person, to }, &[met]);
            }
            QuestKind::Craft => {
                let recipe = &self.world.recipes[*dice.pick(&known.recipes)?];
                let has = |part: &&String| !self.world.player.has.contains(part);
                let parts: Vec<usize> = recipe
                    .of
                    .iter()
                    .filter(has)
                    .map(|part| build.add(Action::Fetch { item: part.clone() }, &[]))
                    .collect();
                let made = build.add(Action::Craft { item: recipe.makes.clone() }, &parts);
                build.add(Action::Deliver { item: recipe.makes.clone(), to: self.giver.to_owned() }, &[made]);
            }
            QuestKind::Solve => {
                let riddle = &self.world.levels[*dice.pick(&known.levels)?];
                let difficulty = request.difficulty.unwrap_or(0.5);
                let made = match request.levels {
                    Some(levels) => Some(levels.level(&riddle.kind, difficulty, dice.next_u64())?.0),
                    None => None,
                };
                let at = build.add(Action::Go { place: riddle.place.clone() }, &[]);
                build.add(Action::Solve { level: riddle.name.clone(), made }, &[at]);
            }
        }
        Some(build.report_to(self.giver))
    }
}

/// Steps as they are put together.
#[derive(Default)]
struct Build(Vec<Step>);

impl Build {
    fn add(&mut self, action: Action, after: &[usize]) -> usize {
        self.0.push(Step { action, after: after.to_vec() });
        self.0.len() - 1
    }

    /// Ends with a report to the giver, once nothing else is left.
    fn report_to(mut self, giver: &str) -> Vec<Step> {
        let waited: HashSet<usize> = self.0.iter().flat_map(|step| step.after.iter().copied()).collect();
        let ends: Vec<usize> = (0..self.0.len()).filter(|at| !waited.contains(at)).collect();
        self.add(Action::Talk { person: giver.to_owned() }, &ends);
        self.0
    }
}
