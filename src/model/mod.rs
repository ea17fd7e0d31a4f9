//! One sequence model: its shape, its weights, training and inference networks, and the checkpoint on disk.
//!
//! [`Transformer`] learns, [`Decoder`] speaks; they agree to 1e-4. Not here: how sequences are scheduled
//! ([`crate::decode`]) or fitted ([`crate::training`]).

mod adapter;
mod base;
mod checkpoint;
mod config;
mod config_json;
mod decoder;
pub mod gguf;
mod hugging_face;
mod model_config;
mod network;
#[cfg(test)]
pub(crate) mod reference;
mod rope_json;
mod rope_scaling;
mod transformer;
mod weights;

pub use adapter::Adapter;
pub use base::Base;
pub use checkpoint::{CARD, Card, Checkpoint, FILES, Provenance};
pub use config::{Activation, Family, TransformerConfig};
pub use decoder::{Decoder, KvCache, KvPage, KvType, LoadedAdapter, Row, Scratch};
pub use hugging_face::{weights_from_bytes, weights_from_dir, weights_to_files};
pub use model_config::{ModelConfig, RecurrentConfig};
pub use network::{Dropout, LoraConfig, Network, Packed};
pub use rope_scaling::RopeScaling;
pub use transformer::Transformer;
pub use weights::{StoredAs, Weights};

#[cfg(test)]
pub(crate) use model_config::tests as model_config_tests;
