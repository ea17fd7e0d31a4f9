//! `skald bench frame`.

use super::range;
use crate::Common;
use bevy::prelude::*;
use bevy_skald::decode::Sampling;
use bevy_skald::dialogue::{Facts, Persona};
use bevy_skald::model::Checkpoint;
use bevy_skald::prelude::*;
use bevy_skald::runtime::FrameGovernor;
use bevy_skald::{Error, Result};
use clap::Args;
use std::path::{Path, PathBuf};
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
    /// What a training in the background costs, instead of talk: the config of a training of dialogue.
    #[arg(long, value_name = "F.ron")]
    training: Option<PathBuf>,
    /// Let the worker run as it likes.
    #[arg(long)]
    ungoverned: bool,
    /// What that training learns from.
    #[arg(long, value_name = "PATH", num_args = 1.., default_value = "assets/dialogue")]
    data: Vec<PathBuf>,
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
    app.world_mut().resource_mut::<FrameGovernor>().enabled = !args.ungoverned;
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
    if let Some(config) = &args.training {
        return training(args, config, &mut app, common);
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
    let overruns = app.world().resource::<FrameGovernor>().overruns();
    let stats = app.world().resource::<DialogueStats>();
    let (lines, tokens) = (stats.finished - before.finished, stats.tokens - before.tokens);
    let fallbacks = stats.fallbacks - before.fallbacks;
    let (off, on) = (figures(off), figures(on));
    let line = serde_json::json!({
        "off": off, "on": on, "lines": lines, "fallbacks": fallbacks, "npcs": args.npcs,
        "tokens_per_s": tokens as f64 / on_for.as_secs_f64().max(1e-9), "work_ms": args.work_ms,
        "overruns": overruns, "governed": !args.ungoverned,
    });
    show(&line, common);
    Ok(())
}

pub(super) fn show(line: &serde_json::Value, common: &Common) {
    if common.json {
        println!("{line}");
    } else {
        println!("{line:#}");
    }
}

/// The frames beside a training that runs and rests by turns; nobody talks.
fn training(args: &FrameArgs, config: &Path, app: &mut App, common: &Common) -> Result<()> {
    app.world_mut().resource_mut::<Talking>().0 = false;
    let out = std::env::temp_dir().join(format!("skald-bench-{}", std::process::id()));
    let entity = app.world_mut().spawn_empty().id();
    let run = TrainingRun::dialogue(config, &args.data, &out);
    app.world_mut().trigger(StartTraining::new(entity, run).with_threads(common.threads.max(1)));
    let state = |app: &App| {
        app.world()
            .get::<Training>(entity)
            .map(|training| (training.state(), training.progress().map_or(0, |p| p.step)))
    };
    // It reads and tokenises its data, and validates what it begins with.
    while state(app).is_none_or(|(state, step)| {
        state == TrainingState::Preparing || state == TrainingState::Running && step == 0
    }) {
        frame(app);
    }
    let (mut off, mut on) = (Vec::new(), Vec::new());
    let (start, mut resting) = (Instant::now(), false);
    let (from, mut on_for) = (state(app).map_or(0, |(_, step)| step), Duration::ZERO);
    while start.elapsed().as_secs_f64() < args.seconds {
        let rest = ((start.elapsed().as_secs_f64() / STRETCH.as_secs_f64()) as u64).is_multiple_of(2);
        if rest != resting {
            resting = rest;
            if rest {
                app.world_mut().trigger(PauseTraining(entity));
            } else {
                app.world_mut().trigger(ResumeTraining(entity));
            }
        }
        let begun = Instant::now();
        let took = frame(app);
        match state(app) {
            Some((TrainingState::Paused, _)) => off.push(took),
            Some((TrainingState::Running, _)) => {
                on.push(took);
                on_for += begun.elapsed();
            }
            _ => break,
        }
    }
    let ended = state(app);
    app.world_mut().trigger(StopTraining(entity));
    while state(app).is_some_and(|(state, _)| matches!(state, TrainingState::Running | TrainingState::Paused))
    {
        frame(app);
    }
    let _ = std::fs::remove_dir_all(&out);
    let Some((TrainingState::Running | TrainingState::Paused | TrainingState::Finished, step)) = ended else {
        return Err(Error::backend("measuring the training", "it failed; see the log"));
    };
    let steps = step - from;
    let line = serde_json::json!({
        "off": figures(off), "on": figures(on), "steps": steps, "work_ms": args.work_ms,
        "ms_per_step": 1000.0 * on_for.as_secs_f64() / steps.max(1) as f64,
    });
    show(&line, common);
    Ok(())
}

/// A frame at 60 Hz: what its work took, in milliseconds.
pub(super) fn frame(app: &mut App) -> f64 {
    let begun = Instant::now();
    app.update();
    let took = begun.elapsed();
    std::thread::sleep(FRAME.saturating_sub(took));
    took.as_secs_f64() * 1000.0
}

pub(super) fn figures(mut times: Vec<f64>) -> serde_json::Value {
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
    spin(work.0);
    let _ = &facts;
}

/// Keeps a core busy.
pub(super) fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
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
