//! World facts from the ECS: the components a game puts on what NPCs may speak of.
//!
//! A thing that is despawned is gone from every line that starts after it.

use super::world::{CreatureFact, ItemFact, PersonFact, PlaceFact, PlayerFact, World};
use super::{Npc, Persona};
use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

/// A place that can be spoken of. Needs a `Name` ("the mill").
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// East, in any unit.
    pub x: f32,
    /// North.
    pub y: f32,
}

/// A thing that can be spoken of. Needs a `Name` without article ("silver locket").
/// Without [`LocatedIn`] somebody carries it.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// What it is worth, in coins.
    pub price: u32,
}

/// A creature that can be spoken of. Needs a `Name` without article ("grey wolf").
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Creature;

/// The player. A `Name` is how NPCs address them.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Player;

/// In which [`Place`] somebody or something is.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocatedIn(pub Entity);

/// Only these NPCs know of this. Without it everybody does.
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownTo(pub Vec<Entity>);

/// What a player did, newest last; NPCs remark on it.
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    phrases: Vec<String>,
}

impl Deeds {
    /// Adds a deed: a verb in the past tense, and what it was done to (a common noun gets its article):
    /// `push("drove off", "grey wolf")`. Only the last sixteen are kept.
    pub fn push(&mut self, verb: &str, object: &str) {
        let plain = |text: &str| text.replace(['<', '>', '{', '}'], "");
        self.phrases.push(format!("{} {}", plain(verb), super::world::definite(&plain(object))));
        if self.phrases.len() > 16 {
            self.phrases.remove(0);
        }
    }

    /// The deeds as verb phrases, newest last.
    pub fn phrases(&self) -> &[String] {
        &self.phrases
    }
}

/// The weather and the hour, as NPCs speak of them.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct Ambience {
    /// A mass noun ("rain").
    pub weather: Option<String>,
    /// "morning", "noon", "evening" or "night".
    pub time: Option<String>,
}

type Known = (&'static Name, Option<&'static LocatedIn>, Option<&'static KnownTo>);

/// Reads the world as it is now.
#[derive(SystemParam)]
pub struct Facts<'w, 's> {
    places: Query<'w, 's, (&'static Name, &'static Place, Option<&'static KnownTo>)>,
    people: Query<
        'w,
        's,
        (&'static Npc, Option<&'static Name>, Option<&'static LocatedIn>, Option<&'static KnownTo>),
    >,
    items: Query<'w, 's, (Known, &'static Item)>,
    creatures: Query<'w, 's, Known, With<Creature>>,
    players: Query<'w, 's, (Entity, Option<&'static Name>, Option<&'static Deeds>), With<Player>>,
    names: Query<'w, 's, &'static Name>,
    personas: Res<'w, Assets<Persona>>,
    ambience: Option<Res<'w, Ambience>>,
}

impl Facts<'_, '_> {
    /// The facts, for a talk with `player` (none: the only one, or nobody in particular).
    /// What has an empty name, or one that stands there already, is left out.
    pub fn world(&self, player: Option<Entity>) -> World {
        let mut world = World {
            weather: self.ambience.as_ref().and_then(|a| a.weather.clone()),
            time: self.ambience.as_ref().and_then(|a| a.time.clone()),
            ..World::default()
        };
        for (name, place, known) in &self.places {
            world.places.push(PlaceFact {
                name: plain(name),
                at: (place.x, place.y),
                known_to: self.known(known),
            });
        }
        unique(&mut world.places, |place| &place.name);
        let place = |located: Option<&LocatedIn>| Some(plain(self.places.get(located?.0).ok()?.0));
        for (npc, name, located, known) in &self.people {
            let Some(persona) = self.personas.get(&npc.handle) else { continue };
            world.people.push(PersonFact {
                name: name.map_or_else(|| persona.name.clone(), plain),
                role: persona.role.clone(),
                place: place(located),
                known_to: self.known(known),
            });
        }
        unique(&mut world.people, |person| &person.name);
        for ((name, located, known), item) in &self.items {
            let (name, place) = (plain(name), place(located));
            world.items.push(ItemFact { name, place, price: item.price, known_to: self.known(known) });
        }
        unique(&mut world.items, |item| &item.name);
        for (name, located, known) in &self.creatures {
            let (name, place) = (plain(name), place(located));
            world.creatures.push(CreatureFact { name, place, known_to: self.known(known) });
        }
        unique(&mut world.creatures, |creature| &creature.name);
        let who = match player {
            Some(player) => self.players.get(player).ok(),
            None => self.players.single().ok(),
        };
        if let Some((_, name, deeds)) = who {
            world.player = PlayerFact {
                name: name.map_or_else(String::new, plain),
                deeds: deeds.map_or_else(Vec::new, |deeds| deeds.phrases.clone()),
            };
        }
        world
    }

    fn known(&self, known: Option<&KnownTo>) -> Option<Vec<String>> {
        Some(known?.0.iter().filter_map(|npc| self.names.get(*npc).ok()).map(plain).collect())
    }
}

/// A name without what would be read as a control token.
fn plain(name: &Name) -> String {
    name.as_str().replace(['<', '>', '{', '}'], "").trim().to_owned()
}

/// Sorted by name (so the order of spawning does not matter), each once, none empty.
fn unique<T>(list: &mut Vec<T>, name: impl Fn(&T) -> &String) {
    list.sort_by(|a, b| name(a).cmp(name(b)));
    list.dedup_by(|a, b| name(a) == name(b));
    list.retain(|item| !name(item).is_empty());
}
