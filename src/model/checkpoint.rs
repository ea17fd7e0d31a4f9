//! [`Checkpoint`]: a model on disk, as a Hugging Face directory plus `skald.ron`.
//!
//! `config.json`, `model.safetensors` and `tokenizer.json` are what `transformers` reads. `skald.ron` (the
//! [`Card`]) is written last and holds the others' BLAKE3 hashes: whoever reads a directory that is being
//! replaced sees one model or an error, never a mix of two.

use super::decoder::Decoder;
use super::hugging_face::{to_named, weights_from_bytes};
use super::model_config::ModelConfig;
use super::weights::{StoredAs, Weights};
use crate::error::{Error, Result};
use crate::files::{read_limited, write_atomic};
use crate::text::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The files that a card vouches for.
pub const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];
/// The card's file.
pub const CARD: &str = "skald.ron";
/// The version of the card's format.
const FORMAT: u32 = 1;

/// What a model is, and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The card's format; this crate writes and reads 1.
    pub format: u32,
    /// "dialogue", "text", ..
    pub domain: String,
    /// How the weights are stored.
    pub stored_as: StoredAs,
    /// What the model can be conditioned on: a kind ("voice") and its values.
    pub conditioning: BTreeMap<String, Vec<String>>,
    /// Where it came from.
    pub provenance: Provenance,
    /// BLAKE3 of the other files, by name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// Where a model came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// BLAKE3 of the data set.
    pub data_hash: String,
    /// The seed.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// The command that trained it.
    pub command: String,
    /// Figures, by name (`val_loss`, ..).
    pub figures: BTreeMap<String, f64>,
    /// Which version wrote it.
    pub created_by: String,
}

impl Card {
    /// A card without provenance.
    pub fn new(domain: impl Into<String>) -> Self {
        Self {
            format: FORMAT,
            domain: domain.into(),
            stored_as: StoredAs::F16,
            conditioning: BTreeMap::new(),
            provenance: Provenance {
                created_by: concat!("bevy_skald ", env!("CARGO_PKG_VERSION")).into(),
                ..Provenance::default()
            },
            files: BTreeMap::new(),
        }
    }

    /// Reads a card. Unknown fields are refused with their line, as are newer formats.
    pub fn from_ron(bytes: &[u8], file: &str) -> Result<Self> {
        let card: Self = ron::de::from_bytes(bytes).map_err(|e| Error::ron(file, &e))?;
        if card.format != FORMAT {
            let reason = format!("the format is {}, and this version reads {FORMAT}", card.format);
            return Err(Error::config(file, "format", reason, "use a newer bevy_skald"));
        }
        Ok(card)
    }
}

/// A model as it is on disk.
#[derive(Clone)]
pub struct Checkpoint {
    /// Its shape.
    pub config: ModelConfig,
    /// Its weights.
    pub weights: Weights,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What it is.
    pub card: Card,
}

impl Checkpoint {
    /// Reads a checkpoint directory.
    pub fn load(dir: &Path) -> Result<Self> {
        let read = |file: &str, limit: u64, doing| read_limited(&dir.join(file), limit, doing);
        let card = read(CARD, 1 << 24, "read the model's card")?;
        let config = read(FILES[0], 1 << 20, "read the model's config")?;
        // What does not fit the config is found before the weights are read.
        let parsed = ModelConfig::from_json(&config, &dir.join(FILES[0]).display().to_string())?;
        let most = (parsed.parameters() as u64).saturating_mul(4).saturating_add(1 << 24);
        let weights = read(FILES[1], most, "read the model's weights")?;
        let tokenizer = read(FILES[2], 1 << 28, "read the model's tokenizer")?;
        Self::from_parts(&dir.display().to_string(), &config, &weights, &tokenizer, &card)
    }

    /// Makes a checkpoint of its files' contents. `name` is the directory, for messages.
    pub fn from_parts(
        name: &str,
        config: &[u8],
        weights: &[u8],
        tokenizer: &[u8],
        card: &[u8],
    ) -> Result<Self> {
        let file = |file: &str| format!("{name}/{file}");
        let card = Card::from_ron(card, &file(CARD))?;
        for (part, bytes) in FILES.iter().zip([config, weights, tokenizer]) {
            let found = blake3::hash(bytes).to_hex();
            if card.files.get(*part).is_none_or(|expected| expected.as_str() != found.as_str()) {
                return Err(Error::weights(
                    file(part),
                    "",
                    format!(
                        "the file is not the one that {CARD} vouches for (changed, truncated, or half replaced)"
                    ),
                    "copy the whole checkpoint directory again",
                ));
            }
        }
        let config = ModelConfig::from_json(config, &file(FILES[0]))?;
        // Each parameter takes at least two bytes: a config that claims more than the file holds is found
        // before anything is allocated for it.
        if config.parameters() > weights.len() / 2 {
            let reason = format!("{} bytes cannot hold {} parameters", weights.len(), config.parameters());
            return Err(Error::weights(
                file(FILES[1]),
                "",
                reason,
                "check that config and weights belong together",
            ));
        }
        let weights = match &config {
            ModelConfig::Transformer(config) => weights_from_bytes(config, weights, &file(FILES[1]))?,
            ModelConfig::Recurrent(_) => Weights::from_safetensors(weights, &file(FILES[1]))?,
        };
        weights.check(&config.tensors(), &file(FILES[1]))?;
        let tokenizer = Tokenizer::from_bytes(tokenizer, &file(FILES[2]))?;
        if tokenizer.vocab_size() > config.vocab_size() {
            return Err(Error::Vocabulary {
                file: file(FILES[2]),
                reason: format!(
                    "it has {} tokens and the model {}",
                    tokenizer.vocab_size(),
                    config.vocab_size()
                ),
                remedy: "check that tokenizer and weights belong together".into(),
            });
        }
        Ok(Self { config, weights, tokenizer, card })
    }

    /// Writes the directory. Each file is written beside and renamed, the card last.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make the checkpoint directory", dir, e))?;
        let half = self.card.stored_as == StoredAs::F16;
        let contents = [
            self.config.to_json(half)?,
            stored(&self.config, &self.weights, self.card.stored_as)?,
            self.tokenizer.to_bytes()?,
        ];
        let mut card = self.card.clone();
        card.files.clear();
        for (file, bytes) in FILES.iter().zip(&contents) {
            card.files.insert((*file).to_owned(), blake3::hash(bytes).to_hex().to_string());
        }
        let pretty = ron::ser::PrettyConfig::new().struct_names(false);
        let card =
            ron::ser::to_string_pretty(&card, pretty).map_err(|e| Error::backend("writing the card", e))?;
        for (file, bytes) in FILES.iter().zip(&contents) {
            write_atomic(&dir.join(file), bytes)?;
        }
        write_atomic(&dir.join(CARD), card.as_bytes())
    }

    /// The inference network.
    pub fn decoder(&self) -> Result<Decoder> {
        Decoder::new(&self.config, &self.weights)
    }
}

/// The weights' file: a transformer's as `transformers` reads it.
fn stored(config: &ModelConfig, weights: &Weights, stored_as: StoredAs) -> Result<Vec<u8>> {
    match config {
        ModelConfig::Transformer(config) => to_named(config, weights)?.to_safetensors(stored_as),
        ModelConfig::Recurrent(_) => weights.to_safetensors(stored_as),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::Network;
    use crate::model::config::tests::tiny;
    use crate::seed::Seed;
    use proptest::prelude::*;
    use std::fs;

    pub(crate) fn checkpoint(stored_as: StoredAs) -> Checkpoint {
        let tokenizer = Tokenizer::train(["hello there, friend"].iter(), 280, &[]).unwrap();
        let model = Network::new(&tiny().into(), Seed::new(1)).unwrap();
        let card = Card { stored_as, ..Card::new("text") };
        Checkpoint { config: tiny().into(), weights: model.weights().unwrap(), tokenizer, card }
    }

    fn saved() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        checkpoint(StoredAs::F32).save(dir.path()).unwrap();
        dir
    }

    #[test]
    fn a_checkpoint_survives_a_round_trip() {
        let dir = saved();
        let back = Checkpoint::load(dir.path()).unwrap();
        assert_eq!(back.weights.hash(), checkpoint(StoredAs::F32).weights.hash());
        assert_eq!(back.config, tiny().into());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn half_a_replacement_is_noticed() {
        let dir = saved();
        let other = Network::new(&tiny().into(), Seed::new(2)).unwrap();
        let bytes = other.weights().unwrap().to_safetensors(StoredAs::F32).unwrap();
        fs::write(dir.path().join(FILES[1]), bytes).unwrap();
        let error = Checkpoint::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("model.safetensors") && error.contains("copy the whole"), "{error}");
    }

    #[test]
    fn bad_files_are_one_clear_error() {
        let missing = Checkpoint::load(Path::new("/no/such/model")).err().unwrap().to_string();
        assert!(missing.contains("/no/such/model") && missing.contains("check the path"), "{missing}");
        for file in [FILES[0], FILES[1], FILES[2], CARD] {
            let dir = saved();
            let path = dir.path().join(file);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let error = Checkpoint::load(dir.path()).err().unwrap().to_string();
            assert!(error.contains(file), "{error}");
            fs::remove_file(&path).unwrap();
            assert!(Checkpoint::load(dir.path()).err().unwrap().to_string().contains(file));
        }
        let dir = saved();
        let card = fs::read_to_string(dir.path().join(CARD)).unwrap();
        fs::write(dir.path().join(CARD), card.replace("domain:", "colour: 1,\n    domain:")).unwrap();
        let error = Checkpoint::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("colour") && error.contains("skald.ron:3"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_checkpoint_never_loads_and_never_panics(which in 0usize..3, at: prop::sample::Index, byte: u8) {
            let whole = checkpoint(StoredAs::F16);
            let mut parts =
                [whole.config.to_json(true).unwrap(), whole.weights.to_safetensors(StoredAs::F16).unwrap(), whole.tokenizer.to_bytes().unwrap()];
            let at = at.index(parts[which].len());
            prop_assume!(parts[which][at] != byte);
            parts[which][at] = byte;
            // Even where the card vouches for the damage, nothing may panic.
            let mut card = whole.card.clone();
            let honest = ron::to_string(&card).unwrap();
            prop_assert!(Checkpoint::from_parts("m", &parts[0], &parts[1], &parts[2], honest.as_bytes()).is_err());
            for (file, bytes) in FILES.iter().zip(&parts) {
                card.files.insert((*file).to_owned(), blake3::hash(bytes).to_hex().to_string());
            }
            let vouched = ron::to_string(&card).unwrap();
            let _ = Checkpoint::from_parts("m", &parts[0], &parts[1], &parts[2], vouched.as_bytes());
        }
    }
}
