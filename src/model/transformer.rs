//! [`Transformer`]: a Llama-style network on candle's variables, which trains on a GPU. On the CPU there is
//! [`super::Network`].

use super::config::TransformerConfig;
use super::weights::Weights;
use crate::error::Result;
use crate::nn::{
    Mode, Tokens, attention, attention_mask, dropout, embedding, linear, rms_norm, rope, rope_table, swiglu,
};
use crate::seed::Seed;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;

/// A transformer whose parameters are variables. For inference there is [`super::Decoder`].
pub struct Transformer {
    config: TransformerConfig,
    vars: Vec<(String, Var)>,
    index: BTreeMap<String, usize>,
    device: Device,
}

impl Transformer {
    /// A fresh network: normal weights of deviation 0.02, those that write to the residual stream scaled
    /// down by the root of twice the number of layers (GPT-2), norms at 1.
    pub fn new(config: &TransformerConfig, seed: Seed, device: &Device) -> Result<Self> {
        config.validate("config")?;
        let residual = 0.02 / (2.0 * config.num_hidden_layers as f32).sqrt();
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let count = shape.iter().product();
            let values = if shape.len() == 1 {
                vec![1.0; count]
            } else {
                let deviation =
                    if name.contains("o_proj") || name.contains("down_proj") { residual } else { 0.02 };
                let mut noise = seed.derive("weights").derive(&name).stream();
                (0..count).map(|_| noise.normal() * deviation).collect()
            };
            tensors.insert(name, (shape, values));
        }
        Self::from_weights(config, &Weights::new(tensors)?, device)
    }

    /// A network with these weights.
    pub fn from_weights(config: &TransformerConfig, weights: &Weights, device: &Device) -> Result<Self> {
        config.validate("config")?;
        weights.check(&config.tensors(), "weights")?;
        let mut vars = Vec::new();
        for (name, shape, values) in weights.iter() {
            let tensor = Tensor::from_slice(values, shape, device)?;
            vars.push((name.to_owned(), Var::from_tensor(&tensor)?));
        }
        let index = vars.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        Ok(Self { config: config.clone(), vars, index, device: device.clone() })
    }

    /// The shape.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every parameter, sorted by name.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// A copy of the weights as they are now.
    pub fn weights(&self) -> Result<Weights> {
        let copy = |(name, var): &(String, Var)| {
            let values = var.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            Ok((name.clone(), (var.dims().to_vec(), values)))
        };
        Weights::new(self.vars.iter().map(copy).collect::<Result<_>>()?)
    }

    fn parameter(&self, name: &str) -> &Tensor {
        // `from_weights` has checked that every tensor of the config is there.
        self.vars[self.index[name]].1.as_tensor()
    }

    /// Logits `[rows, length, vocab]` of a packed batch.
    pub fn forward(&self, batch: &Tokens, mut mode: Mode<'_>) -> Result<Tensor> {
        let config = &self.config;
        let (rows, length) = batch.ids.dims2()?;
        let mode = &mut mode;
        let mask = attention_mask(&batch.segments, DType::F32)?.to_device(&self.device)?;
        let (frequencies, scale) = config.rotary_frequencies();
        let (cos, sin) = rope_table(&batch.positions, &frequencies, scale, DType::F32)?;
        let (cos, sin) = (cos.to_device(&self.device)?, sin.to_device(&self.device)?);
        let table = self.parameter("model.embed_tokens.weight");
        let mut x = dropout(&embedding(table, &batch.ids)?, mode)?;
        for layer in 0..config.num_hidden_layers {
            let part = |name: &str| self.parameter(&format!("model.layers.{layer}.{name}.weight"));
            let normed = rms_norm(&x, part("input_layernorm"), config.rms_norm_eps)?;
            let heads = |name: &str, count: usize| -> Result<Tensor> {
                let all = linear(&normed, part(name))?;
                Ok(all.reshape((rows, length, count, config.head_dim))?.transpose(1, 2)?)
            };
            let q = rope(&heads("self_attn.q_proj", config.num_attention_heads)?, &cos, &sin)?;
            let k = rope(&heads("self_attn.k_proj", config.num_key_value_heads)?, &cos, &sin)?;
            let v = heads("self_attn.v_proj", config.num_key_value_heads)?;
            let attended = attention(&q, &k, &v, &mask)?.transpose(1, 2)?.reshape((rows, length, ()))?;
            x = (&x + dropout(&linear(&attended, part("self_attn.o_proj"))?, mode)?)?;
            let normed = rms_norm(&x, part("post_attention_layernorm"), config.rms_norm_eps)?;
            let mlp = swiglu(&normed, part("mlp.gate_proj"), part("mlp.up_proj"), part("mlp.down_proj"))?;
            x = (&x + dropout(&mlp, mode)?)?;
        }
        let x = rms_norm(&x, self.parameter("model.norm.weight"), config.rms_norm_eps)?;
        let head = if config.tie_word_embeddings { table } else { self.parameter("lm_head.weight") };
        linear(&x, head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::{Decoder, Row, Scratch};
    use crate::nn::cross_entropy;

    fn batch(rows: &[Vec<(u32, u32, u32)>]) -> Tokens {
        let shape = (rows.len(), rows[0].len());
        let field = |f: fn(&(u32, u32, u32)) -> u32| {
            let values: Vec<u32> = rows.iter().flatten().map(f).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        Tokens { ids: field(|t| t.0), positions: field(|t| t.1), segments: field(|t| t.2) }
    }

    fn sample(seed: u64, length: usize, segment: u32) -> Vec<(u32, u32, u32)> {
        let mut noise = Seed::new(seed).stream();
        (0..length).map(|i| (noise.below(300) as u32, i as u32, segment)).collect()
    }

    fn configs() -> [TransformerConfig; 3] {
        let one = TransformerConfig { num_key_value_heads: 4, ..tiny() };
        [tiny(), one, TransformerConfig { tie_word_embeddings: false, ..tiny() }]
    }

    #[test]
    fn every_parameter_receives_a_gradient() {
        for config in configs() {
            let model = Transformer::new(&config, Seed::new(1), &Device::Cpu).unwrap();
            let batch = batch(&[sample(1, 12, 1)]);
            let mut noise = Seed::new(2).stream();
            let logits = model.forward(&batch, Mode::Train { dropout: 0.1, noise: &mut noise }).unwrap();
            let weights = Tensor::ones((1, 12), DType::F32, &Device::Cpu).unwrap();
            let loss = cross_entropy(&logits, &batch.ids, &weights, 0.0).unwrap();
            let grads = loss.backward().unwrap();
            for (name, var) in model.vars() {
                let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
                let size = grad.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(size > 0.0, "the gradient of {name} is zero");
            }
        }
    }

    #[test]
    fn training_and_inference_agree() {
        for config in configs() {
            let model = Transformer::new(&config, Seed::new(1), &Device::Cpu).unwrap();
            let decoder = Decoder::new(&config.clone().into(), &model.weights().unwrap()).unwrap();
            let tokens = sample(3, 20, 1);
            let logits = model.forward(&batch(std::slice::from_ref(&tokens)), Mode::Evaluate).unwrap();
            let logits = logits.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
            let ids: Vec<u32> = tokens.iter().map(|t| t.0).collect();
            let mut cache = decoder.cache();
            for (i, id) in ids.iter().enumerate() {
                let mut out = Vec::new();
                let row =
                    Row { cache: &mut cache, tokens: &[*id], logits: &mut out, all: false, adapter: None };
                decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
                for (a, b) in out.iter().zip(&logits[i]) {
                    assert!((a - b).abs() < 1e-4, "position {i}: {a} against {b}");
                }
            }
        }
    }

    #[test]
    fn packed_samples_do_not_see_each_other() {
        let model = Transformer::new(&tiny(), Seed::new(1), &Device::Cpu).unwrap();
        let (a, b) = (sample(3, 7, 1), sample(4, 5, 2));
        let logits =
            |rows: &[Vec<_>]| model.forward(&batch(rows), Mode::Evaluate).unwrap().squeeze(0).unwrap();
        let packed = logits(&[[a.clone(), b.clone()].concat()]);
        let difference = (packed.narrow(0, 7, 5).unwrap() - logits(&[b])).unwrap().abs().unwrap();
        assert!(difference.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5);
    }

    #[test]
    fn same_seed_same_weights() {
        let hash = |seed| {
            Transformer::new(&tiny(), Seed::new(seed), &Device::Cpu).unwrap().weights().unwrap().hash()
        };
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
