//! Who and what is in the village: entities made from the world's facts.

use bevy::prelude::*;
use bevy_skald::dialogue::World as Facts;
use bevy_skald::prelude::*;
use std::collections::HashMap;

/// The same facts the command line speaks of.
const FACTS: &str = include_str!("../../assets/worlds/village.world.ron");

/// Where something stands, in tiles (north is up).
#[derive(Component, Clone, Copy, Debug, PartialEq)]
pub struct At(pub Vec2);

/// How much a creature can take.
#[derive(Component)]
pub struct Health(pub f32);

/// What a player carries.
#[derive(Component, Default)]
pub struct Satchel(pub Vec<String>);

pub fn facts() -> Facts {
    Facts::from_ron(FACTS, "village.world.ron").expect("the village's facts are part of this example")
}

/// Everything but players. Runs at startup.
pub fn settle(mut commands: Commands) {
    let facts = facts();
    let mut places = HashMap::new();
    for place in &facts.places {
        let at = Vec2::new(place.at.0, place.at.1);
        let entity = commands.spawn((Name::new(place.name.clone()), Place { x: at.x, y: at.y }, At(at)));
        places.insert(place.name.clone(), (entity.id(), at));
    }
    let mut crowd: HashMap<String, f32> = HashMap::new();
    let mut spot = |place: &Option<String>| {
        let (entity, at) = places[place.as_ref().expect("everything in the village has a place")];
        // Side by side in front of the place.
        let n = crowd.entry(format!("{at}")).or_default();
        *n += 1.0;
        let side = if *n as i32 % 2 == 0 { 1.0 } else { -1.0 };
        (LocatedIn(entity), At(at + Vec2::new(side * (*n / 2.0).ceil() * 1.1, -1.0)))
    };
    for person in &facts.people {
        let persona = format!("personas/{}.persona.ron", person.name.to_lowercase());
        commands.spawn((Name::new(person.name.clone()), Npc::new(persona), spot(&person.place)));
    }
    for item in &facts.items {
        commands.spawn((Name::new(item.name.clone()), Item { price: item.price }, spot(&item.place)));
    }
    for creature in &facts.creatures {
        commands.spawn((Name::new(creature.name.clone()), Creature, Health(3.0), spot(&creature.place)));
    }
}

/// A player at the square.
pub fn player(name: &str) -> impl Bundle {
    let square = Vec2::new(20.0, 10.0);
    (Name::new(name.to_owned()), Player, Deeds::default(), Satchel::default(), At(square))
}
