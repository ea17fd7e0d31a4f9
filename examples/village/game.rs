//! The rules of the village: walking, fighting, finding things, the hour and the weather. The window, the
//! scripted visit and the bots all play by them.

use crate::people::{At, Health, Satchel, settle};
use bevy::prelude::*;
use bevy_skald::prelude::*;
use bevy_skald::seed::{Seed, Stream};
use serde::Serialize;

/// Tiles a second.
pub const SPEED: f32 = 5.0;
/// How near one must be to act, in tiles.
pub const REACH: f32 = 1.6;

/// What a player is about to do.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub enum Intent {
    #[default]
    Idle,
    Walk(Vec2),
    Fight(Entity),
    Take(Entity),
}

#[derive(Message, Serialize)]
pub struct Moved {
    #[serde(skip)]
    pub player: Entity,
    pub from: String,
    pub to: String,
}

#[derive(Message, Serialize)]
pub struct Fought {
    #[serde(skip)]
    pub player: Entity,
    pub creature: String,
    pub won: bool,
}

#[derive(Message, Serialize)]
pub struct PickedUp {
    #[serde(skip)]
    pub player: Entity,
    pub item: String,
}

#[derive(Message, Serialize)]
pub struct QuestAsked {
    #[serde(skip)]
    pub player: Entity,
    pub npc: String,
}

#[derive(Message, Serialize)]
pub struct ChoiceTaken {
    #[serde(skip)]
    pub player: Entity,
    pub npc: String,
    pub choice: String,
}

/// Noise for the rules.
#[derive(Resource)]
pub struct Dice(pub Stream);

/// What was taken or driven off comes back after a while, so that the village never runs dry.
#[derive(Component)]
struct Returns {
    at: f32,
    place: Entity,
}

pub struct GamePlugin {
    pub seed: u64,
}

impl Plugin for GamePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(Dice(Seed::new(self.seed).derive("village").stream()))
            .insert_resource(Ambience { weather: Some("sunshine".into()), time: Some("morning".into()) })
            .add_message::<Moved>()
            .add_message::<Fought>()
            .add_message::<PickedUp>()
            .add_message::<QuestAsked>()
            .add_message::<ChoiceTaken>()
            .add_systems(Startup, settle)
            .add_systems(Update, (pass_time, walk, notice_place, fight, take, give_back).chain());
    }
}

fn pass_time(time: Res<Time>, mut ambience: ResMut<Ambience>, mut dice: ResMut<Dice>, mut hour: Local<i64>) {
    const HOURS: [&str; 4] = ["morning", "noon", "evening", "night"];
    const WEATHERS: [&str; 5] = ["sunshine", "rain", "fog", "wind", "drizzle"];
    let now = 1 + (time.elapsed_secs() / 60.0) as i64;
    if *hour != now {
        *hour = now;
        let hour = HOURS[(now as usize - 1) % HOURS.len()];
        let weather = dice.0.pick(&WEATHERS).copied().unwrap_or("rain");
        *ambience = Ambience { weather: Some(weather.into()), time: Some(hour.into()) };
    }
}

fn walk(
    time: Res<Time>,
    spots: Query<&At, Without<Player>>,
    mut players: Query<(&mut At, &mut Intent), With<Player>>,
) {
    for (mut at, mut intent) in &mut players {
        let (to, stop) = match *intent {
            Intent::Walk(to) => (Some(to), 0.05),
            Intent::Fight(goal) | Intent::Take(goal) => (spots.get(goal).ok().map(|at| at.0), REACH * 0.8),
            Intent::Idle => continue,
        };
        // What one was after is gone.
        let Some(to) = to else {
            *intent = Intent::Idle;
            continue;
        };
        let way = to - at.0;
        let step = SPEED * time.delta_secs();
        if way.length() > stop {
            at.0 += way.normalize() * step.min(way.length());
        } else if matches!(*intent, Intent::Walk(_)) {
            *intent = Intent::Idle;
        }
    }
}

fn notice_place(
    mut players: Query<(Entity, &At, Option<&LocatedIn>), With<Player>>,
    places: Query<(Entity, &At, &Name), With<Place>>,
    mut moved: MessageWriter<Moved>,
    mut commands: Commands,
) {
    for (player, at, before) in &mut players {
        let near = |(_, place, _): &(Entity, &At, &Name)| place.0.distance(at.0);
        let nearest = places.iter().min_by(|a, b| near(a).total_cmp(&near(b)));
        let Some((place, _, name)) = nearest.filter(|place| near(place) < 4.0) else { continue };
        if before.map(|before| before.0) != Some(place) {
            let from =
                before.and_then(|before| places.get(before.0).ok()).map(|(_, _, name)| name.to_string());
            moved.write(Moved { player, from: from.unwrap_or_default(), to: name.to_string() });
            commands.entity(player).insert(LocatedIn(place));
        }
    }
}

fn fight(
    time: Res<Time>,
    mut players: Query<(Entity, &At, &mut Intent, &mut Deeds)>,
    mut creatures: Query<(&At, &Name, &mut Health, &LocatedIn), With<Creature>>,
    mut dice: ResMut<Dice>,
    mut fought: MessageWriter<Fought>,
    mut commands: Commands,
) {
    for (player, at, mut intent, mut deeds) in &mut players {
        let Intent::Fight(creature) = *intent else { continue };
        let Ok((its, name, mut health, place)) = creatures.get_mut(creature) else {
            *intent = Intent::Idle;
            continue;
        };
        if its.0.distance(at.0) > REACH {
            continue;
        }
        health.0 -= time.delta_secs() * (0.5 + dice.0.uniform());
        let flees = dice.0.chance(time.delta_secs() * 0.08);
        if health.0 <= 0.0 || flees {
            let won = health.0 <= 0.0;
            fought.write(Fought { player, creature: name.to_string(), won });
            *intent = Intent::Idle;
            if won {
                deeds.push("drove off", name);
                let back = Returns { at: time.elapsed_secs() + 45.0, place: place.0 };
                commands.entity(creature).remove::<(Creature, LocatedIn)>().insert(back);
            }
        }
    }
}

fn take(
    time: Res<Time>,
    mut players: Query<(Entity, &At, &mut Intent, &mut Deeds, &mut Satchel)>,
    items: Query<(&At, &Name, &LocatedIn), With<Item>>,
    mut picked: MessageWriter<PickedUp>,
    mut commands: Commands,
) {
    let mut taken = Vec::new();
    for (player, at, mut intent, mut deeds, mut satchel) in &mut players {
        let Intent::Take(item) = *intent else { continue };
        match items.get(item) {
            Ok((its, name, place)) if !taken.contains(&item) => {
                if its.0.distance(at.0) <= REACH {
                    taken.push(item);
                    deeds.push("found", name);
                    satchel.0.push(name.to_string());
                    picked.write(PickedUp { player, item: name.to_string() });
                    let back = Returns { at: time.elapsed_secs() + 90.0, place: place.0 };
                    commands.entity(item).remove::<LocatedIn>().insert(back);
                    *intent = Intent::Idle;
                }
            }
            _ => *intent = Intent::Idle,
        }
    }
}

fn give_back(time: Res<Time>, gone: Query<(Entity, &Returns, Option<&Item>)>, mut commands: Commands) {
    for (entity, back, item) in &gone {
        if time.elapsed_secs() >= back.at {
            let mut entity = commands.entity(entity);
            entity.remove::<Returns>().insert(LocatedIn(back.place));
            if item.is_none() {
                entity.insert((Creature, Health(3.0)));
            }
        }
    }
}
