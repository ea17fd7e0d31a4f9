//! [`SpeakWith`]: lets another model speak while the game runs.

use super::plugin::DialogueModel;
use crate::decode::LoadedModel;
use crate::error::Error;
use crate::model::Checkpoint;
use crate::runtime::{ModelAsset, SkaldSystems};
use bevy::asset::LoadState;
use bevy::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Lets the model in a checkpoint directory, anywhere on the disk, speak from the first line on that begins after
/// it is loaded ([`DialogueModel`] changes then). Until then the present one speaks; and afterwards too if the new
/// one does not load, which is logged. Of several, the last one counts. A backend of your own
/// ([`super::Speaker::Backend`]) is not replaced.
#[derive(Event, Clone, Debug)]
pub struct SpeakWith {
    /// The directory.
    pub directory: PathBuf,
}

impl SpeakWith {
    /// The model in `directory`.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_owned() }
    }
}

/// The model that will speak.
#[derive(Resource, Default)]
struct Next(Option<Handle<ModelAsset>>);

pub(super) fn build(app: &mut App) {
    app.init_resource::<Next>().add_observer(load).add_systems(PreUpdate, swap.in_set(SkaldSystems::Receive));
}

fn load(speak: On<SpeakWith>, assets: Res<AssetServer>, mut next: ResMut<Next>) {
    let directory = speak.directory.clone();
    next.0 = Some(assets.add_async(async move {
        let model = LoadedModel::new(&Checkpoint::load(&directory)?)?;
        Ok::<_, Error>(ModelAsset { model: Arc::new(model) })
    }));
}

fn swap(mut next: ResMut<Next>, mut speaks: ResMut<DialogueModel>, assets: Res<AssetServer>) {
    match next.0.as_ref().and_then(|handle| assets.get_load_state(handle)) {
        Some(LoadState::Loaded) => speaks.0 = next.0.take(),
        Some(LoadState::Failed(_)) => next.0 = None,
        _ => {}
    }
}
