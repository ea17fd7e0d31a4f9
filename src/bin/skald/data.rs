//! What `--data` and `--world` name: pairs of answers, and the world.

use bevy_skald::Result;
use bevy_skald::dialogue::{Preferences, RecordedExchange, World, read_picks};
use bevy_skald::recording::Store;
use bevy_skald::seed::Seed;
use std::path::{Path, PathBuf};

/// The world that lines are spoken in when none is given: that of the village example.
const VILLAGE: &str = include_str!("../../../assets/worlds/village.world.ron");

/// Pairs of answers: picks from JSONL files, and what players read and clicked away from stores. `least` as in
/// [`Preferences::new`].
pub fn preferences(paths: &[PathBuf], least: usize, seed: Seed) -> Result<Preferences> {
    let (mut picks, mut recorded) = (Vec::new(), Vec::new());
    // Folders are corpora.
    for path in paths.iter().filter(|path| !path.is_dir()) {
        if !Store::is_at(path)? {
            picks.extend(read_picks(path)?);
            continue;
        }
        for event in Store::open_read(path)?.events(Some(RecordedExchange::KIND)) {
            let event = event?;
            recorded.push((format!("{}/{}", path.display(), event.session), event.parse()?));
        }
    }
    Preferences::new(&recorded, picks, least, seed)
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
