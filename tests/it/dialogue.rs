//! Dialogue in an app, through the public door only.

use bevy::ecs::schedule::ScheduleLabel;
use bevy::prelude::*;
use bevy_skald::decode::{Backend, Scripted};
use bevy_skald::dialogue::Memory;
use bevy_skald::error::Error;
use bevy_skald::prelude::*;
use bevy_skald::runtime::harness;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was heard, in order.
#[derive(Resource, Default)]
struct Heard {
    words: Vec<String>,
    sentences: Vec<String>,
    finished: Vec<LineFinished>,
    failed: Vec<String>,
}

fn village(plugins: SkaldPlugins) -> (App, Entity) {
    let mut app = harness::app();
    app.add_plugins(plugins)
        .init_resource::<Heard>()
        .add_observer(|grew: On<LineGrew>, mut heard: ResMut<Heard>| heard.words.push(grew.added.clone()))
        .add_observer(|done: On<SentenceFinished>, mut heard: ResMut<Heard>| {
            heard.sentences.push(done.sentence.clone());
        })
        .add_observer(|done: On<LineFinished>, mut heard: ResMut<Heard>| heard.finished.push(done.clone()))
        .add_observer(|failed: On<LineFailed>, mut heard: ResMut<Heard>| {
            heard.failed.push(failed.error.to_string());
        });
    app.finish();
    app.cleanup();
    let mill = app.world_mut().spawn((Name::new("the mill"), Place { x: 0.0, y: 9.0 })).id();
    app.world_mut().spawn((Name::new("Rowan"), Player));
    let npc = app
        .world_mut()
        .spawn((Npc::new("personas/mira.persona.ron"), Name::new("Mira"), LocatedIn(mill)))
        .id();
    (app, npc)
}

fn backend(script: impl Fn() -> Scripted + Send + 'static) -> SkaldPlugins {
    let make = move || Box::new(script()) as Box<dyn Backend>;
    let speaker = Speaker::Backend(Arc::new(Mutex::new(make)));
    SkaldPlugins {
        speaker,
        execution: Execution::PerFrame(1),
        deadline: Duration::from_secs(60),
        ..default()
    }
}

fn say(app: &mut App, npc: Entity, text: &str) {
    app.world_mut().trigger(Say::new(npc, text));
}

fn until_finished(app: &mut App, lines: usize) {
    harness::update_until(app, 5000, |world| world.resource::<Heard>().finished.len() >= lines);
}

#[test]
fn asking_gives_exactly_one_finished_line_word_by_word() {
    let (mut app, npc) =
        village(backend(|| Scripted::line("<act:Greet>good day. how is {player}, up at {here}?")));
    say(&mut app, npc, "Hello.");
    until_finished(&mut app, 1);
    (0..20).for_each(|_| app.update());
    let heard = app.world().resource::<Heard>();
    assert_eq!(heard.finished.len(), 1);
    assert_eq!(heard.finished[0].text, "Good day. How is Rowan, up at the mill?");
    assert_eq!(heard.finished[0].act, Act::Greet);
    assert!(heard.words.len() > 3, "{:?}", heard.words);
    assert_eq!(heard.words.concat(), heard.finished[0].text);
    assert_eq!(heard.sentences, ["Good day.", "How is Rowan, up at the mill?"]);
    assert!(heard.failed.is_empty() && !heard.finished[0].fallback);
}

#[test]
fn despawning_the_npc_cancels_its_line() {
    let (mut app, npc) = village(backend(|| Scripted::line("one two three four five six seven")));
    say(&mut app, npc, "Hello.");
    harness::update_until(&mut app, 5000, |world| !world.resource::<Heard>().words.is_empty());
    app.world_mut().entity_mut(npc).despawn();
    (0..20).for_each(|_| app.update());
    let stats = app.world().resource::<DialogueStats>();
    assert_eq!((stats.cancelled, stats.open, stats.finished), (1, 0, 0));
    assert!(app.world().resource::<Heard>().finished.is_empty());
}

#[test]
fn a_missing_model_shows_an_authored_line() {
    let (mut app, npc) =
        village(SkaldPlugins { execution: Execution::PerFrame(4), ..default() }.with_model("models/nowhere"));
    say(&mut app, npc, "Hello.");
    until_finished(&mut app, 1);
    let heard = app.world().resource::<Heard>();
    assert!(heard.finished[0].fallback && heard.failed.len() == 1, "{:?}", heard.failed);
    assert!(!heard.finished[0].text.is_empty() && heard.words.concat() == heard.finished[0].text);
}

#[test]
fn a_late_model_shows_an_authored_line_by_the_deadline() {
    let plugins = backend(|| Scripted::line(""));
    let (mut app, npc) =
        village(SkaldPlugins { speaker: never(), deadline: Duration::from_millis(100), ..plugins });
    say(&mut app, npc, "Hello.");
    until_finished(&mut app, 1);
    let heard = app.world().resource::<Heard>();
    assert!(heard.finished[0].fallback, "{:?}", heard.finished);
    assert!(heard.failed[0].contains("no answer within"), "{:?}", heard.failed);
}

/// A backend that never says anything.
fn never() -> Speaker {
    struct Never(u64);
    impl Backend for Never {
        fn submit(&mut self, _: bevy_skald::decode::Request) -> bevy_skald::decode::RequestId {
            self.0 += 1;
            bevy_skald::decode::RequestId(self.0)
        }
        fn cancel(&mut self, _: bevy_skald::decode::RequestId) {
            self.0 = 0;
        }
        fn step(&mut self, _: &mut Vec<bevy_skald::decode::Output>) -> bevy_skald::Result<()> {
            Ok(())
        }
        fn is_idle(&self) -> bool {
            self.0 == 0
        }
    }
    Speaker::Backend(Arc::new(Mutex::new(|| Box::new(Never(0)) as Box<dyn Backend>)))
}

#[test]
fn a_backend_that_fails_or_panics_shows_an_authored_line_and_the_game_goes_on() {
    let failing =
        || Scripted::new(|_| Err(Error::Unsatisfiable { rule: "none".into(), remedy: "none".into() }));
    for plugins in [backend(failing), backend(|| Scripted::new(|_| panic!("broken script")))] {
        let (mut app, npc) = village(plugins);
        say(&mut app, npc, "Hello.");
        until_finished(&mut app, 1);
        assert!(app.world().resource::<Heard>().finished[0].fallback);
    }
}

#[test]
fn lines_of_one_npc_come_one_after_the_other_and_are_remembered() {
    let (mut app, npc) = village(backend(|| Scripted::line("<act:SmallTalk>well now.")));
    say(&mut app, npc, "One?");
    say(&mut app, npc, "Two?");
    until_finished(&mut app, 2);
    let memories = app.world().get::<Memories>(npc).unwrap();
    let memory: &Memory = &memories.0["Rowan"];
    let said: Vec<&str> = memory.exchanges.iter().map(|exchange| exchange.player.as_str()).collect();
    assert_eq!(said, ["One?", "Two?"]);
}

#[test]
fn a_judged_line_is_passed_on_once_with_its_outcome() {
    let (mut app, npc) = village(backend(|| Scripted::line("<act:Joke>ha.")));
    say(&mut app, npc, "A joke?");
    until_finished(&mut app, 1);
    let line = app.world().resource::<Heard>().finished[0].line;
    for _ in 0..2 {
        app.world_mut().trigger(LineJudged { line, outcome: LineOutcome::Skipped });
    }
    let judged: Vec<ExchangeJudged> =
        app.world_mut().resource_mut::<Messages<ExchangeJudged>>().drain().collect();
    assert_eq!(judged.len(), 1);
    assert_eq!(judged[0].exchange.outcome, LineOutcome::Skipped);
    assert_eq!(judged[0].exchange.exchange.act, Act::Joke);
    app.update();
    assert!(app.world().get_entity(line).is_err());
}

#[test]
fn a_broken_persona_is_answered_for() {
    let (mut app, _) = village(backend(|| Scripted::line("hm.")));
    let npc = app.world_mut().spawn(Npc::new("personas/nobody.persona.ron")).id();
    say(&mut app, npc, "Hello.");
    until_finished(&mut app, 1);
    assert!(app.world().resource::<Heard>().finished[0].fallback);
}

#[test]
fn the_shipped_model_answers_from_the_world_and_the_same_twice() {
    let talk = || {
        let plugins = SkaldPlugins {
            execution: Execution::PerFrame(8),
            deadline: Duration::from_secs(600),
            ..default()
        };
        let (mut app, npc) = village(plugins.with_seed(3));
        for (n, text) in ["Hello.", "How do I get to the mill?", "Any news?"].iter().enumerate() {
            say(&mut app, npc, text);
            until_finished(&mut app, n + 1);
        }
        let heard = app.world().resource::<Heard>();
        assert!(heard.failed.is_empty(), "{:?}", heard.failed);
        heard.finished.iter().map(|line| line.text.clone()).collect::<Vec<_>>()
    };
    let lines = talk();
    assert_eq!(lines, talk());
    for line in &lines {
        assert!(!line.contains(['{', '}', '<', '>']) && line.len() > 3, "{line}");
    }
    assert!(lines[0] != lines[1] && lines[1] != lines[2]);
}

/// An adapter of the shipped model, whose changes are of this size.
fn adapter(dir: &std::path::Path, size: f32) {
    use bevy_skald::model::{Adapter, Checkpoint, LoraConfig, ModelConfig, Network};
    use bevy_skald::seed::Seed;
    let village = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/models/village");
    let Checkpoint { config, weights, .. } = Checkpoint::load(&village).unwrap();
    let lora = LoraConfig { rank: 4, alpha: 4.0, targets: vec!["o_proj".into(), "down_proj".into()] };
    let fresh =
        Network::with_adapter(&config, &weights, &lora, Seed::new(1)).unwrap().adapter().unwrap().unwrap();
    let mut noise = Seed::new(2).stream();
    let mut tensors = fresh.tensors().clone();
    for (_, values) in tensors.values_mut() {
        values.iter_mut().for_each(|value| *value = size * noise.normal());
    }
    let ModelConfig::Transformer(shape) = &config else { panic!("not a transformer") };
    Adapter::new(4, 4.0, weights.hash(), tensors).unwrap().save(dir, shape).unwrap();
}

#[test]
fn an_npc_speaks_with_its_own_adapter_and_without_one_that_cannot_be_used() {
    use bevy_skald::dialogue::NpcAdapter;
    let dir = tempfile::tempdir().unwrap();
    adapter(&dir.path().join("none"), 0.0);
    adapter(&dir.path().join("much"), 0.4);
    let line = |directory: Option<&str>| {
        let plugins = SkaldPlugins {
            execution: Execution::PerFrame(8),
            deadline: Duration::from_secs(600),
            ..default()
        };
        let (mut app, npc) = village(plugins.with_seed(3));
        if let Some(directory) = directory {
            app.world_mut().entity_mut(npc).insert(NpcAdapter::new(dir.path().join(directory)));
        }
        say(&mut app, npc, "How do I get to the mill?");
        until_finished(&mut app, 1);
        let heard = app.world().resource::<Heard>();
        assert!(heard.failed.is_empty(), "{:?}", heard.failed);
        heard.finished[0].text.clone()
    };
    let plain = line(None);
    assert_eq!(line(Some("none")), plain);
    assert_eq!(line(Some("not there")), plain);
    assert_ne!(line(Some("much")), plain);
}

#[test]
fn there_are_no_ambiguities_between_our_systems() {
    let (mut app, _) = village(backend(|| Scripted::line("hm.")));
    for label in [PreUpdate.intern(), PostUpdate.intern()] {
        app.edit_schedule(label, |schedule| {
            schedule.set_build_settings(bevy::ecs::schedule::ScheduleBuildSettings {
                ambiguity_detection: bevy::ecs::schedule::LogLevel::Error,
                ..default()
            });
        });
    }
    (0..3).for_each(|_| app.update());
}

/// A small untrained model that knows the dialogue language.
fn babbler(seed: u64) -> bevy_skald::model::Checkpoint {
    use bevy_skald::dialogue::prompt::special_tokens;
    use bevy_skald::model::{Card, Checkpoint, Network};
    use bevy_skald::training::{Architecture, ModelShape};
    let voices = ["warm".to_owned()];
    let tokenizer =
        bevy_skald::text::Tokenizer::train(["good day"].iter(), 340, &special_tokens(&voices)).unwrap();
    let shape = ModelShape {
        architecture: Architecture::Transformer,
        hidden_size: 16,
        layers: 1,
        heads: Some(2),
        kv_heads: Some(1),
        intermediate_size: Some(24),
        embedding_size: None,
        tied: None,
        context: 256,
    };
    let config = shape.config(tokenizer.vocab_size());
    let model = Network::new(&config, bevy_skald::seed::Seed::new(seed)).unwrap();
    let mut card = Card::new("dialogue");
    card.conditioning.insert("voice".into(), voices.into());
    Checkpoint { config, weights: model.weights().unwrap(), tokenizer, card }
}

#[test]
fn a_replaced_model_is_used_from_the_next_line_on_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    babbler(1).save(dir.path()).unwrap();
    let mut app = App::new();
    let path = app.register_model_directory("hot", dir.path());
    app.add_plugins((MinimalPlugins, AssetPlugin::default()));
    app.add_plugins(SkaldPlugins { execution: Execution::PerFrame(8), ..default() }.with_model(path));
    app.finish();
    app.cleanup();
    let generation = |world: &mut World| {
        let handle = world.resource::<DialogueModel>().0.clone().unwrap();
        world.resource::<Assets<ModelAsset>>().get(&handle).map(|asset| asset.model.generation)
    };
    let wait = |app: &mut App, seconds: u64, done: &mut dyn FnMut(&mut World) -> bool| {
        let end = std::time::Instant::now() + Duration::from_secs(seconds);
        while std::time::Instant::now() < end {
            app.update();
            if done(app.world_mut()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    };
    assert!(wait(&mut app, 30, &mut |world| generation(world).is_some()));
    let first = generation(app.world_mut());
    // A truncated file is noticed and refused: the old model stays.
    let weights = dir.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    assert!(!wait(&mut app, 2, &mut |world| generation(world) != first));
    babbler(2).save(dir.path()).unwrap();
    assert!(wait(&mut app, 30, &mut |world| generation(world).is_some_and(|now| Some(now) != first)));
}
