//! [`Decoder`]: the inference network, in plain Rust on contiguous f32.
//!
//! Each row of weights is read once per step for all sequences of the batch. What a sequence gets does not
//! depend on the others: every number is computed by the same instructions in the same order, so results
//! are bit-identical alone, in any batch, and with the prompt in chunks of any size.

mod adapted;
mod cache;
mod linear;
mod recurrent;
mod transformer;

pub use adapted::LoadedAdapter;
use cache::Shape;
pub use cache::{KvCache, KvPage, KvType};
use linear::{Linear, Source, Told};

use super::gguf::GgufFile;
use super::model_config::ModelConfig;
use super::weights::Weights;
use crate::error::{Error, Result};
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
        Self::from_gguf_and(file, &|_| {})
    }

    /// The same, and calls `tell` after each matrix with how much is done, 0 to 1.
    pub fn from_gguf_and(file: &GgufFile, tell: &dyn Fn(f32)) -> Result<Self> {
        let config = file.config()?;
        file.check(&config)?;
        let told = Told::new(&config, tell);
        Self::from_source(&ModelConfig::Transformer(config.clone()), &Source::Gguf(file, &config, &told))
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

    /// An empty cache of 32-bit numbers.
    pub fn cache(&self) -> KvCache {
        self.cache_of(KvType::F32)
    }

    /// An empty cache.
    pub fn cache_of(&self, kind: KvType) -> KvCache {
        KvCache::new(self.cache_shape(kind))
    }

    fn cache_shape(&self, kind: KvType) -> Shape {
        match &self.config {
            ModelConfig::Transformer(config) => Shape {
                layers: config.num_hidden_layers,
                heads: config.num_key_value_heads,
                size: config.head_dim,
                kind,
            },
            ModelConfig::Recurrent(config) => Shape {
                layers: config.num_hidden_layers,
                heads: 1,
                size: config.hidden_size,
                kind: KvType::F32,
            },
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
        rows.iter_mut().for_each(|row| row.cache.reserve(row.tokens.len()));
        match &self.body {
            Body::Transformer(body) => body.forward(rows, s),
            Body::Recurrent(body) => body.forward(rows, s),
        }
        self.logits(rows, s);
        for row in rows {
            row.cache.grow(row.tokens.len());
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
            let needed = row.cache.len() + row.tokens.len();
            if needed > context {
                let reason = format!("{needed} tokens do not fit the context of {context}");
                return Err(Error::config("request", "tokens", reason, "shorten the prompt"));
            }
            if row.cache.shape() != self.cache_shape(row.cache.shape().kind) {
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
            let (bytes, whole) = (cache.bytes(), cache.clone());
            cache.truncate(10);
            assert_eq!((cache.len(), cache.bytes()), (10, bytes / 2));
            assert_eq!(feed(&mut cache, &tokens[10..]), alone(&decoder, &tokens, 20));
            // The clone shares pages, and what is fed to one does not change the other.
            cache.truncate(4);
            feed(&mut cache, &tokens[..7]);
            let (mut branch, page) = (decoder.cache(), whole.full_page(0).unwrap());
            assert!(branch.adopt(&page) && !cache.adopt(&page) && whole.full_page(1).is_none());
            assert_eq!(feed(&mut branch, &tokens[16..]), alone(&decoder, &tokens, 20));
            let page = whole.page_from_bytes(&KvCache::page_to_bytes(&page)).unwrap();
            let mut read = decoder.cache();
            assert!(read.adopt(&page) && whole.page_from_bytes(&[0; 12]).is_none());
            assert_eq!(feed(&mut read, &tokens[16..]), alone(&decoder, &tokens, 20));
        }
    }

    #[test]
    fn narrower_caches_are_near_and_do_not_depend_on_chunks() {
        let tokens = tokens(3, 40);
        for decoder in decoders() {
            for (kind, most) in [(KvType::F16, 0.02), (KvType::Q8, 0.1)] {
                let feed = |cache: &mut KvCache, tokens: &[u32], chunk: usize| {
                    let mut logits = Vec::new();
                    for tokens in tokens.chunks(chunk) {
                        let row = Row { cache, tokens, logits: &mut logits, all: false, adapter: None };
                        decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
                    }
                    logits
                };
                let mut cache = decoder.cache_of(kind);
                let (one, exact) = (feed(&mut cache, &tokens, 1), alone(&decoder, &tokens, 40));
                assert_eq!(one, feed(&mut decoder.cache_of(kind), &tokens, 40));
                assert!(one.iter().zip(&exact).all(|(a, b)| (a - b).abs() < most), "{kind:?}");
                // A page goes through bytes unchanged.
                let bytes = KvCache::page_to_bytes(&cache.full_page(0).unwrap());
                assert_eq!(bytes.len(), cache.page_bytes());
                let mut read = decoder.cache_of(kind);
                assert!(read.adopt(&cache.page_from_bytes(&bytes).unwrap()));
                assert_eq!(feed(&mut read, &tokens[16..], 7), one);
            }
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
