//! Pictures of levels, as PNG and as SVG for reports.

use super::game::{Tile, TileGame, bit};
use super::grid::Grid;
use super::solve::Solution;
use crate::error::{Error, Result};

/// The side of a tile, in pixels.
const SIDE: usize = 8;
/// The most pixels of a picture's side.
const LARGEST: usize = 1 << 15;

/// A level as a PNG, eight pixels a tile, with the solution's way as dots.
///
/// # Errors
/// [`Error::Config`] when the picture would be too large.
pub fn picture(game: &TileGame, grid: &Grid, solution: Option<&Solution>) -> Result<Vec<u8>> {
    let (w, h) = (grid.width() * SIDE, grid.height() * SIDE);
    if w > LARGEST || h > LARGEST {
        let reason = format!("a picture of {w} x {h} pixels is too large");
        return Err(Error::config("options", "--png", reason, "draw levels of at most 4096 x 4096 tiles"));
    }
    let mut pixels = vec![0u8; w * h * 3];
    for (x, y, tile) in grid.cells() {
        let colour = colour(&game.tiles[usize::from(tile)]);
        for py in 0..SIDE {
            for px in 0..SIDE {
                // A darker edge tells tiles apart.
                let edge = px == SIDE - 1 || py == SIDE - 1;
                let at = ((y * SIDE + py) * w + x * SIDE + px) * 3;
                let shade = |c: u8| if edge { (u16::from(c) * 7 / 8) as u8 } else { c };
                pixels[at..at + 3].copy_from_slice(&[shade(colour.0), shade(colour.1), shade(colour.2)]);
            }
        }
    }
    for (x, y) in solution.map_or_else(Vec::new, |solution| solution.cells(game, grid)) {
        if x < grid.width() && y < grid.height() {
            for (dx, dy) in [(3, 3), (4, 3), (3, 4), (4, 4)] {
                let at = ((y * SIDE + dy) * w + x * SIDE + dx) * 3;
                pixels[at..at + 3].copy_from_slice(&[255, 60, 60]);
            }
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, w as u32, h as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let write = |encoder: png::Encoder<'_, &mut Vec<u8>>| -> Result<(), png::EncodingError> {
        encoder.write_header()?.write_image_data(&pixels)
    };
    write(encoder).map_err(|e| Error::backend("drawing the picture", e))?;
    Ok(bytes)
}

/// A level as SVG, runs of one tile as one rectangle, with the solution's way as a line.
pub fn svg(game: &TileGame, grid: &Grid, solution: Option<&Solution>) -> String {
    use std::fmt::Write;
    let (w, h) = (grid.width(), grid.height());
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{}\" height=\"{}\">",
        w * SIDE,
        h * SIDE
    );
    for y in 0..h {
        let mut x = 0;
        while x < w {
            let tile = grid.at(x, y);
            let end = (x..w).find(|at| grid.at(*at, y) != tile).unwrap_or(w);
            let (r, g, b) = colour(&game.tiles[usize::from(tile)]);
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "<path fill=\"#{r:02x}{g:02x}{b:02x}\" d=\"M{x} {y}h{}v1h-{}z\"/>",
                end - x,
                end - x
            );
            x = end;
        }
    }
    let way: Vec<String> = solution
        .map_or_else(Vec::new, |solution| solution.cells(game, grid))
        .iter()
        .map(|(x, y)| format!("{}.5 {}.5", x, y))
        .collect();
    if !way.is_empty() {
        let _ = write!(
            text,
            "<path fill=\"none\" stroke=\"#ff3c3c\" stroke-width=\"0.2\" d=\"M{}\"/>",
            way.join("L")
        );
    }
    text + "</svg>"
}

/// A tile's colour: its own, or that of what it affords.
pub(super) fn colour(tile: &Tile) -> (u8, u8, u8) {
    if let Some(colour) = tile.colour {
        return colour;
    }
    let bits = tile.affordances.iter().map(bit::of).fold(0, |all, one| all | one);
    let colours = [
        (bit::START, (60, 120, 200)),
        (bit::GOAL | bit::EXIT, (60, 170, 90)),
        (bit::BOX, (176, 116, 52)),
        (bit::TARGET, (220, 120, 120)),
        (bit::KEY | bit::REQUIRED, (240, 200, 60)),
        (bit::DOOR, (140, 80, 30)),
        (bit::ENEMY, (150, 40, 40)),
        (bit::HAZARD, (200, 60, 30)),
        (bit::COLLECTIBLE, (250, 220, 90)),
        (bit::LADDER | bit::ROPE, (200, 160, 100)),
        (bit::DIGGABLE, (170, 100, 60)),
        (bit::ONE_WAY, (190, 190, 190)),
        (bit::SOLID, (90, 84, 80)),
    ];
    colours.iter().find(|(wanted, _)| bits & wanted != 0).map_or((225, 225, 235), |(_, colour)| *colour)
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::super::read::grid_from_text;
    use super::*;

    #[test]
    fn a_picture_has_its_tiles_colours_and_the_way() {
        let game = platformer();
        let grid = grid_from_text(&game, "--\nXX\n", "t").unwrap();
        let png = picture(&game, &grid, Some(&Solution::Cells(vec![(0, 0)]))).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (16, 16));
        assert_eq!(pixels[..3], [225, 225, 235]);
        assert_eq!(pixels[(3 * 16 + 3) * 3..][..3], [255, 60, 60]);
        assert_eq!(pixels[(9 * 16) * 3..][..3], [90, 84, 80]);
    }
}
