//! Dialogue in a Bevy app: put [`Npc`] on an entity, trigger [`Say`], observe [`LineGrew`] and [`LineFinished`].
//!
//! | event | who must handle it |
//! |---|---|
//! | [`LineStarted`] | nobody |
//! | [`LineGrew`] | whoever shows the words; at most one a frame and line |
//! | [`SentenceFinished`] | nobody (voice-over, gestures) |
//! | [`LineFinished`] | whoever acts on the line's [`Act`] |
//! | [`LineFailed`] | nobody: the fallback is shown through [`LineGrew`] and [`LineFinished`] too |
//!
//! Each is an `EntityEvent` on the NPC and a `Message`. Every [`Say`] ends in exactly one [`LineFinished`],
//! by the deadline, unless the NPC is despawned first, which cancels its lines.

use super::adapted::{Adapters, NpcAdapter};
use super::events::{
    ExchangeJudged, Line, LineFailed, LineFinished, LineGrew, LineJudged, LineOf, LineStarted, Say,
    SentenceFinished,
};
use super::facts::Facts;
use super::persona_asset::PersonaLoader;
use super::voices::{Heard, Voices};
use super::{Act, LineOutcome, Memory, Persona, RecordedExchange, Spoken};
use crate::decode::{Backend, Sampling};
use crate::error::Error;
use crate::runtime::{ComputeWorker, DialogueStats, Execution, ModelAsset, SkaldSystems};
use crate::seed::Seed;
use bevy::asset::LoadState;
use bevy::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An NPC that talks. The persona is an asset path (`"personas/mira.persona.ron"`).
#[derive(Component, Clone, Debug, Default)]
#[require(Memories)]
pub struct Npc {
    /// The persona's asset path.
    pub persona: String,
    /// The persona, once it is asked for. Set by the plugin.
    pub handle: Handle<Persona>,
}

impl Npc {
    /// An NPC with the persona at this asset path.
    pub fn new(persona: impl Into<String>) -> Self {
        Self { persona: persona.into(), handle: Handle::default() }
    }

    /// An NPC whose persona was made in code and added to `Assets<Persona>`.
    pub fn from_handle(handle: Handle<Persona>) -> Self {
        Self { persona: String::new(), handle }
    }
}

/// What an NPC remembers of each player, by the player's name. Save it with the game (`serde`).
#[derive(Component, Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Memories(pub HashMap<String, Memory>);

/// Who speaks for the NPCs.
#[derive(Clone)]
pub enum Speaker {
    /// The model at this asset path: a checkpoint directory, or its `skald.ron`.
    Model(String),
    /// A backend made by this function ([`crate::decode::Scripted`], or your own).
    Backend(Arc<Mutex<dyn FnMut() -> Box<dyn Backend> + Send>>),
    /// Nobody: authored lines only.
    Fallbacks,
}

/// Dialogue. Part of [`crate::SkaldPlugins`].
#[derive(Clone)]
pub struct DialoguePlugin {
    /// Who speaks.
    pub speaker: Speaker,
    /// Derives every random stream.
    pub seed: u64,
    /// How words are drawn.
    pub sampling: Sampling,
    /// By when something must be shown.
    pub deadline: Duration,
}

/// How dialogue goes. Change it while the game runs: lines that start afterwards follow it.
#[derive(Resource, Clone, Debug)]
pub struct DialogueConfig {
    /// Derives every random stream.
    pub seed: u64,
    /// How words are drawn.
    pub sampling: Sampling,
    /// By when something must be shown: in real time, or in the game's under [`Execution::PerFrame`].
    pub deadline: Duration,
}

/// The model that speaks. Replace it to let another one speak from the next line on, as [`super::SpeakWith`] does
/// once that one is loaded.
#[derive(Resource, Clone, Debug, Default)]
pub struct DialogueModel(pub Option<Handle<ModelAsset>>);

impl Plugin for DialoguePlugin {
    fn build(&self, app: &mut App) {
        let model = match &self.speaker {
            Speaker::Model(path) => {
                let path = if path.ends_with("skald.ron") {
                    path.clone()
                } else {
                    format!("{}/skald.ron", path.trim_end_matches('/'))
                };
                Some(app.world().resource::<AssetServer>().load(path))
            }
            _ => None,
        };
        let backend = match &self.speaker {
            Speaker::Backend(make) => Some(make.lock().unwrap_or_else(std::sync::PoisonError::into_inner)()),
            _ => None,
        };
        app.init_asset::<Persona>()
            .register_asset_loader(PersonaLoader)
            .insert_resource(DialogueModel(model))
            .insert_resource(DialogueConfig {
                seed: self.seed,
                sampling: self.sampling.clone(),
                deadline: self.deadline,
            })
            .insert_resource(Voices::new(backend))
            .init_resource::<Talks>()
            .add_message::<LineStarted>()
            .add_message::<LineGrew>()
            .add_message::<SentenceFinished>()
            .add_message::<LineFinished>()
            .add_message::<LineFailed>()
            .add_message::<ExchangeJudged>()
            .add_observer(load_persona)
            .add_observer(begin_line)
            .add_observer(judge_line)
            .add_observer(forget_line)
            .add_systems(PreUpdate, receive_lines.in_set(SkaldSystems::Receive))
            .add_systems(PostUpdate, dispatch_lines.in_set(SkaldSystems::Dispatch));
        super::swap::build(app);
        super::adapted::build(app);
    }
}

fn load_persona(added: On<Insert, Npc>, mut npcs: Query<&mut Npc>, assets: Res<AssetServer>) {
    if let Ok(mut npc) = npcs.get_mut(added.entity)
        && !npc.persona.is_empty()
    {
        let handle = assets.load(&npc.persona);
        npc.handle = handle;
    }
}

/// The lines that are not finished, in the order they were asked for, and finished ones not yet judged.
#[derive(Resource, Default)]
pub(super) struct Talks {
    open: Vec<Talk>,
    finished: HashMap<Entity, (Option<Entity>, RecordedExchange)>,
    /// Which talk it is, by NPC and player.
    numbers: HashMap<(Entity, String), u64>,
}

struct Talk {
    line: Entity,
    npc: Entity,
    player: Option<Entity>,
    said: String,
    age: Duration,
    /// Number at the voices, once it is being spoken.
    ticket: Option<u64>,
    shown: String,
    sentence: usize,
    player_name: String,
    before: Vec<super::Exchange>,
}

fn begin_line(say: On<Say>, npcs: Query<&Npc>, mut talks: ResMut<Talks>, mut commands: Commands) {
    if npcs.get(say.to).is_err() {
        warn!("Say was sent to {}, which is no Npc; spawn it with an Npc component", say.to);
        return;
    }
    let line = commands.spawn((Line { text: String::new(), open: true }, LineOf(say.to))).id();
    talks.open.push(Talk {
        line,
        npc: say.to,
        player: say.by,
        said: say.text.clone(),
        age: Duration::ZERO,
        ticket: None,
        shown: String::new(),
        sentence: 0,
        player_name: String::new(),
        before: Vec::new(),
    });
    let started = LineStarted { npc: say.to, line };
    commands.trigger(started.clone());
    commands.write_message(started);
}

/// Hands waiting lines to the voices, and shows the fallback of those that can wait no longer.
fn dispatch_lines(
    mut talks: ResMut<Talks>,
    mut voices: ResMut<Voices>,
    facts: Facts,
    npcs: Query<(&Npc, &Memories, Option<&NpcAdapter>)>,
    mut adapters: Adapters,
    personas: Res<Assets<Persona>>,
    models: Res<Assets<ModelAsset>>,
    model: Res<DialogueModel>,
    config: Res<DialogueConfig>,
    worker: Res<ComputeWorker>,
    clocks: (Res<Time>, Option<Res<Time<Real>>>),
    mut ends: Ends,
) {
    let delta = match (worker.execution(), &clocks.1) {
        (Execution::Background { .. }, Some(real)) => real.delta(),
        _ => clocks.0.delta(),
    };
    let mut busy: Vec<Entity> = Vec::new();
    let mut late = Vec::new();
    for (at, talk) in talks.open.iter_mut().enumerate() {
        talk.age += delta;
        let Ok((npc, memories, adapter)) = npcs.get(talk.npc) else { continue };
        let persona = personas.get(&npc.handle);
        let waits = talk.ticket.is_none() && !busy.contains(&talk.npc);
        busy.push(talk.npc);
        if waits {
            if let Some(LoadState::Failed(reason)) = adapters.assets.get_load_state(&npc.handle) {
                late.push((at, Error::backend("loading the persona", reason.to_string())));
                continue;
            }
            if npc.persona.is_empty() && npc.handle == Handle::default() {
                let reason = "the NPC has no persona";
                late.push((at, Error::config("Npc", "persona", reason, "give the path of a .persona.ron")));
                continue;
            }
            let own = adapter.zip(voices.model(&model, &models));
            let own = own.map(|(adapter, model)| adapters.of(adapter, model)).transpose();
            match (persona, voices.ready(&model, &models, &adapters.assets), own) {
                (Some(persona), Ok(true), Ok(own)) => {
                    let world = facts.world(talk.player);
                    talk.player_name.clone_from(&world.player.name);
                    let memory = memories.0.get(&talk.player_name).cloned().unwrap_or_default();
                    talk.before = memory.exchanges.iter().cloned().collect();
                    let seed = Seed::new(config.seed).derive(&persona.name).derive(&talk.player_name);
                    let manner = voices.manner(&model, &models, &config.sampling);
                    let mut turn = super::Turn::prepare(persona, &world, &memory, &talk.said, seed, &manner);
                    turn.request.adapter = own.flatten();
                    talk.ticket = Some(voices.speak(turn, &model, &models, &worker));
                }
                (Some(_), Err(error), _) => late.push((at, error)),
                _ => {}
            }
        }
        if talk.shown.is_empty() && talk.age >= config.deadline && !late.iter().any(|(n, _)| *n == at) {
            let seconds = config.deadline.as_secs_f32();
            late.push((at, Error::Deadline { what: format!("{}'s line", npc.persona), seconds }));
        }
    }
    for (at, error) in late.into_iter().rev() {
        let talk = talks.open.remove(at);
        if let Some(ticket) = talk.ticket {
            voices.cancel(ticket);
        }
        let Ok((npc, memories, _)) = npcs.get(talk.npc) else { continue };
        let world = facts.world(talk.player);
        let memory = memories.0.get(&world.player.name).cloned().unwrap_or_default();
        let text = personas.get(&npc.handle).map_or_else(
            || "...".to_owned(),
            |persona| {
                let seed = Seed::new(config.seed).derive(&persona.name);
                super::fallback(persona, &world, &memory, &talk.said, seed)
            },
        );
        ends.fail(&talk, world.player.name, error, text);
    }
    ends.stats.open = talks.open.len();
}

/// What a line's end touches.
#[derive(bevy::ecs::system::SystemParam)]
struct Ends<'w, 's> {
    commands: Commands<'w, 's>,
    lines: Query<'w, 's, &'static mut Line>,
    stats: ResMut<'w, DialogueStats>,
}

impl Ends<'_, '_> {
    fn both<'a, E>(&mut self, event: E)
    where
        E: EntityEvent + Message + Clone,
        E: Event<Trigger<'a> = bevy::ecs::event::EntityTrigger>,
    {
        self.commands.trigger(event.clone());
        self.commands.write_message(event);
    }

    fn show(&mut self, talk: &mut Talk, added: String) {
        if added.is_empty() {
            return;
        }
        talk.shown += &added;
        if let Ok(mut line) = self.lines.get_mut(talk.line) {
            line.text.clone_from(&talk.shown);
        }
        self.both(LineGrew { npc: talk.npc, line: talk.line, added, text: talk.shown.clone() });
        while let Some(end) = sentence_end(&talk.shown[talk.sentence..]) {
            let sentence = talk.shown[talk.sentence..talk.sentence + end].trim().to_owned();
            talk.sentence += end;
            self.both(SentenceFinished { npc: talk.npc, line: talk.line, sentence });
        }
    }

    fn close(&mut self, talk: &Talk, text: &str) {
        let rest = talk.shown.get(talk.sentence..).unwrap_or_default().trim().to_owned();
        if !rest.is_empty() {
            self.both(SentenceFinished { npc: talk.npc, line: talk.line, sentence: rest });
        }
        if let Ok(mut line) = self.lines.get_mut(talk.line) {
            text.clone_into(&mut line.text);
            line.open = false;
        }
    }

    fn fail(&mut self, talk: &Talk, player_name: String, error: Error, text: String) {
        self.stats.fallbacks += 1;
        warn!("{error}; an authored line is shown");
        let mut shown = Talk {
            line: talk.line,
            npc: talk.npc,
            player: talk.player,
            said: talk.said.clone(),
            age: talk.age,
            ticket: None,
            shown: String::new(),
            sentence: 0,
            player_name,
            before: Vec::new(),
        };
        let (npc, line) = (talk.npc, talk.line);
        self.both(LineFailed { npc, line, error: Arc::new(error), text: text.clone() });
        self.show(&mut shown, text.clone());
        self.close(&shown, &text);
        let player = talk.player;
        let act = Act::SmallTalk;
        self.both(LineFinished {
            npc,
            line,
            player,
            text,
            act,
            goal: None,
            fact: None,
            fallback: true,
            tokens: 0,
        });
    }
}

/// Where the first whole sentence ends, when another one has begun.
fn sentence_end(text: &str) -> Option<usize> {
    let mark = text.find(['.', '!', '?'])?;
    let after = text[mark..].find(|c: char| !matches!(c, '.' | '!' | '?'))? + mark;
    if text[after..].starts_with(' ') {
        Some(after + 1)
    } else {
        sentence_end(&text[after..]).map(|end| after + end)
    }
}

/// Turns what the voices said into events, once a frame and line.
fn receive_lines(
    mut talks: ResMut<Talks>,
    mut voices: ResMut<Voices>,
    mut npcs: Query<(&Npc, &mut Memories)>,
    personas: Res<Assets<Persona>>,
    facts: Facts,
    config: Res<DialogueConfig>,
    worker: Res<ComputeWorker>,
    mut ends: Ends,
) {
    for (ticket, heard) in voices.hear(&worker) {
        let Some(at) = talks.open.iter().position(|talk| talk.ticket == Some(ticket)) else { continue };
        match heard {
            Heard::Words(added) => ends.show(&mut talks.open[at], added),
            Heard::Whole(spoken) => {
                let talk = talks.open.remove(at);
                if let Ok((_, mut memories)) = npcs.get_mut(talk.npc) {
                    memories.0.entry(talk.player_name.clone()).or_default().take_in(&spoken);
                }
                ends.stats.finished += 1;
                ends.stats.tokens += spoken.tokens as u64;
                ends.close(&talk, &spoken.text);
                finish(&mut talks, &talk, &spoken, &mut ends);
            }
            Heard::Failed(error) => {
                let talk = talks.open.remove(at);
                let Ok((npc, memories)) = npcs.get(talk.npc) else { continue };
                let world = facts.world(talk.player);
                let memory = memories.0.get(&talk.player_name).cloned().unwrap_or_default();
                let text = personas.get(&npc.handle).map_or_else(
                    || "...".to_owned(),
                    |persona| {
                        let seed = Seed::new(config.seed).derive(&persona.name);
                        super::fallback(persona, &world, &memory, &talk.said, seed)
                    },
                );
                ends.fail(&talk, talk.player_name.clone(), error, text);
            }
        }
    }
    ends.stats.open = talks.open.len();
    ends.stats.kv_bytes = voices.kv_bytes();
}

fn finish(talks: &mut Talks, talk: &Talk, spoken: &Spoken, ends: &mut Ends) {
    let key = (talk.npc, talk.player_name.clone());
    let number = talks.numbers.entry(key).or_default();
    let recorded = RecordedExchange {
        npc: spoken.setting.voice.clone(),
        talk: *number,
        setting: spoken.setting.clone(),
        before: talk.before.clone(),
        exchange: spoken.exchange.clone(),
        outcome: LineOutcome::Read,
        fallback: false,
    };
    if spoken.act == Act::Farewell {
        *number += 1;
    }
    talks.finished.insert(talk.line, (talk.player, recorded));
    ends.both(LineFinished {
        npc: talk.npc,
        line: talk.line,
        player: talk.player,
        text: spoken.text.clone(),
        act: spoken.act,
        goal: spoken.goal.clone(),
        fact: spoken.fact.clone(),
        fallback: false,
        tokens: spoken.tokens,
    });
}

fn judge_line(
    judged: On<LineJudged>,
    mut talks: ResMut<Talks>,
    mut out: MessageWriter<ExchangeJudged>,
    mut commands: Commands,
) {
    if let Some((player, mut exchange)) = talks.finished.remove(&judged.line) {
        exchange.outcome = judged.outcome;
        out.write(ExchangeJudged { player, exchange });
        commands.entity(judged.line).try_despawn();
    }
}

/// A line that is despawned (with its NPC, or by the game) is cancelled.
fn forget_line(
    removed: On<Remove, Line>,
    mut talks: ResMut<Talks>,
    mut voices: ResMut<Voices>,
    mut stats: ResMut<DialogueStats>,
) {
    talks.finished.remove(&removed.entity);
    if let Some(at) = talks.open.iter().position(|talk| talk.line == removed.entity) {
        let talk = talks.open.remove(at);
        stats.cancelled += 1;
        if let Some(ticket) = talk.ticket {
            voices.cancel(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sentence_end;

    #[test]
    fn sentences_end_where_another_begins() {
        assert_eq!(sentence_end("One. Two."), Some(5));
        assert_eq!(sentence_end("Well... no. Yes"), Some(8));
        assert_eq!(sentence_end("One."), None);
        assert_eq!(sentence_end("3.5 miles"), None);
    }
}
