//! [`Ground`]: what each slot of the next line stands for.
//!
//! Built once per line from the speaker's world, what the player mentioned, what was talked about
//! before, and what the speaker wants. A slot that nothing fills is not allowed in the line.

use super::act::Act;
use super::link::{Linked, Mention};
use super::memory::{Focus, Memory};
use super::persona::{Goal, Persona};
use super::slot::Slot;
use super::world::{World, compass, definite, indefinite, number_word};
use crate::seed::Stream;
use std::collections::BTreeMap;

/// Where a goal stands between speaker and player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoalState {
    /// There is nothing to be done.
    None,
    /// It can be offered.
    Open(Goal),
    /// It was offered, and is not done.
    Active(Goal),
    /// The player did it.
    Done(Goal),
}

impl GoalState {
    /// The control word: `none`, the goal's kind while it is open, `active` or `done`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Open(goal) => goal.kind(),
            Self::Active(_) => "active",
            Self::Done(_) => "done",
        }
    }

    /// The goal, whatever its state.
    pub fn goal(&self) -> Option<&Goal> {
        match self {
            Self::None => None,
            Self::Open(goal) | Self::Active(goal) | Self::Done(goal) => Some(goal),
        }
    }

    /// The first goal that is not settled and whose subjects exist.
    pub fn find(persona: &Persona, world: &World, memory: &Memory) -> Self {
        for goal in persona.goals.iter().filter(|goal| !memory.settled.iter().any(|s| s == goal.subject())) {
            let offered = memory.offered.iter().any(|s| s == goal.subject());
            let bare = |name: &str| name.strip_prefix("the ").unwrap_or(name).to_lowercase();
            let did = |deed: &String| deed.to_lowercase().contains(&bare(goal.subject()));
            if offered && world.player.deeds.iter().any(did) {
                return Self::Done(goal.clone());
            }
            let exists = match goal {
                Goal::Fetch { item, .. } => world.items.iter().any(|i| i.name == *item && i.place.is_some()),
                Goal::Deliver { item, to, .. } => {
                    world.items.iter().any(|i| i.name == *item)
                        && world.person(to).is_some_and(|p| p.place.is_some())
                }
                Goal::Slay { creature, .. } => {
                    world.creatures.iter().any(|c| c.name == *creature && c.place.is_some())
                }
                Goal::Visit { place, .. } => world.place(place).is_some(),
            };
            if exists {
                let goal = goal.clone();
                return if offered { Self::Active(goal) } else { Self::Open(goal) };
            }
        }
        Self::None
    }
}

/// What each slot of the next line stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ground {
    texts: BTreeMap<Slot, String>,
    /// The place that a place-like slot stands for, by name.
    places: BTreeMap<Slot, String>,
    /// Compass words from here, by place name.
    ways: BTreeMap<String, &'static str>,
    /// What {direction} points to before any place was named in the line.
    target: Option<String>,
    /// What the speaker wants done.
    pub goal: GoalState,
    /// What was chosen, by name.
    pub focus: Focus,
    /// The kind of thing the player just spoke of, by the slots that name it.
    asked: Option<&'static [Slot]>,
    /// The same with the subjects of the goal, whatever else was spoken of: what an offer stands on.
    offer: Option<Box<Ground>>,
}

/// The slots that name something of each kind, or where it is.
const KINDS: [&[Slot]; 4] = [
    &[Slot::Person, Slot::PersonRole, Slot::PersonPlace],
    &[Slot::Place],
    &[Slot::Item, Slot::AnItem, Slot::ItemPlace],
    &[Slot::Creature, Slot::ACreature, Slot::CreaturePlace],
];

impl Ground {
    /// Chooses what each slot stands for. `world` is what the speaker knows
    /// ([`World::known_to`]); `noise` picks where several things would do.
    pub fn new(
        persona: &Persona,
        world: &World,
        memory: &Memory,
        linked: &Linked,
        noise: &mut Stream,
    ) -> Self {
        let mut ground = Self::on(persona, world, memory, linked, noise);
        if ground.goal.goal().is_some() {
            let fresh = Memory { focus: Focus::default(), ..memory.clone() };
            let nothing = Linked { text: String::new(), mentions: Vec::new() };
            ground.offer = Some(Box::new(Self::on(persona, world, &fresh, &nothing, noise)));
        }
        ground
    }

    /// What a line of this act stands on.
    #[must_use]
    pub fn of_act(self, act: Act) -> Self {
        match (act, self.offer) {
            (Act::Offer, Some(offer)) => *offer,
            (_, offer) => Self { offer, ..self },
        }
    }

    /// Whether a slot names something of another kind than what the player just spoke of.
    pub fn strays(&self, slot: Slot) -> bool {
        self.asked
            .is_some_and(|asked| !asked.contains(&slot) && KINDS.iter().any(|kind| kind.contains(&slot)))
    }

    fn on(persona: &Persona, world: &World, memory: &Memory, linked: &Linked, noise: &mut Stream) -> Self {
        let goal = GoalState::find(persona, world, memory);
        let mut ground = Self {
            texts: BTreeMap::new(),
            places: BTreeMap::new(),
            ways: BTreeMap::new(),
            target: None,
            goal,
            focus: Focus::default(),
            asked: linked.mentions.iter().find_map(|mention| match mention {
                Mention::Person(_) => Some(KINDS[0]),
                Mention::Place(_) => Some(KINDS[1]),
                Mention::Item(_) => Some(KINDS[2]),
                Mention::Creature(_) => Some(KINDS[3]),
                Mention::Unknown => None,
            }),
            offer: None,
        };
        let here = world.person(&persona.name).and_then(|me| me.place.clone());
        ground.fill_speaker(persona, world, memory, here.as_deref(), noise);
        ground.fill_subjects(persona, world, memory, linked, here.as_deref(), noise);
        if let Some(from) = here.as_deref().and_then(|here| world.place(here)) {
            let ways = world.places.iter().filter_map(|to| Some((to.name.clone(), compass(from.at, to.at)?)));
            ground.ways = ways.collect();
        }
        ground
    }

    fn fill_speaker(
        &mut self,
        persona: &Persona,
        world: &World,
        memory: &Memory,
        here: Option<&str>,
        noise: &mut Stream,
    ) {
        let name = if world.player.name.trim().is_empty() { "traveller" } else { world.player.name.trim() };
        self.set(Slot::Player, name.to_owned());
        self.set(Slot::SelfName, persona.name.clone());
        self.set(Slot::Role, persona.role.clone());
        if let Some(wares) = &persona.wares {
            self.set(Slot::Ware, wares.clone());
            self.set(Slot::Price, number_word(persona.price.max(1)));
        }
        if let Some(here) = here {
            self.set(Slot::Here, definite(here));
        }
        let fresh: Vec<&String> = persona.facts.iter().filter(|fact| !memory.told.contains(fact)).collect();
        let fact = noise.pick(&fresh).copied().or_else(|| persona.facts.last());
        if let Some(fact) = fact {
            self.set(Slot::Fact, fact.clone());
        }
        let deeds = &world.player.deeds;
        if let Some(deed) = deeds.iter().rev().find(|deed| !memory.remarked.contains(deed)).or(deeds.last()) {
            self.set(Slot::Deed, deed.clone());
        }
        for (slot, text) in [(Slot::Weather, &world.weather), (Slot::Time, &world.time)] {
            if let Some(text) = text {
                self.set(slot, text.clone());
            }
        }
        if let Some(goal) = self.goal.goal() {
            let reward = goal.reward();
            let coins = if reward == 1 { "coin" } else { "coins" };
            self.set(Slot::Reward, format!("{} {coins}", number_word(reward)));
        }
    }

    fn fill_subjects(
        &mut self,
        persona: &Persona,
        world: &World,
        memory: &Memory,
        linked: &Linked,
        here: Option<&str>,
        noise: &mut Stream,
    ) {
        let mut mentioned = Focus::default();
        for mention in &linked.mentions {
            match *mention {
                Mention::Person(i) => {
                    mentioned.person.get_or_insert_with(|| world.people[i].name.clone());
                }
                Mention::Place(i) => {
                    mentioned.place.get_or_insert_with(|| world.places[i].name.clone());
                }
                Mention::Item(i) => {
                    mentioned.item.get_or_insert_with(|| world.items[i].name.clone());
                }
                Mention::Creature(i) => {
                    mentioned.creature.get_or_insert_with(|| world.creatures[i].name.clone());
                }
                Mention::Unknown => {}
            }
        }
        let wanted = match self.goal.goal() {
            Some(Goal::Fetch { item, .. }) => Focus { item: Some(item.clone()), ..Focus::default() },
            Some(Goal::Deliver { item, to, .. }) => {
                Focus { item: Some(item.clone()), person: Some(to.clone()), ..Focus::default() }
            }
            Some(Goal::Slay { creature, .. }) => {
                Focus { creature: Some(creature.clone()), ..Focus::default() }
            }
            Some(Goal::Visit { place, .. }) => Focus { place: Some(place.clone()), ..Focus::default() },
            None => Focus::default(),
        };
        // What was said, then what was talked about, then what is wanted, then anything.
        let choose = |said: &Option<String>,
                      before: &Option<String>,
                      wanted: &Option<String>,
                      [any, all]: [&[&str]; 2],
                      noise: &mut Stream| {
            let any = noise.pick(any).map(|name| (*name).to_owned());
            let known = |name: &&String| all.contains(&name.as_str());
            said.clone()
                .or_else(|| before.as_ref().filter(known).cloned())
                .or_else(|| wanted.as_ref().filter(known).cloned())
                .or(any)
        };
        let others: Vec<&str> =
            world.people.iter().map(|p| p.name.as_str()).filter(|name| *name != persona.name).collect();
        let close: Vec<&str> =
            others.iter().copied().filter(|name| persona.relations.contains_key(*name)).collect();
        let people = if mentioned.person.is_none() && !close.is_empty() && noise.chance(0.5) {
            &close
        } else {
            &others
        };
        let items: Vec<&str> =
            world.items.iter().filter(|i| i.place.is_some()).map(|i| i.name.as_str()).collect();
        // What is to be delivered may lie nowhere.
        let every_item: Vec<&str> = world.items.iter().map(|i| i.name.as_str()).collect();
        let creatures: Vec<&str> = world.creatures.iter().map(|c| c.name.as_str()).collect();
        let before = &memory.focus;
        let person = choose(&mentioned.person, &before.person, &wanted.person, [people, &others], noise);
        let item = choose(&mentioned.item, &before.item, &wanted.item, [&items, &every_item], noise);
        let creature =
            choose(&mentioned.creature, &before.creature, &wanted.creature, [&creatures; 2], noise);
        if let Some(person) = person.as_deref().and_then(|name| world.person(name)) {
            self.set(Slot::Person, person.name.clone());
            self.set(Slot::PersonRole, person.role.clone());
            self.set_place(Slot::PersonPlace, person.place.as_deref());
        }
        if let Some(item) = item.as_deref().and_then(|name| world.items.iter().find(|i| i.name == name)) {
            self.set(Slot::Item, definite(&item.name));
            self.set(Slot::AnItem, indefinite(&item.name));
            self.set_place(Slot::ItemPlace, item.place.as_deref());
            if mentioned.item.is_some() && item.price > 0 {
                self.set(Slot::Price, number_word(item.price));
            }
        }
        if let Some(creature) =
            creature.as_deref().and_then(|name| world.creatures.iter().find(|c| c.name == name))
        {
            self.set(Slot::Creature, definite(&creature.name));
            self.set(Slot::ACreature, indefinite(&creature.name));
            self.set_place(Slot::CreaturePlace, creature.place.as_deref());
        }
        let of = |slot: Slot| self.places.get(&slot).cloned();
        let pointed = if mentioned.person.is_some() {
            of(Slot::PersonPlace)
        } else if mentioned.item.is_some() {
            of(Slot::ItemPlace)
        } else if mentioned.creature.is_some() {
            of(Slot::CreaturePlace)
        } else {
            before.place.clone().or(match self.goal.goal() {
                Some(Goal::Fetch { .. }) => of(Slot::ItemPlace),
                Some(Goal::Slay { .. }) => of(Slot::CreaturePlace),
                Some(Goal::Deliver { .. }) => of(Slot::PersonPlace),
                Some(Goal::Visit { place, .. }) => Some(place.clone()),
                None => None,
            })
        };
        let away: Vec<&str> =
            world.places.iter().map(|p| p.name.as_str()).filter(|name| Some(*name) != here).collect();
        let anywhere = noise.pick(&away).map(|name| (*name).to_owned());
        let there = |name: &String| world.place(name).is_some();
        let place = mentioned.place.clone().or(pointed.filter(there)).or(anywhere);
        self.set_place(Slot::Place, place.as_deref());
        self.target = place.clone();
        self.focus = Focus { person, place, item, creature };
    }

    fn set(&mut self, slot: Slot, text: String) {
        self.texts.insert(slot, text);
    }

    fn set_place(&mut self, slot: Slot, place: Option<&str>) {
        if let Some(place) = place {
            self.texts.insert(slot, definite(place));
            self.places.insert(slot, place.to_owned());
        }
    }

    /// Whether a slot can be filled now, in a line that has said `line` so far.
    pub fn allows(&self, slot: Slot, line: &LineGround) -> bool {
        match slot {
            Slot::Unknown => false,
            Slot::Direction => self.way(line).is_some(),
            _ => match (self.places.get(&slot), &line.pointed) {
                // A direction was given: what follows must be where it points.
                (Some(place), Some(pointed)) => place == pointed,
                _ => self.texts.contains_key(&slot),
            },
        }
    }

    /// The text of a slot, and the line's state after it.
    pub fn fill(&self, slot: Slot, line: &mut LineGround) -> Option<String> {
        line.used.push(slot);
        if slot == Slot::Direction {
            let way = self.way(line)?;
            line.pointed = line.last.clone().or_else(|| self.target.clone());
            return Some(way.to_owned());
        }
        if let Some(place) = self.places.get(&slot) {
            line.last = Some(place.clone());
        }
        self.texts.get(&slot).cloned()
    }

    fn way(&self, line: &LineGround) -> Option<&'static str> {
        self.ways.get(line.last.as_ref().or(self.target.as_ref())?).copied()
    }

    /// The text of a slot that stands alone.
    pub fn text(&self, slot: Slot) -> Option<&str> {
        self.texts.get(&slot).map(String::as_str)
    }

    /// What the line talked about, to be remembered.
    pub fn focus_of(&self, line: &LineGround) -> Focus {
        let used = |slots: &[Slot]| line.used.iter().any(|slot| slots.contains(slot));
        Focus {
            person: self
                .focus
                .person
                .clone()
                .filter(|_| used(&[Slot::Person, Slot::PersonRole, Slot::PersonPlace])),
            item: self.focus.item.clone().filter(|_| used(&[Slot::Item, Slot::AnItem, Slot::ItemPlace])),
            creature: self
                .focus
                .creature
                .clone()
                .filter(|_| used(&[Slot::Creature, Slot::ACreature, Slot::CreaturePlace])),
            place: line.last.clone(),
        }
    }
}

/// What a line has named so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineGround {
    last: Option<String>,
    pointed: Option<String>,
    /// The slots used, in order.
    pub used: Vec<Slot>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::link::link;
    use crate::seed::Seed;

    fn setting() -> (Persona, World) {
        let persona = Persona::from_ron(
            r#"(name: "Mira", role: "baker", voice: "warm", wares: "warm loaves", price: 3,
                goals: [Fetch(item: "silver locket", reward: 20)], fallbacks: ["Hm."])"#,
            "mira",
        );
        let world = World::from_ron(
            r#"(places: [(name: "the bakery", at: (0, 0)), (name: "the mill", at: (0, 9)), (name: "the bridge", at: (9, 0))],
                people: [(name: "Mira", role: "baker", place: Some("the bakery")), (name: "Tomas", role: "miller", place: Some("the mill"))],
                items: [(name: "silver locket", place: Some("the bridge"), price: 12)])"#,
            "w",
        );
        (persona.unwrap(), world.unwrap())
    }

    fn ground(said: &str, memory: &Memory) -> Ground {
        let (persona, world) = setting();
        let linked = link(said, &world, "Mira", persona.wares.as_deref());
        Ground::new(&persona, &world, memory, &linked, &mut Seed::new(1).stream())
    }

    #[test]
    fn an_offer_stands_on_what_is_wanted_whatever_was_talked_about() {
        let assets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let world = std::fs::read_to_string(assets.join("worlds/village.world.ron")).unwrap();
        let world = World::from_ron(&world, "world").unwrap();
        let before =
            Focus { person: Some("Nib".into()), item: Some("red lantern".into()), ..Focus::default() };
        let memory = Memory { focus: before, ..Memory::default() };
        let mut goals = 0;
        for file in std::fs::read_dir(assets.join("personas")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let persona = Persona::from_ron(&text, "persona").unwrap();
            let linked = link("And where is Odo? Any work?", &world, &persona.name, None);
            for seed in 0..20 {
                let known = world.known_to(&persona.name);
                let ground = Ground::new(&persona, &known, &memory, &linked, &mut Seed::new(seed).stream());
                let Some(goal) = ground.goal.goal().cloned() else { continue };
                let focus = ground.of_act(Act::Offer).focus;
                let stands = match &goal {
                    Goal::Fetch { item, .. } => focus.item.as_ref() == Some(item),
                    Goal::Deliver { item, to, .. } => {
                        focus.item.as_ref() == Some(item) && focus.person.as_ref() == Some(to)
                    }
                    Goal::Slay { creature, .. } => focus.creature.as_ref() == Some(creature),
                    Goal::Visit { place, .. } => focus.place.as_ref() == Some(place),
                };
                assert!(stands, "{}: {goal:?} on {focus:?}", persona.name);
                goals += 1;
            }
        }
        assert!(goals > 100, "{goals}");
    }

    #[test]
    fn a_direction_does_not_stray_from_what_was_asked_for() {
        let ground = ground("Where is Tomas?", &Memory::default());
        assert!(
            ground.strays(Slot::ItemPlace) && ground.strays(Slot::Creature) && ground.strays(Slot::Place)
        );
        assert!(!ground.strays(Slot::PersonPlace) && !ground.strays(Slot::Direction));
        assert!(!self::ground("hm", &Memory::default()).strays(Slot::ItemPlace));
    }

    #[test]
    fn a_question_after_a_person_points_to_where_they_are() {
        let ground = ground("Where is the miller?", &Memory::default());
        let mut line = LineGround::default();
        assert_eq!(ground.fill(Slot::Person, &mut line).as_deref(), Some("Tomas"));
        assert_eq!(ground.fill(Slot::PersonPlace, &mut line).as_deref(), Some("the mill"));
        assert_eq!(ground.fill(Slot::Direction, &mut line).as_deref(), Some("north"));
    }

    #[test]
    fn a_direction_given_first_forbids_other_places_after_it() {
        let ground = ground("Where is the miller?", &Memory::default());
        let mut line = LineGround::default();
        assert_eq!(ground.fill(Slot::Direction, &mut line).as_deref(), Some("north"));
        assert!(ground.allows(Slot::PersonPlace, &line));
        assert!(!ground.allows(Slot::ItemPlace, &line));
    }

    #[test]
    fn a_goal_is_open_then_active_then_done_then_settled() {
        let (persona, mut world) = setting();
        let mut memory = Memory::default();
        assert_eq!(GoalState::find(&persona, &world, &memory).word(), "fetch");
        memory.offered.push("silver locket".into());
        assert_eq!(GoalState::find(&persona, &world, &memory).word(), "active");
        world.player.deeds.push("found the silver locket".into());
        assert_eq!(GoalState::find(&persona, &world, &memory).word(), "done");
        memory.settled.push("silver locket".into());
        assert_eq!(GoalState::find(&persona, &world, &memory), GoalState::None);
        world.items.clear();
        assert_eq!(GoalState::find(&persona, &world, &Memory::default()), GoalState::None);
    }

    #[test]
    fn what_does_not_exist_is_not_allowed() {
        let ground = ground("hello", &Memory::default());
        let line = LineGround::default();
        assert!(!ground.allows(Slot::Creature, &line) && !ground.allows(Slot::Deed, &line));
        assert!(!ground.allows(Slot::Unknown, &line));
        assert!(ground.allows(Slot::Reward, &line) && ground.allows(Slot::Item, &line));
    }
}
