//! [`Histories`]: what each player of a store did, in order.

use super::events::EventView;
use crate::error::{Error, Result};
use crate::recording::Store;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// An event, its parts as numbers into [`Histories`]' lists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What happened.
    pub kind: u32,
    /// What it was about.
    pub subject: Option<u32>,
    /// How it went, where that is a number.
    pub value: Option<f32>,
    /// How it went, where that is a word.
    pub word: Option<u32>,
}

/// What one player did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The pseudonym.
    pub player: String,
    /// The fold the import put them into.
    pub fold: Option<u8>,
    /// The events, in order.
    pub events: Vec<Event>,
}

/// What each player did.
#[derive(Clone, Debug, Default)]
pub struct Histories {
    /// The players, in the order in which the store first knows them.
    pub players: Vec<History>,
    /// The kinds of events.
    pub kinds: Vec<String>,
    /// What events are about.
    pub subjects: Vec<String>,
    /// Outcomes that are words.
    pub words: Vec<String>,
    /// Events that were not used.
    pub dropped: u64,
    /// BLAKE3 of it all, pseudonyms left out.
    pub hash: String,
}

#[derive(Default)]
struct Index(HashMap<String, u32>);

impl Index {
    fn id(&mut self, list: &mut Vec<String>, name: &str) -> u32 {
        if let Some(id) = self.0.get(name) {
            return *id;
        }
        let id = list.len() as u32;
        list.push(name.to_owned());
        self.0.insert(name.to_owned(), id);
        id
    }
}

/// A payload's value as text; numbers and truth values as they are written.
fn text(value: &serde_json::Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        serde_json::Value::String(text) => Some(text.as_str().into()),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Some(value.to_string().into()),
        _ => None,
    }
}

impl Histories {
    /// Reads playtest stores. Events of kinds that the view leaves out, and those without its subject, are counted as
    /// dropped. Events that come after later ones (a clock was set back) keep their place in the order of recording.
    pub fn read(stores: &[PathBuf], view: &EventView) -> Result<Self> {
        let mut all = Self::default();
        let (mut kinds, mut subjects, mut words) = (Index::default(), Index::default(), Index::default());
        let mut players: HashMap<String, usize> = HashMap::new();
        for path in stores {
            let store = Store::open_read(path)?;
            let begun = store.sessions().map(|session| session.map(|s| (s.id, s.started_ms)));
            let begun: HashMap<_, _> = begun.collect::<Result<_>>()?;
            for event in store.events(None) {
                let event = event?;
                if !view.kinds.is_empty() && !view.kinds.contains(&event.kind) {
                    all.dropped += 1;
                    continue;
                }
                let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap_or_default();
                let subject = match view.subject.as_deref().map(|field| payload.get(field).and_then(text)) {
                    None => None,
                    Some(Some(name)) => Some(subjects.id(&mut all.subjects, &name)),
                    // An event about nothing still happened, unless nothing else is known of it.
                    Some(None) if view.outcome.is_some() || view.gaps || view.kinds.len() > 1 => None,
                    Some(None) => {
                        all.dropped += 1;
                        continue;
                    }
                };
                let outcome = view.outcome.as_ref().and_then(|outcome| payload.get(&outcome.field));
                let value = outcome.and_then(serde_json::Value::as_f64).map(|value| value as f32);
                let word = match (value, outcome.and_then(text)) {
                    (None, Some(word)) => Some(words.id(&mut all.words, &word)),
                    _ => None,
                };
                let at = *players.entry(event.player.clone()).or_insert_with(|| {
                    let fold = payload.get("fold").and_then(serde_json::Value::as_u64);
                    let fold = fold.and_then(|fold| u8::try_from(fold).ok());
                    all.players.push(History { player: event.player.clone(), fold, events: Vec::new() });
                    all.players.len() - 1
                });
                let started = begun.get(&event.session).copied().unwrap_or(0);
                let at_ms = started.saturating_add(i64::try_from(event.t_ms).unwrap_or(i64::MAX));
                let kind = kinds.id(&mut all.kinds, &event.kind);
                all.players[at].events.push(Event { at_ms, kind, subject, value, word });
            }
        }
        if all.players.is_empty() {
            let name = stores.first().map_or(Path::new("no store"), PathBuf::as_path);
            let reason = match all.dropped {
                0 => "there are no events".to_owned(),
                n => format!("none of the {n} events is of use"),
            };
            let remedy = "record some play, or mend `events` in the config";
            return Err(Error::Data {
                source_name: name.display().to_string(),
                reason,
                remedy: remedy.into(),
            });
        }
        all.hash = all.hashed();
        Ok(all)
    }

    fn hashed(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let text = |hasher: &mut blake3::Hasher, text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for list in [&self.kinds, &self.subjects, &self.words] {
            hasher.update(&(list.len() as u64).to_le_bytes());
            list.iter().for_each(|name| text(&mut hasher, name));
        }
        let mut bytes = Vec::new();
        for history in &self.players {
            bytes.clear();
            bytes.extend((history.events.len() as u64).to_le_bytes());
            for event in &history.events {
                bytes.extend(event.at_ms.to_le_bytes());
                bytes.extend(event.kind.to_le_bytes());
                bytes.extend(event.subject.map_or(0, |id| u64::from(id) + 1).to_le_bytes());
                bytes.extend(event.word.map_or(0, |id| u64::from(id) + 1).to_le_bytes());
                bytes.extend(event.value.map_or(u32::MAX, f32::to_bits).to_le_bytes());
            }
            hasher.update(&bytes);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.players.iter().map(|history| history.events.len()).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::recording::{Mapping, import};

    /// A store of rows `player kind subject time outcome`.
    pub(in crate::player) fn store(rows: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("rows"), dir.path().join("play.sqlite"));
        std::fs::write(&file, rows).unwrap();
        let mapping = r#"(format: Spaces, consent: Stated("a test"), player: 0, kind: In(1), subject: 2,
            time: (column: 3), values: {"score": 4}, folds: 5)"#;
        import(&Mapping::from_ron(mapping, "m").unwrap(), &[file], &path).unwrap();
        (dir, path)
    }

    #[test]
    fn histories_are_read_in_order_and_hashed_without_names() {
        let rows = "a Took x 10 5\nb Took y 11 6\na Took y 5 won\na Dropped x 20\n";
        let view = EventView {
            outcome: Some(crate::player::OutcomeView { field: "score".into(), bins: 2 }),
            ..EventView::default()
        };
        let read = |view: &EventView| {
            let (_dir, path) = store(rows);
            Histories::read(&[path], view).unwrap()
        };
        let all = read(&view);
        assert_eq!((all.players.len(), all.events(), all.dropped), (2, 4, 0));
        let a = &all.players[0];
        assert_eq!(a.events.iter().map(|e| e.at_ms).collect::<Vec<_>>(), [5000, 10_000, 20_000]);
        assert_eq!((a.events[1].value, a.events[0].word, a.events[2].value), (Some(5.0), Some(0), None));
        assert!(a.fold.is_some());
        // Another store has another key; the data is the same.
        assert_eq!(all.hash, read(&view).hash);
        let view = EventView { kinds: vec!["Dropped".into()], ..view };
        assert_eq!((read(&view).events(), read(&view).dropped), (1, 3));
        let none = EventView { kinds: vec!["Slept".into()], ..view };
        let (_dir, path) = store(rows);
        let error = Histories::read(&[path], &none).unwrap_err().to_string();
        assert!(error.contains("none of the 4 events"), "{error}");
    }
}
