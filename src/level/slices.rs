//! A level as slices: the columns or rows of its scan, one after the other.

use super::ends::Cell;
use super::game::{Scan, TileGame};
use super::grid::Grid;

/// Marks a tile that the solution goes through.
pub(super) const ON_PATH: u8 = 0x80;

/// The tiles of a column (from the top) or a row (from the left), with [`ON_PATH`] where the solution goes.
pub(super) type Slice = Vec<u8>;

/// How long a slice is, and how many there are, in a level of this size.
pub(super) fn shape(scan: Scan, width: usize, height: usize) -> (usize, usize) {
    if scan == Scan::Columns { (height, width) } else { (width, height) }
}

/// Column and row of a slice's cell. `count` slices in all.
pub(super) fn cell(scan: Scan, count: usize, slice: usize, at: usize) -> Cell {
    match scan {
        Scan::Columns => (slice, at),
        Scan::Rows => (at, slice),
        Scan::RowsUpwards => (at, count - 1 - slice),
    }
}

/// The slice and the place in it of a cell.
pub(super) fn place(scan: Scan, count: usize, (x, y): Cell) -> (usize, usize) {
    match scan {
        Scan::Columns => (x, y),
        Scan::Rows => (y, x),
        Scan::RowsUpwards => (count - 1 - y, x),
    }
}

/// A level's slices.
pub(super) fn slices_of(game: &TileGame, grid: &Grid, path: &[Cell]) -> Vec<Slice> {
    let (across, count) = shape(game.scan, grid.width(), grid.height());
    let tile = |slice, at| {
        let (x, y) = cell(game.scan, count, slice, at);
        grid.at(x, y)
    };
    let mut slices: Vec<Slice> = (0..count).map(|s| (0..across).map(|a| tile(s, a)).collect()).collect();
    for step in path.iter().filter(|(x, y)| *x < grid.width() && *y < grid.height()) {
        let (slice, at) = place(game.scan, count, *step);
        slices[slice][at] |= ON_PATH;
    }
    slices
}

/// The level that slices make; they must be as long as each other, at least one.
pub(super) fn grid_of(scan: Scan, slices: &[Slice]) -> Grid {
    let (count, across) = (slices.len(), slices.first().map_or(0, Vec::len));
    let (width, height) = if scan == Scan::Columns { (count, across) } else { (across, count) };
    let mut tiles = vec![0; width * height];
    for (s, slice) in slices.iter().enumerate() {
        for (a, symbol) in slice.iter().enumerate() {
            let (x, y) = cell(scan, count, s, a);
            tiles[y * width + x] = symbol & !ON_PATH;
        }
    }
    Grid::from_rows(width, tiles)
}

/// A hash of slices, the solution's way left out.
pub(super) fn hash(slices: &[Slice]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for slice in slices {
        let plain: Vec<u8> = slice.iter().map(|symbol| symbol & !ON_PATH).collect();
        hasher.update(&plain);
        hasher.update(&[0xff]);
    }
    u64::from_le_bytes(std::array::from_fn(|i| hasher.finalize().as_bytes()[i]))
}

/// A hash of a level that is the same for all its images.
pub(super) fn image_hash(grid: &Grid) -> u64 {
    let hash = |grid: &Grid| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(grid.width() as u32).to_le_bytes());
        hasher.update(grid.tiles());
        u64::from_le_bytes(std::array::from_fn(|i| hasher.finalize().as_bytes()[i]))
    };
    grid.images().iter().map(hash).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::*;

    #[test]
    fn slices_make_the_grid_again_in_every_scan() {
        let grid = Grid::from_rows(3, vec![0, 1, 2, 3, 4, 5]);
        for scan in [Scan::Columns, Scan::Rows, Scan::RowsUpwards] {
            let game = TileGame { scan, ..platformer() };
            let slices = slices_of(&game, &grid, &[(2, 0)]);
            assert_eq!(grid_of(scan, &slices), grid);
            let (s, a) = place(scan, slices.len(), (2, 0));
            assert_eq!((slices[s][a], cell(scan, slices.len(), s, a)), (2 | ON_PATH, (2, 0)));
        }
    }

    #[test]
    fn images_share_a_hash() {
        let grid = Grid::from_rows(3, vec![0, 1, 2, 3, 4, 5]);
        assert!(grid.images().iter().all(|image| image_hash(image) == image_hash(&grid)));
        assert_ne!(image_hash(&grid), image_hash(&Grid::from_rows(3, vec![0, 1, 2, 3, 5, 4])));
    }
}
