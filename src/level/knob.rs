//! [`Knob`]: what a designer may ask of a level, and how it is measured.

use super::difficulty::Completion;
use super::game::{Movement, Scan, TileGame, bit};
use super::grid::Grid;
use super::solve::Solution;
use super::walk::{Cells, GridCells};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A thing to ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knob {
    /// Its name: `--control name=value`.
    pub name: String,
    /// What is measured.
    pub measure: Measure,
    /// Whether it is divided by the number of slices (columns or rows of the scan), for levels of any length.
    #[serde(default)]
    pub per_slice: bool,
}

/// What is measured of a level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Measure {
    /// The share of cells that hold one of these tiles.
    Share(String),
    /// How many cells hold one of these tiles.
    Count(String),
    /// How long the solution is: cells walked, or moves of Sokoban.
    PathLength,
    /// How often a box is pushed in the solution.
    Pushes,
    /// How near the ground keeps to one line, 0 to 1 (Smith and Whitehead 2010): 1 less the mean distance of each
    /// column's highest ground from the line fitted through them, in halves of the height.
    Linearity,
    /// How forgiving it is, 0 or less (after Smith and Whitehead 2010): for each slice, -1 an enemy or hazard that stands
    /// open, -0.5 a gap that begins.
    Leniency,
    /// The share of cells that are as their mirror image, left and right or up and down, whichever is more.
    Symmetry,
    /// The share of columns without ground.
    Gaps,
    /// The share of players like those recorded who would finish it. `skald level difficulty` fits it, and puts it into a
    /// model as the knob `difficulty`.
    Completion(Completion),
}

impl Knob {
    /// Whether it can be measured of a game's levels.
    pub(super) fn validate(&self, game: &TileGame, file: &str) -> Result<()> {
        let wrong = |reason: String, remedy: &str| Err(Error::config(file, "knobs", reason, remedy));
        let plain = self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if self.name.is_empty() || !plain {
            return wrong(format!("`{}` is no name", self.name), "use letters, digits and _");
        }
        if let Measure::Share(tiles) | Measure::Count(tiles) = &self.measure
            && let Some(unknown) = tiles.chars().find(|c| game.tile(*c).is_none())
        {
            return wrong(format!("knob `{}`: `{unknown}` is no tile", self.name), "name tiles of this game");
        }
        if let Measure::Completion(completion) = &self.measure
            && completion.weights.len() != super::difficulty::FEATURES.len()
        {
            return wrong(
                format!("knob `{}`: the weights are not of this version", self.name),
                "fit it again",
            );
        }
        if self.measure == Measure::Pushes && game.movement != Movement::Push {
            return wrong(format!("knob `{}`: nothing is pushed here", self.name), "choose another measure");
        }
        Ok(())
    }

    /// The tiles that are counted, of one that counts tiles.
    pub(super) fn tiles(&self, game: &TileGame) -> Option<Vec<u8>> {
        let (Measure::Share(tiles) | Measure::Count(tiles)) = &self.measure else { return None };
        Some(tiles.chars().filter_map(|c| game.tile(c)).collect())
    }

    /// Its value for a level; `None` where it needs a solution and there is none.
    pub fn measure(&self, game: &TileGame, grid: &Grid, solution: Option<&Solution>) -> Option<f64> {
        let cells = (grid.width() * grid.height()) as f64;
        let value = match &self.measure {
            Measure::Share(_) => self.count(game, grid) / cells,
            Measure::Count(_) => self.count(game, grid),
            Measure::PathLength => solution?.length() as f64,
            Measure::Pushes => solution?.pushes()? as f64,
            Measure::Linearity => linearity(game, grid),
            Measure::Leniency => leniency(game, grid),
            Measure::Symmetry => symmetry(grid),
            Measure::Gaps => {
                grounds(game, grid).iter().filter(|g| g.is_none()).count() as f64 / grid.width() as f64
            }
            Measure::Completion(completion) => return Some(completion.predict(game, grid, solution?)),
        };
        Some(if self.per_slice { value / slices(game.scan, grid) as f64 } else { value })
    }

    fn count(&self, game: &TileGame, grid: &Grid) -> f64 {
        let tiles = self.tiles(game).unwrap_or_default();
        grid.tiles().iter().filter(|tile| tiles.contains(tile)).count() as f64
    }
}

/// How many slices a grid has in a scan.
pub(super) fn slices(scan: Scan, grid: &Grid) -> usize {
    if scan == Scan::Columns { grid.width() } else { grid.height() }
}

/// The row of each column's highest ground under open space.
fn grounds(game: &TileGame, grid: &Grid) -> Vec<Option<usize>> {
    let cells = GridCells::new(grid, &game.bits());
    let solid = |x: usize, y: i32| {
        cells.bits(x as i32, y).is_some_and(|bits| bits & (bit::SOLID | bit::DIGGABLE | bit::ONE_WAY) != 0)
    };
    let ground = |x: usize| (1..grid.height()).find(|y| solid(x, *y as i32) && !solid(x, *y as i32 - 1));
    (0..grid.width()).map(ground).collect()
}

/// As [`Measure::Linearity`].
pub fn linearity(game: &TileGame, grid: &Grid) -> f64 {
    let points: Vec<(f64, f64)> =
        grounds(game, grid).iter().enumerate().filter_map(|(x, y)| Some((x as f64, (*y)? as f64))).collect();
    if points.len() < 2 {
        return 1.0;
    }
    let n = points.len() as f64;
    let (sx, sy) = points.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mx, my) = (sx / n, sy / n);
    let (cov, var) =
        points.iter().fold((0.0, 0.0), |(c, v), (x, y)| (c + (x - mx) * (y - my), v + (x - mx).powi(2)));
    let slope = if var > 0.0 { cov / var } else { 0.0 };
    let off: f64 = points.iter().map(|(x, y)| (y - my - slope * (x - mx)).abs()).sum::<f64>() / n;
    (1.0 - off / (grid.height() as f64 / 2.0)).clamp(0.0, 1.0)
}

/// As [`Measure::Leniency`].
pub fn leniency(game: &TileGame, grid: &Grid) -> f64 {
    let bits = game.bits();
    let dangers =
        grid.tiles().iter().filter(|tile| bits[usize::from(**tile)] & (bit::HAZARD | bit::ENEMY) != 0);
    let mut sum = -(dangers.count() as f64);
    if matches!(game.movement, Movement::Platformer { .. }) {
        let grounds = grounds(game, grid);
        sum -= 0.5 * grounds.windows(2).filter(|two| two[0].is_some() && two[1].is_none()).count() as f64;
    }
    sum / slices(game.scan, grid) as f64
}

/// As [`Measure::Symmetry`].
pub fn symmetry(grid: &Grid) -> f64 {
    let same = |other: &Grid| {
        let alike = grid.tiles().iter().zip(other.tiles()).filter(|(a, b)| a == b).count();
        alike as f64 / grid.tiles().len() as f64
    };
    same(&grid.mirrored()).max(same(&grid.images()[2]))
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::super::read::grid_from_text;
    use super::*;

    #[test]
    fn measures_are_what_they_say() {
        let game = platformer();
        let grid = |text: &str| grid_from_text(&game, text, "t").unwrap();
        let flat = grid("-----\n--E--\nXXX-X\n");
        let share = Knob { name: "e".into(), measure: Measure::Share("E".into()), per_slice: false };
        assert_eq!(share.measure(&game, &flat, None), Some(1.0 / 15.0));
        assert_eq!(linearity(&game, &flat), 1.0);
        assert!((leniency(&game, &flat) - -1.5 / 5.0).abs() < 1e-12);
        assert!(linearity(&game, &grid("X--X-\n-X---\n--X-X\n")) < 1.0);
        assert_eq!(symmetry(&grid("X-X\n-X-\nX-X\n")), 1.0);
        let length = Knob { name: "l".into(), measure: Measure::PathLength, per_slice: true };
        assert_eq!(length.measure(&game, &flat, None), None);
        let walked = Solution::Cells(vec![(0, 1), (1, 1), (2, 1)]);
        assert_eq!(length.measure(&game, &flat, Some(&walked)), Some(0.6));
    }
}
