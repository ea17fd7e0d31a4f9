//! [`SavedKv`]: what the model remembers of a prompt, on the disk.

use super::backend::Prompt;
use super::prefix::keys;
use super::scheduler::Scheduler;
use crate::error::{Error, Result};
use crate::model::KvCache;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;

/// Keys and values of a prompt, as a safetensors file: `tokens [n]` and `pages [pages, bytes]`, those after what it shares
/// with others. An NPC that is loaded with its game goes on from there instead of reading its past again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedKv(Vec<u8>);

const FIRST: &str = "first_page";
const MODEL: &str = "model";
const TOKENIZER: &str = "tokenizer";

fn refused(reason: impl Into<String>) -> Error {
    Error::weights("saved keys and values", "", reason, "let the model read the prompt again")
}

impl SavedKv {
    /// The bytes of the file.
    pub fn to_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the bytes of a file; what is in them is checked when it is restored.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl Scheduler {
    fn tokens_of(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Text(text) => self.model().tokenizer.encode(text),
            Prompt::Chat(messages) => Ok(self.model().chat_within(messages, 0)?.0),
        }
    }

    /// Keys and values of a prompt that was spoken to, as far as they are still there, without those that belong to
    /// `shared` too (lore that all have in common, which is computed once anyway). `None`: nothing to save. Only for prompts
    /// without an adapter.
    pub fn save(&mut self, prompt: &Prompt, shared: Option<&Prompt>) -> Result<Option<SavedKv>> {
        let tokens = self.tokens_of(prompt)?;
        let shared = shared.map_or(Ok(Vec::new()), |shared| self.tokens_of(shared))?;
        let same = tokens.iter().zip(&shared).take_while(|(a, b)| a == b).count();
        let first = same / KvCache::PAGE;
        let pages: Vec<Vec<u8>> = keys(None, &tokens)
            .iter()
            .skip(first)
            .map_while(|key| self.prefixes.get(key))
            .map(|page| KvCache::page_to_bytes(&page))
            .collect();
        let Some(width) = pages.first().map(Vec::len) else { return Ok(None) };
        let tokens = &tokens[..(first + pages.len()) * KvCache::PAGE];
        let ids: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let [model, tokenizer] = self.model().fingerprint()?;
        let notes = [(FIRST, first.to_string()), (MODEL, model), (TOKENIZER, tokenizer)];
        let notes: HashMap<String, String> = notes.map(|(key, value)| (key.to_owned(), value)).into();
        let (data, count) = (pages.concat(), pages.len());
        let view = |kind, shape, data| {
            TensorView::new(kind, shape, data).map_err(|e| Error::backend("saving keys and values", e))
        };
        let tensors = [
            ("tokens", view(Dtype::U32, vec![tokens.len()], &ids)?),
            ("pages", view(Dtype::U8, vec![count, width], &data)?),
        ];
        let bytes = safetensors::serialize(tensors, Some(notes));
        Ok(Some(SavedKv(bytes.map_err(|e| Error::backend("saving keys and values", e))?)))
    }

    /// Puts saved keys and values where the next prompt that begins alike finds them. Returns how many tokens they spare.
    ///
    /// # Errors
    /// [`Error::Weights`] when they are damaged, of another model, tokenizer or number type; nothing is taken over then.
    pub fn restore(&mut self, saved: &SavedKv) -> Result<usize> {
        let damaged = |e: safetensors::SafeTensorError| refused(format!("the file is damaged: {e}"));
        let (_, header) = SafeTensors::read_metadata(&saved.0).map_err(damaged)?;
        let file = SafeTensors::deserialize(&saved.0).map_err(damaged)?;
        let note =
            |key: &str| header.metadata().as_ref().and_then(|notes| notes.get(key)).map(String::as_str);
        let [model, tokenizer] = self.model().fingerprint()?;
        if note(MODEL) != Some(&model) {
            return Err(refused("they are of another model"));
        }
        if note(TOKENIZER) != Some(&tokenizer) {
            return Err(refused("they are of another tokenizer"));
        }
        let first: usize =
            note(FIRST).and_then(|n| n.parse().ok()).ok_or_else(|| refused("no first page"))?;
        let tokens = file.tensor("tokens").map_err(damaged)?;
        let pages = file.tensor("pages").map_err(damaged)?;
        let ids = tokens.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let ids: Vec<u32> = ids.collect();
        let empty = self.empty();
        let count = (ids.len() / KvCache::PAGE).checked_sub(first).filter(|n| *n > 0);
        let whole = ids.len().is_multiple_of(KvCache::PAGE) && tokens.dtype() == Dtype::U32;
        let width = empty.page_bytes();
        let Some(count) = count.filter(|n| whole && pages.shape() == [*n, width]) else {
            return Err(refused("tokens and pages do not fit each other, or numbers are of another type"));
        };
        let read: Option<Vec<_>> =
            pages.data().chunks_exact(width).map(|bytes| empty.page_from_bytes(bytes)).collect();
        let read = read.ok_or_else(|| refused("there are numbers in them that are none"))?;
        for (key, page) in keys(None, &ids).into_iter().skip(first).zip(read) {
            self.prefixes.put(key, page);
        }
        Ok(count * KvCache::PAGE)
    }
}
