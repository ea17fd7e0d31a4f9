//! Trainings in the background of an app, through the public door only.

use bevy::prelude::*;
use bevy_skald::dialogue::DialogueTraining;
use bevy_skald::job::{self, Job};
use bevy_skald::model::{Card, Checkpoint};
use bevy_skald::nn::Compute;
use bevy_skald::prelude::*;
use bevy_skald::runtime::harness;
use bevy_skald::text::Tokenizer;
use bevy_skald::training::{DataNotes, Fit, Fitted, RunSetup, TrainingConfig, text_sets};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Only what is asked for is saved between the validations.
const CONFIG: &str =
    "(model: (hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 24, context: 32),
    tokenizer: Characters, seed: 3, steps: 30, sequence: 32, rows: 4, learning_rate: 0.01, warmup_steps: 4,
    dropout: 0.1, validate_every: 15, checkpoint_every: 100000, stored_as: F32)";

fn setup(config: &str) -> bevy_skald::Result<RunSetup> {
    let config = TrainingConfig::from_ron(config, "run.ron")?;
    let text: String =
        (0..120).map(|n| format!("On day {n} {} dogs sat on the mat.\n", n * 7 % 13)).collect();
    let tokenizer = Tokenizer::characters(&text)?;
    let data = text_sets(&text, &tokenizer, config.sequence)?;
    Ok(RunSetup { config, tokenizer, data, card: Card::new("text"), base: None, notes: DataNotes::default() })
}

fn run(config: &'static str, out: &Path) -> TrainingRun {
    TrainingRun::new(out, move || setup(config))
}

/// What was heard, in order.
#[derive(Resource, Default)]
struct Heard {
    /// The steps of each progress.
    completed: Vec<Vec<u64>>,
    finished: Vec<Fitted>,
    stopped: Vec<Option<u64>>,
    failed: Vec<String>,
    /// How many outcomes came as messages.
    messages: usize,
    lines: Vec<LineFinished>,
}

impl Heard {
    fn steps(&self) -> Vec<u64> {
        self.completed.concat()
    }

    fn ends(&self) -> usize {
        self.finished.len() + self.stopped.len() + self.failed.len()
    }
}

fn app(execution: Execution) -> App {
    app_with(SkaldPlugins::default().scripted("<act:Greet>good day.").with_execution(execution))
}

fn app_with(plugins: SkaldPlugins) -> App {
    let mut app = harness::app();
    app.add_plugins(plugins)
        .init_resource::<Heard>()
        .add_observer(|told: On<TrainingProgress>, mut heard: ResMut<Heard>| {
            heard.completed.push(told.completed.iter().map(|progress| progress.step).collect());
        })
        .add_observer(|done: On<TrainingFinished>, mut heard: ResMut<Heard>| {
            heard.finished.push(done.fitted.clone());
        })
        .add_observer(|done: On<TrainingStopped>, mut heard: ResMut<Heard>| heard.stopped.push(done.step))
        .add_observer(|done: On<TrainingFailed>, mut heard: ResMut<Heard>| {
            heard.failed.push(done.error.to_string());
        })
        .add_observer(|done: On<LineFinished>, mut heard: ResMut<Heard>| heard.lines.push(done.clone()))
        .add_systems(Update, count_messages);
    app.finish();
    app.cleanup();
    app
}

fn count_messages(
    mut finished: MessageReader<TrainingFinished>,
    mut stopped: MessageReader<TrainingStopped>,
    mut failed: MessageReader<TrainingFailed>,
    mut heard: ResMut<Heard>,
) {
    heard.messages += finished.read().count() + stopped.read().count() + failed.read().count();
}

fn start(app: &mut App, run: TrainingRun) -> Entity {
    let entity = app.world_mut().spawn_empty().id();
    app.world_mut().trigger(StartTraining::new(entity, run));
    app.world_mut().flush();
    entity
}

fn heard(app: &App) -> &Heard {
    app.world().resource()
}

fn state(app: &App, training: Entity) -> TrainingState {
    app.world().get::<Training>(training).unwrap().state()
}

fn until_step(app: &mut App, step: u64) {
    let reached = |world: &mut World| world.resource::<Heard>().steps().last().is_some_and(|at| *at >= step);
    harness::update_until(app, 5000, reached);
}

fn until_ended(app: &mut App) {
    harness::update_until(app, 5000, |world| world.resource::<Heard>().ends() > 0);
    // Nothing follows.
    (0..5).for_each(|_| app.update());
    assert_eq!((heard(app).ends(), heard(app).messages), (1, 1));
}

/// The same run without a game.
fn straight(setup: RunSetup, out: &Path) -> Fitted {
    job::run(Fit::new(setup, out, &Compute::cpu(1)).unwrap(), |_| ()).unwrap()
}

fn assert_same(a: &Path, b: &Path) {
    for name in ["curve.jsonl", "config.json", "tokenizer.json", "model.safetensors"] {
        assert!(fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(), "{name} differs");
    }
}

/// Starts the run in `out` again in another game, and lets it come to its end.
fn go_on(out: &Path, from: u64) {
    let mut app = app(Execution::PerFrame(1));
    let training = start(&mut app, run(CONFIG, out).resume());
    until_ended(&mut app);
    assert_eq!(state(&app, training), TrainingState::Finished, "{:?}", heard(&app).failed);
    assert_eq!(heard(&app).steps(), (from..=30).collect::<Vec<_>>());
}

#[test]
fn a_training_comes_to_its_end_step_by_step_and_is_the_one_without_a_game() {
    let dir = tempfile::tempdir().unwrap();
    let (game, alone) = (dir.path().join("game"), dir.path().join("alone"));
    let mut app = app(Execution::PerFrame(3));
    let training = start(&mut app, run(CONFIG, &game));
    assert_eq!(state(&app, training), TrainingState::Preparing);
    until_step(&mut app, 1);
    assert_eq!(state(&app, training), TrainingState::Running);
    until_ended(&mut app);
    assert_eq!(state(&app, training), TrainingState::Finished);
    let told = heard(&app);
    // Each step once, some of them in one frame.
    assert_eq!(told.steps(), (0..=30).collect::<Vec<_>>());
    assert!(told.completed.iter().any(|steps| steps.len() > 1));
    let fitted = &told.finished[0];
    assert!(fitted.best_val_loss < 0.95 * fitted.first_val_loss, "{fitted:?}");
    assert_eq!(fitted.checkpoint, game);
    assert_eq!(app.world().get::<Training>(training).unwrap().progress().unwrap().step, 30);
    straight(setup(CONFIG).unwrap(), &alone);
    assert_same(&game, &alone);
}

#[test]
fn a_paused_training_stands_still_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (game, alone) = (dir.path().join("game"), dir.path().join("alone"));
    let mut app = app(Execution::PerFrame(1));
    let training = start(&mut app, run(CONFIG, &game));
    let trigger = |app: &mut App, rests: bool| {
        if rests {
            app.world_mut().trigger(PauseTraining(training));
        } else {
            app.world_mut().trigger(ResumeTraining(training));
        }
        (0..3).for_each(|_| app.update());
    };
    // Before it has begun, and on its way.
    for step in [0, 9] {
        trigger(&mut app, true);
        let before = heard(&app).steps();
        (0..20).for_each(|_| app.update());
        assert_eq!(state(&app, training), TrainingState::Paused);
        assert_eq!(heard(&app).steps(), before, "step {step}");
        trigger(&mut app, false);
        until_step(&mut app, 9);
    }
    // Both before it could rest.
    app.world_mut().trigger(PauseTraining(training));
    app.world_mut().trigger(ResumeTraining(training));
    until_ended(&mut app);
    assert_eq!(heard(&app).steps(), (0..=30).collect::<Vec<_>>());
    straight(setup(CONFIG).unwrap(), &alone);
    assert_same(&game, &alone);
}

#[test]
fn a_training_that_is_left_has_saved_and_goes_on_as_if_nothing_had_been() {
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("alone");
    straight(setup(CONFIG).unwrap(), &alone);
    let ways = ["stopped", "stopped while it rests", "despawned", "removed", "closed"];
    for way in ways {
        let out = dir.path().join(way);
        let mut app = app(Execution::PerFrame(1));
        let training = start(&mut app, run(CONFIG, &out));
        until_step(&mut app, 9);
        match way {
            "stopped while it rests" => {
                app.world_mut().trigger(PauseTraining(training));
                (0..3).for_each(|_| app.update());
                app.world_mut().trigger(StopTraining(training));
            }
            "stopped" => app.world_mut().trigger(StopTraining(training)),
            "despawned" => app.world_mut().entity_mut(training).despawn(),
            "removed" => drop(app.world_mut().entity_mut(training).take::<Training>()),
            _ => {}
        }
        if way.starts_with("stopped") {
            until_ended(&mut app);
            // The step that had been done and was not told yet.
            assert_eq!(heard(&app).stopped, [Some(10)], "{way}");
            assert_eq!(state(&app, training), TrainingState::Stopped);
        } else if way != "closed" {
            (0..20).for_each(|_| app.update());
            assert_eq!(heard(&app).ends(), 0, "{way}");
        }
        drop(app);
        go_on(&out, 11);
        assert_same(&out, &alone);
    }
}

#[test]
fn a_training_that_is_stopped_before_it_begins_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut app = app(Execution::PerFrame(1));
    let training = start(&mut app, run(CONFIG, &out));
    app.world_mut().trigger(StopTraining(training));
    until_ended(&mut app);
    assert_eq!(heard(&app).stopped, [None]);
    assert!(!out.exists());
}

const ENDLESS: &str =
    "(model: (hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 24, context: 32),
    tokenizer: Characters, steps: 1000000, sequence: 32, rows: 4, learning_rate: 0.001,
    validate_every: 1000000, checkpoint_every: 1000000)";

#[test]
fn a_game_that_is_closed_lets_its_training_in_the_background_save() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut app = app(Execution::default());
    start(&mut app, run(ENDLESS, &out));
    let end = Instant::now() + Duration::from_secs(60);
    while heard(&app).steps().last().is_none_or(|step| *step < 5) {
        assert!(Instant::now() < end, "{:?}", heard(&app).failed);
        app.update();
        std::thread::sleep(Duration::from_millis(1));
    }
    let seen = *heard(&app).steps().last().unwrap();
    drop(app);
    let mut fit = Fit::resume(setup(ENDLESS).unwrap(), &out, &Compute::cpu(1)).unwrap();
    assert!(fit.standing().step >= seen, "{} of {seen}", fit.standing().step);
    assert!(matches!(fit.step().unwrap(), ControlFlow::Continue(_)));
}

#[test]
fn what_fails_is_told_once_and_the_game_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    fs::write(out("sead.ron"), "(training: (sead: 3))").unwrap();
    fs::write(out("file"), "").unwrap();
    let wild: &str = "(model: (hidden_size: 16, layers: 1, heads: 2, context: 32), tokenizer: Characters,
        steps: 400, sequence: 32, rows: 4, learning_rate: 10.0, clip_norm: 0.0, validate_every: 15,
        checkpoint_every: 100)";
    let panics = || -> bevy_skald::Result<RunSetup> { panic!("the data is haunted") };
    let corpus = || [PathBuf::from("assets/dialogue")];
    let cases = [
        (TrainingRun::dialogue(out("nowhere.ron"), corpus(), out("a")), "nowhere.ron"),
        (TrainingRun::dialogue(out("sead.ron"), corpus(), out("b")), "sead"),
        (run("(steps: 1)", &out("c")), "run.ron"),
        (run(CONFIG, &out("d")).resume(), "no run to go on with"),
        (run(CONFIG, &out("file/run")), "file/run"),
        (TrainingRun::new(out("e"), panics), "haunted"),
        (run(wild, &out("wild")), "loss became"),
    ];
    for (run, part) in cases {
        let mut app = app(Execution::PerFrame(4));
        let at = run.out().to_owned();
        let training = start(&mut app, run);
        until_ended(&mut app);
        assert!(heard(&app).failed[0].contains(part), "{:?}", heard(&app).failed);
        assert_eq!(state(&app, training), TrainingState::Failed);
        assert!(part == "loss became" || !at.exists(), "{part}");
        // Another one on the same entity.
        let next = TrainingRun::new(out(&format!("after {part}").replace('/', " ")), || setup(CONFIG));
        app.world_mut().trigger(StartTraining::new(training, next));
        harness::update_until(&mut app, 5000, |world| !world.resource::<Heard>().finished.is_empty());
    }
    Checkpoint::load(&out("wild")).unwrap();
}

#[test]
fn a_second_training_on_the_entity_or_in_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut app = app(Execution::PerFrame(2));
    let first = start(&mut app, run(CONFIG, &out));
    until_step(&mut app, 3);
    app.world_mut().trigger(StartTraining::new(first, run(CONFIG, &dir.path().join("other"))));
    start(&mut app, run(CONFIG, &out));
    harness::update_until(&mut app, 5000, |world| world.resource::<Heard>().ends() == 2);
    let told = heard(&app);
    assert!(told.failed[0].contains("holds a run") || told.failed[0].contains("another training"));
    assert_eq!(told.finished.len(), 1);
    assert!(!dir.path().join("other").exists());
}

#[test]
fn a_talk_goes_before_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let mut app = app(Execution::PerFrame(1));
    let npc = app.world_mut().spawn((Npc::new("personas/mira.persona.ron"), Name::new("Mira"))).id();
    let loaded = |world: &mut World| !world.resource::<Assets<bevy_skald::dialogue::Persona>>().is_empty();
    harness::update_until(&mut app, 100_000, loaded);
    start(&mut app, run(CONFIG, &dir.path().join("run")));
    until_step(&mut app, 3);
    app.world_mut().trigger(Say::new(npc, "Hello."));
    let before = heard(&app).steps().len();
    harness::update_until(&mut app, 5000, |world| !world.resource::<Heard>().lines.is_empty());
    let told = heard(&app);
    assert_eq!((told.lines[0].text.as_str(), told.lines[0].fallback), ("Good day.", false));
    // At most the step that had been done and was not told yet, and those while the line was on its way.
    assert!(told.steps().len() <= before + 2 && told.ends() == 0, "{} {before}", told.steps().len());
    until_ended(&mut app);
    assert_eq!(heard(&app).finished.len(), 1);
}

const DIALOGUE: &str =
    "(training: (model: (hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 24, context: 128),
    tokenizer: Bpe(400), seed: 5, steps: 6, sequence: 96, rows: 2, learning_rate: 0.01, warmup_steps: 2,
    dropout: 0.1, validate_every: 6, checkpoint_every: 3))";

#[test]
fn dialogue_trained_in_a_game_is_that_of_skald_train_and_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("run.ron"), DIALOGUE).unwrap();
    let data = [PathBuf::from("assets/dialogue/warm.jsonl")];
    let plugins = SkaldPlugins { speaker: Speaker::Fallbacks, ..default() };
    let mut app = app_with(SkaldPlugins {
        execution: Execution::PerFrame(4),
        deadline: Duration::from_secs(6000),
        ..plugins
    });
    app.add_observer(|done: On<TrainingFinished>, mut commands: Commands| {
        commands.trigger(SpeakWith::new(&done.fitted.checkpoint));
    });
    start(&mut app, TrainingRun::dialogue(at("run.ron"), data.clone(), at("game")));
    until_ended(&mut app);
    let prepared = DialogueTraining::read(&at("run.ron")).unwrap().prepare(&data).unwrap();
    straight(prepared, &at("alone"));
    assert_same(&at("game"), &at("alone"));
    let command = Checkpoint::load(&at("game")).unwrap().card.provenance.command;
    assert!(command.starts_with("skald train dialogue --config "), "{command}");
    let model = |world: &mut World| {
        let handle = world.resource::<DialogueModel>().0.clone()?;
        world.resource::<Assets<ModelAsset>>().get(&handle).map(|asset| asset.model.generation)
    };
    harness::update_until(&mut app, 100_000, |world| model(world).is_some());
    let speaks = model(app.world_mut());
    // What does not load leaves the present one.
    app.world_mut().trigger(SpeakWith::new(at("nowhere")));
    let npc = app.world_mut().spawn((Npc::new("personas/mira.persona.ron"), Name::new("Mira"))).id();
    app.world_mut().trigger(Say::new(npc, "Hello."));
    harness::update_until(&mut app, 100_000, |world| !world.resource::<Heard>().lines.is_empty());
    assert!(!heard(&app).lines[0].fallback && heard(&app).lines[0].tokens > 0);
    assert_eq!(model(app.world_mut()), speaks);
}
