//! [`Base`]: a model that a training begins with.

use super::checkpoint::{CARD, Card, Checkpoint, FILES};
use super::gguf::GgufFile;
use super::hugging_face::weights_from_dir;
use super::model_config::ModelConfig;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::files::read_limited;
use crate::seed::Seed;
use crate::text::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;

/// A model that a training begins with.
#[derive(Clone)]
pub struct Base {
    /// Its shape.
    pub config: ModelConfig,
    /// Its weights.
    pub weights: Weights,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What it is, of a checkpoint of ours.
    pub card: Option<Card>,
}

impl Base {
    /// Reads a checkpoint of ours, a Hugging Face directory, or a GGUF file.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_file() {
            let file = GgufFile::open(path)?;
            let (config, weights) = file.model()?;
            let vocabulary = file.vocabulary()?.ok_or_else(|| Error::Vocabulary {
                file: path.display().to_string(),
                reason: "the base has no tokenizer".into(),
                remedy: "convert it again, with its vocabulary".into(),
            })?;
            return Ok(Self { config: config.into(), weights, tokenizer: vocabulary.tokenizer, card: None });
        }
        let dir = path;
        if dir.join(CARD).exists() {
            let Checkpoint { config, weights, tokenizer, card } = Checkpoint::load(dir)?;
            return Ok(Self { config, weights, tokenizer, card: Some(card) });
        }
        let (config, weights) = weights_from_dir(dir)?;
        let file = dir.join(FILES[2]);
        let bytes = read_limited(&file, 1 << 28, "read the base's tokenizer")?;
        let tokenizer = Tokenizer::from_bytes(&bytes, &file.display().to_string())?;
        Ok(Self { config: config.into(), weights, tokenizer, card: None })
    }

    /// The model with special tokens that it may not have yet, and how many were added. A new token begins as the mean of
    /// the others with a little noise, so that it is as likely as any and can be told from its like (Hewitt 2021).
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when the tokenizer takes no more tokens.
    pub fn with_tokens(self, tokens: &[String], seed: Seed) -> Result<(Self, usize)> {
        let tokenizer = self.tokenizer.with_specials(tokens)?;
        let added = tokens.iter().filter(|token| self.tokenizer.id(token).is_none()).count();
        let (old, new) = (self.config.vocab_size(), tokenizer.vocab_size());
        if new <= old {
            return Ok((Self { tokenizer, ..self }, added));
        }
        let mut config = self.config;
        match &mut config {
            ModelConfig::Transformer(config) => config.vocab_size = new,
            ModelConfig::Recurrent(config) => config.vocab_size = new,
        }
        let mut tensors = BTreeMap::new();
        for (name, shape, values) in self.weights.iter() {
            let (mut shape, mut values) = (shape.to_vec(), values.to_vec());
            if ["model.embed_tokens.weight", "lm_head.weight"].contains(&name) {
                let width = shape[1];
                let mean: Vec<f32> = (0..width)
                    .map(|i| values.iter().skip(i).step_by(width).sum::<f32>() / old.max(1) as f32)
                    .collect();
                let spread = (values.iter().map(|v| v * v).sum::<f32>() / values.len().max(1) as f32).sqrt();
                let mut noise = seed.derive("new tokens").derive(name).stream();
                for _ in old..new {
                    values.extend(mean.iter().map(|mean| mean + 0.1 * spread * noise.normal()));
                }
                shape[0] = new;
            }
            tensors.insert(name.to_owned(), (shape, values));
        }
        let weights = Weights::new(tensors)?;
        weights.check(&config.tensors(), "base").map_err(|e| Error::Vocabulary {
            file: "base".into(),
            reason: format!("it cannot take {added} new tokens: {e}"),
            remedy: "please report this with the base".into(),
        })?;
        Ok((Self { config, weights, tokenizer, card: self.card }, added))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use crate::model::model_config::tests::every;

    #[test]
    fn new_tokens_get_ids_and_rows_and_the_old_ones_stay() {
        let lines = ["the mill is by the river", "where is the mill"];
        let tokenizer = Tokenizer::train(lines.iter(), 300, &[]).unwrap();
        for config in every().into_iter().filter(|config| config.vocab_size() == 300) {
            let weights = Network::new(&config, Seed::new(1)).unwrap().weights().unwrap();
            let base = Base { config, weights: weights.clone(), tokenizer: tokenizer.clone(), card: None };
            let tokens: Vec<String> = (0..40).map(|n| format!("<voice:{n}>")).collect();
            let (grown, added) = base.with_tokens(&tokens, Seed::new(2)).unwrap();
            assert_eq!(added, 40);
            let last = grown.tokenizer.id("<voice:39>").unwrap() as usize;
            assert!(last < grown.config.vocab_size() && last >= tokenizer.vocab_size());
            assert_eq!(grown.tokenizer.encode("the mill").unwrap(), tokenizer.encode("the mill").unwrap());
            let rows = |weights: &Weights| weights.get("model.embed_tokens.weight").unwrap().1.to_vec();
            assert!(rows(&grown.weights).starts_with(&rows(&weights)));
            crate::model::Decoder::new(&grown.config, &grown.weights).unwrap();
            let (again, added) = grown.with_tokens(&tokens, Seed::new(2)).unwrap();
            assert_eq!((added, again.config.vocab_size()), (0, last + 1));
        }
    }
}
