use super::*;
use crate::model::{weights_from_dir, weights_to_files};
use crate::seed::Seed;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hugging_face").join(name)
}

/// An adapter of these parts of a fixture's model, each pair its own.
fn adapter(base: &str, parts: &[&str]) -> (TransformerConfig, Weights, Adapter) {
    let (config, weights) = weights_from_dir(&fixture(base)).unwrap();
    let mut noise = Seed::new(5).stream();
    let mut random = |shape: Vec<usize>| {
        let values = (0..shape.iter().product()).map(|_| noise.normal() * 0.3).collect();
        (shape, values)
    };
    let mut tensors = Tensors::new();
    for (name, shape) in config.tensors() {
        let Some(target) = name.strip_suffix(".weight").filter(|t| parts.iter().any(|p| t.ends_with(p)))
        else {
            continue;
        };
        tensors.insert(format!("{target}{A}"), random(vec![3, shape[1]]));
        tensors.insert(format!("{target}{B}"), random(vec![shape[0], 3]));
    }
    let adapter = Adapter::new(3, 5.0, weights.hash(), tensors).unwrap();
    (config, weights, adapter)
}

fn through_files(adapter: &Adapter, config: &TransformerConfig) -> Adapter {
    let dir = tempfile::tempdir().unwrap();
    adapter.save(dir.path(), config).unwrap();
    Adapter::load(dir.path()).unwrap()
}

#[test]
fn an_adapter_made_by_peft_merges_as_peft_merges_it() {
    for (base, name, targets) in
        [("llama", "peft_llama", 7), ("qwen3", "peft_qwen3_rslora", 2), ("gpt2", "peft_gpt2", 6)]
    {
        let (config, weights) = weights_from_dir(&fixture(base)).unwrap();
        let adapter = Adapter::load(&fixture(name)).unwrap();
        assert_eq!((adapter.rank, adapter.targets().len(), adapter.base_model.as_str()), (3, targets, base));
        let merged = adapter.merge_into(&weights).unwrap();
        let expected = fs::read(fixture(name).join("expected.safetensors")).unwrap();
        let expected = Weights::from_safetensors(&expected, name).unwrap();
        expected.check(&config.tensors(), name).unwrap();
        let mut changed = 0;
        for (tensor, _, values) in merged.iter() {
            let (_, theirs) = expected.get(tensor).unwrap();
            let far = values.iter().zip(theirs).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
            assert!(far < 2e-6, "{name}: {tensor} is {far} away");
            changed += usize::from(weights.get(tensor).unwrap().1 != values);
        }
        assert_eq!(changed, targets * config.num_hidden_layers, "{name}");
        // What came from peft goes back as it came.
        let again = through_files(&adapter, &config);
        assert_eq!(again.tensors(), adapter.tensors(), "{name}");
        let file = |adapter: &Adapter| adapter.to_files(&config).unwrap()[1].1.clone();
        let theirs = fs::read(fixture(name).join(TENSORS)).unwrap();
        let hash = |bytes: &[u8]| Weights::from_safetensors(bytes, name).unwrap().hash();
        assert_eq!(hash(&file(&again)), hash(&theirs), "{name}");
    }
}

#[test]
fn an_adapter_survives_its_files() {
    let gpt2 = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"];
    for (base, parts) in [
        ("llama", ["q_proj", "gate_proj"].as_slice()),
        ("smollm2", &["down_proj"]),
        ("gpt2", &gpt2),
        ("gpt2", &["o_proj", "down_proj"]),
    ] {
        let (config, _, adapter) = adapter(base, parts);
        assert_eq!(through_files(&adapter, &config), adapter, "{base}");
    }
    // In GPT-2's file a pair stands for queries, keys and values; those that were not adapted come back as nothing added.
    let (config, weights, adapter) = adapter("gpt2", &["q_proj"]);
    let back = through_files(&adapter, &config);
    assert_eq!(back.targets(), ["k_proj", "q_proj", "v_proj"].into());
    assert_eq!(back.merge_into(&weights).unwrap().hash(), adapter.merge_into(&weights).unwrap().hash());
}

#[test]
fn an_adapter_that_does_not_fit_says_where() {
    let (config, weights, good) = adapter("llama", &["q_proj", "down_proj"]);
    let name = "model.layers.0.mlp.down_proj.lora_A.weight";
    let make = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = good.tensors.clone();
        change(&mut tensors);
        Adapter::new(3, 5.0, "", tensors)
    };
    let error = |change: &dyn Fn(&mut Tensors)| make(change).unwrap_err().to_string();
    assert!(error(&|t| drop(t.remove(name))).contains("missing"));
    assert!(error(&|t| t.get_mut(name).unwrap().0 = vec![4, 15]).contains("rank 3"));
    assert!(error(&|t| t.get_mut(name).unwrap().1[7] = f32::INFINITY).contains("finite"));
    assert!(error(&|t| drop(t.insert("x".into(), (vec![1], vec![1.0])))).contains("`x`"));
    assert!(error(&Tensors::clear).contains("no tensor"));
    assert!(Adapter::new(0, 1.0, "", good.tensors.clone()).is_err());
    // What is whole may still be for another model.
    let renamed = make(&|t| {
        for side in [A, B] {
            let tensor = t.remove(&format!("model.layers.1.mlp.down_proj{side}")).unwrap();
            t.insert(format!("model.layers.9.mlp.down_proj{side}"), tensor);
        }
    });
    for error in [
        renamed.as_ref().unwrap().merge_into(&weights).err(),
        renamed.as_ref().unwrap().to_files(&config).err(),
    ] {
        assert!(error.unwrap().to_string().contains("model.layers.9.mlp.down_proj"));
    }
    let (_, other, _) = adapter("smollm2", &["q_proj"]);
    let error =
        Adapter { base_model: String::new(), ..good.clone() }.merge_into(&other).unwrap_err().to_string();
    assert!(error.contains("[16, 20]") && error.contains("[24, 20]"), "{error}");
    assert!(good.merge_into(&other).unwrap_err().to_string().contains("made for other weights"));
}

#[test]
fn what_is_no_plain_lora_is_refused_by_field() {
    let json = fs::read_to_string(fixture("peft_gpt2").join(CONFIG)).unwrap();
    let tensors = fs::read(fixture("peft_gpt2").join(TENSORS)).unwrap();
    let load = |json: &str| Adapter::from_bytes(json.as_bytes(), &tensors, [CONFIG, TENSORS]);
    load(&json).unwrap();
    for (from, to, field) in [
        ("\"LORA\"", "\"IA3\"", "peft_type"),
        ("\"none\"", "\"all\"", "bias"),
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora"),
        ("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save"),
        ("\"rank_pattern\": {}", "\"rank_pattern\": {\"c_fc\": 2}", "rank_pattern"),
        ("\"layer_replication\": null", "\"layer_replication\": [[0, 2]]", "layer_replication"),
        ("\"r\": 3", "\"r\": 18446744073709551615", "`r`"),
        ("\"r\": 3", "\"r\": 0", "`r`"),
        ("\"r\": 3", "\"r\": 4", "rank 4"),
        ("\"r\": 3", "\"r\": 1", "rank 1"),
        ("\"r\": 3", "\"r\": -3", "adapter_config.json:"),
    ] {
        assert!(json.contains(from), "{from}");
        let error = load(&json.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    assert!(Adapter::load(Path::new("/no/such")).unwrap_err().to_string().contains("check the path"));
}

/// For `benches/peers/peft_adapter.py check`.
#[test]
#[ignore = "writes folders for peft to read, into $SKALD_ADAPTERS"]
fn adapters_for_peft() {
    let to = PathBuf::from(std::env::var_os("SKALD_ADAPTERS").unwrap());
    let three = ["q_proj", "k_proj", "v_proj"];
    for (base, parts) in [
        ("llama", ["q_proj", "down_proj"].as_slice()),
        ("llama_biases", &["o_proj", "gate_proj"]),
        ("qwen2_bf16", &three),
        ("qwen3", &["k_proj", "up_proj"]),
        ("gpt2", &["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]),
        ("gpt2_bare", &["q_proj", "down_proj"]),
    ] {
        let (config, weights, adapter) = adapter(base, parts);
        let to = to.join(base);
        adapter.save(&to.join("adapter"), &config).unwrap();
        for (name, weights) in [("base", &weights), ("merged", &adapter.merge_into(&weights).unwrap())] {
            fs::create_dir_all(to.join(name)).unwrap();
            for (file, bytes) in weights_to_files(&config, weights, StoredAs::F32).unwrap() {
                fs::write(to.join(name).join(file), bytes).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn damaged_files_are_read_or_refused(config: bool, at: prop::sample::Index, byte: u8, cut: bool) {
        let mut parts = [CONFIG, TENSORS].map(|file| fs::read(fixture("peft_gpt2").join(file)).unwrap());
        let part = &mut parts[usize::from(!config)];
        let at = at.index(part.len());
        if cut { part.truncate(at) } else { part[at] = byte }
        if let Ok(adapter) = Adapter::from_bytes(&parts[0], &parts[1], [CONFIG, TENSORS]) {
            let (_, weights) = weights_from_dir(&fixture("gpt2")).unwrap();
            let _ = adapter.merge_into(&weights);
        }
    }
}
