//! `skald bench frame`.

use super::range;
use crate::Common;
use bevy::prelude::*;
use bevy_skald::decode::Sampling;
use bevy_skald::dialogue::{Facts, Persona};
use bevy_skald::model::Checkpoint;
use bevy_skald::prelude::*;
use bevy_skald::{Error, Result};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Its options.
#[derive(Args)]
pub struct FrameArgs {
    /// How many NPCs talk, without a pause.
    #[arg(long, default_value_t = 8)]
    npcs: usize,
    /// How long, off and on together.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// The model: a checkpoint directory.
    #[arg(long, default_value = "assets/models/village", value_name = "DIR")]
    model: PathBuf,
    /// The game's own work in each frame.
    #[arg(long, default_value_t = 4.0, value_name = "MS")]
    work_ms: f64,
}

/// A frame at 60 Hz.
const FRAME: Duration = Duration::from_nanos(16_666_667);
/// How long talk stays off or on before it is toggled.
const STRETCH: Duration = Duration::from_secs(1);

#[derive(Resource)]
struct Work(Duration);

#[derive(Resource, Default)]
struct Talking(bool);

pub fn run(args: &FrameArgs, common: &Common) -> Result<()> {
    range((1..=1000).contains(&args.npcs), "--npcs", "1 to 1000")?;
    range((2.0..=3600.0).contains(&args.seconds), "--seconds", "2 to 3600")?;
    range((0.0..=16.0).contains(&args.work_ms), "--work-ms", "0 to 16")?;
    let voices = Checkpoint::load(&args.model)?.card.conditioning.get("voice").cloned().unwrap_or_default();
    let mut app = App::new();
    let model = app.register_model_directory("bench", &args.model);
    app.add_plugins((MinimalPlugins, AssetPlugin::default()));
    let threads = common.threads.max(1);
    app.add_plugins(
        SkaldPlugins { sampling: Sampling::default(), ..SkaldPlugins::default() }
            .with_model(model)
            .with_seed(common.seed.unwrap_or(0))
            .with_execution(Execution::Background { threads }),
    );
    app.insert_resource(Work(Duration::from_secs_f64(args.work_ms / 1000.0)))
        .init_resource::<Talking>()
        .add_systems(Update, (work, talk));
    spawn_village(&mut app, args.npcs, &voices);
    app.finish();
    app.cleanup();
    // The model loads, and the first lines warm everything up.
    let warm = Instant::now();
    app.world_mut().resource_mut::<Talking>().0 = true;
    while app.world().resource::<DialogueStats>().finished < args.npcs as u64 {
        app.update();
        std::thread::sleep(Duration::from_millis(5));
        if warm.elapsed() > Duration::from_secs(60) {
            return Err(Error::Deadline { what: "the bench's first lines".into(), seconds: 60.0 });
        }
    }
    let (mut off, mut on) = (Vec::new(), Vec::new());
    let (start, before) = (Instant::now(), app.world().resource::<DialogueStats>().clone());
    let mut on_for = Duration::ZERO;
    while start.elapsed().as_secs_f64() < args.seconds {
        let talking = (start.elapsed().as_secs_f64() / STRETCH.as_secs_f64()) as u64 % 2 == 1;
        app.world_mut().resource_mut::<Talking>().0 = talking;
        let frame = Instant::now();
        app.update();
        let took = frame.elapsed();
        std::thread::sleep(FRAME.saturating_sub(took));
        // Lines that began before talk was turned off are still spoken: those frames count as on.
        let speaking = talking || app.world().resource::<DialogueStats>().open > 0;
        if speaking {
            on.push(took.as_secs_f64() * 1000.0);
            on_for += frame.elapsed();
        } else {
            off.push(took.as_secs_f64() * 1000.0);
        }
    }
    let stats = app.world().resource::<DialogueStats>();
    let (lines, tokens) = (stats.finished - before.finished, stats.tokens - before.tokens);
    let fallbacks = stats.fallbacks - before.fallbacks;
    let (off, on) = (figures(off), figures(on));
    let line = serde_json::json!({
        "off": off, "on": on, "lines": lines, "fallbacks": fallbacks, "npcs": args.npcs,
        "tokens_per_s": tokens as f64 / on_for.as_secs_f64().max(1e-9), "work_ms": args.work_ms,
    });
    if common.json {
        println!("{line}");
    } else {
        println!("{line:#}");
    }
    Ok(())
}

fn figures(mut times: Vec<f64>) -> serde_json::Value {
    times.sort_by(f64::total_cmp);
    let at =
        |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    serde_json::json!({
        "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": times.last(), "frames": times.len(),
    })
}

fn spawn_village(app: &mut App, npcs: usize, voices: &[String]) {
    let world = app.world_mut();
    let places: Vec<Entity> = ["the square", "the mill", "the inn"]
        .iter()
        .enumerate()
        .map(|(n, name)| world.spawn((Name::new(*name), Place { x: 9.0 * n as f32, y: 4.0 })).id())
        .collect();
    world.spawn((Name::new("silver locket"), Item { price: 9 }, LocatedIn(places[1])));
    world.spawn((Name::new("Rowan"), Player, LocatedIn(places[0])));
    for n in 0..npcs {
        let persona = Persona {
            name: format!("Villager {n}"),
            role: "villager".into(),
            voice: voices.get(n % voices.len().max(1)).cloned().unwrap_or_default(),
            wares: Some("apples".into()),
            price: 2,
            facts: vec!["the road was shorter once".into()],
            secrets: Vec::new(),
            relations: std::collections::BTreeMap::new(),
            mood: bevy_skald::dialogue::Mood::Calm,
            goals: Vec::new(),
            acts: None,
            fallbacks: vec!["Hm.".into()],
        };
        let handle = world.resource_mut::<Assets<Persona>>().add(persona);
        world.spawn((Npc::from_handle(handle), LocatedIn(places[n % places.len()])));
    }
}

/// The game's own work: busy, as a game is.
fn work(work: Res<Work>, facts: Facts) {
    let start = Instant::now();
    while start.elapsed() < work.0 {
        std::hint::spin_loop();
    }
    let _ = &facts;
}

/// Everybody who has nothing to say is spoken to.
fn talk(
    talking: Res<Talking>,
    npcs: Query<(Entity, Option<&Lines>), With<Npc>>,
    lines: Query<&Line>,
    mut commands: Commands,
    mut turn: Local<usize>,
) {
    const SAID: [&str; 5] = [
        "Hello.",
        "Any news?",
        "Where is the mill?",
        "Any work for me?",
        "What do you think of this weather?",
    ];
    if !talking.0 {
        return;
    }
    for (npc, of) in &npcs {
        let open = of.is_some_and(|of| of.iter().any(|line| lines.get(line).is_ok_and(|line| line.open)));
        if !open {
            for line in of.into_iter().flat_map(Lines::iter) {
                commands.entity(line).try_despawn();
            }
            commands.trigger(Say::new(npc, SAID[*turn % SAID.len()]));
            *turn += 1;
        }
    }
}
