//! Any `config.json` and `model.safetensors` are a model or one clear error. The first two bytes are the config's length.

#![no_main]

use bevy_skald::model::{TransformerConfig, weights_from_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (config, weights) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    if let Ok(config) = TransformerConfig::from_json(config, "config.json") {
        let _ = weights_from_bytes(&config, weights, "model.safetensors");
    }
});
