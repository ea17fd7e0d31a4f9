//! Levels in a Bevy app: trigger [`GenerateLevel`] on an entity, observe [`LevelGrew`] and [`LevelFinished`].
//!
//! | event | who must handle it |
//! |---|---|
//! | [`LevelGrew`] | nobody (an endless runner shows columns as they come); at most one a frame and level |
//! | [`LevelFinished`] | whoever builds the level; the entity has [`TileGrid`] and [`LevelSolution`] then |
//! | [`LevelFailed`] | whoever asked: with another seed, or less |
//! | [`super::ColumnsCame`] | whoever asked for [`super::MoreColumns`] of a level without an end |
//!
//! Each is an `EntityEvent` on the entity and a `Message`. Every [`GenerateLevel`] ends in one [`LevelFinished`] or
//! [`LevelFailed`], unless the entity is despawned or asked again first, which cancels it. Not here: drawing tiles.

use super::endless_plugin::{self, ColumnsCame, EndlessLevels};
use super::generate::{Generate, GeneratedLevel, LevelReport, LevelRequest, LevelUpdate};
use super::grid::Grid;
use super::model::LevelModel;
use super::solve::Solution;
use crate::decode::LoadedModel;
use crate::error::Error;
use crate::job::Job;
use crate::runtime::{ComputeWorker, JobEvent, JobHandle, Lane, ModelAsset, SkaldSystems};
use bevy::asset::LoadState;
use bevy::prelude::*;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Asks for a level. The model is a checkpoint's `skald.ron` among the app's assets.
#[derive(EntityEvent, Clone, Debug)]
pub struct GenerateLevel {
    /// Where the level goes.
    #[event_target]
    pub entity: Entity,
    /// The model.
    pub model: Handle<ModelAsset>,
    /// What is wanted.
    pub request: LevelRequest,
}

/// A level's tiles.
#[derive(Component, Clone, Debug, PartialEq)]
pub struct TileGrid(pub Grid);

/// How a level is finished, to be played back.
#[derive(Component, Clone, Debug, PartialEq)]
pub struct LevelSolution(pub Solution);

/// More of a level stands, or less: the writer backs out of what cannot be finished.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct LevelGrew {
    /// Where the level goes.
    #[event_target]
    pub entity: Entity,
    /// Slices (columns or rows of the game's scan) that stand.
    pub slices: usize,
    /// The tiles of the last one.
    pub last: Vec<u8>,
}

/// A level is there, checked, with its solution.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct LevelFinished {
    /// Where the level is: it has [`TileGrid`] and [`LevelSolution`].
    #[event_target]
    pub entity: Entity,
    /// What there is to say of it.
    pub report: LevelReport,
}

/// A level cannot be had.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct LevelFailed {
    /// Where it would have gone.
    #[event_target]
    pub entity: Entity,
    /// Why.
    pub error: Arc<Error>,
}

/// Levels. Part of [`crate::SkaldPlugins`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LevelPlugin;

impl Plugin for LevelPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Levels>()
            .init_resource::<EndlessLevels>()
            .add_message::<ColumnsCame>()
            .add_observer(endless_plugin::ask)
            .add_systems(PreUpdate, endless_plugin::receive.in_set(SkaldSystems::Receive))
            .add_systems(PostUpdate, endless_plugin::dispatch.in_set(SkaldSystems::Dispatch))
            .add_message::<LevelGrew>()
            .add_message::<LevelFinished>()
            .add_message::<LevelFailed>()
            .add_observer(begin_level)
            .add_systems(PreUpdate, receive_levels.in_set(SkaldSystems::Receive))
            .add_systems(PostUpdate, dispatch_levels.in_set(SkaldSystems::Dispatch));
    }
}

/// What is asked for and not there yet, by entity, in the order it was asked.
#[derive(Resource, Default)]
struct Levels {
    waiting: Vec<(Entity, Handle<ModelAsset>, LevelRequest)>,
    running: Vec<(Entity, JobHandle<Write>)>,
    /// Laid out once for each load of a model.
    models: HashMap<u64, Arc<LevelModel>>,
}

/// Lays the model out, if that was not done before, and writes a level.
enum Write {
    New(Arc<LoadedModel>, Option<Arc<LevelModel>>, Box<LevelRequest>),
    Running(Box<Generate>),
}

/// What a level's job tells.
enum Told {
    Model(u64, Arc<LevelModel>),
    Level(LevelUpdate),
}

impl Job for Write {
    type Output = GeneratedLevel;
    type Update = Told;

    fn step(&mut self) -> crate::Result<ControlFlow<GeneratedLevel, Told>> {
        match self {
            Self::New(loaded, model, request) => {
                let generation = loaded.generation;
                let model = match model.take() {
                    Some(model) => model,
                    None => Arc::new(LevelModel::of(Arc::clone(loaded))?),
                };
                let generate = Generate::new(Arc::clone(&model), (**request).clone())?;
                *self = Self::Running(Box::new(generate));
                Ok(ControlFlow::Continue(Told::Model(generation, model)))
            }
            Self::Running(generate) => Ok(match generate.step()? {
                ControlFlow::Continue(update) => ControlFlow::Continue(Told::Level(update)),
                ControlFlow::Break(level) => ControlFlow::Break(level),
            }),
        }
    }
}

fn begin_level(asked: On<GenerateLevel>, mut levels: ResMut<Levels>) {
    // Whoever asks again wants the new one only.
    levels.waiting.retain(|(entity, ..)| *entity != asked.entity);
    levels.running.retain(|(entity, _)| *entity != asked.entity);
    levels.waiting.push((asked.entity, asked.model.clone(), asked.request.clone()));
}

pub(super) fn fail(commands: &mut Commands, entity: Entity, error: Error) {
    warn!("the level for {entity} cannot be had: {error}");
    let failed = LevelFailed { entity, error: Arc::new(error) };
    commands.trigger(failed.clone());
    commands.write_message(failed);
}

/// A model that is there; `None` while it is being loaded.
pub(super) fn loaded(
    handle: &Handle<ModelAsset>,
    assets: &Assets<ModelAsset>,
    server: &AssetServer,
) -> Result<Option<Arc<LoadedModel>>, Error> {
    if let Some(asset) = assets.get(handle) {
        return Ok(Some(Arc::clone(&asset.model)));
    }
    let no_model = |reason: String| Error::NoModel {
        model: handle.path().map_or_else(|| "model".to_owned(), ToString::to_string),
        reason,
        remedy: "give the checkpoint's skald.ron among the app's assets".into(),
    };
    match server.get_load_state(handle) {
        Some(LoadState::Failed(error)) => Err(no_model(error.to_string())),
        Some(LoadState::NotLoaded) | None => Err(no_model("the model is not being loaded".into())),
        _ => Ok(None),
    }
}

fn dispatch_levels(
    mut levels: ResMut<Levels>,
    entities: Query<Entity>,
    assets: Res<Assets<ModelAsset>>,
    server: Res<AssetServer>,
    worker: Res<ComputeWorker>,
    mut commands: Commands,
) {
    for (entity, handle, request) in std::mem::take(&mut levels.waiting) {
        if !entities.contains(entity) {
            continue;
        }
        let loaded = match loaded(&handle, &assets, &server) {
            Ok(Some(loaded)) => loaded,
            Ok(None) => {
                levels.waiting.push((entity, handle, request));
                continue;
            }
            Err(error) => {
                fail(&mut commands, entity, error);
                continue;
            }
        };
        let model = levels.models.get(&loaded.generation).cloned();
        let job = Write::New(loaded, model, Box::new(request));
        let handle = worker.spawn(Lane::Level, format!("a level for {entity}"), job);
        levels.running.push((entity, handle));
    }
}

fn receive_levels(mut levels: ResMut<Levels>, entities: Query<Entity>, mut commands: Commands) {
    let Levels { running, models, .. } = &mut *levels;
    running.retain(|(entity, handle)| {
        let entity = *entity;
        if !entities.contains(entity) {
            return false;
        }
        let mut grew = None;
        let mut open = true;
        while let Some(event) = handle.try_next() {
            match event {
                JobEvent::Update(Told::Model(generation, model)) => {
                    models.insert(generation, model);
                }
                JobEvent::Update(Told::Level(LevelUpdate::Slices { count, last })) => {
                    grew = Some(LevelGrew { entity, slices: count, last });
                }
                JobEvent::Update(Told::Level(LevelUpdate::Checking)) => {}
                JobEvent::Finished(level) => {
                    let solution = LevelSolution(level.report.solution.clone());
                    commands.entity(entity).insert((TileGrid(level.grid), solution));
                    let finished = LevelFinished { entity, report: level.report };
                    commands.trigger(finished.clone());
                    commands.write_message(finished);
                    open = false;
                }
                JobEvent::Failed(error) => {
                    fail(&mut commands, entity, error);
                    open = false;
                }
            }
            if !open {
                break;
            }
        }
        if let Some(grew) = grew.filter(|_| open) {
            commands.trigger(grew.clone());
            commands.write_message(grew);
        }
        open
    });
}
