//! [`Decoder`]: the inference network, in plain Rust on contiguous f32.
//!
//! Each row of weights is read once per step for all sequences of the batch. What a sequence gets does not
//! depend on the others: every number is computed by the same instructions in the same order, so results
//! are bit-identical alone, in any batch, and with the prompt in chunks of any size.

mod adapted;
mod linear;
mod recurrent;
mod transformer;

pub use adapted::LoadedAdapter;
use linear::{Linear, Source};

use super::gguf::GgufFile;
use super::model_config::ModelConfig;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::nn::kernels::attention::POSITIONS;
use crate::nn::kernels::panels::{Activations, PanelMatrix};

/// The inference network. Immutable. Weights stand in memory as they are stored: f32, halves, or ggml's blocks.
pub struct Decoder {
    config: ModelConfig,
    embedding: PanelMatrix,
    /// None when it is the embedding.
    head: Option<PanelMatrix>,
    body: Body,
}

enum Body {
    Transformer(Box<transformer::Body>),
    Recurrent(recurrent::Body),
}

/// What a model remembers of a sequence: keys and values, or the states of a recurrent network. Grows as needed, up to
/// the model's context.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// Keys in blocks and values `[position, width]`, or states and cells, both `[position, width]`, for each layer.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    /// Whether these are keys.
    blocks: bool,
    width: usize,
    length: usize,
}

impl KvCache {
    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all but the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        for (keys, values) in &mut self.layers {
            let kept = if self.blocks { self.length.next_multiple_of(POSITIONS) } else { self.length };
            keys.truncate(kept * self.width);
            values.truncate(self.length * self.width);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|(keys, values)| (keys.len() + values.len()) * size_of::<f32>()).sum()
    }
}

/// One sequence's part of a step.
pub struct Row<'a> {
    /// What came before; the new tokens are added.
    pub cache: &'a mut KvCache,
    /// The new tokens, at least one.
    pub tokens: &'a [u32],
    /// Where the logits go: after the last token, `[vocab]`, or after each, `[tokens, vocab]`.
    pub logits: &'a mut Vec<f32>,
    /// Whether the logits after each token are wanted.
    pub all: bool,
    /// What changes the weights for this sequence.
    pub adapter: Option<&'a LoadedAdapter>,
}

/// Buffers that are used again from step to step.
#[derive(Default)]
pub struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    projected: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    work: Work,
}

/// What goes into a linear layer, and where its products are put together.
#[derive(Default)]
struct Work {
    activations: Activations,
    parts: Vec<f32>,
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

impl Decoder {
    /// Lays the weights out. Fails when they are not those of the config.
    pub fn new(config: &ModelConfig, weights: &Weights) -> Result<Self> {
        config.validate("config")?;
        weights.check(&config.tensors(), "weights")?;
        Self::from_source(config, &Source::Weights(weights))
    }

    /// Lays out the blocks of a GGUF file as they are. Fails when a tensor is missing or of another shape.
    pub fn from_gguf(file: &GgufFile) -> Result<Self> {
        let config = file.config()?;
        file.check(&config)?;
        Self::from_source(&ModelConfig::Transformer(config.clone()), &Source::Gguf(file, &config))
    }

    fn from_source(config: &ModelConfig, source: &Source<'_>) -> Result<Self> {
        let body = match config {
            ModelConfig::Transformer(config) => {
                Body::Transformer(Box::new(transformer::Body::new(config, source)?))
            }
            ModelConfig::Recurrent(config) => Body::Recurrent(recurrent::Body::new(config, source)?),
        };
        let name = "model.embed_tokens.weight";
        let missing = || Error::weights("weights", name, "a tensor is missing", "use another file");
        Ok(Self {
            embedding: source.matrix(name)?.ok_or_else(missing)?,
            head: source.matrix("lm_head.weight")?,
            body,
            config: config.clone(),
        })
    }

    /// Bytes of the weights in memory.
    pub fn bytes(&self) -> usize {
        let layers = match &self.body {
            Body::Transformer(body) => body.bytes(),
            Body::Recurrent(body) => body.bytes(),
        };
        self.embedding.bytes() + self.head.as_ref().map_or(0, PanelMatrix::bytes) + layers
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Tokens.
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size()
    }

    /// The longest context, in tokens.
    pub fn context(&self) -> usize {
        self.config.context()
    }

    /// An empty cache.
    pub fn cache(&self) -> KvCache {
        let (layers, width) = self.cache_shape();
        let blocks = matches!(self.config, ModelConfig::Transformer(_));
        KvCache { layers: vec![(Vec::new(), Vec::new()); layers], blocks, width, length: 0 }
    }

    /// Layers, and numbers a position.
    fn cache_shape(&self) -> (usize, usize) {
        match &self.config {
            ModelConfig::Transformer(config) => {
                (config.num_hidden_layers, config.num_key_value_heads * config.head_dim)
            }
            ModelConfig::Recurrent(config) => (config.num_hidden_layers, config.hidden_size),
        }
    }

    /// One step: feeds each row's tokens. On an error no cache has changed.
    pub fn forward(&self, rows: &mut [Row<'_>], scratch: &mut Scratch) -> Result<()> {
        self.check(rows)?;
        let width = self.embedding.inputs();
        let s = scratch;
        let tokens = || rows.iter().flat_map(|row| row.tokens);
        s.x.clear();
        s.x.resize(tokens().count() * width, 0.0);
        for (token, x) in tokens().zip(s.x.chunks_exact_mut(width)) {
            self.embedding.row(*token as usize, x);
        }
        match &self.body {
            Body::Transformer(body) => body.forward(rows, s),
            Body::Recurrent(body) => body.forward(rows, s),
        }
        self.logits(rows, s);
        for row in rows {
            row.cache.length += row.tokens.len();
        }
        Ok(())
    }

    fn check(&self, rows: &[Row<'_>]) -> Result<()> {
        let (vocab, context) = (self.vocab_size(), self.context());
        for row in rows {
            if row.tokens.is_empty() {
                return Err(Error::config(
                    "request",
                    "tokens",
                    "there is no token to feed",
                    "give at least one",
                ));
            }
            if let Some(token) = row.tokens.iter().find(|token| **token as usize >= vocab) {
                let reason = format!("the token {token} is not in the vocabulary of {vocab}");
                return Err(Error::config("request", "tokens", reason, "use the model's own tokenizer"));
            }
            let needed = row.cache.length + row.tokens.len();
            if needed > context {
                let reason = format!("{needed} tokens do not fit the context of {context}");
                return Err(Error::config("request", "tokens", reason, "shorten the prompt"));
            }
            if (row.cache.layers.len(), row.cache.width) != self.cache_shape() {
                let reason = "the cache belongs to a model of another shape";
                return Err(Error::config("request", "cache", reason, "make it with this model"));
            }
        }
        Ok(())
    }

    /// From the last layer's output, which stands in `s.normed`.
    fn logits(&self, rows: &mut [Row<'_>], s: &mut Scratch) {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let (vocab, width) = (head.outputs(), head.inputs());
        // Only the positions that are asked for go through the head.
        s.x.clear();
        let mut at = 0;
        for row in rows.iter() {
            let first = if row.all { 0 } else { row.tokens.len() - 1 };
            s.x.extend(&s.normed[(at + first) * width..(at + row.tokens.len()) * width]);
            at += row.tokens.len();
        }
        s.work.activations.set(&s.x, width, head.rounds());
        head.multiply_all(&s.work.activations, &mut s.projected, &mut s.work.parts);
        let mut at = 0;
        for row in rows {
            let count = if row.all { row.tokens.len() } else { 1 } * vocab;
            row.logits.clear();
            row.logits.extend(&s.projected[at..at + count]);
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use crate::model::model_config::tests::every;
    use crate::seed::Seed;

    /// One of every architecture.
    fn decoders() -> impl Iterator<Item = Decoder> {
        every().into_iter().map(|config| {
            let network = Network::new(&config, Seed::new(1)).unwrap();
            Decoder::new(&config, &network.weights().unwrap()).unwrap()
        })
    }

    fn tokens(seed: u64, length: usize) -> Vec<u32> {
        let mut noise = Seed::new(seed).stream();
        (0..length).map(|_| noise.below(300) as u32).collect()
    }

    fn alone(decoder: &Decoder, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let (mut cache, mut logits) = (decoder.cache(), Vec::new());
        for tokens in tokens.chunks(chunk) {
            let row = Row { cache: &mut cache, tokens, logits: &mut logits, all: false, adapter: None };
            decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
        }
        logits
    }

    #[test]
    fn chunks_do_not_change_a_bit() {
        let tokens = tokens(1, 33);
        for decoder in decoders() {
            for chunk in [1, 2, 7, 32] {
                assert_eq!(alone(&decoder, &tokens, 33), alone(&decoder, &tokens, chunk));
            }
        }
    }

    #[test]
    fn company_does_not_change_a_bit() {
        for decoder in decoders() {
            let inputs: Vec<Vec<u32>> = (0..9).map(|n| tokens(n, 1 + 5 * n as usize)).collect();
            let mut caches: Vec<KvCache> = inputs.iter().map(|_| decoder.cache()).collect();
            let mut logits = vec![Vec::new(); inputs.len()];
            let mut rows: Vec<Row<'_>> = inputs
                .iter()
                .zip(&mut caches)
                .zip(&mut logits)
                .map(|((tokens, cache), logits)| Row { cache, tokens, logits, all: false, adapter: None })
                .collect();
            decoder.forward(&mut rows, &mut Scratch::default()).unwrap();
            for (input, logits) in inputs.iter().zip(&logits) {
                assert_eq!(&alone(&decoder, input, 64), logits);
            }
        }
    }

    #[test]
    fn a_truncated_cache_goes_on_as_if_the_rest_had_never_been() {
        for decoder in decoders() {
            let tokens = tokens(1, 20);
            let (mut cache, mut logits) = (decoder.cache(), Vec::new());
            let mut feed = |cache: &mut KvCache, tokens: &[u32]| {
                let row = Row { cache, tokens, logits: &mut logits, all: false, adapter: None };
                decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
                logits.clone()
            };
            feed(&mut cache, &tokens);
            let bytes = cache.bytes();
            cache.truncate(10);
            assert_eq!((cache.len(), cache.bytes()), (10, bytes / 2));
            assert_eq!(feed(&mut cache, &tokens[10..]), alone(&decoder, &tokens, 20));
        }
    }

    #[test]
    fn what_cannot_be_fed_is_an_error_and_changes_nothing() {
        for decoder in decoders() {
            for bad in [vec![], vec![300], tokens(1, 65)] {
                let (mut cache, mut logits) = (decoder.cache(), Vec::new());
                let row =
                    Row { cache: &mut cache, tokens: &bad, logits: &mut logits, all: false, adapter: None };
                assert!(decoder.forward(&mut [row], &mut Scratch::default()).is_err());
                assert_eq!(cache.bytes(), 0);
            }
        }
    }
}
