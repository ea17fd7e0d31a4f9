//! The seam between lines and compute: turns go to a backend on the worker, words come back.
//!
//! A backend lives in a [`Decode`] job while it has something to say, and rests here otherwise, so that
//! silence costs nothing. A new model gets a backend of its own; lines that are being spoken end on
//! the old one.

use super::speak::{Manner, Speech, Spoken, Turn};
use crate::decode::{Backend, LoadedModel, Output, Request, RequestId, Sampling, Scheduler, SchedulerConfig};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::runtime::{ComputeWorker, JobEvent, JobHandle, Lane, ModelAsset};
use bevy::asset::LoadState;
use bevy::prelude::*;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

enum Order {
    Speak(u64, Box<Request>),
    Cancel(u64),
}

/// Steps a backend until it has nothing more to say; then gives it back.
pub(super) struct Decode {
    backend: Box<dyn Backend>,
    orders: Receiver<Order>,
    tickets: HashMap<RequestId, u64>,
}

impl Job for Decode {
    type Output = Box<dyn Backend>;
    type Update = Vec<(u64, Output)>;

    fn step(&mut self) -> Result<ControlFlow<Self::Output, Self::Update>> {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Speak(ticket, request) => {
                    let id = self.backend.submit(*request);
                    self.tickets.insert(id, ticket);
                }
                Order::Cancel(ticket) => {
                    if let Some((&id, _)) = self.tickets.iter().find(|(_, t)| **t == ticket) {
                        self.backend.cancel(id);
                        self.tickets.remove(&id);
                    }
                }
            }
        }
        if self.backend.is_idle() {
            return Ok(ControlFlow::Break(std::mem::replace(&mut self.backend, Box::new(Silence))));
        }
        let mut outputs = Vec::new();
        self.backend.step(&mut outputs)?;
        let told = outputs.into_iter().filter_map(|output| {
            let id = match &output {
                Output::Delta { id, .. } | Output::Finished { id, .. } | Output::Failed { id, .. } => *id,
            };
            let ticket = match output {
                Output::Delta { .. } => *self.tickets.get(&id)?,
                _ => self.tickets.remove(&id)?,
            };
            Some((ticket, output))
        });
        Ok(ControlFlow::Continue(told.collect()))
    }
}

/// Stands in a [`Decode`] whose backend was given back.
struct Silence;

impl Backend for Silence {
    fn submit(&mut self, _: Request) -> RequestId {
        RequestId(0)
    }
    fn cancel(&mut self, _: RequestId) {}
    fn step(&mut self, _: &mut Vec<Output>) -> Result<()> {
        Ok(())
    }
    fn is_idle(&self) -> bool {
        true
    }
}

/// What came back for a line.
pub(super) enum Heard {
    /// New words on the screen.
    Words(String),
    /// The line is whole. All its words were told before.
    Whole(Box<Spoken>),
    /// There will be no line.
    Failed(Error),
}

/// A backend, and the job it runs in while it is not resting.
struct Voice {
    /// The generation of its model; nothing for a backend of the user's.
    generation: Option<u64>,
    /// The lock is never taken: it only makes the backend shareable.
    resting: Option<Mutex<Box<dyn Backend>>>,
    job: Option<JobHandle<Decode>>,
    orders: (Sender<Order>, Receiver<Order>),
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
                let scheduler = Scheduler::new(Arc::clone(model), SchedulerConfig::default());
                self.voices.push(Voice::new(wanted, Box::new(scheduler)));
            }
            self.voices.len() - 1
        });
        // Only the present model's backend is kept when it has nothing to say.
        let voice = &mut self.voices[at];
        voice.speeches.insert(ticket, turn.speech);
        let _ = voice.orders.0.send(Order::Speak(ticket, Box::new(turn.request)));
        voice.wake(worker);
        self.voices.retain(|voice| voice.generation == wanted || voice.job.is_some());
        ticket
    }

    /// Forgets a line.
    pub(super) fn cancel(&mut self, ticket: u64) {
        for voice in &mut self.voices {
            if voice.speeches.remove(&ticket).is_some() {
                let _ = voice.orders.0.send(Order::Cancel(ticket));
            }
        }
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
        Self {
            generation,
            resting: Some(Mutex::new(backend)),
            job: None,
            orders: unbounded(),
            speeches: BTreeMap::new(),
        }
    }

    fn wake(&mut self, worker: &ComputeWorker) {
        if let Some(backend) = self.resting.take() {
            let backend = backend.into_inner().unwrap_or_else(PoisonError::into_inner);
            let orders = self.orders.1.clone();
            let job = Decode { backend, orders, tickets: HashMap::new() };
            self.job = Some(worker.spawn(Lane::Decode, "dialogue", job));
        }
    }

    fn hear(&mut self, worker: &ComputeWorker, heard: &mut Vec<(u64, Heard)>) {
        let mut words: BTreeMap<u64, String> = BTreeMap::new();
        let mut ended = Vec::new();
        while let Some(event) = self.job.as_ref().and_then(JobHandle::try_next) {
            match event {
                JobEvent::Update(outputs) => {
                    for (ticket, output) in outputs {
                        self.take(ticket, output, &mut words, &mut ended);
                    }
                }
                JobEvent::Finished(backend) => {
                    (self.resting, self.job) = (Some(Mutex::new(backend)), None);
                }
                JobEvent::Failed(error) => {
                    // The backend went with the job: whatever it was saying cannot be said any more.
                    self.job = None;
                    let message = error.to_string();
                    for (ticket, _) in std::mem::take(&mut self.speeches) {
                        let error = Error::Panicked { job: "dialogue".into(), message: message.clone() };
                        ended.push((ticket, Heard::Failed(error)));
                    }
                    self.generation = Some(u64::MAX);
                }
            }
        }
        // An order that came while the backend was being given back.
        if !self.orders.1.is_empty() {
            self.wake(worker);
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
