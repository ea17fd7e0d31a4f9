//! A level as RON: `(rows: ["--X", ..])`.

use super::super::game::TileGame;
use super::super::grid::Grid;
use super::super::read::grid_from_text;
use crate::error::Result;
use crate::files::parse_ron;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    rows: Vec<String>,
}

pub(super) fn write(game: &TileGame, grid: &Grid) -> String {
    let rows: Vec<String> = grid.to_text(game).lines().map(|row| format!("        {row:?},\n")).collect();
    format!("(\n    rows: [\n{}    ],\n)\n", rows.concat())
}

pub(super) fn read(game: &TileGame, text: &str, file: &str) -> Result<Grid> {
    let Rows { rows } = parse_ron(text, file)?;
    grid_from_text(game, &rows.join("\n"), file)
}
