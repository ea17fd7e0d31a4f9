//! The seam between lines and compute: turns go to a backend on the worker, words come back.
//!
//! A new model gets a backend of its own; lines that are being spoken end on the old one.

use super::speak::{Manner, Speech, Spoken, Turn};
use crate::decode::{Backend, LoadedModel, Output, Sampling, Scheduler};
use crate::error::{Error, Result};
use crate::runtime::{ComputeWorker, Decoding, ModelAsset};
use bevy::asset::LoadState;
use bevy::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What came back for a line.
pub(super) enum Heard {
    /// New words on the screen.
    Words(String),
    /// The line is whole. All its words were told before.
    Whole(Box<Spoken>),
    /// There will be no line.
    Failed(Error),
}

/// A backend, and what it says.
struct Voice {
    /// The generation of its model; nothing for a backend of the user's.
    generation: Option<u64>,
    decoding: Decoding,
    /// Lines being spoken, in order.
    speeches: BTreeMap<u64, Speech>,
}

/// Every backend that speaks or rests.
#[derive(Resource)]
pub(super) struct Voices {
    voices: Vec<Voice>,
    custom: bool,
    next: u64,
    failed: Vec<(u64, Heard)>,
}

impl Voices {
    pub(super) fn new(backend: Option<Box<dyn Backend>>) -> Self {
        let custom = backend.is_some();
        let voices = backend.into_iter().map(|backend| Voice::new(None, backend)).collect();
        Self { voices, custom, next: 0, failed: Vec::new() }
    }

    fn current<'a>(
        model: &super::plugin::DialogueModel,
        models: &'a Assets<ModelAsset>,
    ) -> Option<&'a Arc<LoadedModel>> {
        Some(&models.get(model.0.as_ref()?)?.model)
    }

    /// The model that speaks; nothing where a backend of the user's does.
    pub(super) fn model<'a>(
        &self,
        model: &super::plugin::DialogueModel,
        models: &'a Assets<ModelAsset>,
    ) -> Option<&'a LoadedModel> {
        Self::current(model, models).filter(|_| !self.custom).map(Arc::as_ref)
    }

    /// Whether a line can be spoken now (`false`: the model is still loading).
    pub(super) fn ready(
        &self,
        model: &super::plugin::DialogueModel,
        models: &Assets<ModelAsset>,
        assets: &AssetServer,
    ) -> Result<bool> {
        if self.custom || Self::current(model, models).is_some() {
            return Ok(true);
        }
        let Some(handle) = &model.0 else {
            return Err(Error::NoModel {
                model: "dialogue".into(),
                reason: "no model was given".into(),
                remedy: "set `SkaldPlugins::model`, authored lines are shown until then".into(),
            });
        };
        match assets.get_load_state(handle) {
            Some(LoadState::Failed(reason)) => Err(Error::NoModel {
                model: handle.path().map_or_else(|| "model".into(), ToString::to_string),
                reason: reason.to_string(),
                remedy: "put a checkpoint directory there (`skald model inspect` checks one)".into(),
            }),
            _ => Ok(false),
        }
    }

    /// What a turn for the present model needs to know.
    pub(super) fn manner(
        &self,
        model: &super::plugin::DialogueModel,
        models: &Assets<ModelAsset>,
        sampling: &Sampling,
    ) -> Manner {
        match Self::current(model, models).filter(|_| !self.custom) {
            Some(model) => Manner::of(model, sampling.clone()),
            None => Manner::plain(sampling.clone()),
        }
    }

    /// Starts a line; its number is in everything that is heard of it.
    pub(super) fn speak(
        &mut self,
        turn: Turn,
        model: &super::plugin::DialogueModel,
        models: &Assets<ModelAsset>,
        worker: &ComputeWorker,
    ) -> u64 {
        let ticket = self.next;
        self.next += 1;
        let wanted =
            if self.custom { None } else { Self::current(model, models).map(|model| model.generation) };
        let at = self.voices.iter().position(|voice| voice.generation == wanted).unwrap_or_else(|| {
            if let Some(model) = Self::current(model, models) {
                let scheduler = Scheduler::new(Arc::clone(model), worker.scheduler());
                self.voices.push(Voice::new(wanted, Box::new(scheduler)));
            }
            self.voices.len() - 1
        });
        // Only the present model's backend is kept when it has nothing to say.
        let voice = &mut self.voices[at];
        let (mut request, form, speech) = turn.into_parts();
        voice.speeches.insert(ticket, speech);
        let model = Self::current(model, models).map(Arc::clone);
        let make = move || {
            if let Some((form, model)) = form.zip(model) {
                request.constraint = Some(form.constraint(&model)?);
            }
            Ok(request)
        };
        voice.decoding.answer(ticket, make, worker);
        self.voices.retain(|voice| voice.generation == wanted || voice.decoding.is_busy());
        ticket
    }

    /// Forgets a line.
    pub(super) fn cancel(&mut self, ticket: u64) {
        for voice in &mut self.voices {
            if voice.speeches.remove(&ticket).is_some() {
                voice.decoding.cancel(ticket);
            }
        }
    }

    /// Bytes of keys and values of all that speak or rest.
    pub(super) fn kv_bytes(&self) -> usize {
        self.voices.iter().map(|voice| voice.decoding.kv_bytes()).sum()
    }

    /// Everything that was said since the last call. Words of one line come as one.
    pub(super) fn hear(&mut self, worker: &ComputeWorker) -> Vec<(u64, Heard)> {
        let mut heard = std::mem::take(&mut self.failed);
        for voice in &mut self.voices {
            voice.hear(worker, &mut heard);
        }
        heard
    }
}

impl Voice {
    fn new(generation: Option<u64>, backend: Box<dyn Backend>) -> Self {
        Self { generation, decoding: Decoding::new(backend), speeches: BTreeMap::new() }
    }

    fn hear(&mut self, worker: &ComputeWorker, heard: &mut Vec<(u64, Heard)>) {
        let mut words: BTreeMap<u64, String> = BTreeMap::new();
        let (mut ended, mut outputs) = (Vec::new(), Vec::new());
        let gone = self.decoding.hear(worker, &mut outputs);
        for (ticket, output) in outputs {
            self.take(ticket, output, &mut words, &mut ended);
        }
        if let Err(error) = gone {
            let message = error.to_string();
            for (ticket, _) in std::mem::take(&mut self.speeches) {
                let error = Error::Panicked { job: "dialogue".into(), message: message.clone() };
                ended.push((ticket, Heard::Failed(error)));
            }
            self.generation = Some(u64::MAX);
        }
        heard.extend(
            words.into_iter().filter(|(_, text)| !text.is_empty()).map(|(t, text)| (t, Heard::Words(text))),
        );
        heard.extend(ended);
    }

    fn take(
        &mut self,
        ticket: u64,
        output: Output,
        words: &mut BTreeMap<u64, String>,
        ended: &mut Vec<(u64, Heard)>,
    ) {
        match output {
            Output::Delta { text, .. } => {
                if let Some(speech) = self.speeches.get_mut(&ticket) {
                    words.entry(ticket).or_default().push_str(&speech.push(&text));
                }
            }
            Output::Finished { finish, tokens, .. } => {
                if let Some(speech) = self.speeches.remove(&ticket) {
                    let shown = speech.shown().to_owned();
                    let spoken = speech.finish(finish, tokens);
                    if let Some(rest) = spoken.text.strip_prefix(shown.trim_end()) {
                        words.entry(ticket).or_default().push_str(rest);
                    }
                    ended.push((ticket, Heard::Whole(Box::new(spoken))));
                }
            }
            Output::Failed { error, .. } => {
                self.speeches.remove(&ticket);
                ended.push((ticket, Heard::Failed(error)));
            }
        }
    }
}
