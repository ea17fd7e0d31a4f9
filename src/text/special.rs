//! [`SpecialTokens`]: where a text begins and ends.

use super::tokenizer::{BASE_SPECIALS, Tokenizer};
use serde_json::Value;

/// The tokens that begin, end and fill a text, and which of them are put around one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn of a conversation, where that is another.
    pub eot: Option<u32>,
    /// Stands for what has no token.
    pub unk: Option<u32>,
    /// Fills a batch.
    pub pad: Option<u32>,
    /// Whether a text begins with `bos`.
    pub add_bos: bool,
    /// Whether a text ends with `eos`.
    pub add_eos: bool,
}

impl SpecialTokens {
    /// From Hugging Face's `tokenizer_config.json` (or null), then its `config.json` (or null), then the tokens that
    /// every tokenizer of ours has.
    pub fn from_json(tokenizer_config: &Value, config: &Value, tokenizer: &Tokenizer) -> Self {
        let find = |name: &str, ours: Option<&str>| {
            let token = &tokenizer_config[format!("{name}_token")];
            let said = token.as_str().or(token["content"].as_str()).and_then(|token| tokenizer.id(token));
            let id = &config[format!("{name}_token_id")];
            let number = id.as_u64().or(id[0].as_u64()).and_then(|id| u32::try_from(id).ok());
            said.or(number.filter(|id| tokenizer.token(*id).is_some())).or_else(|| tokenizer.id(ours?))
        };
        let [pad, bos, eos] = BASE_SPECIALS;
        Self {
            bos: find("bos", Some(bos)),
            eos: find("eos", Some(eos)),
            eot: None,
            unk: find("unk", None),
            pad: find("pad", Some(pad)),
            add_bos: tokenizer_config["add_bos_token"] == true,
            add_eos: tokenizer_config["add_eos_token"] == true,
        }
    }

    /// As the keys of `tokenizer_config.json`.
    pub fn to_json(&self, tokenizer: &Tokenizer) -> Value {
        let mut all = serde_json::Map::new();
        for (name, id) in [("bos", self.bos), ("eos", self.eos), ("unk", self.unk), ("pad", self.pad)] {
            if let Some(token) = id.and_then(|id| tokenizer.token(id)) {
                all.insert(format!("{name}_token"), token.into());
            }
        }
        all.insert("add_bos_token".into(), self.add_bos.into());
        all.insert("add_eos_token".into(), self.add_eos.into());
        all.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        all.insert("clean_up_tokenization_spaces".into(), false.into());
        Value::Object(all)
    }

    /// Ids of a text with what is put around it.
    pub fn around(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.bos.filter(|_| self.add_bos) {
            ids.insert(0, bos);
        }
        ids.extend(self.eos.filter(|_| self.add_eos));
        ids
    }
}
