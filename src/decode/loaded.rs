//! [`LoadedModel`]: a model that can be decoded.

use super::grammar::Vocabulary;
use crate::error::{Error, Result};
use crate::model::gguf::{GgufFile, GgufVocabulary};
use crate::model::{Adapter, CARD, Card, Checkpoint, Decoder, LoadedAdapter, weights_from_dir};
use crate::text::{ChatTemplate, Lexicon, Message, SpecialTokens, Tokenizer};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A model that can be decoded: weights laid out for it, and its tokenizer. Immutable; clone the `Arc`.
pub struct LoadedModel {
    /// The network.
    pub decoder: Decoder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What it is and where it came from.
    pub card: Card,
    /// The words it may spell and what may follow what, if its card lists them.
    pub lexicon: Arc<Lexicon>,
    /// A number that changes with every load, so that a hot reload is noticed.
    pub generation: u64,
    /// The hash of its weights; empty where they are a GGUF file's.
    pub weights_hash: String,
    /// Where a text begins and ends.
    pub special: SpecialTokens,
    /// How a conversation is laid out, if the model says so.
    pub chat: Option<ChatTemplate>,
    pub(super) vocabulary: OnceLock<Result<Vocabulary, String>>,
}

fn generation() -> u64 {
    static GENERATION: AtomicU64 = AtomicU64::new(0);
    GENERATION.fetch_add(1, Ordering::Relaxed)
}

impl LoadedModel {
    /// Lays a checkpoint out for decoding. Fails when tokenizer and weights do not fit each other.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let listed = |name: &str| checkpoint.card.conditioning.get(name).map_or(&[][..], Vec::as_slice);
        let lines = listed("line").iter().filter_map(|line| line.split_once(' '));
        let none = serde_json::Value::Null;
        Ok(Self {
            decoder: checkpoint.decoder()?,
            special: SpecialTokens::from_json(&none, &none, &checkpoint.tokenizer),
            tokenizer: checkpoint.tokenizer.clone(),
            lexicon: Arc::new(Lexicon::of_lines(lines)),
            card: checkpoint.card.clone(),
            generation: generation(),
            weights_hash: checkpoint.weights.hash(),
            chat: None,
            vocabulary: OnceLock::new(),
        })
    }

    /// Reads any model: a checkpoint of ours, a Hugging Face directory, or a GGUF file, whose blocks stay as they are.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when there is no tokenizer, or one that does not fit.
    pub fn open(path: &Path) -> Result<Self> {
        if path.join(CARD).exists() {
            return Self::new(&Checkpoint::load(path)?);
        }
        let (decoder, weights_hash, vocabulary) = if path.is_file() {
            let file = GgufFile::open(path)?;
            (Decoder::from_gguf(&file)?, String::new(), file.vocabulary()?)
        } else {
            let (config, weights) = weights_from_dir(path)?;
            let decoder = Decoder::new(&config.into(), &weights)?;
            (decoder, weights.hash(), GgufVocabulary::from_dir(path)?)
        };
        let name = path.display().to_string();
        let wrong = |reason: String, remedy: &str| Error::Vocabulary {
            file: name.clone(),
            reason,
            remedy: remedy.into(),
        };
        let vocabulary = vocabulary.ok_or_else(|| {
            wrong("the model has no tokenizer".into(), "put its tokenizer.json beside its weights")
        })?;
        let (tokens, rows) = (vocabulary.tokenizer.vocab_size(), decoder.vocab_size());
        if tokens > rows {
            let reason = format!("the tokenizer has {tokens} tokens and the model {rows}");
            return Err(wrong(reason, "use the model's own tokenizer"));
        }
        Ok(Self {
            decoder,
            chat: vocabulary.chat(&name)?,
            tokenizer: vocabulary.tokenizer,
            card: Card::new("text"),
            lexicon: Arc::new(Lexicon::of_lines(std::iter::empty())),
            generation: generation(),
            weights_hash,
            special: vocabulary.special,
            vocabulary: OnceLock::new(),
        })
    }

    /// Lays an adapter out for this model, for requests to use. Fails when it was made for other weights.
    pub fn adapter(&self, adapter: &Adapter) -> Result<Arc<LoadedAdapter>> {
        if !self.weights_hash.is_empty() {
            adapter.check_base(&self.weights_hash)?;
        }
        Ok(Arc::new(LoadedAdapter::new(adapter, self.decoder.config())?))
    }

    /// Whether a token ends an answer.
    pub fn ends(&self, token: u32) -> bool {
        [self.special.eos, self.special.eot].contains(&Some(token))
            || self.tokenizer.id("<eos>") == Some(token)
    }

    /// A text to go on with, as a [`super::Request`]'s prompt: what begins a text of this model stands before it. Control
    /// tokens in the text lose their meaning.
    pub fn text_prompt(&self, text: &str) -> String {
        let bos = self.special.bos.filter(|_| self.special.add_bos);
        let bos = bos.and_then(|id| self.tokenizer.token(id)).unwrap_or_default();
        bos + &self.tokenizer.without_control(text)
    }

    /// A conversation, as a [`super::Request`]'s prompt for the assistant's next turn. Control tokens in the messages lose
    /// their meaning, so that nobody can speak for another.
    ///
    /// # Errors
    /// [`Error::Config`] when the model has no chat template, or its template refuses the messages.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<String> {
        let Some(chat) = &self.chat else {
            let remedy = "give a text to go on with, or a model that was taught to chat";
            return Err(Error::config("model", "chat_template", "the model has no chat template", remedy));
        };
        let clean =
            |message: &Message| Message::new(&message.role, self.tokenizer.without_control(&message.content));
        chat.render(&messages.iter().map(clean).collect::<Vec<_>>(), true)
    }
}
