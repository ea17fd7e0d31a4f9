//! [`LoadedAdapter`]: an adapter laid out for decoding. The sequences of a batch may have different ones, or none.

use super::Row;
use crate::error::{Error, Result};
use crate::model::adapter::Adapter;
use crate::model::{ModelConfig, TransformerConfig};
use crate::nn::kernels::{dot, vectorized};
use std::collections::BTreeSet;

/// The adapted parts of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

const PARTS: [(Part, &str); 7] = [
    (Part::Q, "self_attn.q_proj"),
    (Part::K, "self_attn.k_proj"),
    (Part::V, "self_attn.v_proj"),
    (Part::O, "self_attn.o_proj"),
    (Part::Gate, "mlp.gate_proj"),
    (Part::Up, "mlp.up_proj"),
    (Part::Down, "mlp.down_proj"),
];

/// `A [rank, in]` and `B [out, rank]`, the latter times alpha / rank.
struct Pair {
    a: Vec<f32>,
    b: Vec<f32>,
}

/// An adapter laid out for decoding. Immutable.
pub struct LoadedAdapter {
    hash: [u8; 32],
    rank: usize,
    layers: Vec<[Option<Pair>; 7]>,
}

impl LoadedAdapter {
    /// What tells it from others.
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Lays an adapter out for a model of this shape. Fails where it adapts what the model does not have.
    pub fn new(adapter: &Adapter, config: &ModelConfig) -> Result<Self> {
        let refused = |name: &str, reason: String| {
            Error::weights("adapter", name, reason, "use it with the model that it was trained on")
        };
        let ModelConfig::Transformer(config) = config else {
            return Err(refused("", "the model is recurrent, and adapters are for transformers".into()));
        };
        let scale = adapter.alpha / adapter.rank as f32;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&scale.to_le_bytes());
        for (name, (_, values)) in adapter.tensors() {
            hasher.update(name.as_bytes());
            values.iter().for_each(|value| {
                hasher.update(&value.to_le_bytes());
            });
        }
        let mut left: BTreeSet<&str> = adapter.tensors().keys().map(String::as_str).collect();
        let mut layers = Vec::new();
        for n in 0..config.num_hidden_layers {
            let mut layer = [const { None }; 7];
            for (part, name) in PARTS {
                let names = ["A", "B"].map(|side| format!("model.layers.{n}.{name}.lora_{side}.weight"));
                let [Some((a_shape, a)), Some((b_shape, b))] =
                    names.each_ref().map(|name| adapter.tensors().get(name))
                else {
                    continue;
                };
                names.iter().for_each(|name| {
                    left.remove(name.as_str());
                });
                let found = [b_shape[0], a_shape[1]];
                let wanted = shape(config, n, name);
                if wanted.as_deref() != Some(&found) {
                    return Err(refused(
                        &names[0],
                        format!("it is for {found:?}, and the model's weight is {wanted:?}"),
                    ));
                }
                layer[part as usize] = Some(Pair { a: a.clone(), b: b.iter().map(|b| scale * b).collect() });
            }
            layers.push(layer);
        }
        match left.first() {
            Some(name) => Err(refused(name, "the model has no such part to adapt".into())),
            None => Ok(Self { hash: *hasher.finalize().as_bytes(), rank: adapter.rank, layers }),
        }
    }

    /// Adds `B A x` to `out`, for a token.
    fn add(&self, layer: usize, part: Part, x: &[f32], out: &mut [f32]) {
        let Some(Pair { a, b }) = &self.layers[layer][part as usize] else { return };
        vectorized(
            #[inline(always)]
            || {
                let mut inner = [0.0; 64];
                // Ranks above 64 go in pieces; the order of additions is that of the ranks.
                for (n, a) in a.chunks(64 * x.len()).enumerate() {
                    let count = a.len() / x.len();
                    for (inner, a) in inner.iter_mut().zip(a.chunks_exact(x.len())) {
                        *inner = dot(a, x);
                    }
                    for (out, b) in out.iter_mut().zip(b.chunks_exact(self.rank)) {
                        *out += dot(&b[n * 64..n * 64 + count], &inner[..count]);
                    }
                }
            },
        );
    }
}

fn shape(config: &TransformerConfig, layer: usize, part: &str) -> Option<Vec<usize>> {
    let name = format!("model.layers.{layer}.{part}.weight");
    config.tensors().into_iter().find(|(other, _)| *other == name).map(|(_, shape)| shape)
}

/// Adds what the adapters of the rows change in a part: `x` and `out` hold the tokens of all rows, one after the other.
pub(super) fn add(rows: &[Row<'_>], layer: usize, part: Part, x: &[f32], out: &mut [f32]) {
    if rows.iter().all(|row| row.adapter.is_none()) {
        return;
    }
    let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
    let (inputs, outputs) = (x.len() / tokens, out.len() / tokens);
    let adapters = rows.iter().flat_map(|row| row.tokens.iter().map(|_| row.adapter));
    for ((x, out), adapter) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)).zip(adapters) {
        if let Some(adapter) = adapter {
            adapter.add(layer, part, x, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::model_config::tests::every;
    use crate::model::{Decoder, LoraConfig, Network, Scratch};
    use crate::seed::Seed;

    /// An adapter whose `B`s are not zero, as they are before training.
    fn adapter(config: &ModelConfig, weights: &crate::model::Weights, rank: usize, seed: u64) -> Adapter {
        let targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"].map(str::to_owned).to_vec();
        let lora = LoraConfig { rank, alpha: 2.0 * rank as f32, targets };
        let fresh = Network::with_adapter(config, weights, &lora, Seed::new(seed))
            .unwrap()
            .adapter()
            .unwrap()
            .unwrap();
        let mut noise = Seed::new(seed).stream();
        let tensors = fresh.tensors().iter().map(|(name, (shape, values))| {
            (name.clone(), (shape.clone(), values.iter().map(|_| 0.05 * noise.normal()).collect()))
        });
        Adapter::new(rank, fresh.alpha, "", tensors.collect()).unwrap()
    }

    #[test]
    fn each_sequence_of_a_batch_has_its_own_adapter() {
        for config in every() {
            let weights = Network::new(&config, Seed::new(1)).unwrap().weights().unwrap();
            let decoder = Decoder::new(&config, &weights).unwrap();
            let ModelConfig::Transformer(_) = &config else { continue };
            let adapters: Vec<Adapter> =
                [(4, 1), (70, 2)].map(|(rank, seed)| adapter(&config, &weights, rank, seed)).into();
            let loaded: Vec<LoadedAdapter> =
                adapters.iter().map(|adapter| LoadedAdapter::new(adapter, &config).unwrap()).collect();
            let prompts: Vec<Vec<u32>> = (0..3).map(|n| (1..8 + n).map(|t| t * 7 % 290).collect()).collect();
            let using = [Some(&loaded[0]), Some(&loaded[1]), None];
            let (mut caches, mut logits) = (vec![decoder.cache(); 3], vec![Vec::new(); 3]);
            let mut rows: Vec<Row<'_>> = prompts
                .iter()
                .zip(&mut caches)
                .zip(&mut logits)
                .zip(using)
                .map(|(((tokens, cache), logits), adapter)| Row {
                    cache,
                    tokens,
                    logits,
                    all: false,
                    adapter,
                })
                .collect();
            decoder.forward(&mut rows, &mut Scratch::default()).unwrap();
            for n in 0..3 {
                // Alone: the very same. Merged into the weights: the same but for rounding.
                let run = |decoder: &Decoder, adapter| {
                    let (mut cache, mut out) = (decoder.cache(), Vec::new());
                    let row =
                        Row { cache: &mut cache, tokens: &prompts[n], logits: &mut out, all: false, adapter };
                    decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
                    out
                };
                assert_eq!(run(&decoder, using[n]), logits[n]);
                let merged = adapters.get(n).map_or(weights.clone(), |a| a.merge_into(&weights).unwrap());
                let expected = run(&Decoder::new(&config, &merged).unwrap(), None);
                let plain = run(&decoder, None);
                let far =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(far(&expected, &logits[n]) < 1e-3, "{}", far(&expected, &logits[n]));
                assert_eq!(far(&plain, &logits[n]) > 1e-3, n < 2);
            }
        }
    }

    #[test]
    fn an_adapter_of_another_model_is_refused() {
        let transformers: Vec<ModelConfig> =
            every().into_iter().filter(|config| matches!(config, ModelConfig::Transformer(_))).collect();
        let weights = Network::new(&transformers[0], Seed::new(1)).unwrap().weights().unwrap();
        let of_first = adapter(&transformers[0], &weights, 2, 1);
        let recurrent =
            every().into_iter().find(|config| matches!(config, ModelConfig::Recurrent(_))).unwrap();
        assert!(LoadedAdapter::new(&of_first, &recurrent).is_err());
        let mut larger = transformers[0].clone();
        if let ModelConfig::Transformer(config) = &mut larger {
            config.intermediate_size += 8;
        }
        let error = LoadedAdapter::new(&of_first, &larger).err().unwrap().to_string();
        assert!(error.contains("lora_A"), "{error}");
    }
}
