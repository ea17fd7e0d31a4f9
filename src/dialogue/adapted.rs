//! [`NpcAdapter`]: an adapter of an NPC's own. The lines of NPCs with different adapters are decoded in one batch.

use crate::decode::LoadedModel;
use crate::error::Error;
use crate::model::{Adapter, LoadedAdapter};
use bevy::asset::LoadState;
use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The adapter an NPC speaks with: a directory of `peft`'s two files (the `adapter/` of a run with `adapter: Lora(..)`),
/// anywhere on the disk. It is read in the background; the NPC's lines wait for it, and an authored one is shown where that is
/// past the deadline. One that cannot be used is logged, and the NPC speaks without.
#[derive(Component, Clone, Debug)]
pub struct NpcAdapter {
    /// The directory.
    pub directory: PathBuf,
}

impl NpcAdapter {
    /// The adapter in `directory`.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_owned() }
    }
}

/// An adapter as it was read.
#[derive(Asset, TypePath)]
pub(super) struct AdapterAsset(Adapter);

#[derive(Default)]
struct Known {
    handle: Handle<AdapterAsset>,
    /// As it is laid out for the model of a generation; nothing where it cannot be.
    laid: Option<(u64, Option<Arc<LoadedAdapter>>)>,
}

/// The adapters that were asked for, by directory.
#[derive(Resource, Default)]
pub(super) struct KnownAdapters(HashMap<PathBuf, Known>);

/// Where adapters come from.
#[derive(SystemParam)]
pub(super) struct Adapters<'w> {
    known: ResMut<'w, KnownAdapters>,
    loaded: Res<'w, Assets<AdapterAsset>>,
    pub(super) assets: Res<'w, AssetServer>,
}

pub(super) fn build(app: &mut App) {
    app.init_asset::<AdapterAsset>().init_resource::<KnownAdapters>();
}

impl Adapters<'_> {
    /// The adapter for a model, or nothing where it cannot be used. `Err`: it is still being read.
    pub(super) fn of(
        &mut self,
        adapter: &NpcAdapter,
        model: &LoadedModel,
    ) -> Result<Option<Arc<LoadedAdapter>>, ()> {
        let directory = &adapter.directory;
        let known = self.known.0.entry(directory.clone()).or_insert_with(|| {
            let directory = directory.clone();
            let read = async move { Ok::<_, Error>(AdapterAsset(Adapter::load(&directory)?)) };
            Known { handle: self.assets.add_async(read), laid: None }
        });
        if let Some((generation, laid)) = &known.laid
            && *generation == model.generation
        {
            return Ok(laid.clone());
        }
        let laid = match (self.loaded.get(&known.handle), self.assets.get_load_state(&known.handle)) {
            (Some(asset), _) => model.adapter(&asset.0).map_err(|e| e.to_string()),
            (None, Some(LoadState::Failed(reason))) => Err(reason.to_string()),
            _ => return Err(()),
        };
        let laid =
            laid.map_err(|reason| warn!("the adapter in {} is not used: {reason}", directory.display())).ok();
        known.laid = Some((model.generation, laid.clone()));
        Ok(laid)
    }
}
