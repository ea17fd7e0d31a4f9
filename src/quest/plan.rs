//! The planner: whether a quest can be finished from here, and how.
//!
//! A forward search over which steps are done, with walks in between. Quests have a handful of steps, so it is exact: if
//! there is an order in which each step can be done, one is found.

use super::graph::{Action, Quest};
use super::world::QuestWorld;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet, VecDeque};

/// What a player does next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Move {
    /// Walk to a place, by ways that exist.
    Walk(String),
    /// Do the step of this number.
    Do(usize),
}

/// How a quest can be finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What to do, in order.
    pub moves: Vec<Move>,
    /// How many ways between neighbouring places it takes; one a walk where the world has no paths.
    pub distance: usize,
}

/// Why there is no plan: the step that cannot be done, and what is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The step.
    pub step: usize,
    /// What is in the way.
    pub reason: String,
}

/// The most steps a quest may have.
pub const MOST_STEPS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Place(usize),
    Person(usize),
    Player,
    Nowhere,
}

#[derive(Clone)]
struct State {
    /// None: anywhere.
    here: Option<usize>,
    items: Vec<At>,
    people: Vec<Option<usize>>,
    coins: u32,
    done: u32,
}

/// A world made ready for planning in it.
pub struct Planner<'w> {
    world: &'w QuestWorld,
    places: HashMap<&'w str, usize>,
    people: HashMap<&'w str, usize>,
    items: HashMap<&'w str, usize>,
    /// Ways from place to place; all of them, if `None`.
    distances: Option<Vec<Vec<u16>>>,
    start: State,
}

const FAR: u16 = u16::MAX;

impl<'w> Planner<'w> {
    /// Gets ready.
    pub fn new(world: &'w QuestWorld) -> Self {
        let places: HashMap<&str, usize> =
            world.places.iter().enumerate().map(|(i, p)| (p.name.as_str(), i)).collect();
        let people: HashMap<&str, usize> =
            world.people.iter().enumerate().map(|(i, p)| (p.name.as_str(), i)).collect();
        let mut items: HashMap<&str, usize> =
            world.items.iter().enumerate().map(|(i, p)| (p.name.as_str(), i)).collect();
        let place = |name: &Option<String>| name.as_ref().and_then(|name| places.get(name.as_str()).copied());
        let mut at: Vec<At> = world
            .items
            .iter()
            .map(|item| {
                let holder = item.holder.as_ref().and_then(|holder| people.get(holder.as_str()));
                match (place(&item.place), holder) {
                    _ if world.player.has.contains(&item.name) => At::Player,
                    (Some(place), _) => At::Place(place),
                    (None, Some(holder)) => At::Person(*holder),
                    _ => At::Nowhere,
                }
            })
            .collect();
        // What can be made, and what the player carries, need not be on the world's list.
        let carried = world.player.has.iter().map(|name| (name.as_str(), At::Player));
        for (name, where_) in carried.chain(world.recipes.iter().map(|r| (r.makes.as_str(), At::Nowhere))) {
            if !items.contains_key(name) {
                items.insert(name, at.len());
                at.push(where_);
            }
        }
        let distances = (!world.paths.is_empty()).then(|| {
            let mut ways = vec![Vec::new(); world.places.len()];
            for (a, b) in &world.paths {
                if let (Some(a), Some(b)) = (places.get(a.as_str()), places.get(b.as_str())) {
                    ways[*a].push(*b);
                    ways[*b].push(*a);
                }
            }
            (0..ways.len()).map(|from| reach(&ways, from)).collect()
        });
        let start = State {
            here: place(&world.player.place),
            items: at,
            people: world.people.iter().map(|person| place(&person.place)).collect(),
            coins: world.player.coins,
            done: 0,
        };
        Self { world, places, people, items, distances, start }
    }

    fn distance(&self, from: Option<usize>, to: usize) -> Option<u16> {
        match (from, &self.distances) {
            (Some(from), _) if from == to => Some(0),
            (None, _) | (_, None) => Some(1),
            (Some(from), Some(distances)) => Some(distances[from][to]).filter(|d| *d != FAR),
        }
    }

    /// A plan for what is left of a quest. `done` has a bit for each step that is.
    ///
    /// # Errors
    /// The first step that cannot be done however one begins.
    pub fn plan(&self, quest: &Quest, done: u32) -> Result<Plan, Obstacle> {
        let count = quest.steps.len();
        if count > MOST_STEPS {
            let reason = format!("a quest of {count} steps is too long (at most {MOST_STEPS})");
            return Err(Obstacle { step: MOST_STEPS, reason });
        }
        if let Some(step) = (0..count).find(|at| quest.steps[*at].after.iter().any(|before| before >= at)) {
            return Err(Obstacle { step, reason: "it waits for a step that comes later".into() });
        }
        let mut state = self.start.clone();
        state.done = done;
        let mut seen = HashSet::new();
        let mut moves = Vec::new();
        let mut obstacle: Option<Obstacle> = None;
        if self.search(quest, &state, &mut moves, &mut seen, &mut obstacle) {
            let mut here = self.start.here;
            let mut distance = 0;
            for step in &moves {
                if let Move::Walk(place) = step {
                    let to = self.places[place.as_str()];
                    distance += usize::from(self.distance(here, to).unwrap_or(0));
                    here = Some(to);
                }
            }
            return Ok(Plan { moves, distance });
        }
        Err(obstacle.unwrap_or(Obstacle { step: 0, reason: "no order of its steps can be done".into() }))
    }

    fn search(
        &self,
        quest: &Quest,
        state: &State,
        moves: &mut Vec<Move>,
        seen: &mut HashSet<(u32, Option<usize>, u32)>,
        obstacle: &mut Option<Obstacle>,
    ) -> bool {
        if state.done.count_ones() as usize >= quest.steps.len() {
            return true;
        }
        if !seen.insert((state.done, state.here, state.coins)) {
            return false;
        }
        let open = |at: &usize| {
            let step = &quest.steps[*at];
            state.done & (1 << at) == 0 && step.after.iter().all(|before| state.done & (1 << before) != 0)
        };
        for at in (0..quest.steps.len()).filter(open) {
            match self.apply(&quest.steps[at].action, state) {
                Ok((mut next, walk)) => {
                    let length = moves.len();
                    moves.extend(walk.map(|place| Move::Walk(self.world.places[place].name.clone())));
                    moves.push(Move::Do(at));
                    next.done |= 1 << at;
                    if self.search(quest, &next, moves, seen, obstacle) {
                        return true;
                    }
                    moves.truncate(length);
                }
                Err(reason) => {
                    obstacle.get_or_insert(Obstacle { step: at, reason });
                }
            }
        }
        false
    }

    fn walk(&self, state: &State, to: usize) -> Result<(State, Option<usize>), String> {
        if self.distance(state.here, to).is_none() {
            return Err(format!("there is no way to {}", self.world.places[to].name));
        }
        let moved = state.here != Some(to);
        Ok((State { here: Some(to), ..state.clone() }, moved.then_some(to)))
    }

    fn person_at(&self, state: &State, name: &str) -> Result<(usize, usize), String> {
        let person = *self.people.get(name).ok_or_else(|| format!("there is no {name}"))?;
        let place = state.people[person].ok_or_else(|| format!("{name} is gone"))?;
        Ok((person, place))
    }

    fn place_of(&self, name: &str) -> Result<usize, String> {
        self.places.get(name).copied().ok_or_else(|| format!("there is no place {name}"))
    }

    fn item_of(&self, name: &str) -> Result<usize, String> {
        self.items.get(name).copied().ok_or_else(|| format!("there is no {name}"))
    }

    /// The state after an action, and where one walks for it; or what is in the way.
    fn apply(&self, action: &Action, state: &State) -> Result<(State, Option<usize>), String> {
        match action {
            Action::Go { place } | Action::Find { place } => self.walk(state, self.place_of(place)?),
            Action::Talk { person } => self.walk(state, self.person_at(state, person)?.1),
            Action::Fetch { item } => {
                let at = self.item_of(item)?;
                let (mut next, walk) = match state.items[at] {
                    At::Player => (state.clone(), None),
                    At::Place(place) => self.walk(state, place)?,
                    At::Nowhere => return Err(format!("{item} is gone")),
                    At::Person(holder) => {
                        let holder = &self.world.people[holder].name;
                        let (mut next, walk) = self.walk(state, self.person_at(state, holder)?.1)?;
                        let price = self.world.item(item).map_or(0, |item| item.price);
                        let left = next.coins.checked_sub(price);
                        next.coins = left.ok_or_else(|| format!("{item} costs {price} coins"))?;
                        (next, walk)
                    }
                };
                next.items[at] = At::Player;
                Ok((next, walk))
            }
            Action::Deliver { item, to } => {
                let at = self.item_of(item)?;
                let (person, place) = self.person_at(state, to)?;
                if state.items[at] != At::Player {
                    return Err(format!("the player does not have {item}"));
                }
                let (mut next, walk) = self.walk(state, place)?;
                next.items[at] = At::Person(person);
                Ok((next, walk))
            }
            Action::Slay { creature } => {
                let beast = self.world.creature(creature).ok_or_else(|| format!("{creature} is gone"))?;
                if beast.strength > self.world.player.strength {
                    return Err(format!("{creature} is too strong"));
                }
                let place = beast.place.as_deref().ok_or_else(|| format!("{creature} is gone"))?;
                self.walk(state, self.place_of(place)?)
            }
            Action::Escort { person, to } => {
                let (at, place) = self.person_at(state, person)?;
                let to = self.place_of(to)?;
                let (met, walk) = self.walk(state, place)?;
                if self.distance(Some(place), to).is_none() {
                    return Err(format!("there is no way to {}", self.world.places[to].name));
                }
                let mut next = State { here: Some(to), ..met };
                next.people[at] = Some(to);
                Ok((next, walk))
            }
            Action::Craft { item } => {
                let at = self.item_of(item)?;
                let recipe = self.world.recipes.iter().find(|recipe| recipe.makes == *item);
                let recipe = recipe.ok_or_else(|| format!("nobody knows how to make {item}"))?;
                let mut next = state.clone();
                for part in &recipe.of {
                    let part_at = self.item_of(part)?;
                    if next.items[part_at] != At::Player {
                        return Err(format!("the player does not have {part}"));
                    }
                    next.items[part_at] = At::Nowhere;
                }
                next.items[at] = At::Player;
                Ok((next, None))
            }
            Action::Solve { level, .. } => {
                let riddle = self.world.level(level).ok_or_else(|| format!("there is no {level}"))?;
                self.walk(state, self.place_of(&riddle.place)?)
            }
        }
    }
}

/// How many ways it is to each place; [`FAR`] where there is none.
fn reach(ways: &[Vec<usize>], from: usize) -> Vec<u16> {
    let mut distances = vec![FAR; ways.len()];
    distances[from] = 0;
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for &next in &ways[at] {
            if distances[next] == FAR {
                distances[next] = distances[at].saturating_add(1);
                queue.push_back(next);
            }
        }
    }
    distances
}
