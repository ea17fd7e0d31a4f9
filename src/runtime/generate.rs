//! [`Generate`]: any answer of any model, also a value of a Rust type, in the background of the game.
//!
//! ```
//! use bevy::prelude::*;
//! use bevy_skald::prelude::*;
//! use bevy_skald::runtime::{Generate, GenerationFinished, ModelAsset};
//! use bevy_skald::text::Message;
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Rumour {
//!     about: String,
//!     true_or_not: bool,
//! }
//!
//! fn ask(mut commands: Commands, assets: Res<AssetServer>) {
//!     let model: Handle<ModelAsset> = assets.load("models/qwen2.5-0.5b-q8_0.gguf");
//!     let innkeeper = commands.spawn_empty().id();
//!     let messages = [Message::new("system", "You keep an inn."), Message::new("user", "What is new?")];
//!     commands.trigger(Generate::new(innkeeper, model, messages).of::<Rumour>());
//! }
//!
//! fn told(finished: On<GenerationFinished>) {
//!     match finished.value::<Rumour>() {
//!         Ok(rumour) => info!("{} ({})", rumour.about, rumour.true_or_not),
//!         Err(reason) => warn!("{reason}"),
//!     }
//! }
//! # let _ = (ask, told);
//! ```

use super::{ComputeWorker, Decoding, ModelAsset, SkaldSystems};
use crate::decode::{Finish, Form, Output, Prompt, Request, Sampling, Scheduler};
use crate::error::{Error, Result};
use crate::seed::Seed;
use crate::text::Message;
use bevy::asset::LoadState;
use bevy::prelude::*;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;

/// Asks a model for an answer. It comes as [`Generation`] on the entity, word by word, and ends in [`GenerationFinished`] or
/// [`GenerationFailed`]. Another one for the same entity, or despawning it, cancels it.
#[derive(EntityEvent, Clone, Debug)]
pub struct Generate {
    /// Whose answer it is.
    #[event_target]
    pub entity: Entity,
    /// Who answers: a checkpoint (`skald.ron`), a Hugging Face directory (`config.json`) or a GGUF file. It may still be
    /// loading.
    pub model: Handle<ModelAsset>,
    /// What is to be answered.
    pub prompt: Prompt,
    /// What form the answer must have.
    pub form: Option<Form>,
    /// How words are drawn.
    pub sampling: Sampling,
    /// The same model, prompt and seed give the same answer.
    pub seed: u64,
    /// Higher goes first when there is no room for all.
    pub priority: i32,
}

impl Generate {
    /// An answer to a conversation, for a model that was taught to chat.
    pub fn new(entity: Entity, model: Handle<ModelAsset>, messages: impl Into<Vec<Message>>) -> Self {
        Self {
            entity,
            model,
            prompt: Prompt::Chat(messages.into()),
            form: None,
            sampling: Sampling {
                temperature: 0.7,
                top_p: 0.95,
                min_p: 0.0,
                max_tokens: 256,
                ..Sampling::default()
            },
            seed: 0,
            priority: 0,
        }
    }

    /// JSON that reads as this type ([`GenerationFinished::value`]).
    #[must_use]
    pub fn of<T: JsonSchema>(self) -> Self {
        Self { form: Some(Form::of::<T>()), ..self }
    }

    /// Of this form.
    #[must_use]
    pub fn of_form(self, form: Form) -> Self {
        Self { form: Some(form), ..self }
    }

    /// With this seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Drawn like this.
    #[must_use]
    pub fn with_sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }
}

/// An answer on its way.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// What was said so far.
    pub text: String,
    ticket: u64,
}

/// An answer is whole.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct GenerationFinished {
    /// Whose answer it is.
    #[event_target]
    pub entity: Entity,
    /// The answer.
    pub text: String,
    /// Why it ended; [`Finish::Length`] may leave a form unfinished.
    pub finish: Finish,
    /// How many tokens it has.
    pub tokens: usize,
    /// How many messages did not fit the model's context.
    pub dropped: usize,
}

impl GenerationFinished {
    /// The answer as a value.
    ///
    /// # Errors
    /// [`Error::Syntax`] where it was not asked for in this form ([`Generate::of`]), or was cut at `max_tokens`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text).map_err(|e| Error::Syntax {
            file: "answer".into(),
            line: e.line(),
            column: e.column(),
            reason: e.to_string().split(" at line ").next().unwrap_or("no JSON").to_owned(),
            remedy: match self.finish {
                Finish::Length => "allow more tokens, or bound the type (length, range)".into(),
                Finish::Stop => "ask with `Generate::of` this type".into(),
            },
        })
    }
}

/// There will be no answer.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct GenerationFailed {
    /// Whose answer it was.
    #[event_target]
    pub entity: Entity,
    /// Why.
    pub error: Arc<Error>,
}

/// [`Generate`] and what comes of it. Part of [`crate::SkaldPlugins`].
pub struct GeneratePlugin;

impl Plugin for GeneratePlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Answers>()
            .init_resource::<GenerateStats>()
            .add_message::<GenerationFinished>()
            .add_message::<GenerationFailed>()
            .add_observer(take)
            .add_observer(forget)
            .add_systems(PreUpdate, receive.in_set(SkaldSystems::Receive))
            .add_systems(PostUpdate, dispatch.in_set(SkaldSystems::Dispatch));
    }
}

/// A model's scheduler, and whose answers it makes.
struct Speaker {
    decoding: Decoding,
    open: HashMap<u64, Entity>,
}

/// What [`Generate`] has done so far.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateStats {
    /// Answers that are whole.
    pub finished: u64,
    /// Tokens of them.
    pub tokens: u64,
    /// Answers on their way.
    pub open: usize,
    /// Bytes of keys and values, what is kept for later included.
    pub kv_bytes: usize,
}

#[derive(Resource, Default)]
struct Answers {
    next: u64,
    /// Asked for, with the ticket.
    asked: Vec<(u64, Generate)>,
    /// By the generation of their model.
    speakers: HashMap<u64, Speaker>,
}

fn take(ask: On<Generate>, mut answers: ResMut<Answers>, mut commands: Commands) {
    let ticket = answers.next;
    answers.next += 1;
    let entity = ask.entity;
    answers.asked.push((ticket, ask.event().clone()));
    commands.queue(move |world: &mut World| match world.get_entity_mut(entity) {
        Ok(mut of) => {
            // Replacing the component forgets an answer that is under way.
            of.remove::<Generation>();
            of.insert(Generation { text: String::new(), ticket });
        }
        Err(_) => world.resource_mut::<Answers>().asked.retain(|(of, _)| *of != ticket),
    });
}

/// Also when the entity is despawned.
fn forget(removed: On<Remove, Generation>, generations: Query<&Generation>, mut answers: ResMut<Answers>) {
    let Ok(generation) = generations.get(removed.entity) else { return };
    answers.asked.retain(|(ticket, _)| *ticket != generation.ticket);
    for speaker in answers.speakers.values_mut() {
        if speaker.open.remove(&generation.ticket).is_some() {
            speaker.decoding.cancel(generation.ticket);
        }
    }
}

fn dispatch(
    mut answers: ResMut<Answers>,
    models: Res<Assets<ModelAsset>>,
    assets: Res<AssetServer>,
    worker: Res<ComputeWorker>,
    mut failed: MessageWriter<GenerationFailed>,
    mut commands: Commands,
) {
    if answers.asked.is_empty() {
        return;
    }
    let answers = &mut *answers;
    answers.asked.retain(|(ticket, ask)| {
        let Some(asset) = models.get(&ask.model) else {
            if let Some(LoadState::Failed(reason)) = assets.get_load_state(&ask.model) {
                let name = ask.model.path().map_or_else(|| "model".into(), ToString::to_string);
                let error = Error::NoModel {
                    model: name,
                    reason: reason.to_string(),
                    remedy: "put a checkpoint, a Hugging Face directory or a GGUF file there".into(),
                };
                fail(ask.entity, error, &mut failed, &mut commands);
                return false;
            }
            return true;
        };
        let model = Arc::clone(&asset.model);
        let speaker = answers.speakers.entry(model.generation).or_insert_with(|| Speaker {
            decoding: Decoding::new(Box::new(Scheduler::new(Arc::clone(&model), worker.scheduler()))),
            open: HashMap::new(),
        });
        speaker.open.insert(*ticket, ask.entity);
        let (ask, seed) = (ask.clone(), Seed::new(ask.seed));
        let make = move || {
            let constraint = ask.form.map(|form| form.constraint(&model)).transpose()?;
            Ok(Request {
                prompt: ask.prompt,
                sampling: ask.sampling,
                seed,
                constraint,
                priority: ask.priority,
                adapter: None,
            })
        };
        speaker.decoding.answer(*ticket, make, &worker);
        false
    });
    // Replaced models go when they have said what they had to say.
    let live: Vec<u64> = models.iter().map(|(_, asset)| asset.model.generation).collect();
    answers.speakers.retain(|generation, speaker| speaker.decoding.is_busy() || live.contains(generation));
}

fn fail(entity: Entity, error: Error, failed: &mut MessageWriter<GenerationFailed>, commands: &mut Commands) {
    let event = GenerationFailed { entity, error: Arc::new(error) };
    failed.write(event.clone());
    if let Ok(mut of) = commands.get_entity(entity) {
        of.try_remove::<Generation>();
        commands.trigger(event);
    }
}

fn receive(
    mut answers: ResMut<Answers>,
    worker: Res<ComputeWorker>,
    mut generations: Query<&mut Generation>,
    mut stats: ResMut<GenerateStats>,
    mut finished: MessageWriter<GenerationFinished>,
    mut failed: MessageWriter<GenerationFailed>,
    mut commands: Commands,
) {
    answers.speakers.retain(|_, speaker| {
        let mut outputs = Vec::new();
        let gone = speaker.decoding.hear(&worker, &mut outputs);
        for (ticket, output) in outputs {
            let Some(&entity) = speaker.open.get(&ticket) else { continue };
            match output {
                Output::Delta { text, .. } => {
                    if let Ok(mut generation) = generations.get_mut(entity) {
                        generation.text += &text;
                    }
                }
                Output::Finished { finish, tokens, dropped, .. } => {
                    speaker.open.remove(&ticket);
                    let Ok(mut generation) = generations.get_mut(entity) else { continue };
                    let text = std::mem::take(&mut generation.text);
                    stats.finished += 1;
                    stats.tokens += tokens as u64;
                    let event = GenerationFinished { entity, text, finish, tokens, dropped };
                    finished.write(event.clone());
                    if let Ok(mut of) = commands.get_entity(entity) {
                        of.try_remove::<Generation>();
                        commands.trigger(event);
                    }
                }
                Output::Failed { error, .. } => {
                    speaker.open.remove(&ticket);
                    fail(entity, error, &mut failed, &mut commands);
                }
            }
        }
        if let Err(error) = &gone {
            for (_, entity) in speaker.open.drain() {
                let error = Error::Panicked { job: "generate".into(), message: error.to_string() };
                fail(entity, error, &mut failed, &mut commands);
            }
        }
        gone.is_ok()
    });
    stats.open =
        answers.speakers.values().map(|speaker| speaker.open.len()).sum::<usize>() + answers.asked.len();
    stats.kv_bytes = answers.speakers.values().map(|speaker| speaker.decoding.kv_bytes()).sum();
}
