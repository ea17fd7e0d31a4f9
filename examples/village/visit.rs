//! A scripted visit: a player walks from one to the next and talks. Printed as it happens; the same seed
//! prints the same visit.

use crate::game::{GamePlugin, Intent};
use crate::options::Options;
use crate::people::{At, player};
use crate::quests::{Offer, VillageQuests, quest_taker, shown, take};
use crate::{picture, sayings};
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_skald::dialogue::{Facts, World as Known};
use bevy_skald::prelude::*;
use bevy_skald::quest::Coins;
use bevy_skald::quest::plugin::{OfferQuest, QuestLog};
use bevy_skald::seed::{Seed, Stream};
use std::io::Write;
use std::time::{Duration, Instant};

/// How far the clock goes at each update.
pub const STEP: Duration = Duration::from_millis(50);

/// An app without a window that plays the village as fast as it can.
pub fn app(options: &Options, steps: usize) -> App {
    let mut app = App::new();
    let model = options.model.as_ref().map(|dir| app.register_model_directory("trained", dir));
    let log = bevy::log::LogPlugin { filter: "warn".into(), ..default() };
    app.add_plugins((MinimalPlugins, log, AssetPlugin { file_path: assets(), ..default() }));
    let plugins = SkaldPlugins::default().with_seed(options.seed).with_execution(Execution::PerFrame(steps));
    app.add_plugins(match model {
        Some(path) => plugins.with_model(path),
        None => plugins,
    })
    .add_plugins((GamePlugin { seed: options.seed }, VillageQuests { seed: options.seed }))
    .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::ZERO));
    app
}

/// The assets of the repository, wherever the example is started from.
pub fn assets() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/assets").into()
}

/// Lets personas and model load while the clock stands still.
pub fn wait_for_assets(app: &mut App) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        app.update();
        let world = app.world_mut();
        let people: Vec<Handle<Persona>> =
            world.query::<&Npc>().iter(world).map(|npc| npc.handle.clone()).collect();
        let server = world.resource::<AssetServer>();
        let settled = |state: Option<bevy::asset::LoadState>| {
            state.is_none_or(|state| state.is_loaded() || state.is_failed())
        };
        let model = world.resource::<DialogueModel>().0.as_ref();
        let ready = people.iter().all(|handle| settled(server.get_load_state(handle)))
            && model.is_none_or(|handle| settled(server.get_load_state(handle)));
        if ready && !people.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    app.insert_resource(TimeUpdateStrategy::ManualDuration(STEP));
}

#[derive(Resource)]
struct Visit {
    plan: Vec<(Entity, Vec<&'static str>)>,
    dice: Stream,
    player: Entity,
    waiting: Option<Entity>,
    /// Exchanges so far.
    spoken: usize,
    last: Option<(String, String)>,
    done: bool,
}

pub fn play(options: &Options) -> Result<(), String> {
    let started = Instant::now();
    let mut app = app(options, 4);
    app.add_observer(print_words)
        .add_observer(print_end)
        .add_systems(Update, go_on.run_if(resource_exists::<Visit>));
    app.finish();
    app.cleanup();
    let player = app.world_mut().spawn((player("Rowan"), Intent::Idle, quest_taker())).id();
    wait_for_assets(&mut app);
    let mut dice = Seed::new(options.seed).derive("visit").stream();
    let world = app.world_mut();
    let mut people: Vec<(String, Entity)> = world
        .query_filtered::<(&Name, Entity), With<Npc>>()
        .iter(world)
        .map(|(n, e)| (n.to_string(), e))
        .collect();
    people.sort();
    dice.shuffle(&mut people);
    let topics = ["quest", "where", "news", "talk", "trade", "danger", "where", "quest", "news", "talk"];
    let offset = dice.below(topics.len());
    let plan = people
        .iter()
        .enumerate()
        .map(|(n, (_, npc))| {
            let topic = |k: usize| topics[(offset + n * 3 + k) % topics.len()];
            (*npc, if n % 2 == 0 { vec!["", topic(0)] } else { vec![topic(0)] })
        })
        .rev()
        .collect();
    app.insert_resource(Visit { plan, dice, player, waiting: None, spoken: 0, last: None, done: false });
    print_world(&mut app);
    while !app.world().resource::<Visit>().done {
        app.update();
        if started.elapsed() > Duration::from_secs(300) {
            return Err("the visit did not end within 300 s".into());
        }
    }
    let world = app.world_mut();
    for (log, coins) in world.query::<(&QuestLog, &Coins)>().iter(world) {
        let open: Vec<String> = log.0.open.iter().map(|open| open.quest.kind.name().to_owned()).collect();
        println!("\n{} quests open ({}), {} coins earned", open.len(), open.join(", "), coins.0);
    }
    let stats = app.world().resource::<DialogueStats>();
    println!("\n{} lines by the model, {} authored in its place", stats.finished, stats.fallbacks);
    eprintln!("the visit took {:.1} s", started.elapsed().as_secs_f32());
    let visit = app.world().resource::<Visit>();
    match picture::draw(&options.png, visit.last.clone()) {
        Ok(()) => eprintln!("the village was drawn to {}", options.png.display()),
        Err(reason) => eprintln!("no picture: {reason}"),
    }
    Ok(())
}

fn print_world(app: &mut App) {
    let world = app.world_mut();
    let mut state = bevy::ecs::system::SystemState::<Facts>::new(world);
    let known: Known = state.get(world).expect("the facts' resources are there").world(None);
    println!("THE WORLD");
    for place in &known.places {
        println!("  {} at {:.0} east, {:.0} north", place.name, place.at.0, place.at.1);
    }
    for person in &known.people {
        println!("  {}, {}, at {}", person.name, person.role, person.place.as_deref().unwrap_or("large"));
    }
    for item in &known.items {
        println!(
            "  {}, worth {} coins, at {}",
            item.name,
            item.price,
            item.place.as_deref().unwrap_or("large")
        );
    }
    for creature in &known.creatures {
        println!("  {} at {}", creature.name, creature.place.as_deref().unwrap_or("large"));
    }
    println!("  {} visits\n", known.player.name);
}

/// Walks to the next person, or says the next thing.
fn go_on(
    mut visit: ResMut<Visit>,
    mut players: Query<(&At, &mut Intent), With<Player>>,
    npcs: Query<(&At, &Name), With<Npc>>,
    facts: Facts,
    ambience: Res<Ambience>,
    mut commands: Commands,
) {
    if visit.waiting.is_some() || visit.done {
        return;
    }
    let Some((npc, topic)) = visit.plan.last().map(|(npc, topics)| (*npc, topics.first().copied())) else {
        visit.done = true;
        return;
    };
    let (Ok((at, mut intent)), Ok((spot, name))) = (players.get_mut(visit.player), npcs.get(npc)) else {
        return;
    };
    let Some(topic) = topic else {
        visit.plan.pop();
        return;
    };
    if at.0.distance(spot.0) > 1.5 {
        if *intent == Intent::Idle {
            *intent = Intent::Walk(spot.0 + Vec2::new(0.0, -1.2));
        }
        return;
    }
    let player = visit.player;
    let known = facts.world(Some(player));
    let text = match topic {
        "" => String::new(),
        topic => {
            sayings::one(&known, name, topic, &mut visit.dice).map_or_else(String::new, |saying| saying.text)
        }
    };
    let (weather, time) = (ambience.weather.as_deref(), ambience.time.as_deref());
    println!("[{}, {}]", time.unwrap_or("some time"), weather.unwrap_or("some weather"));
    if text.is_empty() {
        println!("  (Rowan walks up to {name})");
    } else {
        println!("  Rowan: {text}");
    }
    print!("  {name}: ");
    visit.waiting = Some(npc);
    visit.plan.last_mut().expect("it was there above").1.remove(0);
    commands.trigger(Say { to: npc, by: Some(player), text });
    if topic == "quest" {
        commands.trigger(OfferQuest { npc, player });
    }
}

fn print_words(grew: On<LineGrew>) {
    print!("{}", grew.added);
    // Whoever watches wants the words as they come.
    let _ = std::io::stdout().flush();
}

fn print_end(
    finished: On<LineFinished>,
    mut visit: ResMut<Visit>,
    names: Query<&Name>,
    mut offers: Query<(Entity, &mut Offer)>,
    mut commands: Commands,
) {
    let authored = if finished.fallback { ", authored" } else { "" };
    println!("  <{}{authored}>", finished.act);
    visit.waiting = None;
    visit.spoken += 1;
    if let Ok(name) = names.get(finished.npc) {
        visit.last = Some((name.to_string(), finished.text.clone()));
    }
    for (player, mut offer) in &mut offers {
        if let Some(quest) = &offer.0 {
            println!("  a quest: {}", shown(quest));
            take(player, &mut offer, &mut commands);
        }
    }
    commands.trigger(LineJudged { line: finished.line, outcome: LineOutcome::Read });
}
