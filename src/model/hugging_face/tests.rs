use super::*;
use crate::model::{Decoder, Row, Scratch};
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// Made by `benches/peers/hugging_face.py`.
const FIXTURES: [&str; 8] =
    ["llama", "llama_biases", "llama_sharded", "smollm2", "qwen2_bf16", "qwen3", "gpt2", "gpt2_bare"];

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hugging_face").join(name)
}

/// The ids and the logits after each.
fn expected(name: &str) -> (Vec<u32>, Vec<f32>) {
    let bytes = fs::read(fixture(name).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids =
        file.tensor("ids").unwrap().data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    (ids, decoded("logits", &file.tensor("logits").unwrap(), name).unwrap())
}

/// A copy of a fixture with its tensors changed.
fn changed(name: &str, change: impl FnOnce(&mut Tensors)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture(name).join(CONFIG), dir.path().join(CONFIG)).unwrap();
    let weights = Weights::from_safetensors(&fs::read(fixture(name).join(WHOLE)).unwrap(), name).unwrap();
    let mut tensors =
        weights.iter().map(|(name, s, v)| (name.to_owned(), (s.to_vec(), v.to_vec()))).collect();
    change(&mut tensors);
    let bytes = Weights::new(tensors).unwrap().to_safetensors(StoredAs::F32).unwrap();
    fs::write(dir.path().join(WHOLE), bytes).unwrap();
    dir
}

fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(dir.join(file)).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(dir.join(file), text.replace(from, to)).unwrap();
}

fn error(dir: &Path) -> String {
    weights_from_dir(dir).err().map_or_else(String::new, |error| error.to_string())
}

fn write(dir: &Path, files: Vec<(String, Vec<u8>)>) {
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn every_family_loads_with_our_names_and_shapes() {
    for name in FIXTURES {
        let (config, weights) = weights_from_dir(&fixture(name)).unwrap();
        weights.check(&config.tensors(), name).unwrap();
        let families = [
            ("llama", Family::Llama),
            ("smol", Family::Llama),
            ("qwen2", Family::Qwen2),
            ("qwen3", Family::Qwen3),
        ];
        let family =
            families.iter().find(|(start, _)| name.starts_with(start)).map_or(Family::Gpt2, |(_, f)| *f);
        assert_eq!(config.family, family, "{name}");
        assert_eq!(expected(name).1.len(), expected(name).0.len() * config.vocab_size);
    }
}

#[test]
fn the_logits_are_those_of_transformers() {
    for name in FIXTURES {
        let (config, weights) = weights_from_dir(&fixture(name)).unwrap();
        let decoder = Decoder::new(&config.into(), &weights).unwrap();
        let (ids, expected) = expected(name);
        let (mut cache, mut logits) = (decoder.cache(), Vec::new());
        let row = Row { cache: &mut cache, tokens: &ids, logits: &mut logits, all: true, adapter: None };
        decoder.forward(&mut [row], &mut Scratch::default()).unwrap();
        assert_eq!(logits.len(), expected.len());
        let far = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{name}: {far}");
    }
}

/// A wrong transpose or a swap of queries and keys cannot show in shapes.
#[test]
fn gpt2s_matrices_are_turned_and_parted() {
    let (config, ours) = weights_from_dir(&fixture("gpt2")).unwrap();
    let file = Weights::from_safetensors(&fs::read(fixture("gpt2").join(WHOLE)).unwrap(), "f").unwrap();
    let h = config.hidden_size;
    let (shape, fused) = file.get("transformer.h.1.attn.c_attn.weight").unwrap();
    assert_eq!(shape, [h, 3 * h]);
    for (part, name) in ["q_proj", "k_proj", "v_proj"].iter().enumerate() {
        let (_, values) = ours.get(&format!("model.layers.1.self_attn.{name}.weight")).unwrap();
        for (out, row) in values.chunks_exact(h).enumerate() {
            for (i, value) in row.iter().enumerate() {
                assert_eq!(*value, fused[i * 3 * h + part * h + out]);
            }
        }
    }
    let (_, up) = ours.get("model.layers.0.mlp.up_proj.weight").unwrap();
    let (_, theirs) = file.get("transformer.h.0.mlp.c_fc.weight").unwrap();
    assert_eq!(up[h], theirs[1]);
    assert_eq!(ours.get("model.norm.bias").unwrap().1, file.get("transformer.ln_f.bias").unwrap().1);
}

#[test]
fn what_is_written_is_what_transformers_wrote() {
    for name in FIXTURES {
        let (config, weights) = weights_from_dir(&fixture(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), weights_to_files(&config, &weights, StoredAs::F32).unwrap());
        let (again, back) = weights_from_dir(dir.path()).unwrap();
        assert_eq!((again, back.hash()), (config, weights.hash()), "{name}");
        if !["llama_sharded", "gpt2_bare"].contains(&name) {
            let read =
                |dir: &Path| Weights::from_safetensors(&fs::read(dir.join(WHOLE)).unwrap(), name).unwrap();
            assert_eq!(read(dir.path()).hash(), read(&fixture(name)).hash(), "{name}");
        }
    }
}

#[test]
fn a_gpt2_without_biases_is_written_with_zeros() {
    let dir = changed("gpt2", |tensors| tensors.retain(|name, _| !name.ends_with(".bias")));
    edit(dir.path(), CONFIG, "\"vocab_size\"", "\"skald_bias\": false, \"vocab_size\"");
    let (config, weights) = weights_from_dir(dir.path()).unwrap();
    assert!(!config.bias && weights.iter().all(|(name, ..)| !name.ends_with(".bias")));
    let written = tempfile::tempdir().unwrap();
    write(written.path(), weights_to_files(&config, &weights, StoredAs::F16).unwrap());
    let file = Weights::from_safetensors(&fs::read(written.path().join(WHOLE)).unwrap(), "f").unwrap();
    let (shape, zeros) = file.get("transformer.h.0.attn.c_attn.bias").unwrap();
    assert_eq!((shape, zeros), ([48].as_slice(), [0.0; 48].as_slice()));
    assert_eq!(file.iter().filter(|(name, ..)| name.ends_with(".bias")).count(), 13);
    assert!(weights_from_dir(written.path()).is_ok());
    // A bias that is something is not dropped in silence.
    let dir = changed("gpt2", |_| ());
    edit(dir.path(), CONFIG, "\"vocab_size\"", "\"skald_bias\": false, \"vocab_size\"");
    assert!(error(dir.path()).contains("skald_bias: false"), "{}", error(dir.path()));
}

#[test]
fn buffers_and_tied_heads_are_passed_over() {
    let buffer = || (vec![1, 1], vec![1.0]);
    let dir = changed("gpt2", |tensors| {
        tensors.insert("transformer.h.0.attn.bias".into(), buffer());
        tensors.insert("transformer.h.1.attn.masked_bias".into(), buffer());
        let head = tensors["transformer.wte.weight"].clone();
        tensors.insert("lm_head.weight".into(), head);
    });
    assert_eq!(error(dir.path()), "");
    let dir = changed("llama", |tensors| {
        tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), buffer());
    });
    assert_eq!(error(dir.path()), "");
    let dir = changed("smollm2", |tensors| {
        let mut head = tensors["model.embed_tokens.weight"].clone();
        head.1[0] += 1.0;
        tensors.insert("lm_head.weight".into(), head);
    });
    assert!(error(dir.path()).contains("tie_word_embeddings"), "{}", error(dir.path()));
}

#[test]
fn a_tensor_that_does_not_fit_is_named_with_its_file() {
    type Change = fn(&mut Tensors);
    let cases: [(&str, Change, &[&str]); 8] = [
        ("llama", |t| drop(t.remove("model.norm.weight")), &["missing", "`model.norm.weight`"]),
        ("llama", |t| drop(t.remove("lm_head.weight")), &["missing", "`lm_head.weight`"]),
        (
            "gpt2",
            |t| drop(t.remove("transformer.h.1.attn.c_attn.bias")),
            &["missing", "h.1.attn.c_attn.bias"],
        ),
        (
            "qwen3",
            |t| drop(t.insert("x.weight".into(), (vec![1], vec![0.0]))),
            &["no such tensor", "tensor `x.weight`"],
        ),
        (
            "llama",
            |t| drop(t.insert("model.norm.bias".into(), (vec![1], vec![0.0]))),
            &["no such", "norm.bias"],
        ),
        (
            "gpt2",
            |t| t.get_mut("transformer.h.0.mlp.c_fc.weight").unwrap().0.reverse(),
            &["[24, 16]", "[16, 24]"],
        ),
        (
            "llama",
            |t| t.get_mut("model.norm.weight").unwrap().1[3] = f32::NAN,
            &["value 3 is NaN", "model.norm"],
        ),
        (
            "llama",
            |t| drop(t.insert("norm.weight".into(), t["model.norm.weight"].clone())),
            &["also in", "norm.weight"],
        ),
    ];
    for (name, change, words) in cases {
        let dir = changed(name, change);
        let error = error(dir.path());
        assert!(words.iter().all(|word| error.contains(word)) && error.contains(WHOLE), "{error}");
    }
}

#[test]
fn one_file_of_bytes_is_read_like_a_directory() {
    let (config, weights) = weights_from_dir(&fixture("gpt2_bare")).unwrap();
    let bytes = fs::read(fixture("gpt2_bare").join(WHOLE)).unwrap();
    assert_eq!(weights_from_bytes(&config, &bytes, "w").unwrap().hash(), weights.hash());
    let error = weights_from_bytes(&config, &bytes[..9], "w").unwrap_err().to_string();
    assert!(error.contains("file is whole"), "{error}");
}

#[test]
fn heads_that_do_not_share_a_gpt2s_width_are_refused() {
    let dir = changed("gpt2", |_| ());
    edit(dir.path(), CONFIG, "\"n_head\": 4", "\"n_head\": 3");
    assert!(error(dir.path()).contains("`n_head`"), "{}", error(dir.path()));
}

#[test]
fn files_of_the_wrong_size_are_refused_before_they_are_read() {
    let dir = changed("llama", |_| ());
    edit(dir.path(), CONFIG, "\"vocab_size\": 29", "\"vocab_size\": 1000000");
    assert!(error(dir.path()).contains("bytes of weights"), "{}", error(dir.path()));
    let dir = changed("llama", |_| ());
    // A hole: it takes no disk.
    fs::File::create(dir.path().join(WHOLE)).unwrap().set_len(1 << 40).unwrap();
    assert!(error(dir.path()).contains("bytes of weights"), "{}", error(dir.path()));
    fs::remove_file(dir.path().join(WHOLE)).unwrap();
    assert!(error(dir.path()).contains("model.safetensors, check the path"), "{}", error(dir.path()));
    assert!(error(Path::new("/no/such/model")).contains("/no/such/model/config.json"));
}

fn sharded() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(fixture("llama_sharded")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

#[test]
fn an_index_names_files_beside_it_and_nothing_else() {
    for path in ["../x.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\\\\b", "C:x"] {
        let dir = sharded();
        edit(dir.path(), INDEX, "model-00001-of-00003.safetensors", path);
        let error = error(dir.path());
        assert!(
            error.contains("not the name of a file beside it") && error.contains("weight_map."),
            "{path}: {error}"
        );
    }
    let dir = sharded();
    edit(dir.path(), INDEX, "model-00001", "model-00009");
    assert!(error(dir.path()).contains("model-00009-of-00003.safetensors, check the path"));
    let dir = sharded();
    fs::write(dir.path().join(INDEX), "{\"weight_map\": {}}").unwrap();
    assert!(error(dir.path()).contains("no file is named"));
    fs::write(dir.path().join(INDEX), "{\n\"weight_map\": 3}").unwrap();
    assert!(error(dir.path()).contains("index.json:2"), "{}", error(dir.path()));
}

#[test]
fn shards_hold_what_their_index_says() {
    let dir = sharded();
    let shard = |n: usize| dir.path().join(format!("model-0000{n}-of-00003.safetensors"));
    let third = fs::read(shard(3)).unwrap();
    fs::copy(shard(2), shard(3)).unwrap();
    assert!(error(dir.path()).contains("the tensor is also in"), "{}", error(dir.path()));
    fs::write(shard(3), third).unwrap();
    edit(dir.path(), INDEX, "\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"model-00001");
    assert!(error(dir.path()).contains("not in model-00001-of-00003"), "{}", error(dir.path()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_damaged_directory_loads_or_is_refused(which in 0usize..3, at: prop::sample::Index, byte: u8, cut: bool) {
        let dir = sharded();
        let path = dir.path().join([CONFIG, INDEX, "model-00003-of-00003.safetensors"][which]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        fs::write(&path, &bytes).unwrap();
        if let Ok((config, weights)) = weights_from_dir(dir.path()) {
            weights.check(&config.tensors(), "w").unwrap();
        }
    }

    #[test]
    fn turning_twice_changes_nothing(rows in 1usize..40, width in 1usize..40) {
        let values: Vec<f32> = (0..rows * width).map(|n| n as f32).collect();
        let once = turned(&values, width);
        prop_assert!(width == 1 || rows == 1 || once != values);
        prop_assert_eq!(turned(&once, rows), values);
    }
}
