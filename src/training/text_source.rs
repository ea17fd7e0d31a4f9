//! Plain text as training samples: windows of equal length, a tenth held out. Files are read as streams; of a text that
//! is larger than a share of the memory, the tokens stay on the disk too.

use super::config::TokenizerKind;
use super::source::{DataSets, Sample, SampleSource};
use super::tokens::{TokenWriter, Tokens};
use crate::error::{Error, Result};
use crate::seed::Stream;
use crate::text::Tokenizer;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Of a larger text the tokens are kept on the disk.
const IN_MEMORY: u64 = 1 << 28;
/// As much of a larger text teaches a tokenizer.
const FOR_TOKENIZER: u64 = 1 << 26;
/// A longer line or paragraph is taken in pieces.
const PIECE: usize = 1 << 20;

/// Which part of a text is held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldOut {
    /// The last tenth of its characters, as nanoGPT has it.
    #[default]
    Tail,
    /// Every tenth line, the tenth, the twentieth, ..
    TenthLine,
}

/// Plain text in files.
#[derive(Clone, Debug)]
pub struct TextCorpus {
    files: Vec<PathBuf>,
    empty: Vec<String>,
    bytes: u64,
    characters: u64,
    letters: BTreeSet<char>,
    in_memory: u64,
}

/// A text as samples.
pub struct TextSets {
    /// Windows to learn, and those held out.
    pub data: DataSets,
    /// UTF-8 bytes that are held out.
    pub held_bytes: u64,
}

impl TextCorpus {
    /// Surveys UTF-8 files, in the order given; of a folder, its `.txt` files by name. Files without a visible
    /// character are left out and counted.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut corpus = Self {
            files: Vec::new(),
            empty: Vec::new(),
            bytes: 0,
            characters: 0,
            letters: BTreeSet::new(),
            in_memory: IN_MEMORY,
        };
        for path in paths {
            for file in files(path)? {
                let mut visible = false;
                pieces(&file, |piece| {
                    visible = visible || !piece.trim().is_empty();
                    Ok(())
                })?;
                if visible {
                    corpus.files.push(file);
                } else {
                    corpus.empty.push(file.display().to_string());
                }
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
        let (mut bytes, mut characters, mut letters) = (0, 0, BTreeSet::new());
        corpus.each_piece(|piece| {
            (bytes, characters) = (bytes + piece.len() as u64, characters + piece.chars().count() as u64);
            letters.extend(piece.chars());
            Ok(())
        })?;
        Ok(Self { bytes, characters, letters, ..corpus })
    }

    /// Calls `take` with the text of all files, a line or a piece of a long one at a time.
    fn each_piece(&self, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut ended = true;
        for file in &self.files {
            if !ended {
                take("\n")?;
            }
            pieces(file, |piece| {
                ended = piece.ends_with('\n');
                take(piece)
            })?;
        }
        Ok(())
    }

    /// Calls `take` with the pieces of the training part (false) and of what is held out (true).
    fn each_part(&self, held: HoldOut, mut take: impl FnMut(bool, &str) -> Result<()>) -> Result<()> {
        let mut splitter = Splitter { held, learned: self.characters * 9 / 10, line: 0, character: 0 };
        self.each_piece(|piece| splitter.split(piece, &mut take))
    }

    /// The tokenizer of this text. Characters come from all of it; a BPE is learned from the training part, or from lines
    /// evenly spread over it when it is large.
    pub fn tokenizer(&self, kind: TokenizerKind, held: HoldOut) -> Result<Tokenizer> {
        let size = match kind {
            TokenizerKind::Characters => {
                return Tokenizer::characters(&self.letters.iter().collect::<String>());
            }
            TokenizerKind::Bpe(size) => size,
        };
        let every = self.bytes.div_ceil(FOR_TOKENIZER).max(1);
        let (mut lines, mut seen) = (Vec::new(), 0u64);
        self.each_part(held, |held, piece| {
            if !held {
                if seen.is_multiple_of(every) {
                    lines.push(piece.to_owned());
                }
                seen += 1;
            }
            Ok(())
        })?;
        Tokenizer::train(lines.iter(), size, &[])
    }

    /// The training part and what is held out, in windows of `length` predictions. The tokens of a large text are kept in
    /// files in `dir` as long as the sets live.
    pub fn sets(&self, tokenizer: &Tokenizer, length: usize, held: HoldOut, dir: &Path) -> Result<TextSets> {
        let large = self.bytes > self.in_memory;
        let part = |name: &str| -> Result<Encoder<'_>> {
            let file = large.then(|| dir.join(format!(".{name}.tokens")));
            Ok(Encoder { tokenizer, text: String::new(), writer: TokenWriter::new(file.as_deref())? })
        };
        let mut parts = [part("train")?, part("validation")?];
        let mut held_bytes = 0;
        self.each_part(held, |held, piece| {
            held_bytes += if held { piece.len() as u64 } else { 0 };
            parts[usize::from(held)].push(piece)
        })?;
        sets_of(parts, length, self.bytes).map(|data| TextSets { data, held_bytes })
    }

    /// What was read and what was left out.
    pub fn report(&self) -> serde_json::Value {
        serde_json::json!({
            "files": self.files,
            "bytes": self.bytes,
            "characters": self.characters,
            "empty_files": self.empty,
        })
    }

    /// What was left out, by reason.
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let empty = self.empty.len() as u64;
        (empty > 0).then(|| ("empty file".to_owned(), empty)).into_iter().collect()
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

/// Calls `take` with a file's lines, their ends included; a long line comes in pieces.
fn pieces(path: &Path, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let failed = |e| Error::io("read the text", path, e);
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
    let (mut bytes, mut line) = (Vec::new(), 1);
    loop {
        let room = (PIECE - bytes.len()) as u64;
        let read = reader.by_ref().take(room).read_until(b'\n', &mut bytes).map_err(failed)?;
        let whole = match std::str::from_utf8(&bytes) {
            Ok(text) => text.len(),
            // The rest of a character may be in the next piece.
            Err(e) if e.error_len().is_none() && read > 0 && !bytes.ends_with(b"\n") => e.valid_up_to(),
            Err(_) => {
                return Err(Error::Syntax {
                    file: path.display().to_string(),
                    line,
                    column: 0,
                    reason: "the text is not UTF-8".into(),
                    remedy: "save the file as UTF-8".into(),
                });
            }
        };
        let ended = bytes.ends_with(b"\n");
        if whole > 0 {
            take(&String::from_utf8_lossy(&bytes[..whole]))?;
        }
        bytes.drain(..whole);
        line += usize::from(ended);
        if read == 0 && bytes.is_empty() {
            return Ok(());
        }
    }
}

/// Tells what is held out.
struct Splitter {
    held: HoldOut,
    /// Characters of the training part, where the tail is held out.
    learned: u64,
    line: u64,
    character: u64,
}

impl Splitter {
    fn split(&mut self, piece: &str, take: &mut impl FnMut(bool, &str) -> Result<()>) -> Result<()> {
        match self.held {
            HoldOut::TenthLine => {
                let held = self.line % 10 == 9;
                self.line += u64::from(piece.ends_with('\n'));
                take(held, piece)
            }
            HoldOut::Tail => {
                let left = self.learned.saturating_sub(self.character);
                self.character += piece.chars().count() as u64;
                let at = usize::try_from(left).ok().and_then(|left| piece.char_indices().nth(left));
                let (learned, held) = piece.split_at(at.map_or(piece.len(), |(at, _)| at));
                for (held, text) in [(false, learned), (true, held)] {
                    if !text.is_empty() {
                        take(held, text)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Encodes a text as it comes, a paragraph (up to and with its blank lines) at a time, which takes a fraction of the
/// memory.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    text: String,
    writer: TokenWriter,
}

impl Encoder<'_> {
    fn push(&mut self, piece: &str) -> Result<()> {
        // The blank lines go with what stands before them.
        if (self.text.ends_with("\n\n") && !piece.starts_with('\n')) || self.text.len() >= PIECE {
            self.flush()?;
        }
        self.text += piece;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.text.is_empty() {
            self.writer.push(&self.tokenizer.encode(&self.text)?)?;
            self.text.clear();
        }
        Ok(())
    }
}

struct Windows {
    tokens: Tokens,
    hash: String,
    length: usize,
    /// The first read that failed.
    failed: Mutex<Option<Error>>,
}

impl SampleSource for Windows {
    fn len(&self) -> usize {
        self.tokens.len().saturating_sub(1).div_ceil(self.length)
    }

    /// A window somewhere in the text.
    fn sample(&self, _index: usize, noise: &mut Stream) -> Sample {
        let last = self.tokens.len().saturating_sub(self.length + 1);
        self.window(noise.below(last + 1))
    }

    /// The windows one after the other: together they predict every token but the first once.
    fn fixed(&self, index: usize) -> Sample {
        self.window(index * self.length)
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }

    fn check(&self) -> Result<()> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

impl Windows {
    fn window(&self, start: usize) -> Sample {
        let end = (start + self.length + 1).min(self.tokens.len());
        let ids = self.tokens.read(start.min(end)..end).unwrap_or_else(|error| {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            Vec::new()
        });
        let mut loss = vec![1.0; ids.len()];
        loss.iter_mut().take(1).for_each(|weight| *weight = 0.0);
        Sample::new(ids, loss)
    }
}

/// Splits a text: the first nine tenths of its characters to learn from, the rest held out.
pub fn text_sets(text: &str, tokenizer: &Tokenizer, length: usize) -> Result<DataSets> {
    let part = || -> Result<Encoder<'_>> {
        Ok(Encoder { tokenizer, text: String::new(), writer: TokenWriter::new(None)? })
    };
    let mut parts = [part()?, part()?];
    let learned = text.chars().count() as u64 * 9 / 10;
    let mut splitter = Splitter { held: HoldOut::Tail, learned, line: 0, character: 0 };
    for line in text.split_inclusive('\n') {
        splitter.split(line, &mut |held, piece| parts[usize::from(held)].push(piece))?;
    }
    sets_of(parts, length, text.len() as u64)
}

fn sets_of(parts: [Encoder<'_>; 2], length: usize, bytes: u64) -> Result<DataSets> {
    let windows = |mut part: Encoder<'_>, what: &str| {
        part.flush()?;
        let (tokens, hash) = part.writer.finish()?;
        if tokens.len() < 2 {
            return Err(Error::Data {
                source_name: format!("{bytes} bytes of text"),
                reason: format!("the {what} part is empty"),
                remedy: "give more text".into(),
            });
        }
        Ok(Box::new(Windows { tokens, hash, length, failed: Mutex::default() }))
    };
    let [train, held] = parts;
    Ok(DataSets { train: windows(train, "training")?, validation: windows(held, "validation")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(source: &dyn SampleSource) -> Vec<u32> {
        (0..source.len()).flat_map(|i| source.fixed(i).ids.into_iter().skip(1)).collect()
    }

    fn corpus(dir: &Path, text: &str) -> TextCorpus {
        std::fs::write(dir.join("text.txt"), text).unwrap();
        TextCorpus::read(&[dir.join("text.txt")]).unwrap()
    }

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
        let dir = tempfile::tempdir().unwrap();
        let text: String = (1..=25).map(|n| format!("line {n}\n")).collect();
        let corpus = corpus(dir.path(), &text);
        let tokenizer = corpus.tokenizer(TokenizerKind::Characters, HoldOut::TenthLine).unwrap();
        let sets = corpus.sets(&tokenizer, 8, HoldOut::TenthLine, dir.path()).unwrap();
        let text = |source: &dyn SampleSource| tokenizer.decode(&all(source));
        assert_eq!(text(&*sets.data.validation), "line 10\nline 20\n"[1..]);
        assert_eq!(sets.held_bytes, 16);
        let learned = text(&*sets.data.train);
        assert!(
            learned.lines().count() == 23 && learned.contains("line 21\n") && !learned.contains("line 10\n")
        );
    }

    #[test]
    fn paragraphs_encode_to_the_same_ids_as_the_whole() {
        let text = "One two.\nthree\n\nFour\n\n\n\nfive  six\n\n ".repeat(5);
        let dir = tempfile::tempdir().unwrap();
        for kind in [TokenizerKind::Characters, TokenizerKind::Bpe(300)] {
            let tokenizer = corpus(dir.path(), &text).tokenizer(kind, HoldOut::Tail).unwrap();
            let sets = text_sets(&text, &tokenizer, 6).unwrap();
            let ids = [all(&*sets.train), all(&*sets.validation)];
            let at = text.chars().count() * 9 / 10;
            let held = tokenizer.decode(&ids[1]);
            assert!(text[at..].ends_with(&held) && held.len() + 8 > text.len() - at, "{held}");
            if kind == TokenizerKind::Characters {
                assert_eq!(ids[0], tokenizer.encode(&text[1..at]).unwrap());
            }
        }
    }

    #[test]
    fn tokens_on_the_disk_are_those_in_memory_and_go_with_the_sets() {
        let dir = tempfile::tempdir().unwrap();
        let text: String =
            (0..500).map(|n| format!("Zeile {n} — äöü\n{}", if n % 7 == 0 { "\n" } else { "" })).collect();
        let corpus = corpus(dir.path(), &text);
        let small = TextCorpus { in_memory: 100, ..corpus.clone() };
        let tokens = |name: &str| dir.path().join(format!(".{name}.tokens"));
        for held in [HoldOut::Tail, HoldOut::TenthLine] {
            let tokenizer = corpus.tokenizer(TokenizerKind::Bpe(400), held).unwrap();
            let memory = corpus.sets(&tokenizer, 16, held, dir.path()).unwrap();
            assert!(!tokens("train").exists());
            let disk = small.sets(&tokenizer, 16, held, dir.path()).unwrap();
            assert!(tokens("train").exists() && tokens("validation").exists());
            assert_eq!(memory.held_bytes, disk.held_bytes);
            for (a, b) in
                [(&memory.data.train, &disk.data.train), (&memory.data.validation, &disk.data.validation)]
            {
                assert_eq!((a.hash(), a.len(), all(&**a)), (b.hash(), b.len(), all(&**b)));
                let draw =
                    |source: &dyn SampleSource| source.sample(3, &mut crate::seed::Seed::new(4).stream());
                assert_eq!(draw(&**a), draw(&**b));
            }
            // A disk that fails is told of, once.
            std::fs::OpenOptions::new().write(true).open(tokens("train")).unwrap().set_len(8).unwrap();
            assert!(disk.data.train.fixed(1).ids.is_empty());
            assert!(disk.data.train.check().unwrap_err().to_string().contains("tokens"));
            disk.data.train.check().unwrap();
            drop(disk);
            assert!(!tokens("train").exists());
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
        let mut text = String::new();
        corpus
            .each_piece(|piece| {
                text += piece;
                Ok(())
            })
            .unwrap();
        assert_eq!(text, "first\nfirst");
        assert!(corpus.report()["empty_files"][0].as_str().unwrap().ends_with("b.txt"));
        assert!(TextCorpus::read(&[at("b.txt")]).unwrap_err().to_string().contains("no text"));
        assert!(TextCorpus::read(&[at("none.txt")]).unwrap_err().to_string().contains("check the path"));
        std::fs::write(at("d.txt"), b"good\nbad \xff").unwrap();
        assert!(TextCorpus::read(&[at("d.txt")]).unwrap_err().to_string().contains("d.txt:2"));
        // A long line comes in pieces, none of which cuts a character.
        let long = "ä".repeat(PIECE);
        std::fs::write(at("e.txt"), format!("x{long}\nend")).unwrap();
        let mut text = String::new();
        pieces(&at("e.txt"), |piece| {
            text += piece;
            Ok(())
        })
        .unwrap();
        assert!(text == format!("x{long}\nend"));
        std::fs::write(at("f.txt"), b"cut \xc3").unwrap();
        assert!(TextCorpus::read(&[at("f.txt")]).unwrap_err().to_string().contains("f.txt:1"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_lost_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            std::fs::write(&path, &bytes).unwrap();
            let mut text = String::new();
            let read = pieces(&path, |piece| { text += piece; Ok(()) });
            match std::str::from_utf8(&bytes) {
                Ok(whole) => prop_assert!(read.is_ok() && text == whole),
                Err(_) => prop_assert!(read.is_err()),
            }
        }
    }
}
