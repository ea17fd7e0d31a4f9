//! [`Grid`]: a level as a rectangle of tiles.

use super::game::TileGame;
use crate::error::{Error, Result};

/// The longest side of a level, in cells.
pub const LONGEST_SIDE: usize = 4096;

/// A rectangle of tiles, each the index of one of its game's tiles.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    width: usize,
    height: usize,
    tiles: Vec<u8>,
}

impl Grid {
    /// A grid of one tile.
    ///
    /// # Errors
    /// [`Error::Config`] when a side is 0 or longer than [`LONGEST_SIDE`].
    pub fn new(width: usize, height: usize, tile: u8) -> Result<Self> {
        check_size(width, height, "options", "size")?;
        Ok(Self { width, height, tiles: vec![tile; width * height] })
    }

    /// From tiles row by row; `tiles.len()` must be `width * height`, both at least 1.
    pub(super) fn from_rows(width: usize, tiles: Vec<u8>) -> Self {
        debug_assert!(width > 0 && !tiles.is_empty() && tiles.len().is_multiple_of(width));
        Self { width, height: tiles.len() / width.max(1), tiles }
    }

    /// Cells in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Cells in a column.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The tile at a column and a row, which must be inside.
    pub fn at(&self, x: usize, y: usize) -> u8 {
        self.tiles[y * self.width + x]
    }

    /// The tile at a place that may be outside.
    pub fn get(&self, x: i32, y: i32) -> Option<u8> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        (x < self.width && y < self.height).then(|| self.at(x, y))
    }

    /// Puts a tile at a column and a row, which must be inside.
    pub fn set(&mut self, x: usize, y: usize, tile: u8) {
        self.tiles[y * self.width + x] = tile;
    }

    /// All tiles, row by row.
    pub fn tiles(&self) -> &[u8] {
        &self.tiles
    }

    /// Every cell: column, row, tile.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, u8)> + '_ {
        self.tiles.iter().enumerate().map(|(i, tile)| (i % self.width, i / self.width, *tile))
    }

    /// Columns and rows exchanged.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let tiles = (0..self.width).flat_map(|x| (0..self.height).map(move |y| self.at(x, y))).collect();
        Self { width: self.height, height: self.width, tiles }
    }

    /// Left and right exchanged.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        let tiles = self.tiles.chunks(self.width).flat_map(|row| row.iter().rev().copied()).collect();
        Self { width: self.width, height: self.height, tiles }
    }

    /// The eight images under rotation and mirror; the first is the grid itself.
    pub fn images(&self) -> [Self; 8] {
        let flip = |g: &Self| g.transposed().mirrored().transposed();
        let (a, b) = (self.clone(), self.transposed());
        let (am, bm) = (a.mirrored(), b.mirrored());
        [a.clone(), am.clone(), flip(&a), flip(&am), b.clone(), bm.clone(), flip(&b), flip(&bm)]
    }

    /// A part of it, which must be inside.
    #[must_use]
    pub fn part(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        let tiles =
            (y..y + height).flat_map(|row| (x..x + width).map(move |col| self.at(col, row))).collect();
        Self { width, height, tiles }
    }

    /// How many cells differ; `None` when the sizes do.
    pub fn distance(&self, other: &Self) -> Option<usize> {
        let same = (self.width, self.height) == (other.width, other.height);
        same.then(|| self.tiles.iter().zip(&other.tiles).filter(|(a, b)| a != b).count())
    }

    /// The level as text, a character a tile, a line a row.
    pub fn to_text(&self, game: &TileGame) -> String {
        let mut text = String::with_capacity(self.tiles.len() + self.height);
        for row in self.tiles.chunks(self.width) {
            text.extend(row.iter().map(|tile| game.char_of(*tile)));
            text.push('\n');
        }
        text
    }
}

/// Refuses sizes that make no level, before anything is allocated for them.
pub fn check_size(width: usize, height: usize, file: &str, field: &str) -> Result<()> {
    let side = 1..=LONGEST_SIDE;
    if side.contains(&width) && side.contains(&height) {
        return Ok(());
    }
    let reason = format!("a level of {width} x {height} cells cannot be");
    Err(Error::config(file, field, reason, format!("choose sides of 1 to {LONGEST_SIDE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_eight_and_each_is_found_again() {
        let grid = Grid::from_rows(3, vec![0, 1, 2, 3, 4, 5]);
        let images = grid.images();
        for (i, a) in images.iter().enumerate() {
            assert!(images[i + 1..].iter().all(|b| a != b), "{a:?}");
            assert!(a.images().contains(&grid));
        }
        assert_eq!(grid.part(1, 0, 2, 2).tiles(), [1, 2, 4, 5]);
        assert_eq!(grid.distance(&grid.mirrored()), Some(4));
        assert_eq!(grid.distance(&grid.transposed()), None);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(Grid::new(0, 5, 0).unwrap_err().to_string().contains("0 x 5"));
        assert!(Grid::new(5, 1 << 40, 0).is_err());
        assert_eq!(Grid::new(1, 1, 3).unwrap().at(0, 0), 3);
    }
}
