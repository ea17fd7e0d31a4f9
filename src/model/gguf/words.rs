//! How byte-level vocabularies cut a text into words, by llama.cpp's names.

use serde_json::{Value, json};

/// GPT-2's.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's: digits in threes.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's: digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// llama.cpp's own, one after the other.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2_OPEN, r"\p{N}+", r"[0-9][0-9][0-9]"];
/// As [`GPT2`], but for white space that no other part takes.
const GPT2_OPEN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// A way to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Gpt2,
    Llama3,
    Qwen2,
    SmolLm,
    Default,
}

const NAMES: [(&str, Way); 12] = [
    ("gpt-2", Way::Gpt2),
    ("llama-bpe", Way::Llama3),
    ("qwen2", Way::Qwen2),
    ("smollm", Way::SmolLm),
    ("default", Way::Default),
    ("gpt2", Way::Gpt2),
    ("phi-2", Way::Gpt2),
    ("llama3", Way::Llama3),
    ("llama-v3", Way::Llama3),
    ("falcon3", Way::Llama3),
    ("deepseek-r1-qwen", Way::Qwen2),
    ("starcoder", Way::SmolLm),
];

/// Whether a text begins with `bos` where the file does not say so.
pub(super) fn begins_texts(pre: &str) -> bool {
    Way::from_name(pre) == Some(Way::Llama3)
}

impl Way {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, way)| *way)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, way)| *way == self).map_or("default", |(name, _)| name)
    }

    pub(super) fn normalizer(self) -> Value {
        if self == Self::Qwen2 { json!({ "type": "NFC" }) } else { Value::Null }
    }

    pub(super) fn pre_tokenizer(self) -> Value {
        let bytes = |words: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": words });
        let cut = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let parts = match self {
            Self::Gpt2 => return bytes(true),
            Self::Llama3 => vec![cut(LLAMA3), bytes(false)],
            Self::Qwen2 => vec![cut(QWEN2), bytes(false)],
            Self::SmolLm => vec![json!({ "type": "Digits", "individual_digits": true }), bytes(true)],
            Self::Default => DEFAULT.into_iter().map(cut).chain([bytes(false)]).collect(),
        };
        json!({ "type": "Sequence", "pretokenizers": parts })
    }

    /// Which way a `tokenizer.json` cuts, if it is one of these.
    pub(super) fn of(pre_tokenizer: &Value, normalizer: &Value) -> Option<Self> {
        let parts = match &pre_tokenizer["pretokenizers"] {
            Value::Array(parts) => parts.as_slice(),
            _ => std::slice::from_ref(pre_tokenizer),
        };
        let bytes =
            parts.last().filter(|last| last["type"] == "ByteLevel" && last["add_prefix_space"] != true)?;
        let words = bytes["use_regex"] != false;
        let way = match &parts[..parts.len() - 1] {
            [] if words => Self::Gpt2,
            [digits] if words && digits["type"] == "Digits" && digits["individual_digits"] == true => {
                Self::SmolLm
            }
            cuts if !words => {
                let pattern = |cut: &Value| cut["pattern"]["Regex"].as_str().map(str::to_owned);
                let found: Vec<String> = cuts.iter().filter_map(pattern).collect();
                match found.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    [GPT2] => Self::Gpt2,
                    [LLAMA3] => Self::Llama3,
                    [QWEN2] => Self::Qwen2,
                    ref all if *all == DEFAULT => Self::Default,
                    _ => return None,
                }
            }
            _ => return None,
        };
        (way.normalizer() == *normalizer).then_some(way)
    }
}
