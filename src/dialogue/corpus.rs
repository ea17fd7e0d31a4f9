//! The written corpus: dialogues as JSONL, one per line, that a writer can extend.
//!
//! ```json
//! {"id":"gruff/thanks/1","voice":"gruff","situation":"thanks","turns":[
//!  {"speaker":"player","says":["Thank you.","cheers"]},
//!  {"speaker":"npc","act":"Refuse","says":"Don't make a song of it.","slots":[]}]}
//! ```
//! `says` of a player are paraphrases of one another (none: the player just walks up). `slots` lists those
//! of the line, so that a typing mistake in one is found.

use super::act::Act;
use super::slot::{Slot, pieces, slots_of};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::text::{clean_line, group_by_shared_lines, normalise};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The largest corpus file that is read.
const LARGEST: u64 = 256 << 20;

/// A written dialogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialogue {
    /// Unique in the corpus.
    pub id: String,
    /// Who speaks: a voice of the model.
    pub voice: String,
    /// What it is about ("`directions_person`").
    pub situation: String,
    /// Player and NPC, in turn; the player first.
    pub turns: Vec<CorpusTurn>,
}

/// A turn of a written dialogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "speaker", rename_all = "lowercase", deny_unknown_fields)]
pub enum CorpusTurn {
    /// The player, in several paraphrases.
    Player {
        /// The paraphrases; none: they just walk up.
        says: Vec<String>,
    },
    /// The NPC.
    Npc {
        /// What the line does.
        act: Act,
        /// The line.
        says: String,
        /// Its slots, in order, each once.
        slots: Vec<String>,
    },
}

impl Dialogue {
    /// The NPC's lines.
    pub fn lines(&self) -> impl Iterator<Item = (Act, &str)> {
        self.turns.iter().filter_map(|turn| match turn {
            CorpusTurn::Npc { act, says, .. } => Some((*act, says.as_str())),
            CorpusTurn::Player { .. } => None,
        })
    }

    /// Whether a line of it uses `slot`.
    pub fn uses(&self, slot: Slot) -> bool {
        self.lines().any(|(_, line)| slots_of(line).contains(&slot))
    }

    fn check(&mut self) -> Result<(), String> {
        if self.turns.len() < 2 || !self.turns.len().is_multiple_of(2) {
            return Err("a dialogue is player, npc, player, npc ..".into());
        }
        let plain = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        if !plain(&self.voice) || !plain(&self.situation) {
            return Err("`voice` and `situation` are plain words (letters, digits, _ and -)".into());
        }
        for (at, turn) in self.turns.iter_mut().enumerate() {
            match turn {
                CorpusTurn::Player { says } if at % 2 == 0 => {
                    for text in says {
                        *text = clean_line(text);
                        pieces(text)?;
                        if text.is_empty() {
                            return Err("a paraphrase is empty".into());
                        }
                    }
                }
                CorpusTurn::Npc { says, slots, .. } if at % 2 == 1 => {
                    *says = clean_line(says);
                    if says.is_empty() {
                        return Err("the NPC's line is empty".into());
                    }
                    pieces(says)?;
                    let used = unique_slots(says);
                    if used.iter().map(|slot| slot.name()).ne(slots.iter().map(String::as_str)) {
                        let used: Vec<_> = used.iter().map(|slot| slot.name()).collect();
                        return Err(format!("`slots` says {slots:?} but the line uses {used:?}"));
                    }
                }
                _ => return Err("turns go player, npc, player, npc ..".into()),
            }
        }
        Ok(())
    }
}

/// The slots of a line in order of first use, each once.
pub fn unique_slots(line: &str) -> Vec<Slot> {
    let mut seen = Vec::new();
    for slot in slots_of(line) {
        if !seen.contains(&slot) {
            seen.push(slot);
        }
    }
    seen
}

/// A corpus as read: cleaned, checked, without doubles.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// The dialogues, in the order of files and lines.
    pub dialogues: Vec<Dialogue>,
    /// How many were dropped because every line of theirs stood before.
    pub duplicates: usize,
}

impl Corpus {
    /// Reads a `.jsonl` file, or all those in a folder (by name). The first bad line is an error naming it.
    pub fn read(path: &Path) -> Result<Self> {
        let mut corpus = Self::default();
        for file in files(path)? {
            let text = read_text(&file, LARGEST, "read the corpus")?;
            corpus.add(&text, &file.display().to_string())?;
        }
        if corpus.dialogues.is_empty() {
            return Err(Error::Data {
                source_name: path.display().to_string(),
                reason: "the corpus is empty".into(),
                remedy: "give .jsonl files with one dialogue a line".into(),
            });
        }
        Ok(corpus)
    }

    /// Adds the dialogues of a JSONL text.
    pub fn add(&mut self, text: &str, file: &str) -> Result<()> {
        let mut ids: HashSet<String> = self.dialogues.iter().map(|d| d.id.clone()).collect();
        let mut seen: HashSet<String> =
            self.dialogues.iter().flat_map(|d| d.lines().map(|(_, line)| normalise(line))).collect();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |column: usize, reason: String| Error::Syntax {
                file: file.to_owned(),
                line: number + 1,
                column,
                reason,
                remedy: "mend that line (assets/dialogue/README.md has the schema)".into(),
            };
            let mut dialogue: Dialogue =
                serde_json::from_str(line).map_err(|e| wrong(e.column(), plain_json_error(&e)))?;
            dialogue.check().map_err(|reason| wrong(0, reason))?;
            if !ids.insert(dialogue.id.clone()) {
                return Err(wrong(0, format!("the id `{}` stands twice", dialogue.id)));
            }
            let lines: Vec<String> = dialogue.lines().map(|(_, line)| normalise(line)).collect();
            let fresh = lines.iter().filter(|line| !seen.contains(*line)).count();
            seen.extend(lines);
            if fresh == 0 {
                self.duplicates += 1;
            } else {
                self.dialogues.push(dialogue);
            }
        }
        Ok(())
    }

    /// The voices, sorted.
    pub fn voices(&self) -> Vec<String> {
        let mut voices: Vec<String> = self.dialogues.iter().map(|d| d.voice.clone()).collect();
        voices.sort();
        voices.dedup();
        voices
    }

    /// BLAKE3 over all dialogues.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for dialogue in &self.dialogues {
            hasher.update(serde_json::to_string(dialogue).unwrap_or_default().as_bytes());
            hasher.update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The part each dialogue belongs to: about one in twenty validates, one in twenty tests. Dialogues that
    /// share a line (of the NPC, normalised) stay together, so no held-out line is in the training part.
    pub fn parts(&self) -> Vec<Part> {
        let lines: Vec<Vec<String>> =
            self.dialogues.iter().map(|d| d.lines().map(|(_, line)| normalise(line)).collect()).collect();
        let groups = group_by_shared_lines(&lines);
        let mut first: std::collections::HashMap<usize, &str> = std::collections::HashMap::new();
        for (dialogue, group) in self.dialogues.iter().zip(&groups) {
            let id = first.entry(*group).or_insert(&dialogue.id);
            if dialogue.id.as_str() < *id {
                *id = &dialogue.id;
            }
        }
        groups.iter().map(|group| Part::of(first[group])).collect()
    }

    /// The dialogues of one part.
    pub fn part(&self, wanted: Part) -> impl Iterator<Item = &Dialogue> {
        self.dialogues.iter().zip(self.parts()).filter(move |(_, part)| *part == wanted).map(|(d, _)| d)
    }
}

/// What a dialogue is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Learned from.
    Training,
    /// Chooses among models while training.
    Validation,
    /// Seen by nothing before the evaluation.
    Test,
}

impl Part {
    /// The part of what is named so: a twentieth validates, a twentieth tests.
    pub fn of(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        match u64::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i])) % 20 {
            0 => Self::Validation,
            10 => Self::Test,
            _ => Self::Training,
        }
    }
}

fn plain_json_error(error: &serde_json::Error) -> String {
    // serde_json appends "at line 1 column 7", which is the line's own count and misleads here.
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listing = std::fs::read_dir(path).map_err(|e| Error::io("list the corpus folder", path, e))?;
    let mut found = Vec::new();
    for entry in listing {
        let file = entry.map_err(|e| Error::io("list the corpus folder", path, e))?.path();
        if file.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"id":"a","voice":"gruff","situation":"thanks","turns":[{"speaker":"player","says":["Thanks."]},{"speaker":"npc","act":"Refuse","says":"Go to {place}.","slots":["place"]}]}"#;

    fn read(text: &str) -> Result<Corpus> {
        let mut corpus = Corpus::default();
        corpus.add(text, "c.jsonl")?;
        Ok(corpus)
    }

    #[test]
    fn a_good_line_is_read_and_a_double_is_dropped() {
        let twice = format!("{GOOD}\n\n{}\n", GOOD.replace("\"id\":\"a\"", "\"id\":\"b\""));
        let corpus = read(&twice).unwrap();
        assert_eq!((corpus.dialogues.len(), corpus.duplicates), (1, 1));
    }

    #[test]
    fn bad_lines_are_named() {
        for (from, to, expected) in [
            ("{place}", "{plase}", "plase"),
            ("\"slots\":[\"place\"]", "\"slots\":[]", "slots"),
            ("Refuse", "Dance", "Dance"),
            ("\"id\":\"a\",", "\"id\":\"a\",\"colour\":1,", "colour"),
            ("\"id\":\"a\",", "", "id"),
            ("gruff", "<act:Greet>", "plain words"),
        ] {
            let error = read(&format!("\n{}", GOOD.replace(from, to))).unwrap_err().to_string();
            assert!(error.contains("c.jsonl:2") && error.contains(expected), "{error}");
        }
        assert!(read(&format!("{GOOD}\n{GOOD}")).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn dialogues_that_share_a_line_are_held_out_together() {
        let mut corpus = Corpus::default();
        for i in 0..200 {
            let text = GOOD
                .replace("\"id\":\"a\"", &format!("\"id\":\"{i}\""))
                .replace("Go to", &format!("Go {} to", i / 2));
            // The second of each pair has one line in common and one of its own.
            let more = format!(
                r#",{{"speaker":"player","says":[]}},{{"speaker":"npc","act":"Greet","says":"Own {i}.","slots":[]}}]}}"#
            );
            corpus.add(&(text.strip_suffix("]}").unwrap().to_owned() + &more), "c").unwrap();
        }
        let parts = corpus.parts();
        assert_eq!(parts.len(), 200);
        assert!(parts.chunks(2).all(|pair| pair[0] == pair[1]));
        for held in [Part::Validation, Part::Test] {
            let share = parts.iter().filter(|part| **part == held).count();
            assert!((2..30).contains(&share), "{held:?}: {share}");
            assert_eq!(corpus.part(held).count(), share);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = read(&text);
        }

        #[test]
        fn a_damaged_line_is_read_or_refused(at in 0..GOOD.len(), byte in 0u8..128) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}
