//! The layers of a transformer.

use super::adapted::{self, Part};
use super::{KvCache, Linear, Row, Scratch, Source, add};
use crate::error::Result;
use crate::model::config::{Activation, TransformerConfig};
use crate::nn::kernels::attention::{Query, attend};
use crate::nn::kernels::{dot, erf, sigmoid, sum, tanh, vectorized};
use rayon::prelude::*;

/// A norm's weight, and its bias where it has one.
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn of(source: &Source<'_>, name: &str) -> Result<Self> {
        let part = |part: &str| source.vector(&format!("{name}.{part}"));
        Ok(Self { weight: part("weight")?, bias: part("bias")? })
    }
}

struct Layer {
    attention_norm: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// Of queries and keys; empty where there are none.
    head_norms: [Vec<f32>; 2],
    mlp_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

pub(super) struct Body {
    config: TransformerConfig,
    layers: Vec<Layer>,
    norm: Norm,
    /// Learned positions; empty where positions are rotations.
    positions: Vec<f32>,
    /// Cosine and sine for each position and frequency.
    rope: Vec<(f32, f32)>,
    /// In radians a token, and what cosines and sines are multiplied by.
    frequencies: (Vec<f64>, f32),
}

impl Body {
    pub(super) fn new(config: &TransformerConfig, source: &Source<'_>) -> Result<Self> {
        let layer = |n: usize| -> Result<Layer> {
            let name = |name: &str| format!("model.layers.{n}.{name}");
            let part = |part: &str| Linear::of(source, &name(part));
            let head_norm = |part: &str| source.vector(&name(part));
            Ok(Layer {
                attention_norm: Norm::of(source, &name("input_layernorm"))?,
                q: part("self_attn.q_proj")?,
                k: part("self_attn.k_proj")?,
                v: part("self_attn.v_proj")?,
                o: part("self_attn.o_proj")?,
                head_norms: [head_norm("self_attn.q_norm.weight")?, head_norm("self_attn.k_norm.weight")?],
                mlp_norm: Norm::of(source, &name("post_attention_layernorm"))?,
                gate: part("mlp.gate_proj")?,
                up: part("mlp.up_proj")?,
                down: part("mlp.down_proj")?,
            })
        };
        let half = config.head_dim / 2;
        // The same arithmetic as in training; long contexts are computed as they come.
        let positions = if config.rotary() { config.max_position_embeddings.min(8192) } else { 0 };
        let frequencies = config.rotary_frequencies();
        let rope = (0..positions)
            .flat_map(|p| (0..half).map(move |i| (p, i)))
            .map(|(p, i)| rotation_at(&frequencies, p, i))
            .collect();
        Ok(Self {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: Norm::of(source, "model.norm")?,
            positions: source.vector("model.embed_positions.weight")?,
            rope,
            frequencies,
            config: config.clone(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |layer: &Layer| {
            let Layer { q, k, v, o, gate, up, down, .. } = layer;
            [q, k, v, o, gate, up, down].map(Linear::bytes).iter().sum::<usize>()
        };
        self.layers.iter().map(of).sum()
    }

    /// From the embeddings in `s.x` to the last norm in `s.normed`.
    pub(super) fn forward(&self, rows: &mut [Row<'_>], s: &mut Scratch) {
        let config = &self.config;
        let head_dim = config.head_dim;
        let (q_width, kv_width) =
            (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
        if !self.positions.is_empty() {
            let width = config.hidden_size;
            let places = rows.iter().flat_map(|row| (0..row.tokens.len()).map(|i| row.cache.len() + i));
            for (x, place) in s.x.chunks_exact_mut(width).zip(places) {
                add(x, &self.positions[place * width..][..width]);
            }
        }
        for (n, layer) in self.layers.iter().enumerate() {
            self.normed(&layer.attention_norm, &s.x, &mut s.normed);
            let round = [&layer.q, &layer.k, &layer.v].into_iter().any(Linear::rounds);
            s.work.activations.set(&s.normed, config.hidden_size, round);
            let parts =
                [(Part::Q, &layer.q, &mut s.q), (Part::K, &layer.k, &mut s.k), (Part::V, &layer.v, &mut s.v)];
            for (part, linear, out) in parts {
                linear.apply(&mut s.work, out);
                adapted::add(rows, n, part, &s.normed, out);
            }
            for (heads, norm) in [&mut s.q, &mut s.k].into_iter().zip(&layer.head_norms) {
                if !norm.is_empty() {
                    heads
                        .chunks_exact_mut(head_dim)
                        .for_each(|head| scale_rms(head, norm, config.rms_norm_eps));
                }
            }
            s.attended.clear();
            s.attended.resize(s.q.len(), 0.0);
            let mut at = 0;
            for row in rows.iter_mut() {
                let start = row.cache.len();
                if config.rotary() {
                    for i in 0..row.tokens.len() {
                        self.rotate(&mut s.q[(at + i) * q_width..][..q_width], start + i);
                        self.rotate(&mut s.k[(at + i) * kv_width..][..kv_width], start + i);
                    }
                }
                for i in 0..row.tokens.len() {
                    let new = (at + i) * kv_width..(at + i + 1) * kv_width;
                    row.cache.set(n, start + i, &s.k[new.clone()], &s.v[new]);
                }
                at += row.tokens.len();
            }
            self.attend_all(rows, n, &s.q, &mut s.attended);
            layer.o.forward(&s.attended, &mut s.work, &mut s.projected);
            adapted::add(rows, n, Part::O, &s.attended, &mut s.projected);
            add(&mut s.x, &s.projected);
            self.normed(&layer.mlp_norm, &s.x, &mut s.normed);
            let round = layer.up.rounds() || layer.gate.rounds();
            s.work.activations.set(&s.normed, config.hidden_size, round);
            layer.up.apply(&mut s.work, &mut s.up);
            adapted::add(rows, n, Part::Up, &s.normed, &mut s.up);
            if config.activation == Activation::SwiGlu {
                layer.gate.apply(&mut s.work, &mut s.gate);
                adapted::add(rows, n, Part::Gate, &s.normed, &mut s.gate);
            }
            activate(config.activation, &s.gate, &mut s.up);
            layer.down.forward(&s.up, &mut s.work, &mut s.projected);
            adapted::add(rows, n, Part::Down, &s.up, &mut s.projected);
            add(&mut s.x, &s.projected);
        }
        self.normed(&self.norm, &s.x, &mut s.normed);
    }

    fn normed(&self, norm: &Norm, x: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(x);
        for row in out.chunks_exact_mut(norm.weight.len()) {
            if !self.config.layer_norms() {
                scale_rms(row, &norm.weight, self.config.rms_norm_eps);
                continue;
            }
            let width = row.len();
            vectorized(
                #[inline(always)]
                || {
                    let mean = sum(width, |i| row[i]) / width as f32;
                    let variance = sum(width, |i| (row[i] - mean) * (row[i] - mean)) / width as f32;
                    let scale = 1.0 / (variance + self.config.rms_norm_eps).sqrt();
                    row.iter_mut().zip(&norm.weight).for_each(|(x, w)| *x = (*x - mean) * scale * w);
                },
            );
            add(row, &norm.bias);
        }
    }

    fn rotate(&self, heads: &mut [f32], position: usize) {
        let half = self.config.head_dim / 2;
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let rotation = self.rope.get(position * half + i).copied();
                let (cos, sin) = rotation.unwrap_or_else(|| rotation_at(&self.frequencies, position, i));
                let (a, b) = (first[i], second[i]);
                first[i] = a * cos - b * sin;
                second[i] = b * cos + a * sin;
            }
        }
    }

    /// The attention of all new tokens, on the threads of the pool that this runs in: a sequence's tokens and heads with
    /// the same keys go together.
    fn attend_all(&self, rows: &[Row<'_>], layer: usize, q: &[f32], out: &mut [f32]) {
        let (dim, kv_heads) = (self.config.head_dim, self.config.num_key_value_heads);
        let heads = self.config.num_attention_heads;
        let groups = heads / kv_heads;
        // For each sequence and key head, the queries.
        let mut tasks: Vec<(&KvCache, usize, Vec<Query<'_>>)> = Vec::new();
        let mut queries = q.chunks_exact(dim).zip(out.chunks_exact_mut(dim));
        for row in rows {
            // A prompt is cut, so that all threads have something to do.
            for first in (0..row.tokens.len()).step_by(CUT) {
                let at = tasks.len();
                tasks.extend((0..kv_heads).map(|head| (&*row.cache, head, Vec::new())));
                for i in first..row.tokens.len().min(first + CUT) {
                    for head in 0..heads {
                        let Some((q, out)) = queries.next() else { return };
                        let length = row.cache.len() + i + 1;
                        tasks[at + head / groups].2.push(Query { q, length, out });
                    }
                }
            }
        }
        let each = |[floats, scores]: &mut [Vec<f32>; 2],
                    (cache, head, queries): &mut (&KvCache, usize, Vec<Query<'_>>)| {
            let length = queries.iter().map(|query| query.length).max().unwrap_or(0);
            attend(queries, &cache.head(layer, *head, length, floats), scores);
        };
        if tasks.len() == 1 || rayon::current_thread_index().is_none() {
            let mut space = [Vec::new(), Vec::new()];
            tasks.iter_mut().for_each(|task| each(&mut space, task));
        } else {
            tasks.par_iter_mut().for_each_init(Default::default, each);
        }
    }
}

/// So many tokens of a prompt go together.
const CUT: usize = 32;

/// Root-mean-square norm in place.
fn scale_rms(row: &mut [f32], weight: &[f32], eps: f32) {
    vectorized(
        #[inline(always)]
        || {
            let scale = 1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt();
            row.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * scale * w);
        },
    );
}

/// What stands between the two matrices of a feed-forward block, into `up`.
fn activate(activation: Activation, gate: &[f32], up: &mut [f32]) {
    const ROOT: f32 = 0.797_884_6;
    vectorized(
        #[inline(always)]
        || match activation {
            Activation::SwiGlu => up.iter_mut().zip(gate).for_each(|(up, g)| *up *= g * sigmoid(*g)),
            Activation::Gelu => {
                up.iter_mut().for_each(|x| *x *= 0.5 * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2)));
            }
            Activation::GeluTanh => {
                up.iter_mut().for_each(|x| *x *= 0.5 * (1.0 + tanh(ROOT * (*x + 0.044_715 * *x * *x * *x))));
            }
        },
    );
}

fn rotation_at((frequencies, scale): &(Vec<f64>, f32), position: usize, i: usize) -> (f32, f32) {
    let angle = position as f64 * frequencies[i];
    (angle.cos() as f32 * scale, angle.sin() as f32 * scale)
}
