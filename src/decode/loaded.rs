//! [`LoadedModel`]: a model that can be decoded.

use super::grammar::Vocabulary;
use crate::error::{Error, Result};
use crate::model::gguf::{GgufFile, GgufVocabulary};
use crate::model::{
    Adapter, CARD, Card, Checkpoint, Decoder, LoadedAdapter, Row, Scratch, TransformerConfig, Weights,
    weights_from_dir,
};
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
    fingerprint: OnceLock<[String; 2]>,
}

/// A small model of random weights.
#[cfg(test)]
pub(crate) fn random_model(
    tokenizer: Tokenizer,
    architecture: crate::training::Architecture,
    (layers, context): (usize, usize),
    seed: u64,
) -> LoadedModel {
    let shape = crate::training::ModelShape {
        architecture,
        hidden_size: 32,
        layers,
        heads: Some(2),
        kv_heads: None,
        intermediate_size: None,
        embedding_size: None,
        tied: None,
        context,
    };
    let config = shape.config(tokenizer.vocab_size());
    let weights =
        crate::model::Network::new(&config, crate::seed::Seed::new(seed)).unwrap().weights().unwrap();
    LoadedModel::new(&Checkpoint { config, weights, tokenizer, card: Card::new("text") }).unwrap()
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
            fingerprint: OnceLock::new(),
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
        if path.is_file() {
            return Self::from_gguf(&GgufFile::open(path)?);
        }
        let (config, weights) = weights_from_dir(path)?;
        let vocabulary = GgufVocabulary::from_dir(path)?;
        Self::from_hugging_face(&path.display().to_string(), config, &weights, vocabulary)
    }

    /// Lays a GGUF file out for decoding; its blocks stay as they are.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when there is no tokenizer in it, or one that does not fit.
    pub fn from_gguf(file: &GgufFile) -> Result<Self> {
        Self::from_gguf_and(file, &|_| {})
    }

    /// The same, and calls `tell` on the way with how much is done, 0 to 1.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub fn from_gguf_and(file: &GgufFile, tell: &dyn Fn(f32)) -> Result<Self> {
        Self::with_vocabulary(
            file.name().to_owned(),
            Decoder::from_gguf_and(file, tell)?,
            String::new(),
            file.vocabulary()?,
        )
    }

    /// Lays the model of a Hugging Face directory out for decoding. `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when there is no tokenizer, or one that does not fit.
    pub fn from_hugging_face(
        name: &str,
        config: TransformerConfig,
        weights: &Weights,
        vocabulary: Option<GgufVocabulary>,
    ) -> Result<Self> {
        let decoder = Decoder::new(&config.into(), weights)?;
        Self::with_vocabulary(name.to_owned(), decoder, weights.hash(), vocabulary)
    }

    fn with_vocabulary(
        name: String,
        decoder: Decoder,
        weights_hash: String,
        vocabulary: Option<GgufVocabulary>,
    ) -> Result<Self> {
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
            fingerprint: OnceLock::new(),
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

    /// The tokens of [`Self::chat_prompt`], with room for an answer of `answer` tokens (at most half the context), and how
    /// many messages were dropped for it: from the middle, so that first messages of the system and the last ones stay.
    ///
    /// # Errors
    /// [`Error::Config`] also when system and last message alone do not fit.
    pub fn chat_within(&self, messages: &[Message], answer: usize) -> Result<(Vec<u32>, usize)> {
        let context = self.decoder.context();
        let room = context - answer.min(context / 2);
        let heads = messages.iter().take_while(|message| message.role == "system").count();
        let (head, rest) = messages.split_at(heads);
        // A talk goes on where somebody speaks to the model.
        let begins = (0..rest.len()).filter(|n| *n == 0 || rest[*n].role != "assistant");
        let begins: Vec<usize> = begins.collect();
        let tokens = |dropped: usize| {
            let kept: Vec<Message> = head.iter().chain(&rest[dropped..]).cloned().collect();
            self.tokenizer.encode(&self.chat_prompt(&kept)?)
        };
        let whole = tokens(0)?;
        if whole.len() < room {
            return Ok((whole, 0));
        }
        let (mut low, mut high) = (0, begins.len());
        let mut fits = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let found = tokens(begins[middle])?;
            if found.len() < room {
                (fits, high) = (Some((found, begins[middle])), middle);
            } else {
                low = middle + 1;
            }
        }
        fits.ok_or_else(|| {
            let reason =
                format!("system and last message alone do not fit the model's context of {context} tokens");
            Error::config("options", "prompt", reason, "shorten them")
        })
    }

    /// What tells model and tokenizer from others: hashes of what the network makes of some tokens, and of all tokens.
    pub(super) fn fingerprint(&self) -> Result<[String; 2]> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let (vocab, length) = (self.decoder.vocab_size() as u32, self.decoder.context().min(8) as u32);
        let tokens: Vec<u32> = (0..length).map(|n| n * 7919 % vocab).collect();
        let (mut cache, mut logits) = (self.decoder.cache(), Vec::new());
        let row = Row { cache: &mut cache, tokens: &tokens, logits: &mut logits, all: true, adapter: None };
        self.decoder.forward(&mut [row], &mut Scratch::default())?;
        let [mut model, mut tokenizer] = [blake3::Hasher::new(), blake3::Hasher::new()];
        logits.iter().for_each(|logit| {
            model.update(&logit.to_bits().to_le_bytes());
        });
        for id in 0..self.tokenizer.vocab_size() as u32 {
            let bytes = self.tokenizer.bytes(id).unwrap_or_default();
            tokenizer.update(&(bytes.len() as u64).to_le_bytes());
            tokenizer.update(bytes);
        }
        let found = [model, tokenizer].map(|hasher| hasher.finalize().to_hex().to_string());
        Ok(self.fingerprint.get_or_init(|| found).clone())
    }
}
