//! Personas as Bevy assets.

use super::Persona;
use crate::error::Error;
use bevy::asset::{AssetLoader, LoadContext, io::Reader};
use bevy::prelude::*;

/// Loads `*.persona.ron`.
#[derive(Default, TypePath)]
pub struct PersonaLoader;

/// Why a persona did not load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersonaLoaderError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file makes no persona.
    #[error(transparent)]
    Persona(#[from] Error),
}

impl AssetLoader for PersonaLoader {
    type Asset = Persona;
    type Settings = ();
    type Error = PersonaLoaderError;

    async fn load(
        &self,
        reader: &mut dyn Reader,
        _settings: &(),
        context: &mut LoadContext<'_>,
    ) -> Result<Persona, PersonaLoaderError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await?;
        Ok(Persona::from_bytes(&bytes, &context.path().to_string())?)
    }

    fn extensions(&self) -> &[&str] {
        &["persona.ron"]
    }
}
