//! Whole models in and out.

use super::*;
use crate::model::config::tests::tiny;
use crate::model::{Family, RopeScaling, TransformerConfig, Weights, weights_from_dir};
use std::path::Path;

/// A model that `transformers` saved.
fn saved(name: &str) -> (TransformerConfig, Weights) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/hugging_face").join(name);
    weights_from_dir(&path).unwrap()
}

fn converted(config: &TransformerConfig, weights: &Weights, to: Quantization) -> GgufFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let metadata = Metadata::new(path.display().to_string());
    model_to_gguf(&path, config, weights, to, metadata).unwrap();
    GgufFile::open(&path).unwrap()
}

/// Random weights, wide enough for the large blocks.
fn wide(family: Family, tied: bool) -> (TransformerConfig, Weights) {
    let config = TransformerConfig {
        family,
        hidden_size: 256,
        intermediate_size: 512,
        head_dim: 64,
        num_hidden_layers: 3,
        tie_word_embeddings: tied,
        ..tiny()
    };
    let network = crate::model::Network::new(&config.clone().into(), Seed::new(1)).unwrap();
    (config, network.weights().unwrap())
}

#[test]
fn a_model_survives_a_round_trip() {
    for name in ["llama", "llama_biases", "smollm2", "qwen2_bf16", "qwen3"] {
        let (config, weights) = saved(name);
        let (back, same) = converted(&config, &weights, Quantization::F32).model().unwrap();
        assert_eq!(back, config, "{name}");
        assert_eq!(same.hash(), weights.hash(), "{name}");
    }
}

#[test]
fn loading_says_how_far_it_is() {
    let (config, weights) = saved("qwen3");
    let told = std::cell::RefCell::new(Vec::new());
    let file = converted(&config, &weights, Quantization::F16);
    crate::model::Decoder::from_gguf_and(&file, &|done| told.borrow_mut().push(done)).unwrap();
    let told = told.into_inner();
    assert!(told.len() > 7 && told.is_sorted() && told[0] > 0.0, "{told:?}");
    assert_eq!(told.last(), Some(&1.0));
}

#[test]
fn a_llamas_queries_and_keys_are_stored_in_llama_cpps_order() {
    let (config, weights) = saved("llama");
    let file = converted(&config, &weights, Quantization::F32);
    let theirs = file.tensor("blk.0.attn_k.weight").unwrap().dequantize();
    let (_, ours) = weights.get("model.layers.0.self_attn.k_proj.weight").unwrap();
    let (width, half) = (config.hidden_size, config.head_dim / 2);
    // The two rows that turn together stand beside each other.
    assert_eq!(theirs[..width], ours[..width]);
    assert_eq!(theirs[width..2 * width], ours[half * width..(half + 1) * width]);
    let q = file.blocks(&config, "model.layers.1.self_attn.q_proj.weight").unwrap();
    assert_eq!(q.kind.dequantize(&q.data), weights.get("model.layers.1.self_attn.q_proj.weight").unwrap().1);
}

#[test]
fn quantized_models_are_near_and_mixed_as_llama_cpp_mixes() {
    for family in [Family::Llama, Family::Qwen3] {
        let (config, weights) = wide(family, family == Family::Llama);
        for (to, most) in [
            (Quantization::F16, 1e-3),
            (Quantization::Q8_0, 0.01),
            (Quantization::Q4_0, 0.12),
            (Quantization::Q4KM, 0.09),
        ] {
            let (back, read) = converted(&config, &weights, to).model().unwrap();
            assert_eq!(back, config);
            for ((name, _, a), (_, _, b)) in weights.iter().zip(read.iter()) {
                let size = a.iter().map(|x| x * x).sum::<f32>().sqrt();
                let off = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
                assert!(off <= most * size, "{to:?}, {name}: {}", off / size);
            }
        }
    }
    let (config, weights) = wide(Family::Llama, true);
    let file = converted(&config, &weights, Quantization::Q4KM);
    let kind = |name: &str| file.tensor(name).unwrap().kind;
    assert_eq!(kind("token_embd.weight"), TensorType::Q6K);
    assert_eq!(kind("blk.0.attn_q.weight"), TensorType::Q4K);
    assert_eq!(kind("blk.0.attn_v.weight"), TensorType::Q4K);
    assert_eq!(kind("blk.2.attn_v.weight"), TensorType::Q6K);
    assert_eq!(kind("blk.2.ffn_down.weight"), TensorType::Q6K);
    assert_eq!(kind("blk.2.ffn_norm.weight"), TensorType::F32);
    // Rows of 24 are no blocks at all.
    let (config, weights) = saved("smollm2");
    let file = converted(&config, &weights, Quantization::Q4KM);
    assert_eq!(file.tensor("blk.0.attn_q.weight").unwrap().kind, TensorType::F16);
}

#[test]
fn stretched_positions_survive() {
    let factors = (1..=32).map(|n| n as f32).collect();
    let llama3 = |length| RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: length,
    };
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 32,
        beta_fast: 30.0,
        beta_slow: 1.0,
        attention_factor: 1.25,
        truncate: true,
    };
    let (config, weights) = wide(Family::Llama, true);
    let read = |scaling: RopeScaling| {
        let config = TransformerConfig { rope_scaling: Some(scaling), ..config.clone() };
        converted(&config, &weights, Quantization::F16).config().unwrap()
    };
    let same = [RopeScaling::Linear { factor: 2.0 }, llama3(8192), RopeScaling::Factors(factors)];
    for scaling in same {
        assert_eq!(read(scaling.clone()).rope_scaling, Some(scaling));
    }
    let Some(RopeScaling::Yarn { attention_factor, beta_fast, .. }) = read(yarn).rope_scaling else {
        panic!("yarn was lost");
    };
    assert!((attention_factor - 1.25).abs() < 1e-6 && beta_fast == 30.0);
    // Numbers that are not the usual ones come back as what they compute.
    let back = read(llama3(100));
    let wanted = TransformerConfig { rope_scaling: Some(llama3(100)), ..config.clone() };
    let pairs = back.rotary_frequencies().0.into_iter().zip(wanted.rotary_frequencies().0);
    assert!(pairs.into_iter().all(|(a, b)| (a / b - 1.0).abs() < 1e-6));
}

/// The file with one value changed, or without it.
pub(super) fn changed(file: &GgufFile, key: &str, value: Option<MetadataValue>, skip: &str) -> GgufFile {
    let mut metadata = Metadata::new("m.gguf");
    for (name, value) in file.metadata().iter().filter(|(name, _)| *name != key) {
        metadata.insert(name, value.clone());
    }
    if let Some(value) = value {
        metadata.insert(key, value);
    }
    let tensors: Vec<GgufOutput> = file
        .tensors()
        .filter(|(name, _)| *name != skip)
        .map(|(name, t)| GgufOutput { name: name.into(), kind: t.kind, shape: t.shape.to_vec() })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write_gguf(&path, &metadata, &tensors, |t| Ok(file.tensor(&t.name).unwrap().data.to_vec())).unwrap();
    GgufFile::open(Path::new(&path)).unwrap()
}

#[test]
fn what_is_no_model_of_ours_is_refused_by_name() {
    let (config, weights) = saved("llama");
    let file = converted(&config, &weights, Quantization::F32);
    let error =
        |key: &str, value, skip: &str| changed(&file, key, value, skip).model().unwrap_err().to_string();
    let u32 = |n| Some(MetadataValue::U32(n));
    for (key, value, said) in [
        ("general.architecture", Some("mamba".into()), "mamba"),
        ("llama.block_count", u32(300), "num_hidden_layers"),
        ("llama.block_count", u32(u32::MAX), "num_hidden_layers"),
        ("llama.block_count", u32(5), "missing"),
        ("llama.block_count", u32(1), "no such tensor"),
        ("llama.block_count", None, "llama.block_count"),
        ("llama.block_count", Some("two".into()), "llama.block_count"),
        ("llama.block_count", Some(MetadataValue::I32(-2)), "llama.block_count"),
        ("llama.embedding_length", u32(32), "output.weight"),
        ("split.count", u32(3), "llama-gguf-split"),
        ("llama.expert_count", u32(8), "expert"),
        ("llama.attention.sliding_window", u32(4), "sliding"),
        ("llama.rope.scaling.type", Some("longrope".into()), "longrope"),
        ("llama.rope.dimension_count", u32(2), "rope.dimension_count"),
        ("llama.attention.head_count", u32(0), "num_attention_heads"),
        ("llama.attention.head_count_kv", u32(3), "num_key_value_heads"),
    ] {
        let text = error(key, value, "");
        assert!(text.contains(said) && text.contains("m.gguf"), "{key}: {text}");
    }
    assert!(error("", None, "blk.1.ffn_up.weight").contains("blk.1.ffn_up.weight"));
    assert!(error("", None, "token_embd.weight").contains("token_embd.weight"));
    // One number for each layer is as good as one for all.
    let heads = MetadataArray::U32(vec![config.num_key_value_heads as u32; 2]);
    let file = changed(&file, "llama.attention.head_count_kv", Some(MetadataValue::Array(heads)), "");
    assert_eq!(file.model().unwrap().0, config);
}
