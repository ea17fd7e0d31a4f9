//! A vocabulary as the files of a Hugging Face directory.

use super::vocabulary::GgufVocabulary;
use crate::error::{Error, Result};
use crate::files::read_limited;
use crate::text::{ChatTemplate, SpecialTokens, Tokenizer};
use serde_json::Value;
use std::path::Path;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

impl GgufVocabulary {
    /// Reads a directory's `tokenizer.json`, if there is one, with what `tokenizer_config.json`, `config.json` and
    /// `chat_template.jinja` say of it.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(TOKENIZER);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_limited(&path, 1 << 28, "read the model's tokenizer")?;
        let tokenizer = Tokenizer::from_bytes(&bytes, &path.display().to_string())?;
        let json = |file: &str| -> Result<Value> {
            let path = dir.join(file);
            if !path.exists() {
                return Ok(Value::Null);
            }
            let bytes = read_limited(&path, 1 << 26, "read the tokenizer's config")?;
            serde_json::from_slice(&bytes).map_err(|e| Error::Syntax {
                file: path.display().to_string(),
                line: e.line(),
                column: e.column(),
                reason: "this is no JSON".into(),
                remedy: "copy the whole model again".into(),
            })
        };
        let special = SpecialTokens::from_json(&json(TOKENIZER_CONFIG)?, &json("config.json")?, &tokenizer);
        let chat_template = ChatTemplate::source_in(dir)?;
        Ok(Some(Self { tokenizer, special, chat_template }))
    }

    /// The files, by name: `tokenizer.json` and `tokenizer_config.json`.
    pub fn to_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut config = self.special.to_json(&self.tokenizer);
        if let Some(template) = &self.chat_template {
            config["chat_template"] = template.as_str().into();
        }
        let config = serde_json::to_vec_pretty(&config)
            .map_err(|e| Error::backend("writing tokenizer_config.json", e))?;
        Ok(vec![(TOKENIZER.to_owned(), self.tokenizer.to_bytes()?), (TOKENIZER_CONFIG.to_owned(), config)])
    }

    /// The chat template, compiled, if there is one. `file` is for messages.
    pub fn chat(&self, file: &str) -> Result<Option<ChatTemplate>> {
        let text = |id: Option<u32>| id.and_then(|id| self.tokenizer.token(id)).unwrap_or_default();
        let Some(source) = &self.chat_template else { return Ok(None) };
        ChatTemplate::new(source, &text(self.special.bos), &text(self.special.eos), file).map(Some)
    }
}
