//! Worlds made at random, and worlds that change: what quests are tested on.

use super::world::{Beast, Means, Person, QuestWorld, Recipe, Riddle, Thing};
use crate::dialogue::PlaceFact;
use crate::seed::{Seed, Stream};

const PLACES: [&str; 24] = [
    "the square",
    "the mill",
    "the forge",
    "the inn",
    "the chapel",
    "the old bridge",
    "the woods",
    "the graveyard",
    "the farm",
    "the watchtower",
    "the archive",
    "the pond",
    "the quarry",
    "the ferry",
    "the ruins",
    "the lighthouse",
    "the vineyard",
    "the harbour",
    "the marsh",
    "the hollow oak",
    "the barn",
    "the cellar",
    "the market",
    "the north gate",
];
const PEOPLE: [&str; 20] = [
    "Mira", "Bram", "Pell", "Odo", "Anwen", "Harl", "Wick", "Greta", "Corvin", "Tansy", "Ysolde", "Nib",
    "Sele", "Tomas", "Ilse", "Radko", "Fenna", "Joost", "Maren", "Dirk",
];
const ITEMS: [&str; 24] = [
    "silver locket",
    "iron key",
    "song book",
    "red lantern",
    "carved whistle",
    "lost ledger",
    "copper pan",
    "blue ribbon",
    "ash staff",
    "bone comb",
    "clay jug",
    "fishing hook",
    "old map",
    "pewter cup",
    "wax seal",
    "wool blanket",
    "brass bell",
    "glass eye",
    "rope",
    "saddle",
    "amber bead",
    "honey jar",
    "whetstone",
    "bell rope",
];
const CREATURES: [&str; 12] = [
    "grey wolf",
    "giant rat",
    "wild boar",
    "cave bear",
    "marsh snake",
    "barrow crow",
    "stone toad",
    "white stag",
    "bog hound",
    "mad goose",
    "river eel",
    "old lynx",
];
const MADE: [&str; 4] = ["mended lantern", "traveller's kit", "birthday garland", "weather vane"];
const LEVELS: [&str; 4] = ["the old crypt", "the flooded shaft", "the hedge maze", "the clock tower"];
const VOICES: [&str; 14] = [
    "stern",
    "timid",
    "childish",
    "cryptic",
    "grave",
    "sly",
    "scholarly",
    "warm",
    "boastful",
    "pious",
    "merry",
    "wry",
    "gruff",
    "weary",
];

/// Some of `names`, at least `least` of them.
fn some<'a>(names: &[&'a str], least: usize, dice: &mut Stream) -> Vec<&'a str> {
    let mut all = names.to_vec();
    dice.shuffle(&mut all);
    all.truncate(least + dice.below(names.len() - least + 1));
    all
}

/// A world made at random: paths that may leave places apart, people and things in them, secrets.
pub fn random_world(seed: Seed) -> QuestWorld {
    let mut dice = seed.derive("world").stream();
    let dice = &mut dice;
    let places = some(&PLACES, 4, dice);
    let place = |dice: &mut Stream| dice.pick(&places).map(|place| (*place).to_owned());
    let people = some(&PEOPLE, 3, dice);
    let secret = |dice: &mut Stream| -> Option<Vec<String>> {
        dice.chance(0.15)
            .then(|| people.iter().filter(|_| dice.chance(0.4)).map(|p| (*p).to_owned()).collect())
    };
    let mut world = QuestWorld {
        places: places
            .iter()
            .map(|name| PlaceFact {
                name: (*name).to_owned(),
                at: (50.0 * dice.uniform(), 50.0 * dice.uniform()),
                known_to: None,
            })
            .collect(),
        ..QuestWorld::default()
    };
    if dice.chance(0.7) {
        // A tree of ways, of which some are missing, and a few more.
        for at in 1..places.len() {
            if dice.chance(0.95) {
                world.paths.push((places[at].to_owned(), places[dice.below(at)].to_owned()));
            }
        }
        for _ in 0..places.len() / 3 {
            world.paths.extend(place(dice).zip(place(dice)));
        }
    }
    world.people = people
        .iter()
        .map(|name| Person {
            name: (*name).to_owned(),
            role: "villager".into(),
            place: place(dice),
            known_to: secret(dice),
            voice: dice.pick(&VOICES).map(|voice| (*voice).to_owned()),
        })
        .collect();
    for name in some(&ITEMS, 2, dice) {
        let held = dice.chance(0.2);
        world.items.push(Thing {
            name: name.to_owned(),
            place: if held { None } else { place(dice) },
            holder: if held { dice.pick(&people).map(|p| (*p).to_owned()) } else { None },
            price: 1 + dice.below(30) as u32,
            known_to: secret(dice),
        });
    }
    for name in some(&CREATURES, 0, dice) {
        let strength = 1 + dice.below(14) as u32;
        world.creatures.push(Beast {
            name: name.to_owned(),
            place: place(dice),
            known_to: secret(dice),
            strength,
        });
    }
    for name in some(&MADE, 0, dice) {
        let mut of: Vec<String> = (0..1 + dice.below(3))
            .filter_map(|_| Some(world.items.get(dice.below(world.items.len()))?.name.clone()))
            .collect();
        of.sort_unstable();
        of.dedup();
        if !of.is_empty() {
            world.recipes.push(Recipe { makes: name.to_owned(), of });
        }
    }
    for name in some(&LEVELS, 0, dice) {
        if let Some(place) = place(dice) {
            world.levels.push(Riddle { name: name.to_owned(), place, kind: "puzzle".into() });
        }
    }
    let has = if dice.chance(0.3) { world.items.first().map(|i| i.name.clone()) } else { None };
    if let Some(item) = world.items.first_mut().filter(|item| Some(&item.name) == has.as_ref()) {
        (item.place, item.holder) = (None, None);
    }
    world.player = Means {
        name: "Rowan".into(),
        place: place(dice),
        has: has.into_iter().collect(),
        coins: dice.below(40) as u32,
        strength: 3 + dice.below(12) as u32,
        ..Means::default()
    };
    world
}

/// Changes something: somebody walks or goes for good, a thing is moved, taken or lost, a creature moves or dies, a way
/// opens or closes, the player walks, spends or finds coins.
pub fn disturb(world: &mut QuestWorld, dice: &mut Stream) {
    let places: Vec<String> = world.places.iter().map(|place| place.name.clone()).collect();
    let Some(place) = dice.pick(&places).cloned() else { return };
    let at = |length: usize, dice: &mut Stream| (length > 0).then(|| dice.below(length));
    match dice.below(100) {
        0..30 => {
            if let Some(at) = at(world.people.len(), dice)
                && world.people[at].place.is_some()
            {
                world.people[at].place = (!dice.chance(0.03)).then_some(place);
            }
        }
        30..50 => {
            let holder = world.people.iter().filter(|person| person.place.is_some()).map(|p| p.name.clone());
            let holders: Vec<String> = holder.collect();
            if let Some(at) = at(world.items.len(), dice)
                && !world.player.has.contains(&world.items[at].name)
                && (world.items[at].place.is_some() || world.items[at].holder.is_some())
            {
                let item = &mut world.items[at];
                (item.place, item.holder) = match dice.below(100) {
                    0..75 => (Some(place), None),
                    75..97 => (None, dice.pick(&holders).cloned()),
                    _ => (None, None),
                };
            }
        }
        50..70 => {
            if let Some(at) = at(world.creatures.len(), dice)
                && world.creatures[at].place.is_some()
            {
                world.creatures[at].place = (!dice.chance(0.06)).then_some(place);
            }
        }
        70..80 if !world.paths.is_empty() => {
            if dice.chance(0.5) && world.paths.len() > 1 {
                let at = dice.below(world.paths.len());
                world.paths.swap_remove(at);
            } else {
                world.paths.extend(dice.pick(&places).map(|other| (place, other.clone())));
            }
        }
        80..90 => world.player.coins = dice.below(40) as u32,
        _ => world.player.place = Some(place),
    }
}
