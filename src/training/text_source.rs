//! Plain text as training samples: windows of equal length, the last tenth held out.

use super::config::TokenizerKind;
use super::source::{DataSets, Sample, SampleSource};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::seed::Stream;
use crate::text::Tokenizer;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The largest text file that is read.
const LARGEST: u64 = 1 << 30;

/// Which part of a text is held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldOut {
    /// The last tenth of its characters, as nanoGPT has it.
    #[default]
    Tail,
    /// Every tenth line, the tenth, the twentieth, ..
    TenthLine,
}

/// Plain text, as read from files.
#[derive(Clone, Debug, Default)]
pub struct TextCorpus {
    text: String,
    files: Vec<String>,
    empty: Vec<String>,
}

impl TextCorpus {
    /// Reads UTF-8 files, in the order given; of a folder, its `.txt` files by name. Files without a visible
    /// character are left out and counted.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut corpus = Self::default();
        for path in paths {
            for file in files(path)? {
                let text = read_text(&file, LARGEST, "read the text")?;
                let name = file.display().to_string();
                if text.trim().is_empty() {
                    corpus.empty.push(name);
                    continue;
                }
                corpus.files.push(name);
                if !corpus.text.is_empty() && !corpus.text.ends_with('\n') {
                    corpus.text.push('\n');
                }
                corpus.text += &text;
            }
        }
        if corpus.files.is_empty() {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            return Err(Error::Data {
                source_name: names.join(", "),
                reason: "there is no text".into(),
                remedy: "give UTF-8 files with text, or folders with .txt files".into(),
            });
        }
        Ok(corpus)
    }

    /// The tokenizer of this text. Characters come from all of it; a BPE is learned from the training part.
    pub fn tokenizer(&self, kind: TokenizerKind, held: HoldOut) -> Result<Tokenizer> {
        match kind {
            TokenizerKind::Characters => Tokenizer::characters(&self.text),
            TokenizerKind::Bpe(size) => {
                Tokenizer::train(parts(&self.text, held)[0].split_inclusive('\n'), size, &[])
            }
        }
    }

    /// The training part and what is held out, in windows of `length` predictions.
    pub fn sets(&self, tokenizer: &Tokenizer, length: usize, held: HoldOut) -> Result<DataSets> {
        sets_of(parts(&self.text, held), tokenizer, length)
    }

    /// UTF-8 bytes that are held out.
    pub fn held_bytes(&self, held: HoldOut) -> usize {
        parts(&self.text, held)[1].len()
    }

    /// What was read and what was left out.
    pub fn report(&self) -> serde_json::Value {
        serde_json::json!({
            "files": self.files,
            "bytes": self.text.len(),
            "characters": self.text.chars().count(),
            "dropped": { "empty_file": self.empty },
        })
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |e| Error::io("list the text folder", path, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "txt") {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

/// Where the held-out tenth begins, in bytes: after nine tenths of the characters.
fn split(text: &str) -> usize {
    let characters = text.chars().count();
    text.char_indices().nth(characters * 9 / 10).map_or(text.len(), |(at, _)| at)
}

/// The training part and what is held out.
fn parts(text: &str, held: HoldOut) -> [Cow<'_, str>; 2] {
    match held {
        HoldOut::Tail => {
            let at = split(text);
            [Cow::Borrowed(&text[..at]), Cow::Borrowed(&text[at..])]
        }
        HoldOut::TenthLine => {
            let lines = || text.split_inclusive('\n').enumerate();
            let part =
                |held: bool| lines().filter(|(n, _)| (n % 10 == 9) == held).map(|(_, line)| line).collect();
            [Cow::Owned(part(false)), Cow::Owned(part(true))]
        }
    }
}

/// Token ids, a paragraph (up to and with its blank lines) at a time, which takes a fraction of the memory.
fn encode(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let (mut ids, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        // The blank line goes with what stands before it.
        let blank = rest.find("\n\n").map_or(rest.len(), |at| at + 2);
        let end = blank + rest[blank..].bytes().take_while(|byte| *byte == b'\n').count();
        ids.extend(tokenizer.encode(&rest[..end])?);
        rest = &rest[end..];
    }
    Ok(ids)
}

struct Windows {
    ids: Vec<u32>,
    length: usize,
}

impl SampleSource for Windows {
    fn len(&self) -> usize {
        self.ids.len().saturating_sub(1).div_ceil(self.length)
    }

    /// A window somewhere in the text.
    fn sample(&self, _index: usize, noise: &mut Stream) -> Sample {
        let last = self.ids.len().saturating_sub(self.length + 1);
        self.window(noise.below(last + 1))
    }

    /// The windows one after the other: together they predict every token but the first once.
    fn fixed(&self, index: usize) -> Sample {
        self.window(index * self.length)
    }

    fn hash(&self) -> String {
        let bytes: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        blake3::hash(&bytes).to_hex().to_string()
    }
}

impl Windows {
    fn window(&self, start: usize) -> Sample {
        let end = (start + self.length + 1).min(self.ids.len());
        let ids = self.ids[start.min(end)..end].to_vec();
        let mut loss = vec![1.0; ids.len()];
        loss.iter_mut().take(1).for_each(|weight| *weight = 0.0);
        Sample::new(ids, loss)
    }
}

/// Splits a text: the first nine tenths of its characters to learn from, the rest held out.
pub fn text_sets(text: &str, tokenizer: &Tokenizer, length: usize) -> Result<DataSets> {
    sets_of(parts(text, HoldOut::Tail), tokenizer, length)
}

fn sets_of([train, held]: [Cow<'_, str>; 2], tokenizer: &Tokenizer, length: usize) -> Result<DataSets> {
    let bytes = train.len() + held.len();
    let windows = |part: &str, what: &str| {
        let ids = encode(part, tokenizer)?;
        if ids.len() < 2 {
            return Err(Error::Data {
                source_name: format!("{bytes} bytes of text"),
                reason: format!("the {what} part is empty"),
                remedy: "give more text".into(),
            });
        }
        Ok(Box::new(Windows { ids, length }))
    };
    Ok(DataSets { train: windows(&train, "training")?, validation: windows(&held, "validation")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_held_out_windows_predict_every_token_once() {
        let text = "abcdefghij".repeat(30);
        let tokenizer = Tokenizer::characters(&text).unwrap();
        let sets = text_sets(&text, &tokenizer, 7).unwrap();
        let held = &sets.validation;
        let predicted: f32 = (0..held.len()).flat_map(|i| held.fixed(i).loss).sum();
        assert_eq!(predicted, 29.0);
        assert!(text_sets("a", &tokenizer, 7).is_err());
    }

    #[test]
    fn every_tenth_line_is_held_out_when_asked_for() {
        let text: String = (1..=25).map(|n| format!("line {n}\n")).collect();
        let [train, held] = parts(&text, HoldOut::TenthLine);
        assert_eq!(held, "line 10\nline 20\n");
        assert_eq!(train.lines().count(), 23);
        assert!(train.contains("line 21\n") && !train.contains("line 10\n"));
    }

    #[test]
    fn paragraphs_encode_to_the_same_ids_as_the_whole() {
        let text = "One two.\nthree\n\nFour\n\n\n\nfive  six\n\n ".repeat(5);
        for kind in [TokenizerKind::Characters, TokenizerKind::Bpe(300)] {
            let corpus = TextCorpus { text: text.clone(), ..TextCorpus::default() };
            let tokenizer = corpus.tokenizer(kind, HoldOut::Tail).unwrap();
            assert_eq!(tokenizer.decode(&encode(&text, &tokenizer).unwrap()), text);
            if kind == TokenizerKind::Characters {
                assert_eq!(encode(&text, &tokenizer).unwrap(), tokenizer.encode(&text).unwrap());
            }
        }
    }

    #[test]
    fn files_that_hold_no_text_are_named_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a.txt"), "first").unwrap();
        std::fs::write(at("b.txt"), " \n").unwrap();
        std::fs::write(at("c.md"), "not read").unwrap();
        let corpus = TextCorpus::read(&[dir.path().to_owned(), at("a.txt")]).unwrap();
        assert_eq!(corpus.text, "first\nfirst");
        assert!(corpus.report()["dropped"]["empty_file"][0].as_str().unwrap().ends_with("b.txt"));
        assert!(TextCorpus::read(&[at("b.txt")]).unwrap_err().to_string().contains("no text"));
        assert!(TextCorpus::read(&[at("none.txt")]).unwrap_err().to_string().contains("check the path"));
        std::fs::write(at("d.txt"), b"good\nbad \xff").unwrap();
        assert!(TextCorpus::read(&[at("d.txt")]).unwrap_err().to_string().contains("d.txt:2"));
    }
}
