//! Levels in the files of other tools: Tiled's TMX and JSON, `LDtk`, RON. Each keeps a tile's character, so that what was
//! exported comes back the same.

mod ldtk;
mod ron;
mod tiled;

use super::game::TileGame;
use super::grid::{Grid, check_size};
use super::read::{Level, levels_from_text};
use crate::error::{Error, Result};
use std::path::Path;

/// A file format of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelFormat {
    /// A character a tile, a line a row (`TheVGLC`).
    Text,
    /// Tiled's XML.
    Tmx,
    /// Tiled's JSON.
    Tmj,
    /// `LDtk`.
    Ldtk,
    /// `(rows: ["--X", ..])`.
    Ron,
}

impl LevelFormat {
    /// The format of a file's name.
    pub fn of(file: &str) -> Self {
        [(".tmx", Self::Tmx), (".tmj", Self::Tmj), (".ldtk", Self::Ldtk), (".ron", Self::Ron)]
            .into_iter()
            .find(|(end, _)| file.ends_with(end))
            .map_or(Self::Text, |(_, format)| format)
    }

    /// A level in this format.
    pub fn write(self, game: &TileGame, grid: &Grid) -> String {
        match self {
            Self::Text => grid.to_text(game),
            Self::Tmx => tiled::tmx(game, grid),
            Self::Tmj => tiled::tmj(game, grid),
            Self::Ldtk => ldtk::write(game, grid),
            Self::Ron => ron::write(game, grid),
        }
    }
}

/// All levels of a file, whose name says what it is.
///
/// # Errors
/// [`Error::Syntax`] or [`Error::Config`] naming the file, and the line and column or the field.
pub fn levels_from(game: &TileGame, text: &str, file: &str) -> Result<Vec<Level>> {
    let grids = match LevelFormat::of(file) {
        LevelFormat::Text => return levels_from_text(game, text, file),
        LevelFormat::Tmx => vec![tiled::from_tmx(game, text, file)?],
        LevelFormat::Tmj => vec![tiled::from_tmj(game, text, file)?],
        LevelFormat::Ldtk => ldtk::read(game, text, file)?,
        LevelFormat::Ron => vec![ron::read(game, text, file)?],
    };
    let stem =
        Path::new(file).file_stem().map_or_else(|| file.to_owned(), |s| s.to_string_lossy().into_owned());
    let many = grids.len() > 1;
    let level = |(n, grid)| Level {
        name: if many { format!("{stem}#{n}") } else { stem.clone() },
        file: file.to_owned(),
        line: 1,
        theme: String::new(),
        grid,
    };
    Ok(grids.into_iter().enumerate().map(level).collect())
}

/// A grid of a file's size and tiles, each found by `tile`.
fn grid(
    (width, height): (usize, usize),
    file: &str,
    field: &str,
    count: usize,
    tile: impl Fn(usize) -> Option<u8>,
) -> Result<Grid> {
    check_size(width, height, file, field)?;
    let wrong = |reason: String| Error::config(file, field, reason, "export the level again");
    if count != width * height {
        return Err(wrong(format!("there are {count} tiles for {width} x {height}")));
    }
    let mut tiles = Vec::with_capacity(count);
    for i in 0..count {
        let place = format!("column {}, row {}", i % width + 1, i / width + 1);
        tiles.push(tile(i).ok_or_else(|| wrong(format!("the tile at {place} is none of this game's")))?);
    }
    Ok(Grid::from_rows(width, tiles))
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::super::read::grid_from_text;
    use super::*;
    use proptest::prelude::*;

    const ALL: [(LevelFormat, &str); 5] = [
        (LevelFormat::Text, "a.txt"),
        (LevelFormat::Tmx, "a.tmx"),
        (LevelFormat::Tmj, "a.tmj"),
        (LevelFormat::Ldtk, "a.ldtk"),
        (LevelFormat::Ron, "a.level.ron"),
    ];

    #[test]
    fn every_format_brings_a_level_back() {
        let game = platformer();
        let level = grid_from_text(&game, "--E-\n-=H~\nXXBX\n", "t").unwrap();
        for (format, file) in ALL {
            assert_eq!(LevelFormat::of(file), format);
            let text = format.write(&game, &level);
            let back = levels_from(&game, &text, file).unwrap();
            assert_eq!((back.len(), &back[0].grid), (1, &level), "{text}");
        }
    }

    #[test]
    fn damaged_files_are_one_error_that_names_them() {
        let game = platformer();
        let level = grid_from_text(&game, "--\nXX\n", "t").unwrap();
        for (format, file) in &ALL[1..] {
            let text = format.write(&game, &level);
            let larger = text.replace('2', "70000");
            for broken in
                [text[..text.len() / 2].to_owned(), larger, String::new()].iter().filter(|b| **b != text)
            {
                let error = levels_from(&game, broken, file).unwrap_err().to_string();
                assert!(error.contains(file), "{error}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_change_of_a_file_is_levels_or_one_error(which in 1usize..5, at: prop::sample::Index, with in ".{0,3}") {
            let game = platformer();
            let level = grid_from_text(&game, "--\nXX\n", "t").unwrap();
            let mut text: Vec<char> = ALL[which].0.write(&game, &level).chars().collect();
            let at = at.index(text.len());
            text.splice(at..at + 1, with.chars());
            let _ = levels_from(&game, &text.into_iter().collect::<String>(), ALL[which].1);
        }
    }
}
