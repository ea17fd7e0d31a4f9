//! [`Decoder`]: the inference network, in plain Rust on contiguous f32.
//!
//! Each row of weights is read once per step for all sequences of the batch. What a sequence gets does not
//! depend on the others: every number is computed by the same instructions in the same order, so results
//! are bit-identical alone, in any batch, and with the prompt in chunks of any size.

use super::config::TransformerConfig;
use super::weights::Weights;
use crate::error::{Error, Result};

/// The inference network. Immutable.
pub struct Decoder {
    config: TransformerConfig,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// Empty when it is the embedding.
    head: Vec<f32>,
    /// Cosine and sine for each position and frequency.
    rope: Vec<(f32, f32)>,
}

struct Layer {
    attention_norm: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    o: Vec<f32>,
    mlp_norm: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
}

/// The keys and values of a sequence. Grows as needed, up to the model's context.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// Keys then values, for each layer: `[position, kv_heads * head_dim]`.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
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
            keys.truncate(self.length * self.width);
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
    scores: Vec<f32>,
}

const LANES: usize = 16;

/// The dot product, in sixteen sums: a fixed order that the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `out[row] = weight x[row]` for every row: `weight [out, in]`, `x [rows, in]`. Each row of the weights
/// is read once.
fn matmul(weight: &[f32], x: &[f32], width: usize, out: &mut Vec<f32>) {
    let (outputs, rows) = (weight.len() / width, x.len() / width);
    out.clear();
    out.resize(rows * outputs, 0.0);
    for (o, w) in weight.chunks_exact(width).enumerate() {
        for (r, x) in x.chunks_exact(width).enumerate() {
            out[r * outputs + o] = dot(w, x);
        }
    }
}

fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut Vec<f32>) {
    out.clear();
    out.reserve(x.len());
    for row in x.chunks_exact(weight.len()) {
        let scale = 1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt();
        out.extend(row.iter().zip(weight).map(|(x, w)| x * scale * w));
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

impl Decoder {
    /// Lays the weights out. Fails when they are not those of the config.
    pub fn new(config: &TransformerConfig, weights: &Weights) -> Result<Self> {
        config.validate("config")?;
        weights.check(&config.tensors(), "weights")?;
        let get = |name: &str| weights.get(name).map_or_else(Vec::new, |(_, values)| values.to_vec());
        let layer = |n: usize| {
            let part = |name: &str| get(&format!("model.layers.{n}.{name}.weight"));
            Layer {
                attention_norm: part("input_layernorm"),
                q: part("self_attn.q_proj"),
                k: part("self_attn.k_proj"),
                v: part("self_attn.v_proj"),
                o: part("self_attn.o_proj"),
                mlp_norm: part("post_attention_layernorm"),
                gate: part("mlp.gate_proj"),
                up: part("mlp.up_proj"),
                down: part("mlp.down_proj"),
            }
        };
        let half = config.head_dim / 2;
        // The same arithmetic as in training; long contexts are computed as they come.
        let positions = config.max_position_embeddings.min(8192);
        let rope = (0..positions)
            .flat_map(|p| (0..half).map(move |i| (p, i)))
            .map(|(p, i)| rotation_at(config, p, i));
        Ok(Self {
            embedding: get("model.embed_tokens.weight"),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: get("model.norm.weight"),
            head: if config.tie_word_embeddings { Vec::new() } else { get("lm_head.weight") },
            rope: rope.collect(),
            config: config.clone(),
        })
    }

    /// The shape.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// An empty cache.
    pub fn cache(&self) -> KvCache {
        let width = self.config.num_key_value_heads * self.config.head_dim;
        KvCache { layers: vec![(Vec::new(), Vec::new()); self.layers.len()], width, length: 0 }
    }

    /// One step: feeds each row's tokens. On an error no cache has changed.
    pub fn forward(&self, rows: &mut [Row<'_>], scratch: &mut Scratch) -> Result<()> {
        let config = &self.config;
        self.check(rows)?;
        let (width, head_dim) = (config.hidden_size, config.head_dim);
        let (q_width, kv_width) =
            (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
        let s = scratch;
        s.x.clear();
        for token in rows.iter().flat_map(|row| row.tokens) {
            s.x.extend(&self.embedding[*token as usize * width..][..width]);
        }
        for (n, layer) in self.layers.iter().enumerate() {
            rms_norm(&s.x, &layer.attention_norm, config.rms_norm_eps, &mut s.normed);
            matmul(&layer.q, &s.normed, width, &mut s.q);
            matmul(&layer.k, &s.normed, width, &mut s.k);
            matmul(&layer.v, &s.normed, width, &mut s.v);
            s.attended.clear();
            s.attended.resize(s.q.len(), 0.0);
            let mut at = 0;
            for row in rows.iter_mut() {
                let start = row.cache.length;
                for i in 0..row.tokens.len() {
                    self.rotate(&mut s.q[(at + i) * q_width..][..q_width], start + i);
                    self.rotate(&mut s.k[(at + i) * kv_width..][..kv_width], start + i);
                }
                let new = at * kv_width..(at + row.tokens.len()) * kv_width;
                let (keys, values) = &mut row.cache.layers[n];
                keys.extend_from_slice(&s.k[new.clone()]);
                values.extend_from_slice(&s.v[new]);
                for i in 0..row.tokens.len() {
                    let (q, out) = (
                        &s.q[(at + i) * q_width..][..q_width],
                        &mut s.attended[(at + i) * q_width..][..q_width],
                    );
                    self.attend(q, keys, values, start + i + 1, out, &mut s.scores);
                }
                at += row.tokens.len();
            }
            matmul(&layer.o, &s.attended, q_width, &mut s.projected);
            add(&mut s.x, &s.projected);
            rms_norm(&s.x, &layer.mlp_norm, config.rms_norm_eps, &mut s.normed);
            matmul(&layer.gate, &s.normed, width, &mut s.gate);
            matmul(&layer.up, &s.normed, width, &mut s.up);
            for (gate, up) in s.gate.iter_mut().zip(&s.up) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
            matmul(&layer.down, &s.gate, config.intermediate_size, &mut s.projected);
            add(&mut s.x, &s.projected);
        }
        self.logits(rows, s);
        for row in rows {
            row.cache.length += row.tokens.len();
        }
        Ok(())
    }

    fn check(&self, rows: &[Row<'_>]) -> Result<()> {
        let config = &self.config;
        for row in rows {
            if row.tokens.is_empty() {
                return Err(Error::config(
                    "request",
                    "tokens",
                    "there is no token to feed",
                    "give at least one",
                ));
            }
            if let Some(token) = row.tokens.iter().find(|token| **token as usize >= config.vocab_size) {
                let reason = format!("the token {token} is not in the vocabulary of {}", config.vocab_size);
                return Err(Error::config("request", "tokens", reason, "use the model's own tokenizer"));
            }
            let needed = row.cache.length + row.tokens.len();
            if needed > config.max_position_embeddings {
                let reason =
                    format!("{needed} tokens do not fit the context of {}", config.max_position_embeddings);
                return Err(Error::config("request", "tokens", reason, "shorten the prompt"));
            }
            if row.cache.layers.len() != self.layers.len()
                || row.cache.width != config.num_key_value_heads * config.head_dim
            {
                let reason = "the cache belongs to a model of another shape";
                return Err(Error::config("request", "cache", reason, "make it with this model"));
            }
        }
        Ok(())
    }

    fn logits(&self, rows: &mut [Row<'_>], s: &mut Scratch) {
        let width = self.config.hidden_size;
        rms_norm(&s.x, &self.norm, self.config.rms_norm_eps, &mut s.normed);
        // Only the positions that are asked for go through the head.
        s.x.clear();
        let mut at = 0;
        for row in rows.iter() {
            let first = if row.all { 0 } else { row.tokens.len() - 1 };
            s.x.extend(&s.normed[(at + first) * width..(at + row.tokens.len()) * width]);
            at += row.tokens.len();
        }
        let head = if self.head.is_empty() { &self.embedding } else { &self.head };
        matmul(head, &s.x, width, &mut s.projected);
        let mut at = 0;
        for row in rows {
            let count = if row.all { row.tokens.len() } else { 1 } * self.config.vocab_size;
            row.logits.clear();
            row.logits.extend(&s.projected[at..at + count]);
            at += count;
        }
    }

    fn rotate(&self, heads: &mut [f32], position: usize) {
        let half = self.config.head_dim / 2;
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let rotation = self.rope.get(position * half + i).copied();
                let (cos, sin) = rotation.unwrap_or_else(|| rotation_at(&self.config, position, i));
                let (a, b) = (first[i], second[i]);
                first[i] = a * cos - b * sin;
                second[i] = b * cos + a * sin;
            }
        }
    }

    fn attend(
        &self,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        length: usize,
        out: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let dim = self.config.head_dim;
        let kv_width = self.config.num_key_value_heads * dim;
        let groups = self.config.num_attention_heads / self.config.num_key_value_heads;
        let scale = 1.0 / (dim as f32).sqrt();
        for (head, (q, out)) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let offset = head / groups * dim;
            scores.clear();
            scores.extend((0..length).map(|p| dot(q, &keys[p * kv_width + offset..][..dim]) * scale));
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                *score = (*score - max).exp();
                sum += *score;
            }
            for (p, score) in scores.iter().enumerate() {
                let weight = score / sum;
                let value = &values[p * kv_width + offset..][..dim];
                out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
}

fn rotation_at(config: &TransformerConfig, position: usize, i: usize) -> (f32, f32) {
    let frequency = f64::from(config.rope_theta).powf(-2.0 * i as f64 / config.head_dim as f64);
    let angle = position as f64 * frequency;
    (angle.cos() as f32, angle.sin() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transformer;
    use crate::model::config::tests::tiny;
    use crate::seed::Seed;
    use candle_core::Device;

    fn decoder() -> Decoder {
        let model = Transformer::new(&tiny(), Seed::new(1), &Device::Cpu).unwrap();
        Decoder::new(&tiny(), &model.weights().unwrap()).unwrap()
    }

    fn tokens(seed: u64, length: usize) -> Vec<u32> {
        let mut noise = Seed::new(seed).stream();
        (0..length).map(|_| noise.below(300) as u32).collect()
    }

    fn alone(decoder: &Decoder, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let (mut cache, mut logits) = (decoder.cache(), Vec::new());
        for tokens in tokens.chunks(chunk) {
            let row = Row { cache: &mut cache, tokens, logits: &mut logits, all: false };
            decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
        }
        logits
    }

    #[test]
    fn chunks_do_not_change_a_bit() {
        let decoder = decoder();
        let tokens = tokens(1, 33);
        for chunk in [1, 2, 7, 32] {
            assert_eq!(alone(&decoder, &tokens, 33), alone(&decoder, &tokens, chunk));
        }
    }

    #[test]
    fn company_does_not_change_a_bit() {
        let decoder = decoder();
        let inputs: Vec<Vec<u32>> = (0..9).map(|n| tokens(n, 1 + 5 * n as usize)).collect();
        let mut caches: Vec<KvCache> = inputs.iter().map(|_| decoder.cache()).collect();
        let mut logits = vec![Vec::new(); inputs.len()];
        let mut rows: Vec<Row<'_>> = inputs
            .iter()
            .zip(&mut caches)
            .zip(&mut logits)
            .map(|((tokens, cache), logits)| Row { cache, tokens, logits, all: false })
            .collect();
        decoder.forward(&mut rows, &mut Scratch::default()).unwrap();
        for (input, logits) in inputs.iter().zip(&logits) {
            assert_eq!(&alone(&decoder, input, 64), logits);
        }
    }

    #[test]
    fn a_truncated_cache_goes_on_as_if_the_rest_had_never_been() {
        let decoder = decoder();
        let tokens = tokens(1, 20);
        let (mut cache, mut logits) = (decoder.cache(), Vec::new());
        let mut feed = |cache: &mut KvCache, tokens: &[u32]| {
            let row = Row { cache, tokens, logits: &mut logits, all: false };
            decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
            logits.clone()
        };
        feed(&mut cache, &tokens);
        let bytes = cache.bytes();
        cache.truncate(10);
        assert_eq!((cache.len(), cache.bytes()), (10, bytes / 2));
        assert_eq!(feed(&mut cache, &tokens[10..]), alone(&decoder, &tokens, 20));
    }

    #[test]
    fn what_cannot_be_fed_is_an_error_and_changes_nothing() {
        let decoder = decoder();
        for bad in [vec![], vec![300], tokens(1, 65)] {
            let (mut cache, mut logits) = (decoder.cache(), Vec::new());
            let row = Row { cache: &mut cache, tokens: &bad, logits: &mut logits, all: false };
            assert!(decoder.forward(&mut [row], &mut Scratch::default()).is_err());
            assert_eq!(cache.bytes(), 0);
        }
    }
}
