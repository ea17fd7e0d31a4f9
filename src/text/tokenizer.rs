//! [`Tokenizer`]: text to token ids and back, in Hugging Face's `tokenizer.json`.
//!
//! Byte-level BPE (Sennrich et al. 2016; GPT-2's bytes), trained on the corpus with the `tokenizers` crate,
//! or one token a character. Special tokens stand in the text literally (`{place}`, `<act:Offer>`).

use super::Vocabulary;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::wordlevel::{WordLevel, WordLevelTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// The special tokens that every tokenizer of ours begins with, at ids 0, 1 and 2.
pub const BASE_SPECIALS: [&str; 3] = ["<pad>", "<bos>", "<eos>"];
/// The largest vocabulary that is accepted.
const LARGEST_VOCABULARY: usize = 1 << 20;

/// Text to token ids and back. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    hf: tokenizers::Tokenizer,
    /// What each id stands for; a hole in the numbering is `None`.
    pieces: Vec<Option<Piece>>,
    /// Whether a space is put before a text, and so taken from before it again.
    spaced: bool,
    /// Made when it is first asked for.
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

#[derive(Clone)]
struct Piece {
    bytes: Vec<u8>,
    special: bool,
}

fn failed(file: &str, reason: impl ToString, remedy: &str) -> Error {
    Error::Vocabulary { file: file.to_owned(), reason: reason.to_string(), remedy: remedy.to_owned() }
}

fn specials_with_base(specials: &[String]) -> Vec<AddedToken> {
    let all = BASE_SPECIALS.iter().map(|token| (*token).to_owned()).chain(specials.iter().cloned());
    let mut seen = BTreeSet::new();
    all.filter(|token| seen.insert(token.clone())).map(|token| AddedToken::from(token, true)).collect()
}

impl Tokenizer {
    /// Trains a byte-level BPE. The same lines give the same tokenizer, in any order.
    /// `vocab_size` counts special tokens and the 256 bytes.
    pub fn train(
        lines: impl Iterator<Item = impl AsRef<str>>,
        vocab_size: usize,
        specials: &[String],
    ) -> Result<Self> {
        let mut lines: Vec<String> =
            lines.map(|line| line.as_ref().to_owned()).filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            return Err(failed("corpus", "there is no text to learn a vocabulary from", "give text"));
        }
        let added = specials_with_base(specials);
        let least = added.len() + 256;
        if vocab_size < least || vocab_size > LARGEST_VOCABULARY {
            let reason = format!("a vocabulary of {vocab_size} cannot be made");
            let remedy = format!("choose {least} (special tokens and bytes) to {LARGEST_VOCABULARY}");
            return Err(Error::config("config", "vocab_size", reason, remedy));
        }
        // Ties between merges are broken by token number, and those follow the order of words.
        lines.sort_unstable();
        let trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocab_size)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(added)
            .build();
        let mut hf = tokenizers::Tokenizer::new(BPE::default());
        hf.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        hf.with_decoder(Some(ByteLevel::default()));
        let mut wrapped = tokenizers::models::TrainerWrapper::BpeTrainer(trainer);
        hf.train(&mut wrapped, without_specials(&lines, specials).iter().map(String::as_str)).map_err(
            |e| failed("corpus", format!("the vocabulary could not be learned: {e}"), "check the text"),
        )?;
        Self::from_bytes(
            hf.to_string(false).map_err(|e| Error::backend("writing the tokenizer", e))?.as_bytes(),
            "trained",
        )
    }

    /// One token for each character of `text`. Others are dropped when text is encoded.
    pub fn characters(text: &str) -> Result<Self> {
        let characters: BTreeSet<char> = text.chars().collect();
        if characters.is_empty() {
            return Err(failed("corpus", "there is no text to take characters from", "give text"));
        }
        let mut hf = tokenizers::Tokenizer::new(WordLevel::default());
        let pattern =
            Split::new(SplitPattern::Regex("(?s).".into()), SplitDelimiterBehavior::Isolated, false)
                .map_err(|e| Error::backend("making the character tokenizer", e))?;
        hf.with_pre_tokenizer(Some(pattern));
        hf.with_decoder(Some(tokenizers::decoders::fuse::Fuse::new()));
        let trainer = WordLevelTrainerBuilder::default()
            .show_progress(false)
            .vocab_size(LARGEST_VOCABULARY)
            .special_tokens(specials_with_base(&[]))
            .build()
            .map_err(|e| Error::backend("making the character tokenizer", e))?;
        let mut wrapped = tokenizers::models::TrainerWrapper::WordLevelTrainer(trainer);
        let each: Vec<String> = characters.iter().map(char::to_string).collect();
        hf.train(&mut wrapped, each.iter().map(String::as_str))
            .map_err(|e| failed("corpus", e, "check the text"))?;
        Self::from_bytes(
            hf.to_string(false).map_err(|e| Error::backend("writing the tokenizer", e))?.as_bytes(),
            "trained",
        )
    }

    /// One token for each word: [`BASE_SPECIALS`], `<unk>`, then `words`, whose ids follow their order. For vocabularies
    /// of things that are no text (events, items), which are looked up with [`Self::id`].
    pub fn words(words: &[String]) -> Result<Self> {
        let mut all: Vec<&str> = BASE_SPECIALS.into();
        all.push("<unk>");
        all.extend(words.iter().map(String::as_str));
        let mut vocabulary = serde_json::Map::new();
        for (id, word) in all.iter().enumerate() {
            if vocabulary.insert((*word).to_owned(), id.into()).is_some() {
                let reason = format!("the word `{word}` is there twice");
                return Err(failed("vocabulary", reason, "give each word once"));
            }
        }
        let special = |(id, content): (usize, &str)| {
            serde_json::json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        };
        let added: Vec<_> = BASE_SPECIALS.into_iter().enumerate().map(special).collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
        });
        Self::from_bytes(json.to_string().as_bytes(), "vocabulary")
    }

    /// Reads a `tokenizer.json`. `file` is for messages.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        let json: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|e| failed(file, format!("this is no tokenizer: {e}"), "give a tokenizer.json"))?;
        let decoder = json["decoder"].to_string();
        let byte_level =
            decoder.contains("ByteLevel") || json["pre_tokenizer"].to_string().contains("ByteLevel");
        let mut hf = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| failed(file, format!("this is no tokenizer: {e}"), "give a tokenizer.json"))?;
        // Texts are cut and padded by whoever packs them.
        let _ = hf.with_truncation(None);
        hf.with_padding(None);
        let vocabulary = hf.get_vocab(true);
        let largest = vocabulary.values().copied().max().unwrap_or(0) as usize;
        if vocabulary.is_empty() || largest >= LARGEST_VOCABULARY {
            let reason = format!("the largest of {} token ids is {largest}", vocabulary.len());
            return Err(failed(file, reason, "give a tokenizer.json of at most 1048576 tokens"));
        }
        let specials: BTreeSet<u32> = hf
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| *id)
            .collect();
        let added: BTreeSet<u32> = hf.get_added_tokens_decoder().keys().copied().collect();
        let mut pieces = vec![None; largest + 1];
        let sentence_piece = json["model"]["byte_fallback"] == true || decoder.contains(SPACE);
        let spaced = !byte_level && sentence_piece && SPACED.iter().any(|part| decoder.contains(part));
        for (token, id) in vocabulary {
            let bytes = match (added.contains(&id), byte_level, sentence_piece) {
                (false, true, _) => bytes_of(&token),
                (false, false, true) => Some(sentence_piece_bytes(&token)),
                _ => Some(token.clone().into_bytes()),
            };
            let special = specials.contains(&id);
            pieces[id as usize] = Some(Piece { bytes: bytes.unwrap_or_else(|| token.into_bytes()), special });
        }
        Ok(Self { inner: Arc::new(Inner { hf, pieces, spaced, vocabulary: OnceLock::new() }) })
    }

    /// This tokenizer with special tokens that it may not have yet; their ids come after all others.
    pub fn with_specials(&self, tokens: &[String]) -> Result<Self> {
        let mut hf = self.inner.hf.clone();
        let tokens = tokens.iter().filter(|token| self.id(token).is_none());
        let tokens: Vec<AddedToken> = tokens.map(|token| AddedToken::from(token.clone(), true)).collect();
        if tokens.is_empty() {
            return Ok(self.clone());
        }
        hf.add_special_tokens(tokens).map_err(|e| failed("tokenizer", e, "use another base"))?;
        let text = hf.to_string(false).map_err(|e| Error::backend("writing the tokenizer", e))?;
        Self::from_bytes(text.as_bytes(), "tokenizer")
    }

    /// Writes a `tokenizer.json`.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let text = self.inner.hf.to_string(true).map_err(|e| Error::backend("writing the tokenizer", e))?;
        Ok(text.into_bytes())
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.inner.pieces.len()
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.hf.token_to_id(token)
    }

    /// The token of an id, as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.hf.id_to_token(id)
    }

    /// Whether an id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.piece(id).is_some_and(|piece| piece.special)
    }

    /// The bytes of an id.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.piece(id).map(|piece| piece.bytes.as_slice())
    }

    /// A text without the control tokens that stand in it literally, also those that only come of taking others out.
    pub fn without_control(&self, text: &str) -> String {
        let control: Vec<&str> = self
            .inner
            .pieces
            .iter()
            .flatten()
            .filter(|piece| piece.special && !piece.bytes.is_empty())
            .filter_map(|piece| std::str::from_utf8(&piece.bytes).ok())
            .collect();
        let mut text = text.to_owned();
        while let Some(token) = control.iter().find(|token| text.contains(*token)) {
            text = text.replace(token, "");
        }
        text
    }

    fn piece(&self, id: u32) -> Option<&Piece> {
        self.inner.pieces.get(id as usize)?.as_ref()
    }

    /// Text to ids. Special tokens in the text become their ids; nothing is added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.inner.hf.encode_fast(text, false).map_err(|e| Error::backend("encoding a text", e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids to text. Special tokens stand in it literally; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = self.stream();
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text += &stream.finish();
        text
    }

    /// What each token spells, nothing for special ones.
    pub fn vocabulary(&self) -> Arc<Vocabulary> {
        let spell = |id: u32| (!self.is_special(id)).then(|| self.decode(&[id]));
        let make = || Arc::new(Vocabulary::new((0..self.vocab_size() as u32).map(spell).collect()));
        Arc::clone(self.inner.vocabulary.get_or_init(make))
    }

    /// Decodes as tokens come.
    pub fn stream(&self) -> DecodeStream {
        DecodeStream { tokenizer: self.clone(), held: Vec::new(), first: self.inner.spaced }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

/// Decodes as tokens come: only whole characters leave it.
pub struct DecodeStream {
    tokenizer: Tokenizer,
    held: Vec<u8>,
    /// Whether nothing has come yet, and a space before it is to go.
    first: bool,
}

impl DecodeStream {
    /// Takes a token; returns the text that is now certain.
    pub fn push(&mut self, id: u32) -> String {
        let Some(piece) = self.tokenizer.piece(id).cloned() else { return String::new() };
        let first = std::mem::take(&mut self.first);
        if piece.special {
            let mut text = self.finish();
            text += &String::from_utf8_lossy(&piece.bytes);
            return text;
        }
        self.held.extend(piece.bytes.strip_prefix(b" ").filter(|_| first).unwrap_or(&piece.bytes));
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(whole) => {
                    text += whole;
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let good = error.valid_up_to();
                    text += &String::from_utf8_lossy(&self.held[..good]);
                    match error.error_len() {
                        // More bytes may complete the character.
                        None => {
                            self.held.drain(..good);
                            return text;
                        }
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.held.drain(..good + bad);
                        }
                    }
                }
            }
        }
    }

    /// What is held back, when nothing more comes.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// What `SentencePiece` writes for a space.
pub(crate) const SPACE: char = '\u{2581}';
/// Decoders that take a space from before a text.
const SPACED: [&str; 3] = [r#""Strip""#, r#""prepend_scheme":"first""#, r#""prepend_scheme":"always""#];

/// The bytes of a token of `SentencePiece`: its spaces are [`SPACE`], and `<0x0A>` is a byte.
fn sentence_piece_bytes(token: &str) -> Vec<u8> {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match byte.filter(|digits| digits.len() == 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace(SPACE, " ").into_bytes(),
    }
}

/// The bytes of a byte-level token, whose characters each stand for a byte (GPT-2's table).
fn bytes_of(token: &str) -> Option<Vec<u8>> {
    token
        .chars()
        .map(|c| match u32::from(c) {
            code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
            code @ 0x100..=0x120 => Some((code - 0x100) as u8),
            code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
            0x143 => Some(0xad),
            _ => None,
        })
        .collect()
}

/// The lines without their special tokens, which are in the vocabulary whole.
fn without_specials(lines: &[String], specials: &[String]) -> Vec<String> {
    let cut = |line: &String| {
        let mut parts = vec![line.as_str()];
        for special in specials.iter().filter(|special| line.contains(special.as_str())) {
            parts = parts.iter().flat_map(|part| part.split(special.as_str())).collect();
        }
        parts.iter().filter(|part| !part.is_empty()).map(|part| (*part).to_owned()).collect::<Vec<_>>()
    };
    lines.iter().flat_map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static SMALL: LazyLock<Tokenizer> = LazyLock::new(|| {
        let specials = ["{place}".to_owned(), "<act:Offer>".to_owned()];
        let lines = ["the old road goes to {place} and on", "the cold old goat", "go to {place}"];
        Tokenizer::train(lines.iter(), 300, &specials).unwrap()
    });

    #[test]
    fn special_tokens_are_one_id_and_come_back_literally() {
        let ids = SMALL.encode("<act:Offer>go to {place}!").unwrap();
        assert_eq!(ids[0], SMALL.id("<act:Offer>").unwrap());
        assert!(SMALL.is_special(ids[0]) && ids.contains(&SMALL.id("{place}").unwrap()));
        assert_eq!(SMALL.decode(&ids), "<act:Offer>go to {place}!");
        assert_eq!([SMALL.id("<pad>"), SMALL.id("<bos>"), SMALL.id("<eos>")], [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn training_is_deterministic_and_survives_a_round_trip() {
        let train = || Tokenizer::train(["a b", "abc abc"].iter(), 270, &[]).unwrap().to_bytes().unwrap();
        assert_eq!(train(), train());
        let back = Tokenizer::from_bytes(&SMALL.to_bytes().unwrap(), "t").unwrap();
        assert_eq!(back.encode("the goat").unwrap(), SMALL.encode("the goat").unwrap());
        assert_eq!(back.vocab_size(), SMALL.vocab_size());
    }

    #[test]
    fn every_byte_has_its_character() {
        for byte in 0..=255u8 {
            let alphabet = ByteLevel::alphabet();
            assert!(alphabet.iter().any(|c| bytes_of(&c.to_string()) == Some(vec![byte])), "{byte}");
        }
    }

    #[test]
    fn a_character_tokenizer_has_a_token_a_character() {
        let tokenizer = Tokenizer::characters("ab\nc\u{e9}").unwrap();
        let ids = tokenizer.encode("a\n\u{e9}b").unwrap();
        assert_eq!(ids.len(), 4);
        assert_eq!(tokenizer.decode(&ids), "a\n\u{e9}b");
        assert_eq!(tokenizer.vocab_size(), 5 + 3);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Tokenizer::train([""; 0].iter(), 300, &[]).is_err());
        assert!(Tokenizer::train(["a"].iter(), 10, &[]).unwrap_err().to_string().contains("vocab_size"));
        assert!(
            Tokenizer::from_bytes(b"{}", "tokenizer.json")
                .unwrap_err()
                .to_string()
                .contains("tokenizer.json")
        );
        assert!(Tokenizer::characters("").is_err());
    }

    proptest! {
        #[test]
        fn any_text_survives(text in "\\PC{0,40}") {
            prop_assume!(!text.contains("<pad>"));
            prop_assert_eq!(SMALL.decode(&SMALL.encode(&text).unwrap()), text);
        }

        #[test]
        fn any_ids_stream_to_valid_text_as_they_decode(ids in prop::collection::vec(0u32..310, 0..40)) {
            let mut stream = SMALL.stream();
            let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
            text += &stream.finish();
            prop_assert_eq!(text, SMALL.decode(&ids));
        }

        #[test]
        fn any_json_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = Tokenizer::from_bytes(text.as_bytes(), "t");
        }
    }
}
