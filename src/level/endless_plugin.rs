//! Levels without an end in a Bevy app: trigger [`MoreColumns`] on an entity whenever the runner comes near the end of what
//! there is, observe [`ColumnsCame`].
//!
//! The first [`MoreColumns`] of an entity begins a level, later ones go on with it; despawning the entity ends it.

use super::endless::Endless;
use super::generate::LevelRequest;
use super::model::LevelModel;
use super::plugin::fail;
use crate::decode::LoadedModel;
use crate::job::Job;
use crate::runtime::{ComputeWorker, JobEvent, JobHandle, Lane, ModelAsset};
use bevy::prelude::*;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Asks for the next columns of an endless level. Asking again before they came adds to them.
#[derive(EntityEvent, Clone, Debug)]
pub struct MoreColumns {
    /// Whose level it is.
    #[event_target]
    pub entity: Entity,
    /// The model, as for [`super::GenerateLevel`]; of a game that is scanned by columns.
    pub model: Handle<ModelAsset>,
    /// What is wanted; looked at when the level begins.
    pub request: LevelRequest,
    /// How many columns.
    pub count: usize,
}

/// Columns came: they do not change any more, and a way leads through them.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct ColumnsCame {
    /// Whose level it is.
    #[event_target]
    pub entity: Entity,
    /// The tiles of each column, from the top.
    pub columns: Vec<Vec<u8>>,
}

#[derive(Resource, Default)]
pub(super) struct EndlessLevels {
    waiting: Vec<MoreColumns>,
    resting: HashMap<Entity, Box<Endless>>,
    running: Vec<(Entity, JobHandle<Write>)>,
}

enum Write {
    New(Arc<LoadedModel>, Box<LevelRequest>, usize),
    Running(Option<Box<Endless>>, usize),
}

impl Job for Write {
    type Output = (Option<Box<Endless>>, Vec<Vec<u8>>);
    type Update = ();

    fn step(&mut self) -> crate::Result<ControlFlow<Self::Output, ()>> {
        match self {
            Self::New(loaded, request, count) => {
                let endless = Endless::new(Arc::new(LevelModel::of(Arc::clone(loaded))?), request)?;
                *self = Self::Running(Some(Box::new(endless)), *count);
            }
            Self::Running(Some(endless), count) if endless.ready() < *count => endless.step()?,
            Self::Running(endless, count) => {
                let columns = endless.as_mut().map_or_else(Vec::new, |endless| endless.take(*count));
                return Ok(ControlFlow::Break((endless.take(), columns)));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

pub(super) fn ask(asked: On<MoreColumns>, mut levels: ResMut<EndlessLevels>) {
    match levels.waiting.iter_mut().find(|waiting| waiting.entity == asked.entity) {
        Some(waiting) => waiting.count += asked.count,
        None => levels.waiting.push(asked.clone()),
    }
}

pub(super) fn dispatch(
    mut levels: ResMut<EndlessLevels>,
    entities: Query<Entity>,
    assets: Res<Assets<ModelAsset>>,
    server: Res<AssetServer>,
    worker: Res<ComputeWorker>,
    mut commands: Commands,
) {
    for more in std::mem::take(&mut levels.waiting) {
        let entity = more.entity;
        if !entities.contains(entity) {
            continue;
        }
        if levels.running.iter().any(|(running, _)| *running == entity) {
            levels.waiting.push(more);
            continue;
        }
        let job = match levels.resting.remove(&entity) {
            Some(endless) => Write::Running(Some(endless), more.count),
            None => match super::plugin::loaded(&more.model, &assets, &server) {
                Ok(Some(model)) => Write::New(model, Box::new(more.request), more.count),
                Ok(None) => {
                    levels.waiting.push(more);
                    continue;
                }
                Err(error) => {
                    fail(&mut commands, entity, error);
                    continue;
                }
            },
        };
        let handle = worker.spawn(Lane::Level, format!("columns for {entity}"), job);
        levels.running.push((entity, handle));
    }
}

pub(super) fn receive(mut levels: ResMut<EndlessLevels>, entities: Query<Entity>, mut commands: Commands) {
    let EndlessLevels { running, resting, .. } = &mut *levels;
    resting.retain(|entity, _| entities.contains(*entity));
    running.retain(|(entity, handle)| {
        let entity = *entity;
        if !entities.contains(entity) {
            return false;
        }
        while let Some(event) = handle.try_next() {
            match event {
                JobEvent::Update(()) => {}
                JobEvent::Finished((endless, columns)) => {
                    resting.extend(endless.map(|endless| (entity, endless)));
                    let came = ColumnsCame { entity, columns };
                    commands.trigger(came.clone());
                    commands.write_message(came);
                    return false;
                }
                JobEvent::Failed(error) => {
                    fail(&mut commands, entity, error);
                    return false;
                }
            }
        }
        true
    });
}
