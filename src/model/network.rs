//! [`Network`]: the trainable model of every architecture, on the CPU's [`Tape`].

use super::adapter::Adapter;
use super::config::{Activation, TransformerConfig};
use super::model_config::{ModelConfig, RecurrentConfig};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::nn::tape::{Cell, Heads, RopeTable, Tape, Value};
use crate::nn::{ParameterId, Parameters};
use crate::seed::Seed;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A packed batch: rows of equal length, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Each token's position in its sample.
    pub positions: Vec<u32>,
    /// Where in its row each token's sample begins.
    pub starts: Vec<u32>,
    /// Tokens of a row.
    pub length: usize,
}

/// Dropout during one forward pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropout {
    /// The share of activations set to zero; 0 outside training.
    pub rate: f32,
    /// What is dropped is a function of this alone.
    pub seed: u64,
}

impl Dropout {
    fn apply(&mut self, tape: &mut Tape<'_>, x: Value) -> Value {
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        tape.dropout(x, self.rate, self.seed)
    }
}

/// A linear layer's parameters.
#[derive(Clone, Copy)]
struct Linear {
    weight: ParameterId,
    bias: Option<ParameterId>,
    lora: Option<Lora>,
}

/// What a low-rank adapter adds to a layer: `scale * B A x`.
#[derive(Clone, Copy)]
struct Lora {
    a: ParameterId,
    b: ParameterId,
    scale: f32,
}

/// Which low-rank adapter (`LoRA`, Hu et al. 2022).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of each `A`, columns of each `B`.
    pub rank: usize,
    /// Divided by the rank, how much of `B A` is added.
    pub alpha: f32,
    /// The layers' parts that are adapted: `q_proj`, `v_proj`, `down_proj`, ..
    pub targets: Vec<String>,
}

const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// Whether a parameter is part of an adapter.
fn is_lora(name: &str) -> bool {
    name.ends_with(A) || name.ends_with(B)
}

struct TransformerLayer {
    attention_norm: Linear,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    head_norms: Option<[ParameterId; 2]>,
    mlp_norm: Linear,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

enum Layers {
    Transformer {
        layers: Vec<TransformerLayer>,
        norm: Linear,
        positions: Option<ParameterId>,
        rope: Arc<RopeTable>,
    },
    Recurrent(Vec<[ParameterId; 4]>),
}

/// A model that learns. See the module's documentation.
pub struct Network {
    config: ModelConfig,
    parameters: Parameters,
    embedding: ParameterId,
    head: ParameterId,
    layers: Layers,
    adapter: Option<LoraConfig>,
}

impl Network {
    /// A fresh network. Transformers: normal weights of deviation 0.02, those that write to the residual stream scaled
    /// down by the root of twice the number of layers (GPT-2), norms at 1, biases at 0. Recurrent networks: uniform
    /// within the inverse root of the state's width, as in `PyTorch`, and the embedding as above.
    pub fn new(config: &ModelConfig, seed: Seed) -> Result<Self> {
        config.validate("config")?;
        let mut parameters = Parameters::default();
        for (name, shape) in config.tensors() {
            let values = fresh(config, &name, shape.iter().product(), shape.len(), seed);
            parameters.push(&name, &shape, &values);
        }
        Self::assemble(config, parameters, None)
    }

    /// A network with these weights.
    pub fn from_weights(config: &ModelConfig, weights: &Weights) -> Result<Self> {
        config.validate("config")?;
        weights.check(&config.tensors(), "weights")?;
        Self::assemble(config, Parameters::new(weights.iter()), None)
    }

    /// A network whose weights are frozen, with an adapter that learns: `A` uniform within the inverse root of what goes
    /// in, as in `peft`, and `B` zero, so that it computes the same at first.
    pub fn with_adapter(config: &ModelConfig, base: &Weights, lora: &LoraConfig, seed: Seed) -> Result<Self> {
        config.validate("config")?;
        base.check(&config.tensors(), "weights")?;
        let wrong =
            |field: &str, reason: String, remedy: &str| Err(Error::config("config", field, reason, remedy));
        if !(1..=1 << 14).contains(&lora.rank) || !lora.alpha.is_finite() {
            return wrong(
                "adapter.rank",
                "rank or alpha is out of range".into(),
                "choose a rank of 1 or more",
            );
        }
        let mut parameters = Parameters::new(base.iter());
        let adapted = |name: &str, target: &str| {
            name.ends_with(&format!(".{target}.weight")) && name.contains(".layers.")
        };
        for target in &lora.targets {
            let layers: Vec<(String, Vec<usize>)> = config
                .tensors()
                .into_iter()
                .filter(|(name, shape)| shape.len() == 2 && adapted(name, target))
                .collect();
            if layers.is_empty() {
                let reason = format!("the model has no layer `{target}`");
                return wrong(
                    "adapter.targets",
                    reason,
                    "choose q_proj, k_proj, v_proj, o_proj, up_proj, down_proj",
                );
            }
            for (name, shape) in layers {
                let name = name.trim_end_matches(".weight");
                let mut noise = seed.derive("adapter").derive(name).stream();
                let bound = 1.0 / (shape[1] as f32).sqrt();
                let a: Vec<f32> =
                    (0..lora.rank * shape[1]).map(|_| (2.0 * noise.uniform() - 1.0) * bound).collect();
                parameters.push(&format!("{name}{A}"), &[lora.rank, shape[1]], &a);
                parameters.push(
                    &format!("{name}{B}"),
                    &[shape[0], lora.rank],
                    &vec![0.0; shape[0] * lora.rank],
                );
            }
        }
        parameters.train_only(is_lora);
        Self::assemble(config, parameters, Some(lora.clone()))
    }

    fn assemble(config: &ModelConfig, parameters: Parameters, adapter: Option<LoraConfig>) -> Result<Self> {
        let find = |name: &str| -> Result<ParameterId> {
            let missing = || Error::weights("weights", name, "a tensor is missing", "please report this");
            parameters.id(name).ok_or_else(missing)
        };
        let linear = |name: &str| -> Result<Linear> {
            let scale = adapter.as_ref().map_or(0.0, |lora| lora.alpha / lora.rank as f32);
            let sides = [A, B].map(|side| parameters.id(&format!("{name}{side}")));
            let lora = if let [Some(a), Some(b)] = sides { Some(Lora { a, b, scale }) } else { None };
            let bias = parameters.id(&format!("{name}.bias"));
            Ok(Linear { weight: find(&format!("{name}.weight"))?, bias, lora })
        };
        let embedding = find("model.embed_tokens.weight")?;
        let head = parameters.id("lm_head.weight").unwrap_or(embedding);
        let layers = match config {
            ModelConfig::Transformer(config) => {
                let layer = |n: usize| -> Result<TransformerLayer> {
                    let part = |part: &str| linear(&format!("model.layers.{n}.{part}"));
                    Ok(TransformerLayer {
                        attention_norm: part("input_layernorm")?,
                        q: part("self_attn.q_proj")?,
                        k: part("self_attn.k_proj")?,
                        v: part("self_attn.v_proj")?,
                        o: part("self_attn.o_proj")?,
                        head_norms: if config.head_norms() {
                            Some([part("self_attn.q_norm")?.weight, part("self_attn.k_norm")?.weight])
                        } else {
                            None
                        },
                        mlp_norm: part("post_attention_layernorm")?,
                        gate: if config.activation == Activation::SwiGlu {
                            Some(part("mlp.gate_proj")?)
                        } else {
                            None
                        },
                        up: part("mlp.up_proj")?,
                        down: part("mlp.down_proj")?,
                    })
                };
                let rotations = if config.rotary() { config.max_position_embeddings } else { 0 };
                let (frequencies, scale) = config.rotary_frequencies();
                Layers::Transformer {
                    layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
                    norm: linear("model.norm")?,
                    positions: parameters.id("model.embed_positions.weight"),
                    rope: Arc::new(RopeTable::new(&frequencies, scale, rotations)),
                }
            }
            ModelConfig::Recurrent(config) => {
                let layer = |n: usize| -> Result<[ParameterId; 4]> {
                    let part = |part: &str| find(&format!("model.layers.{n}.{part}"));
                    Ok([
                        part("input_weight")?,
                        part("hidden_weight")?,
                        part("input_bias")?,
                        part("hidden_bias")?,
                    ])
                };
                Layers::Recurrent((0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?)
            }
        };
        Ok(Self { config: config.clone(), parameters, embedding, head, layers, adapter })
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Every parameter.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Every parameter, to change.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// A copy of the weights as they are now, with the adapter merged into them.
    pub fn weights(&self) -> Result<Weights> {
        let own = self.parameters.split_where(self.parameters.values(), |p| !is_lora(&p.name));
        let base = Weights::new(own)?;
        match self.adapter()? {
            Some(adapter) => adapter.merge_into(&base),
            None => Ok(base),
        }
    }

    /// A copy of the adapter as it is now, if there is one.
    pub fn adapter(&self) -> Result<Option<Adapter>> {
        let Some(lora) = &self.adapter else { return Ok(None) };
        let tensors = self.parameters.split_where(self.parameters.values(), |p| is_lora(&p.name));
        Adapter::new(lora.rank, lora.alpha, "", tensors).map(Some)
    }

    /// The output head `[vocab, width]`; often the embedding.
    pub fn head(&self) -> ParameterId {
        self.head
    }

    /// Logits `[tokens, vocab]` of a packed batch. Positions must be within the model's context.
    pub fn forward(&self, tape: &mut Tape<'_>, batch: &Packed, dropout: Dropout) -> Value {
        let x = self.hidden(tape, batch, dropout);
        tape.linear(x, self.head, None)
    }

    /// What the head reads: `[tokens, width]`.
    pub fn hidden(&self, tape: &mut Tape<'_>, batch: &Packed, mut dropout: Dropout) -> Value {
        let x = tape.embedding(self.embedding, &batch.ids);
        match (&self.config, &self.layers) {
            (ModelConfig::Transformer(config), Layers::Transformer { layers, norm, positions, rope }) => {
                let mut x = x;
                if let Some(table) = positions {
                    let places = tape.embedding(*table, &batch.positions);
                    x = tape.add(x, places, 1.0);
                }
                x = dropout.apply(tape, x);
                for layer in layers {
                    x = block(tape, config, layer, x, batch, rope, &mut dropout);
                }
                normed(tape, config, *norm, x)
            }
            (ModelConfig::Recurrent(RecurrentConfig { cell, .. }), Layers::Recurrent(layers)) => {
                let mut x = dropout.apply(tape, x);
                for layer in layers {
                    x = tape.recurrent(x, *cell, *layer, batch.length, &batch.starts);
                    x = dropout.apply(tape, x);
                }
                x
            }
            _ => x,
        }
    }
}

/// The values a parameter begins with.
fn fresh(config: &ModelConfig, name: &str, count: usize, rank: usize, seed: Seed) -> Vec<f32> {
    let mut noise = seed.derive("weights").derive(name).stream();
    match config {
        ModelConfig::Recurrent(config) if name.contains(".layers.") => {
            let width = config.hidden_size;
            let bound = 1.0 / (width as f32).sqrt();
            let mut values: Vec<f32> = (0..count).map(|_| (2.0 * noise.uniform() - 1.0) * bound).collect();
            // An LSTM begins by remembering (Jozefowicz et al. 2015).
            if config.cell == Cell::Lstm && name.ends_with("input_bias") {
                values[width..2 * width].iter_mut().for_each(|bias| *bias += 1.0);
            }
            values
        }
        _ if rank == 1 => vec![if name.ends_with(".bias") { 0.0 } else { 1.0 }; count],
        // As large as what the layers are made for; a head that is the embedding then begins near the uniform.
        ModelConfig::Recurrent(config) => {
            let deviation = 1.0 / (config.embedding_size as f32).sqrt();
            (0..count).map(|_| noise.normal() * deviation).collect()
        }
        ModelConfig::Transformer(config) => {
            let residual = 0.02 / (2.0 * config.num_hidden_layers as f32).sqrt();
            let deviation =
                if name.contains("o_proj") || name.contains("down_proj") { residual } else { 0.02 };
            (0..count).map(|_| noise.normal() * deviation).collect()
        }
    }
}

fn normed(tape: &mut Tape<'_>, config: &TransformerConfig, norm: Linear, x: Value) -> Value {
    if config.layer_norms() {
        tape.layer_norm(x, norm.weight, norm.bias, config.rms_norm_eps)
    } else {
        tape.rms_norm(x, norm.weight, config.rms_norm_eps)
    }
}

fn block(
    tape: &mut Tape<'_>,
    config: &TransformerConfig,
    layer: &TransformerLayer,
    x: Value,
    batch: &Packed,
    rope: &Arc<RopeTable>,
    dropout: &mut Dropout,
) -> Value {
    let of = |tape: &mut Tape<'_>, layer: Linear, x| {
        let y = tape.linear(x, layer.weight, layer.bias);
        let Some(Lora { a, b, scale }) = layer.lora else { return y };
        let low = tape.linear(x, a, None);
        let change = tape.linear(low, b, None);
        tape.add(y, change, scale)
    };
    let y = normed(tape, config, layer.attention_norm, x);
    let [mut q, mut k, v] = [layer.q, layer.k, layer.v].map(|projection| of(tape, projection, y));
    if let Some([q_norm, k_norm]) = layer.head_norms {
        q = tape.rms_norm(q, q_norm, config.rms_norm_eps);
        k = tape.rms_norm(k, k_norm, config.rms_norm_eps);
    }
    if config.rotary() {
        q = tape.rope(q, config.num_attention_heads, rope, &batch.positions);
        k = tape.rope(k, config.num_key_value_heads, rope, &batch.positions);
    }
    let heads = Heads {
        queries: config.num_attention_heads,
        keys: config.num_key_value_heads,
        dim: config.head_dim,
        length: batch.length,
    };
    let y = tape.attention([q, k, v], heads, &batch.starts);
    let y = of(tape, layer.o, y);
    let y = dropout.apply(tape, y);
    let x = tape.add(x, y, 1.0);
    let y = normed(tape, config, layer.mlp_norm, x);
    let up = of(tape, layer.up, y);
    let y = match layer.gate {
        Some(gate) => {
            let gate = of(tape, gate, y);
            tape.swiglu(gate, up)
        }
        None => tape.gelu(up, config.activation == Activation::Gelu),
    };
    let y = of(tape, layer.down, y);
    let y = dropout.apply(tape, y);
    tape.add(x, y, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::model_config::tests::every;
    use crate::model::{Decoder, Row, Scratch};
    use crate::nn::optim::OptimizerConfig;
    use crate::nn::tape::Pool;

    fn ids(seed: u64, length: usize) -> Vec<u32> {
        let mut noise = Seed::new(seed).stream();
        (0..length).map(|_| noise.below(300) as u32).collect()
    }

    fn alone(ids: Vec<u32>) -> Packed {
        let length = ids.len();
        Packed { positions: (0..length as u32).collect(), starts: vec![0; length], length, ids }
    }

    fn logits(network: &Network, batch: &Packed) -> Vec<f32> {
        let mut pool = Pool::default();
        let mut tape = Tape::new(network.parameters(), &mut pool);
        let logits = network.forward(&mut tape, batch, Dropout::default());
        tape.value(logits).to_vec()
    }

    #[test]
    fn every_parameter_receives_a_gradient() {
        for config in every() {
            let network = Network::new(&config, Seed::new(1)).unwrap();
            let mut pool = Pool::default();
            let mut grads = vec![0.0; network.parameters().len()];
            let batch = alone(ids(1, 64));
            let mut tape = Tape::new(network.parameters(), &mut pool);
            let logits = network.forward(&mut tape, &batch, Dropout { rate: 0.1, seed: 3 });
            let loss = tape.loss(logits, &ids(2, 64), 0.0);
            tape.backward(loss, &[1.0 / 64.0; 64], &mut grads);
            for parameter in network.parameters().list() {
                // A key's bias moves all scores of a query alike, which a softmax does not see.
                let blind = parameter.name.contains("k_proj.bias");
                let size: f32 = grads[parameter.range.clone()].iter().map(|g| g.abs()).sum();
                assert!(
                    size > 0.0 || blind,
                    "{}: the gradient of {} is zero",
                    config.architecture(),
                    parameter.name
                );
            }
        }
    }

    #[test]
    fn training_and_inference_agree() {
        for config in every() {
            let network = Network::new(&config, Seed::new(1)).unwrap();
            let decoder = Decoder::new(&config, &network.weights().unwrap()).unwrap();
            let tokens = ids(3, 20);
            let expected = logits(&network, &alone(tokens.clone()));
            let mut cache = decoder.cache();
            for (i, id) in tokens.iter().enumerate() {
                let mut out = Vec::new();
                let row =
                    Row { cache: &mut cache, tokens: &[*id], logits: &mut out, all: false, adapter: None };
                decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
                for (a, b) in out.iter().zip(&expected[i * 300..]) {
                    assert!((a - b).abs() < 1e-4, "{}, position {i}: {a} against {b}", config.architecture());
                }
            }
        }
    }

    #[test]
    fn packed_samples_do_not_see_each_other() {
        for config in every() {
            let network = Network::new(&config, Seed::new(1)).unwrap();
            let (a, b) = (ids(3, 7), ids(4, 5));
            let packed = Packed {
                ids: [a.clone(), b.clone()].concat(),
                positions: (0..7).chain(0..5).collect(),
                starts: [[0; 7].as_slice(), &[7; 5]].concat(),
                length: 12,
            };
            let whole = logits(&network, &packed);
            let apart = logits(&network, &alone(b));
            let far = whole[7 * 300..].iter().zip(&apart).any(|(a, b)| (a - b).abs() > 1e-5);
            assert!(!far, "{}", config.architecture());
        }
    }

    #[test]
    fn an_adapter_changes_nothing_at_first_learns_alone_and_merges() {
        for config in every().into_iter().filter(|config| matches!(config, ModelConfig::Transformer(_))) {
            let base = Network::new(&config, Seed::new(1)).unwrap().weights().unwrap();
            let lora = LoraConfig { rank: 3, alpha: 6.0, targets: vec!["q_proj".into(), "down_proj".into()] };
            let mut network = Network::with_adapter(&config, &base, &lora, Seed::new(2)).unwrap();
            let batch = alone(ids(1, 16));
            let plain = Network::from_weights(&config, &base).unwrap();
            assert_eq!(logits(&plain, &batch), logits(&network, &batch));
            let mut grads = vec![0.0; network.parameters().trainable()];
            assert!(grads.len() < base.parameters());
            let mut pool = Pool::default();
            let mut tape = Tape::new(network.parameters(), &mut pool);
            let out = network.forward(&mut tape, &batch, Dropout::default());
            let loss = tape.loss(out, &ids(2, 16), 0.0);
            tape.backward(loss, &[1.0; 16], &mut grads);
            drop(tape);
            let mut optimizer =
                crate::nn::FlatOptimizer::new(network.parameters(), OptimizerConfig::default());
            optimizer.step(network.parameters_mut(), &grads, 0.1, 1.0);
            let merged = network.weights().unwrap();
            assert_ne!(merged.hash(), base.hash());
            let merged = logits(&Network::from_weights(&config, &merged).unwrap(), &batch);
            let far = logits(&network, &batch).iter().zip(&merged).any(|(a, b)| (a - b).abs() > 1e-4);
            assert!(!far, "{}", config.architecture());
            let unknown = LoraConfig { targets: vec!["c_attn".into()], ..lora };
            let error =
                Network::with_adapter(&config, &base, &unknown, Seed::new(2)).err().unwrap().to_string();
            assert!(error.contains("c_attn"), "{error}");
        }
    }

    #[test]
    fn same_seed_same_weights() {
        for config in every() {
            let hash = |seed| Network::new(&config, Seed::new(seed)).unwrap().weights().unwrap().hash();
            assert_eq!(hash(1), hash(1));
            assert_ne!(hash(1), hash(2));
        }
    }
}
