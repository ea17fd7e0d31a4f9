//! Vocabularies in and out, beside those of other packages (`benches/peers/gguf_files.py`).

use super::*;
use std::collections::BTreeMap;

fn vocabulary(name: &str) -> GgufVocabulary {
    let path = format!("tests/data/gguf/vocabulary_{name}.gguf");
    let file = GgufFile::open(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    file.vocabulary().unwrap().unwrap()
}

/// A text, its ids, and the text that those stand for.
type Case = (String, Vec<u32>, String);

fn texts() -> BTreeMap<String, Vec<Case>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf/texts.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn texts_have_the_ids_that_the_vocabularys_own_package_gives() {
    for (name, cases) in texts() {
        let tokenizer = vocabulary(&name).tokenizer;
        for (text, ids, back) in cases {
            assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids), back, "{name}: {text:?}");
        }
    }
}

#[test]
fn vocabularies_survive_a_round_trip() {
    for (name, cases) in texts() {
        let before = vocabulary(&name);
        let (size, mut metadata) = (before.tokenizer.vocab_size(), Metadata::new("m.gguf"));
        vocabulary_to_metadata(Some(&before), size + 2, &mut metadata).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        write_gguf(&path, &metadata, &[], |_| Ok(vec![])).unwrap();
        let back = GgufFile::open(&path).unwrap().vocabulary().unwrap().unwrap();
        assert_eq!((back.special, back.chat_template), (before.special, before.chat_template), "{name}");
        assert_eq!(back.tokenizer.vocab_size(), size + 2);
        for (text, ids, _) in cases {
            assert_eq!(back.tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
        }
        for id in 0..size as u32 {
            assert_eq!(back.tokenizer.is_special(id), before.tokenizer.is_special(id), "{name}: {id}");
        }
    }
}

#[test]
fn a_character_of_many_tokens_comes_whole() {
    for name in ["llama", "qwen2"] {
        let tokenizer = vocabulary(name).tokenizer;
        let text = "so \u{1f600}\u{65e5}!";
        let mut stream = tokenizer.stream();
        let parts: Vec<String> = tokenizer.encode(text).unwrap().iter().map(|id| stream.push(*id)).collect();
        assert!(parts.iter().filter(|part| part.is_empty()).count() >= 3, "{name}: {parts:?}");
        assert!(!parts.concat().contains(char::REPLACEMENT_CHARACTER));
        assert_eq!(parts.concat() + &stream.finish(), text);
    }
}

#[test]
fn special_tokens_are_known() {
    let llama = vocabulary("llama");
    let special = &llama.special;
    assert_eq!((special.unk, special.bos, special.eos), (Some(0), Some(1), Some(2)));
    assert_eq!(special.around(vec![9]), [1, 9]);
    assert!(llama.chat_template.unwrap().contains("bos_token"));
    assert!(llama.tokenizer.is_special(1) && !llama.tokenizer.is_special(300));
    let gpt2 = vocabulary("gpt2");
    let end = gpt2.tokenizer.id("<|end|>");
    assert_eq!(gpt2.special, crate::text::SpecialTokens { eos: end, ..Default::default() });
    let json = gpt2.special.to_json(&gpt2.tokenizer);
    let null = serde_json::Value::Null;
    assert_eq!(crate::text::SpecialTokens::from_json(&json, &null, &gpt2.tokenizer), gpt2.special);
    let config = serde_json::json!({ "eos_token_id": [end, 3], "bos_token_id": 4000 });
    assert_eq!(crate::text::SpecialTokens::from_json(&null, &config, &gpt2.tokenizer), gpt2.special);
}

#[test]
fn what_is_no_vocabulary_of_ours_is_refused_by_name() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf/vocabulary_llama.gguf");
    let file = GgufFile::open(&path).unwrap();
    let read =
        |key: &str, value: Option<MetadataValue>| super::models::changed(&file, key, value, "").vocabulary();
    let error = |key, value| read(key, Some(value)).unwrap_err().to_string();
    let texts = |all: &[&str]| {
        MetadataValue::Array(MetadataArray::String(all.iter().map(|t| (*t).to_owned()).collect()))
    };
    assert!(error("tokenizer.ggml.model", "bert".into()).contains("bert"));
    assert!(error("tokenizer.ggml.tokens", texts(&["a"])).contains("types"));
    assert!(error("tokenizer.ggml.tokens", MetadataValue::U8(1)).contains("tokenizer.ggml.tokens"));
    assert!(error("tokenizer.ggml.eos_token_id", MetadataValue::U32(4000)).contains("4000"));
    assert!(
        error("tokenizer.ggml.scores", MetadataValue::Array(MetadataArray::F32(vec![]))).contains("scores")
    );
    assert!(error("tokenizer.ggml.model", "gpt2".into()).contains("merges"));
    assert!(read("tokenizer.ggml.model", None).unwrap().is_none());
    assert!(read("tokenizer.ggml.model", Some("no_vocab".into())).unwrap().is_none());
    let twice = vec!["a"; vocabulary("llama").tokenizer.vocab_size()];
    assert!(error("tokenizer.ggml.tokens", texts(&twice)).contains("twice"));
    let path = path.with_file_name("vocabulary_gpt2.gguf");
    let file = GgufFile::open(&path).unwrap();
    let error = |key, value| {
        super::models::changed(&file, key, Some(value), "").vocabulary().unwrap_err().to_string()
    };
    assert!(error("tokenizer.ggml.pre", "gpt-99".into()).contains("gpt-99"));
    assert!(error("tokenizer.ggml.merges", texts(&["ab"])).contains("no pair"));
    assert!(error("tokenizer.ggml.merges", texts(&["zz yy"])).contains("m.gguf"));
    let characters = GgufVocabulary {
        tokenizer: crate::text::Tokenizer::characters("abc").unwrap(),
        special: Default::default(),
        chat_template: None,
    };
    let refused = vocabulary_to_metadata(Some(&characters), 6, &mut Metadata::new("m.gguf"));
    assert!(refused.unwrap_err().to_string().contains("BPE"));
}
