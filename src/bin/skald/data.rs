//! What `--data` names: written corpora and recordings.

use bevy_skald::dialogue::{Corpus, PreferencePair, RecordedExchange, World, preference_pairs, read_picks};
use bevy_skald::recording::Store;
use bevy_skald::seed::Seed;
use bevy_skald::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The world that lines are spoken in when none is given: that of the village example.
const VILLAGE: &str = include_str!("../../../assets/worlds/village.world.ron");

/// Corpora and recordings, told apart by what the files are.
pub fn read(paths: &[PathBuf]) -> Result<(Corpus, Vec<(String, RecordedExchange)>)> {
    let mut corpus = Corpus::default();
    let mut recorded = Vec::new();
    for path in paths {
        if is_store(path)? {
            for event in Store::open_read(path)?.events(Some(RecordedExchange::KIND)) {
                let event = event?;
                recorded.push((format!("{}", event.session), event.parse()?));
            }
        } else {
            let more = Corpus::read(path)?;
            corpus.duplicates += more.duplicates;
            for dialogue in more.dialogues {
                if corpus.dialogues.iter().any(|known| known.id == dialogue.id) {
                    return Err(Error::Data {
                        source_name: path.display().to_string(),
                        reason: format!("the dialogue `{}` was read before", dialogue.id),
                        remedy: "give each corpus once".into(),
                    });
                }
                corpus.dialogues.push(dialogue);
            }
        }
    }
    if corpus.dialogues.is_empty() {
        return Err(Error::Data {
            source_name: paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
            reason: "there is no written corpus among the data".into(),
            remedy: "give a folder of .jsonl dialogues too (assets/dialogue)".into(),
        });
    }
    Ok((corpus, recorded))
}

/// Pairs of answers: picks from JSONL files, and what players read and clicked away from stores.
pub fn preferences(paths: &[PathBuf], seed: Seed) -> Result<Vec<PreferencePair>> {
    let mut pairs = Vec::new();
    for path in paths {
        if !is_store(path)? {
            pairs.extend(read_picks(path)?);
            continue;
        }
        let mut recorded = Vec::new();
        for event in Store::open_read(path)?.events(Some(RecordedExchange::KIND)) {
            let event = event?;
            recorded.push((format!("{}/{}", path.display(), event.session), event.parse()?));
        }
        pairs.extend(preference_pairs(&recorded, seed));
    }
    Ok(pairs)
}

fn is_store(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if ["db", "sqlite", "sqlite3"].contains(&extension) {
        return Ok(true);
    }
    let mut head = [0; 16];
    let mut file = File::open(path).map_err(|e| Error::io("open the data", path, e))?;
    let read = file.read(&mut head).map_err(|e| Error::io("read the data", path, e))?;
    Ok(head[..read].starts_with(b"SQLite format 3"))
}

/// The world of a file, or the village's.
pub fn world(path: Option<&Path>) -> Result<World> {
    match path {
        Some(path) => {
            let text = bevy_skald::files::read_text(path, 1 << 24, "read the world")?;
            World::from_ron(&text, &path.display().to_string())
        }
        None => World::from_ron(VILLAGE, "assets/worlds/village.world.ron"),
    }
}
