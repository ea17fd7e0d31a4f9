//! Levels in the files of other tools: Tiled's TMX and JSON, LDtk, RON.

use super::game::TileGame;
use super::read::{Level, levels_from_text};
use crate::error::Result;

/// All levels of a file, whose name says what it is.
pub fn levels_from(game: &TileGame, text: &str, file: &str) -> Result<Vec<Level>> {
    levels_from_text(game, text, file)
}
