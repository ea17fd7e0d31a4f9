//! World facts for quests, from the ECS: those of dialogue ([`crate::dialogue::Facts`]), and what only quests ask for.

use super::world::{Beast, Means, Person, QuestWorld, Recipe, Riddle, Thing};
use crate::dialogue::{Creature, Facts, Item, LocatedIn, Npc, Persona, Place, Player};
use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

/// Who holds a thing: an NPC, or the player.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBy(pub Entity);

/// How strong a creature is, or the player.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strength(pub u32);

/// The player's coins.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coins(pub u32);

/// A way between two places, both ways. None anywhere: every place can be reached.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way(pub Entity, pub Entity);

/// A level that can be played where it is [`LocatedIn`]. Needs a `Name` with article ("the old crypt").
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
pub struct PlayableLevel {
    /// What kind of level, for the level generator.
    pub kind: String,
}

/// What can be made of what.
#[derive(Resource, Clone, Debug, Default, PartialEq)]
pub struct Recipes(pub Vec<Recipe>);

/// Reads the world as it is now.
#[derive(SystemParam)]
pub struct QuestFacts<'w, 's> {
    facts: Facts<'w, 's>,
    npcs: Query<'w, 's, (&'static Npc, Option<&'static Name>)>,
    personas: Res<'w, Assets<Persona>>,
    held: Query<'w, 's, (&'static Name, &'static HeldBy), With<Item>>,
    strong: Query<'w, 's, (&'static Name, &'static Strength), With<Creature>>,
    ways: Query<'w, 's, &'static Way>,
    places: Query<'w, 's, &'static Name, With<Place>>,
    levels: Query<'w, 's, (&'static Name, &'static PlayableLevel, &'static LocatedIn)>,
    players: Query<
        'w,
        's,
        (Option<&'static LocatedIn>, Option<&'static Strength>, Option<&'static Coins>),
        With<Player>,
    >,
    recipes: Option<Res<'w, Recipes>>,
}

impl QuestFacts<'_, '_> {
    /// The name by which the world knows an NPC.
    pub fn person(&self, npc: Entity) -> Option<String> {
        let (npc, name) = self.npcs.get(npc).ok()?;
        let persona = self.personas.get(&npc.handle);
        name.map(|name| name.as_str().to_owned()).or_else(|| Some(persona?.name.clone()))
    }

    /// The facts, for `player`.
    pub fn world(&self, player: Option<Entity>) -> QuestWorld {
        let known = self.facts.world(player);
        let voice = |name: &str| {
            let npc = self.npcs.iter().find(|(npc, own)| {
                own.map(Name::as_str) == Some(name)
                    || self.personas.get(&npc.handle).is_some_and(|persona| persona.name == name)
            });
            Some(self.personas.get(&npc?.0.handle)?.voice.clone())
        };
        let holder =
            |name: &str| self.held.iter().find(|(own, _)| own.as_str() == name).map(|(_, held)| held.0);
        let mut world = QuestWorld {
            places: known.places,
            weather: known.weather,
            time: known.time,
            recipes: self.recipes.as_ref().map_or_else(Vec::new, |recipes| recipes.0.clone()),
            ..QuestWorld::default()
        };
        world.people = known
            .people
            .into_iter()
            .map(|p| Person {
                voice: voice(&p.name),
                name: p.name,
                role: p.role,
                place: p.place,
                known_to: p.known_to,
            })
            .collect();
        let mut has = Vec::new();
        for item in known.items {
            let by = holder(&item.name);
            if by.is_some_and(|by| self.players.contains(by)) {
                has.push(item.name.clone());
            }
            let holder = by.filter(|_| item.place.is_none()).and_then(|by| self.person(by));
            world.items.push(Thing {
                name: item.name,
                place: item.place,
                holder: holder.filter(|holder| world.people.iter().any(|person| person.name == *holder)),
                price: item.price,
                known_to: item.known_to,
            });
        }
        for beast in known.creatures {
            let strength =
                self.strong.iter().find(|(name, _)| name.as_str() == beast.name).map_or(1, |(_, s)| s.0);
            world.creatures.push(Beast {
                name: beast.name,
                place: beast.place,
                known_to: beast.known_to,
                strength,
            });
        }
        let place = |at: Entity| {
            let name = self.places.get(at).ok()?.as_str().to_owned();
            world.places.iter().any(|place| place.name == name).then_some(name)
        };
        world.paths = self.ways.iter().filter_map(|way| Some((place(way.0)?, place(way.1)?))).collect();
        world.levels = self
            .levels
            .iter()
            .filter_map(|(name, level, at)| {
                Some(Riddle { name: name.as_str().to_owned(), place: place(at.0)?, kind: level.kind.clone() })
            })
            .collect();
        let own = player.and_then(|player| self.players.get(player).ok());
        let (at, strength, coins) = own.unwrap_or((None, None, None));
        world.player = Means {
            name: known.player.name,
            deeds: known.player.deeds,
            place: at.and_then(|at| place(at.0)),
            has,
            coins: coins.map_or(0, |coins| coins.0),
            strength: strength.map_or(Means::default().strength, |strength| strength.0),
        };
        world
    }
}

type Facet = Or<(
    Changed<LocatedIn>,
    Changed<HeldBy>,
    Changed<Strength>,
    Changed<Coins>,
    Changed<Way>,
    Added<Place>,
    Added<Npc>,
    Added<Item>,
    Added<Creature>,
)>;

/// Whether anything quests depend on has changed since this was last asked.
#[derive(SystemParam)]
pub struct WorldChanged<'w, 's> {
    changed: Query<'w, 's, (), Facet>,
    located: RemovedComponents<'w, 's, LocatedIn>,
    held: RemovedComponents<'w, 's, HeldBy>,
    ways: RemovedComponents<'w, 's, Way>,
    npcs: RemovedComponents<'w, 's, Npc>,
    items: RemovedComponents<'w, 's, Item>,
    creatures: RemovedComponents<'w, 's, Creature>,
    places: RemovedComponents<'w, 's, Place>,
}

impl WorldChanged<'_, '_> {
    /// Whether anything has.
    pub fn any(mut self) -> bool {
        let gone = [
            self.located.read().count(),
            self.held.read().count(),
            self.ways.read().count(),
            self.npcs.read().count(),
            self.items.read().count(),
            self.creatures.read().count(),
            self.places.read().count(),
        ];
        gone.iter().any(|count| *count > 0) || !self.changed.is_empty()
    }
}
