//! A vocabulary, from a GGUF file's metadata and into it.
//!
//! Two kinds: `gpt2`, a byte-level BPE with merges; `llama`, `SentencePiece`'s BPE, whose merges follow from the tokens'
//! scores. Both become the `tokenizer.json` of the `tokenizers` crate.

use super::read::GgufFile;
use super::value::{Metadata, MetadataArray, MetadataValue};
use super::words;
use crate::error::{Error, Result};
use crate::text::{SPACE, SpecialTokens, Tokenizer};
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const PRE: &str = "tokenizer.ggml.pre";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
/// Tokens longer than this are not made by merging.
const LONGEST: usize = 512;

/// What `tokenizer.ggml.token_type` says of a token.
mod token_type {
    pub(super) const NORMAL: u64 = 1;
    pub(super) const UNKNOWN: u64 = 2;
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
    pub(super) const UNUSED: u64 = 5;
    pub(super) const BYTE: u64 = 6;
}

/// A model's vocabulary.
#[derive(Clone, Debug)]
pub struct GgufVocabulary {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Where a text begins and ends.
    pub special: SpecialTokens,
    /// How a conversation is laid out (Jinja).
    pub chat_template: Option<String>,
}

impl GgufFile {
    /// The vocabulary, if there is one.
    pub fn vocabulary(&self) -> Result<Option<GgufVocabulary>> {
        let metadata = self.metadata();
        let model = match metadata.text(MODEL)? {
            None | Some("no_vocab" | "none") => return Ok(None),
            Some(model) => model,
        };
        let tokens = Tokens::read(metadata)?;
        let pre = metadata.text(PRE)?.unwrap_or("default");
        let special = special(metadata, model == "llama" || words::begins_texts(pre), tokens.texts.len())?;
        let mut json = match model {
            "gpt2" => byte_level(metadata, &tokens, pre)?,
            "llama" => sentence_piece(metadata, &tokens, &special)?,
            other => {
                let reason = format!("the vocabulary's kind `{other}` is not supported");
                let remedy = "use a model with a `gpt2` or `llama` vocabulary";
                return Err(Error::config(self.name(), MODEL, reason, remedy));
            }
        };
        json["version"] = "1.0".into();
        json["added_tokens"] = tokens.added(&special).into();
        json["post_processor"] = around(&tokens, &special);
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes(), self.name())?;
        let chat_template = metadata.text(CHAT_TEMPLATE)?.map(str::to_owned);
        Ok(Some(GgufVocabulary { tokenizer, special, chat_template }))
    }
}

fn special(metadata: &Metadata, begins: bool, count: usize) -> Result<SpecialTokens> {
    let id = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        // Some files say "none" by the largest number.
        let Some(id) = metadata.count(&key)?.filter(|id| *id != u32::MAX as usize) else { return Ok(None) };
        if id >= count {
            return Err(metadata.wrong(&key, format!("{id} is none of the {count} tokens")));
        }
        Ok(Some(id as u32))
    };
    let add_bos = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(begins);
    Ok(SpecialTokens {
        bos: id("bos")?,
        eos: id("eos")?,
        eot: id("eot")?,
        unk: id("unknown")?,
        pad: id("padding")?,
        add_bos,
        add_eos: metadata.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
    })
}

/// The tokens and what they are.
struct Tokens {
    texts: Vec<String>,
    types: Vec<u64>,
}

impl Tokens {
    fn read(metadata: &Metadata) -> Result<Self> {
        let missing = || metadata.wrong(TOKENS, "the vocabulary has no tokens");
        let mut texts = metadata.texts(TOKENS)?.ok_or_else(missing)?.to_vec();
        for (id, text) in texts.iter_mut().enumerate().filter(|(_, text)| text.is_empty()) {
            *text = format!("[EMPTY_{id}]");
        }
        let types = metadata.counts(TYPES)?.unwrap_or_else(|| vec![token_type::NORMAL; texts.len()]);
        if types.len() != texts.len() {
            let reason = format!("{} types for {} tokens", types.len(), texts.len());
            return Err(metadata.wrong(TYPES, reason));
        }
        let mut seen = BTreeSet::new();
        if let Some(text) = texts.iter().find(|text| !seen.insert(text.as_str())) {
            return Err(metadata.wrong(TOKENS, format!("the token `{text}` is there twice")));
        }
        Ok(Self { texts, types })
    }

    fn vocab(&self) -> Map<String, Value> {
        self.texts.iter().enumerate().map(|(id, text)| (text.clone(), id.into())).collect()
    }

    /// Tokens that are found in a text before all others.
    fn added(&self, special: &SpecialTokens) -> Vec<Value> {
        let ends = [special.bos, special.eos, special.eot, special.unk, special.pad];
        let added = |(id, text): (usize, &String)| {
            let special = match self.types[id] {
                token_type::CONTROL | token_type::UNKNOWN => true,
                token_type::USER_DEFINED => false,
                _ if ends.contains(&Some(id as u32)) => true,
                _ => return None,
            };
            Some(json!({
                "id": id, "content": text, "special": special, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            }))
        };
        self.texts.iter().enumerate().filter_map(added).collect()
    }
}

/// What is put around a text that is encoded with special tokens.
fn around(tokens: &Tokens, special: &SpecialTokens) -> Value {
    let part = |id: u32| json!({ "SpecialToken": { "id": tokens.texts[id as usize], "type_id": 0 } });
    let [bos, eos] = [special.bos.filter(|_| special.add_bos), special.eos.filter(|_| special.add_eos)];
    let template = |sequences: &[&str]| -> Value {
        let each = sequences.iter().flat_map(|name| {
            let sequence = json!({ "Sequence": { "id": name, "type_id": 0 } });
            bos.map(part).into_iter().chain([sequence]).chain(eos.map(part))
        });
        each.collect()
    };
    let known = bos.iter().chain(eos.iter()).map(|id| {
        let text = &tokens.texts[*id as usize];
        (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] }))
    });
    let known: Map<String, Value> = known.collect();
    let (single, pair) = (template(&["A"]), template(&["A", "B"]));
    json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known })
}

fn byte_level(metadata: &Metadata, tokens: &Tokens, pre: &str) -> Result<Value> {
    let Some(way) = words::Way::from_name(pre) else {
        let reason = format!("the way to cut words `{pre}` is not supported");
        let remedy = "use a model whose vocabulary is cut as gpt-2, llama-bpe, qwen2 or smollm";
        return Err(Error::config(metadata.file(), PRE, reason, remedy));
    };
    let merges = metadata.texts(MERGES)?.ok_or_else(|| metadata.wrong(MERGES, "the merges are missing"))?;
    let pair = |merge: &String| -> Result<Value> {
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let at = at.ok_or_else(|| metadata.wrong(MERGES, format!("`{merge}` is no pair of tokens")))?;
        Ok(json!([merge[..at], merge[at + 1..]]))
    };
    let merges: Vec<Value> = merges.iter().map(pair).collect::<Result<_>>()?;
    Ok(json!({
        "normalizer": way.normalizer(),
        "pre_tokenizer": way.pre_tokenizer(),
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": way == words::Way::Llama3, "vocab": tokens.vocab(), "merges": merges,
        },
    }))
}

fn sentence_piece(metadata: &Metadata, tokens: &Tokens, special: &SpecialTokens) -> Result<Value> {
    let scores =
        metadata.numbers(SCORES)?.ok_or_else(|| metadata.wrong(SCORES, "the tokens' scores are missing"))?;
    if scores.len() != tokens.texts.len() {
        let reason = format!("{} scores for {} tokens", scores.len(), tokens.texts.len());
        return Err(metadata.wrong(SCORES, reason));
    }
    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let space = SPACE.to_string();
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": space });
    let back = json!({ "type": "Replace", "pattern": { "String": space }, "content": " " });
    let mut normalizers = vec![replace];
    let mut decoders = vec![back, json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    if prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": space }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let unknown = special.unk.map(|id| tokens.texts[id as usize].as_str());
    Ok(json!({
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": tokens.vocab(), "merges": merges(tokens, scores),
        },
    }))
}

/// Every way to make a token of two others, the best token first: what merges by score do, merges in this order do.
fn merges(tokens: &Tokens, scores: &[f32]) -> Vec<Value> {
    let mergeable = |id: &usize| matches!(tokens.types[*id], token_type::NORMAL | token_type::USER_DEFINED);
    let ids: HashMap<&str, usize> =
        (0..tokens.texts.len()).filter(mergeable).map(|id| (tokens.texts[id].as_str(), id)).collect();
    let mut best: Vec<usize> =
        (0..tokens.texts.len()).filter(mergeable).filter(|id| tokens.texts[*id].len() <= LONGEST).collect();
    best.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let mut merges = Vec::new();
    for id in best {
        let text = &tokens.texts[id];
        let cuts = text.char_indices().skip(1).filter_map(|(at, _)| {
            let (left, right) = text.split_at(at);
            Some((*ids.get(left)?, *ids.get(right)?))
        });
        let mut cuts: Vec<(usize, usize)> = cuts.collect();
        cuts.sort_unstable();
        merges.extend(cuts.into_iter().map(|(a, b)| json!([tokens.texts[a], tokens.texts[b]])));
    }
    merges
}

/// A vocabulary as metadata: `size` tokens, those that the tokenizer lacks as unused ones. Without a tokenizer the file
/// says so.
pub fn vocabulary_to_metadata(
    vocabulary: Option<&GgufVocabulary>,
    size: usize,
    metadata: &mut Metadata,
) -> Result<()> {
    let Some(GgufVocabulary { tokenizer, special, chat_template }) = vocabulary else {
        metadata.insert(MODEL, "no_vocab".into());
        return Ok(());
    };
    let json: Value = serde_json::from_slice(&tokenizer.to_bytes()?)
        .map_err(|e| Error::backend("writing the vocabulary", e))?;
    let refused = |reason: &str| Error::Vocabulary {
        file: metadata.file().to_owned(),
        reason: reason.to_owned(),
        remedy: "take tokenizer.json away to write the model without a vocabulary".into(),
    };
    if json["model"]["type"] != "BPE" {
        return Err(refused("llama.cpp reads no vocabulary but BPE"));
    }
    let by_score = json["model"]["byte_fallback"] == true;
    let way = words::Way::of(&json["pre_tokenizer"], &json["normalizer"]);
    if !by_score && way.is_none() {
        return Err(refused("llama.cpp has no way to cut words as this tokenizer does"));
    }
    let pair = |merge: &Value| match merge {
        Value::String(text) => text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        pair => Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())),
    };
    let merges: Vec<(String, String)> =
        json["model"]["merges"].as_array().into_iter().flatten().filter_map(pair).collect();
    let mut ranks = HashMap::new();
    for (rank, (a, b)) in merges.iter().enumerate() {
        ranks.entry(format!("{a}{b}")).or_insert(rank);
    }
    let listed = json["added_tokens"].as_array().into_iter().flatten();
    let added: HashMap<u64, bool> =
        listed.filter_map(|token| Some((token["id"].as_u64()?, token["special"] == true))).collect();
    let (mut texts, mut types, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..size {
        let token = u32::try_from(id).ok().and_then(|id| tokenizer.token(id));
        let byte = |text: &str| by_score && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let kind = match (&token, added.get(&(id as u64))) {
            (None, _) => token_type::UNUSED,
            (_, Some(_)) if special.unk == Some(id as u32) => token_type::UNKNOWN,
            (_, Some(true)) => token_type::CONTROL,
            (_, Some(false)) => token_type::USER_DEFINED,
            (Some(text), None) if byte(text) => token_type::BYTE,
            _ => token_type::NORMAL,
        };
        let text = token.unwrap_or_else(|| format!("[PAD{id}]"));
        let last = merges.len() + id;
        scores.push(if kind == token_type::NORMAL {
            -(*ranks.get(&text).unwrap_or(&last) as f32)
        } else {
            0.0
        });
        types.push(kind as i32);
        texts.push(text);
    }
    let list = |texts| MetadataValue::Array(MetadataArray::String(texts));
    metadata.insert(TOKENS, list(texts));
    metadata.insert(TYPES, MetadataValue::Array(MetadataArray::I32(types)));
    if by_score {
        metadata.insert(MODEL, "llama".into());
        metadata.insert(PRE, "default".into());
        metadata.insert(SCORES, MetadataValue::Array(MetadataArray::F32(scores)));
        let text = json["normalizer"].to_string() + &json["pre_tokenizer"].to_string();
        let prefix = ["\"Prepend\"", "\"first\"", "\"always\""].iter().any(|part| text.contains(part));
        metadata.insert("tokenizer.ggml.add_space_prefix", MetadataValue::Bool(prefix));
    } else {
        metadata.insert(MODEL, "gpt2".into());
        metadata.insert(PRE, way.map_or("default", words::Way::name).into());
        metadata.insert(MERGES, list(merges.into_iter().map(|(a, b)| format!("{a} {b}")).collect()));
    }
    let SpecialTokens { bos, eos, eot, unk, pad, add_bos, add_eos } = *special;
    let ids = [("bos", bos), ("eos", eos), ("eot", eot), ("unknown", unk), ("padding", pad)];
    for (name, id) in ids.into_iter().filter_map(|(name, id)| Some((name, id?))) {
        metadata.insert(format!("tokenizer.ggml.{name}_token_id"), MetadataValue::U32(id));
    }
    metadata.insert("tokenizer.ggml.add_bos_token", MetadataValue::Bool(add_bos));
    metadata.insert("tokenizer.ggml.add_eos_token", MetadataValue::Bool(add_eos));
    if let Some(template) = chat_template {
        metadata.insert(CHAT_TEMPLATE, template.as_str().into());
    }
    Ok(())
}
