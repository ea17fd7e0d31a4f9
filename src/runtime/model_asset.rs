//! [`ModelAsset`]: a model as a Bevy asset: a checkpoint directory, a Hugging Face directory or a GGUF file.
//!
//! A checkpoint's path is the directory's `skald.ron`, which is written last and names the hashes of the other
//! files: a directory that is being replaced is either the old model or the new one, never a mix. With
//! Bevy's `file_watcher` feature a replaced checkpoint is loaded while the game runs; every line started
//! after that is spoken by the new model. One that does not load leaves the old one in place.

use crate::decode::LoadedModel;
use crate::error::Error;
use crate::model::gguf::{GgufFile, GgufVocabulary};
use crate::model::{Checkpoint, TransformerConfig, weights_from_bytes};
use bevy::asset::io::{AssetSourceBuilder, Reader};
use bevy::asset::{AssetLoader, AssetPath, LoadContext, ReadAssetBytesError};
use bevy::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A model in memory, ready to be decoded. Immutable.
#[derive(Asset, TypePath, Clone)]
pub struct ModelAsset {
    /// The model.
    pub model: Arc<LoadedModel>,
}

/// Why a model did not load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelLoaderError {
    /// The `skald.ron` itself could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Another file of the directory could not be read.
    #[error("could not read {file}: {source}, put the whole checkpoint directory there")]
    Part {
        /// Which file.
        file: PathBuf,
        /// What the asset system said.
        #[source]
        source: Box<ReadAssetBytesError>,
    },
    /// The files are there but make no model.
    #[error(transparent)]
    Model(#[from] Error),
}

/// Loads a checkpoint directory through its `skald.ron`, a Hugging Face directory (weights in one file) through its
/// `config.json`, and a GGUF file.
#[derive(Default, TypePath)]
pub struct ModelLoader {
    /// Where it says how far it is.
    pub loading: LoadingModels,
}

/// How far models are that are being loaded in the background, for a loading screen: a large GGUF file takes seconds.
#[derive(Resource, Clone, Default)]
pub struct LoadingModels(Arc<Mutex<HashMap<AssetPath<'static>, f32>>>);

impl LoadingModels {
    /// How much of the model at `path` is laid out, 0 to 1; `None` when it is not being loaded (any more).
    pub fn progress<'a>(&self, path: impl Into<AssetPath<'a>>) -> Option<f32> {
        let path = path.into().into_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&path).copied()
    }

    fn set(&self, path: &AssetPath<'static>, done: Option<f32>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Some(done) => all.insert(path.clone(), done),
            None => all.remove(path),
        };
    }
}

/// Takes the model off the list when its load ends, however it ends.
struct Loading<'a>(&'a LoadingModels, AssetPath<'static>);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.set(&self.1, None);
    }
}

impl AssetLoader for ModelLoader {
    type Asset = ModelAsset;
    type Settings = ();
    type Error = ModelLoaderError;

    async fn load(
        &self,
        reader: &mut dyn Reader,
        _settings: &(),
        context: &mut LoadContext<'_>,
    ) -> Result<ModelAsset, ModelLoaderError> {
        let path = context.path().clone_owned();
        self.loading.set(&path, Some(0.0));
        let _end = Loading(&self.loading, path.clone());
        let mut card = Vec::new();
        reader.read_to_end(&mut card).await?;
        let name = path.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".gguf") {
            let file = GgufFile::from_bytes(&card, &path.path().display().to_string())?;
            drop(card);
            let model = LoadedModel::from_gguf_and(&file, &|done| self.loading.set(&path, Some(done)))?;
            return Ok(ModelAsset { model: Arc::new(model) });
        }
        let mut part = async |file: &str| {
            let sibling: AssetPath<'static> = path
                .resolve_embed_str(file)
                .map_err(|e| ModelLoaderError::Model(Error::backend("finding the checkpoint's files", e)))?;
            context.read_asset_bytes(sibling).await.map_err(|source| ModelLoaderError::Part {
                file: path.path().with_file_name(file),
                source: Box::new(source),
            })
        };
        if name == "config.json" {
            let directory = path.path().parent().unwrap_or(Path::new("model")).display().to_string();
            let config = TransformerConfig::from_json(&card, &path.path().display().to_string())?;
            let weights = part("model.safetensors").await?;
            let weights = weights_from_bytes(&config, &weights, &format!("{directory}/model.safetensors"))?;
            let tokenizer = part("tokenizer.json").await?;
            let (about, template) =
                (part("tokenizer_config.json").await.ok(), part("chat_template.jinja").await.ok());
            let parts = (about.as_deref(), Some(card.as_slice()), template.as_deref());
            let vocabulary = GgufVocabulary::from_parts(&directory, &tokenizer, parts.0, parts.1, parts.2)?;
            let model = LoadedModel::from_hugging_face(&directory, config, &weights, Some(vocabulary))?;
            return Ok(ModelAsset { model: Arc::new(model) });
        }
        let config = part("config.json").await?;
        let weights = part("model.safetensors").await?;
        let tokenizer = part("tokenizer.json").await?;
        let name = path.path().parent().unwrap_or(Path::new("model")).display().to_string();
        let checkpoint = Checkpoint::from_parts(&name, &config, &weights, &tokenizer, &card)?;
        Ok(ModelAsset { model: Arc::new(LoadedModel::new(&checkpoint)?) })
    }

    fn extensions(&self) -> &[&str] {
        &["skald.ron", "gguf", "config.json"]
    }
}

/// Lets an [`App`] load models from directories outside its assets.
pub trait ModelDirectoryAppExt {
    /// Makes the checkpoint directory `dir` loadable as `name://skald.ron`, and returns that path.
    /// Must be called before `AssetPlugin` (or `DefaultPlugins`) is added.
    fn register_model_directory(&mut self, name: &'static str, dir: impl AsRef<Path>) -> String;
}

impl ModelDirectoryAppExt for App {
    fn register_model_directory(&mut self, name: &'static str, dir: impl AsRef<Path>) -> String {
        let dir = std::path::absolute(dir.as_ref()).unwrap_or_else(|_| dir.as_ref().to_owned());
        let source = AssetSourceBuilder::platform_default(&dir.to_string_lossy(), None);
        self.register_asset_source(name, source);
        format!("{name}://skald.ron")
    }
}
