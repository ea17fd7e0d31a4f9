//! Any model's answers in an app.

use bevy::prelude::*;
use bevy_skald::decode::{Form, Prompt, Sampling};
use bevy_skald::model::gguf::{
    GgufVocabulary, Metadata, Quantization, model_to_gguf, vocabulary_to_metadata,
};
use bevy_skald::model::{Checkpoint, ModelConfig};
use bevy_skald::prelude::*;
use bevy_skald::runtime::{
    Generate, Generation, GenerationFailed, GenerationFinished, LoadingModels, ModelAsset, harness,
};
use bevy_skald::text::SpecialTokens;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize, schemars::JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
struct Rumour {
    #[schemars(range(min = 1, max = 9))]
    weight: u8,
    about: Of,
}

#[derive(Deserialize, schemars::JsonSchema, Debug)]
enum Of {
    Mill,
    River,
}

#[derive(Resource, Default)]
struct Heard {
    finished: Vec<GenerationFinished>,
    failed: Vec<String>,
}

/// The village's model as a GGUF file.
fn write_gguf(path: &Path) {
    let Checkpoint { config, weights, tokenizer, .. } =
        Checkpoint::load(Path::new("assets/models/village")).unwrap();
    let ModelConfig::Transformer(config) = config else { panic!("a transformer") };
    let none = serde_json::Value::Null;
    let special = SpecialTokens::from_json(&none, &none, &tokenizer);
    let vocabulary = GgufVocabulary { tokenizer, special, chat_template: None };
    let mut metadata = Metadata::new("village");
    vocabulary_to_metadata(Some(&vocabulary), config.vocab_size, &mut metadata).unwrap();
    model_to_gguf(path, &config, &weights, Quantization::Q8_0, metadata).unwrap();
}

fn app(dir: &Path) -> App {
    let mut app = App::new();
    app.register_model_directory("here", dir);
    app.add_plugins((MinimalPlugins, AssetPlugin::default()));
    app.add_plugins(SkaldPlugins::default().with_execution(Execution::PerFrame(8)))
        .init_resource::<Heard>()
        .add_observer(|done: On<GenerationFinished>, mut heard: ResMut<Heard>| {
            heard.finished.push(done.clone());
        })
        .add_observer(|failed: On<GenerationFailed>, mut heard: ResMut<Heard>| {
            heard.failed.push(failed.error.to_string());
        });
    app.finish();
    app.cleanup();
    app
}

fn ask(app: &mut App, model: &str, seed: u64) -> (Entity, Generate) {
    let model: Handle<ModelAsset> = app.world().resource::<AssetServer>().load(model.to_owned());
    let entity = app.world_mut().spawn_empty().id();
    let sampling = Sampling { temperature: 1.0, max_tokens: 60, ..Sampling::default() };
    let ask =
        Generate { prompt: Prompt::Text("where is the mill".into()), ..Generate::new(entity, model, []) };
    (entity, ask.with_seed(seed).with_sampling(sampling))
}

#[test]
fn values_come_from_a_gguf_file_and_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    write_gguf(&dir.path().join("village.gguf"));
    let mut app = app(dir.path());
    for seed in [1, 2, 3, 1] {
        let (_, generate) = ask(&mut app, "here://village.gguf", seed);
        app.world_mut().trigger(generate.of::<Rumour>());
    }
    harness::update_until(&mut app, 20_000, |world| {
        let heard = world.resource::<Heard>();
        heard.finished.len() + heard.failed.len() == 4
    });
    assert_eq!(app.world().resource::<LoadingModels>().progress("here://village.gguf"), None);
    let heard = app.world().resource::<Heard>();
    assert_eq!(heard.failed, Vec::<String>::new());
    for done in &heard.finished {
        let rumour: Rumour = done.value().unwrap();
        assert!(
            (1..=9).contains(&rumour.weight) && matches!(rumour.about, Of::Mill | Of::River),
            "{rumour:?}"
        );
    }
    let mut texts: Vec<&str> = heard.finished.iter().map(|done| done.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert!(texts.len() <= 3);
}

#[test]
fn what_cannot_be_answered_is_a_failure_and_what_is_gone_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    write_gguf(&dir.path().join("village.gguf"));
    std::fs::write(dir.path().join("broken.gguf"), b"GGUF....").unwrap();
    let mut app = app(dir.path());
    let (_, generate) = ask(&mut app, "here://broken.gguf", 1);
    app.world_mut().trigger(generate);
    let (_, generate) = ask(&mut app, "here://village.gguf", 1);
    app.world_mut().trigger(generate.of_form(Form::Regex("(".into())));
    let (gone, generate) = ask(&mut app, "here://village.gguf", 1);
    app.world_mut().trigger(generate);
    app.world_mut().despawn(gone);
    let (replaced, generate) = ask(&mut app, "here://village.gguf", 1);
    app.world_mut().trigger(generate.clone());
    app.world_mut().trigger(Generate { seed: 5, ..generate }.of_form(Form::Regex("(mill|river)".into())));
    harness::update_until(&mut app, 20_000, |world| {
        let heard = world.resource::<Heard>();
        heard.failed.len() == 2 && heard.finished.len() == 1
    });
    (0..50).for_each(|_| app.update());
    let heard = app.world().resource::<Heard>();
    assert_eq!((heard.failed.len(), heard.finished.len()), (2, 1));
    assert!(heard.failed.iter().any(|text| text.contains("broken.gguf")), "{:?}", heard.failed);
    assert!(heard.failed.iter().any(|text| text.contains("regular expression")), "{:?}", heard.failed);
    assert_eq!(heard.finished[0].entity, replaced);
    assert!(["mill", "river"].contains(&heard.finished[0].text.as_str()));
    assert!(app.world().get::<Generation>(replaced).is_none());
}
