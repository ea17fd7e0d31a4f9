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
        let part = |file: &str| {
            let path = dir.join(file);
            if !path.exists() {
                return Ok(None);
            }
            read_limited(&path, 1 << 26, "read the tokenizer's config").map(Some)
        };
        let tokenizer = read_limited(&path, 1 << 28, "read the model's tokenizer")?;
        let config = part(TOKENIZER_CONFIG)?;
        let own = [part("config.json")?, part("chat_template.jinja")?];
        let [model, template] = own.each_ref().map(Option::as_deref);
        Self::from_parts(&dir.display().to_string(), &tokenizer, config.as_deref(), model, template).map(Some)
    }

    /// Takes the files of a directory: `tokenizer.json`, and where they are there `tokenizer_config.json`, `config.json` and
    /// `chat_template.jinja`. `dir` is for messages.
    pub fn from_parts(
        dir: &str,
        tokenizer: &[u8],
        tokenizer_config: Option<&[u8]>,
        model_config: Option<&[u8]>,
        chat_template: Option<&[u8]>,
    ) -> Result<Self> {
        let json = |file: &str, bytes: Option<&[u8]>| -> Result<Value> {
            let parsed = bytes.map_or(Ok(Value::Null), serde_json::from_slice);
            parsed.map_err(|e| Error::Syntax {
                file: format!("{dir}/{file}"),
                line: e.line(),
                column: e.column(),
                reason: "this is no JSON".into(),
                remedy: "copy the whole model again".into(),
            })
        };
        let tokenizer = Tokenizer::from_bytes(tokenizer, &format!("{dir}/{TOKENIZER}"))?;
        let config = json(TOKENIZER_CONFIG, tokenizer_config)?;
        let special = SpecialTokens::from_json(&config, &json("config.json", model_config)?, &tokenizer);
        let chat_template = match chat_template {
            Some(own) => Some(String::from_utf8_lossy(own).into_owned()),
            None => ChatTemplate::source_of(&config),
        };
        Ok(Self { tokenizer, special, chat_template })
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
