//! Levels from text, as `TheVGLC` and Boxoban write them: a character a tile, a line a row; many levels in a file stand under
//! lines that begin with `;`.

use super::ends::{Violation, ends};
use super::game::TileGame;
use super::grid::{Grid, LONGEST_SIDE, check_size};
use crate::error::{Error, Result};
use crate::files::read_text;
use std::path::{Path, PathBuf};

/// A level and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The file, and the number in it where it holds many.
    pub name: String,
    /// The file.
    pub file: String,
    /// The line of its first row, one-based.
    pub line: usize,
    /// Its theme: the folder it lies in, below the one that was given; empty where it lies in that itself.
    pub theme: String,
    /// Its tiles.
    pub grid: Grid,
}

/// A file of levels is at most this large.
pub const LARGEST_FILE: u64 = 1 << 26;

/// One level from text. `file` is for messages.
///
/// # Errors
/// [`Error::Syntax`] with line and column for a ragged line or a character that is no tile.
pub fn grid_from_text(game: &TileGame, text: &str, file: &str) -> Result<Grid> {
    let mut levels = levels_from_text(game, text, file)?;
    match levels.len() {
        1 => Ok(levels.swap_remove(0).grid),
        0 => Err(no_levels(file)),
        n => Err(Error::Data {
            source_name: file.to_owned(),
            reason: format!("there are {n} levels where one is expected"),
            remedy: "give a file of one".into(),
        }),
    }
}

/// All levels of a text.
///
/// # Errors
/// As [`grid_from_text`].
pub fn levels_from_text(game: &TileGame, text: &str, file: &str) -> Result<Vec<Level>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let many = lines.iter().any(|line| line.starts_with(';'));
    let mut levels = Vec::new();
    let mut block = Block { rows: Vec::new(), first: 1 };
    let mut title = String::new();
    let stem =
        Path::new(file).file_stem().map_or_else(|| file.to_owned(), |s| s.to_string_lossy().into_owned());
    let mut flush = |block: &mut Block<'_>, title: &str| -> Result<()> {
        while block.rows.last().is_some_and(|row| row.is_empty()) {
            block.rows.pop();
        }
        if block.rows.is_empty() {
            return Ok(());
        }
        let name = if many { format!("{stem}#{title}") } else { stem.clone() };
        let grid = block.grid(game, file)?;
        let line = block.first;
        levels.push(Level { name, file: file.to_owned(), line, theme: String::new(), grid });
        block.rows.clear();
        Ok(())
    };
    for (n, line) in lines.into_iter().enumerate() {
        if let Some(rest) = line.strip_prefix(';') {
            flush(&mut block, &title)?;
            title = rest.trim().to_owned();
        } else if !(block.rows.is_empty() && line.is_empty()) {
            if block.rows.is_empty() {
                block.first = n + 1;
            }
            block.rows.push(line);
        }
    }
    flush(&mut block, &title)?;
    Ok(levels)
}

struct Block<'a> {
    rows: Vec<&'a str>,
    /// The line of the first row.
    first: usize,
}

impl Block<'_> {
    fn grid(&self, game: &TileGame, file: &str) -> Result<Grid> {
        let wrong = |row: usize, column: usize, reason: String, remedy: &str| Error::Syntax {
            file: file.to_owned(),
            line: self.first + row,
            column,
            reason,
            remedy: remedy.to_owned(),
        };
        let width = self.rows[0].chars().count();
        if width > LONGEST_SIDE || self.rows.len() > LONGEST_SIDE {
            check_size(width, self.rows.len(), file, "size")?;
        }
        let mut tiles = Vec::with_capacity(width * self.rows.len());
        for (y, row) in self.rows.iter().enumerate() {
            let length = row.chars().count();
            if length != width || length == 0 {
                let reason = format!("the row has {length} tiles, and the first has {width}");
                return Err(wrong(y, length.min(width) + 1, reason, "make all rows of a level as long"));
            }
            for (x, char) in row.chars().enumerate() {
                let unknown = || {
                    let reason = format!("`{}` is no tile of the game `{}`", char.escape_debug(), game.name);
                    wrong(y, x + 1, reason, "mend the level, or add the tile to the game's file")
                };
                tiles.push(game.tile(char).ok_or_else(unknown)?);
            }
        }
        Ok(Grid::from_rows(width, tiles))
    }
}

/// Reads levels from files and folders (their `.txt`, `.tmj`, `.tmx`, `.ldtk` and `.level.ron` files, and those of their
/// folders, whose names are themes). Levels are cut into rooms where the game says so.
///
/// # Errors
/// [`Error::Syntax`] with file, line and column, also where a level has no start, or two; [`Error::Data`] when there is
/// no level.
pub fn read_levels(game: &TileGame, paths: &[PathBuf]) -> Result<Vec<Level>> {
    let mut levels = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut found = 0;
            for (file, theme) in files_of(path)? {
                let mut more = read_file(game, &file)?;
                more.iter_mut().for_each(|level| level.theme.clone_from(&theme));
                found += more.len();
                levels.extend(more);
            }
            if found == 0 {
                return Err(no_levels(&path.display().to_string()));
            }
        } else {
            let more = read_file(game, path)?;
            if more.is_empty() {
                return Err(no_levels(&path.display().to_string()));
            }
            levels.extend(more);
        }
    }
    if levels.is_empty() {
        return Err(no_levels("--data"));
    }
    Ok(levels)
}

/// The files of levels in a folder and in its folders, sorted, each with its theme.
fn files_of(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).map_err(|e| Error::io("read the levels", folder, e))?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|e| Error::io("read the levels", folder, e))?.path());
        }
        paths.sort();
        Ok(paths)
    };
    let mut files = Vec::new();
    for path in list(folder)? {
        if path.is_dir() {
            let theme = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            files.extend(list(&path)?.into_iter().filter(|p| is_level(p)).map(|p| (p, theme.clone())));
        } else if is_level(&path) {
            files.push((path, String::new()));
        }
    }
    Ok(files)
}

fn is_level(path: &Path) -> bool {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    path.is_file() && [".txt", ".tmj", ".tmx", ".ldtk", ".level.ron"].iter().any(|end| name.ends_with(end))
}

fn read_file(game: &TileGame, path: &Path) -> Result<Vec<Level>> {
    let text = read_text(path, LARGEST_FILE, "read the levels")?;
    let levels = super::formats::levels_from(game, &text, &path.display().to_string())?;
    let Some(room) = game.room else {
        for level in &levels {
            check(game, level)?;
        }
        return Ok(levels);
    };
    let mut rooms = Vec::new();
    for level in levels {
        cut(game, &level, room, &mut rooms);
    }
    Ok(rooms)
}

/// Cuts a level into rooms; what has no start or goal is no room.
fn cut(game: &TileGame, level: &Level, (width, height): (usize, usize), rooms: &mut Vec<Level>) {
    for y in (0..level.grid.height() / height).map(|n| n * height) {
        for x in (0..level.grid.width() / width).map(|n| n * width) {
            let grid = level.grid.part(x, y, width, height);
            if ends(game, &grid).is_ok() {
                let name = format!("{}@{x},{y}", level.name);
                rooms.push(Level { name, grid, line: level.line + y, ..level.clone() });
            }
        }
    }
}

/// Whether a level keeps the rules that hold before anybody moves.
///
/// # Errors
/// [`Error::Syntax`] with the place.
pub fn check(game: &TileGame, level: &Level) -> Result<()> {
    ends(game, &level.grid).map(|_| ()).map_err(|Violation { rule, at }| Error::Syntax {
        file: level.file.clone(),
        line: level.line + at.map_or(0, |(_, y)| y),
        column: at.map_or(0, |(x, _)| x + 1),
        reason: format!("the level breaks the rule `{rule}`"),
        remedy: "mend the level, or the rule in the game's file".into(),
    })
}

fn no_levels(source: &str) -> Error {
    Error::Data {
        source_name: source.to_owned(),
        reason: "there is no level".into(),
        remedy: "give a folder of .txt files, a character a tile, a line a row".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::{dungeon, platformer, sokoban};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_level_or_many_are_read_and_written_alike() {
        let game = sokoban();
        let text = "; 0\n#####\n#@$.#\n#####\n\n; 1\r\n####\r\n#@ #\r\n";
        let levels = levels_from_text(&game, text, "dir/b.txt").unwrap();
        assert_eq!((levels.len(), levels[1].name.as_str(), levels[1].line), (2, "b#1", 7));
        assert_eq!(levels[0].grid.to_text(&game), "#####\n#@$.#\n#####\n");
        assert_eq!(grid_from_text(&game, "#@\n$.\n\n", "x").unwrap().height(), 2);
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        let game = platformer();
        let error = |text: &str| levels_from_text(&game, text, "a.txt").unwrap_err().to_string();
        assert!(error("--X\n--\n").contains("a.txt:2:3"), "{}", error("--X\n--\n"));
        assert!(error("--X\n-?X\n").contains("a.txt:2:2"));
        let level = |text: &str| levels_from_text(&dungeon(), text, "a.txt").unwrap().swap_remove(0);
        let two = check(&dungeon(), &level("@..\n.@>\n")).unwrap_err().to_string();
        assert!(two.contains("a.txt:2:2"), "{two}");
        assert!(check(&dungeon(), &level("...\n..>\n")).unwrap_err().to_string().contains("a.txt:1"));
    }

    #[test]
    fn an_empty_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_levels(&platformer(), &[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no level"), "{error}");
        std::fs::create_dir(dir.path().join("cave")).unwrap();
        std::fs::write(dir.path().join("cave/a.txt"), "--\nXX\n").unwrap();
        assert_eq!(read_levels(&platformer(), &[dir.path().to_owned()]).unwrap()[0].theme, "cave");
    }

    proptest! {
        #[test]
        fn any_text_is_levels_or_one_error(text in "[ #@$.;\n\r0-9é-]{0,120}") {
            let game = sokoban();
            if let Ok(levels) = levels_from_text(&game, &text, "f") {
                for level in levels {
                    let again = grid_from_text(&game, &level.grid.to_text(&game), "g").unwrap();
                    prop_assert_eq!(again, level.grid);
                }
            }
        }
    }
}
