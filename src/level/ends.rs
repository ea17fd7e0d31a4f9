//! Where a level begins and where it ends, marked or not.

use super::game::{Goal, Movement, Start, TileGame, bit};
use super::grid::Grid;
use super::walk::{Cells, Gravity, GridCells, open};

/// A column and a row.
pub type Cell = (usize, usize);

/// Where a level begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it begins.
    pub start: Cell,
    /// Where it ends; empty where it ends with everything taken, or every box in its place.
    pub goals: Vec<Cell>,
    /// Whether all of them must be reached, or any.
    pub all: bool,
}

/// Why a level breaks the rules of its game before anybody moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: String,
    /// The cell that is too much, if one is.
    pub at: Option<Cell>,
}

/// A level's beginning and end.
///
/// # Errors
/// The rule that does not hold: no start, two starts, no goal, a count of tiles.
pub fn ends(game: &TileGame, grid: &Grid) -> Result<Ends, Violation> {
    let bits = game.bits();
    let cells = GridCells::new(grid, &bits);
    counts(game, grid)?;
    let marked = |wanted: u16| -> Vec<Cell> {
        grid.cells()
            .filter(|(.., tile)| bits[usize::from(*tile)] & wanted != 0)
            .map(|(x, y, _)| (x, y))
            .collect()
    };
    let none = |rule: &str| Violation { rule: rule.to_owned(), at: None };
    let stands = |x: usize, y: usize| match game.movement {
        Movement::Platformer { .. } => Gravity::standable(&cells, x as i32, y as i32),
        _ => open(&cells, x as i32, y as i32) && cells.bits(x as i32, y as i32).unwrap_or(0) & bit::DOOR == 0,
    };
    let (w, h) = (grid.width(), grid.height());
    let start = match game.start {
        Start::Marked => {
            let starts = marked(bit::START);
            if let Some(second) = starts.get(1) {
                return Err(Violation { rule: "one start".into(), at: Some(*second) });
            }
            starts.first().copied().ok_or_else(|| none("one start"))?
        }
        Start::LeftmostGround => (0..w)
            .find_map(|x| (0..h).rev().find(|y| stands(x, *y)).map(|y| (x, y)))
            .ok_or_else(|| none("a ground to start on"))?,
        Start::LowestGround => (0..h)
            .rev()
            .find_map(|y| (0..w).find(|x| stands(*x, y)).map(|x| (x, y)))
            .ok_or_else(|| none("a ground to start on"))?,
        Start::FirstExit => *marked(bit::EXIT).first().ok_or_else(|| none("an exit to start at"))?,
    };
    let pushes = matches!(game.movement, Movement::Push);
    let (goals, all) = match game.goal {
        _ if pushes => {
            let (boxes, targets) = (marked(bit::BOX).len(), marked(bit::TARGET).len());
            if boxes == 0 || boxes != targets {
                let rule = format!("as many boxes as targets, at least one (here {boxes} and {targets})");
                return Err(Violation { rule, at: None });
            }
            (Vec::new(), true)
        }
        Goal::Marked => (marked(bit::GOAL), false),
        Goal::RightmostGround => {
            let column = (0..w).rev().find(|x| (0..h).any(|y| stands(*x, y)));
            (column.map_or(Vec::new(), |x| (0..h).filter(|y| stands(x, *y)).map(|y| (x, y)).collect()), false)
        }
        Goal::HighestGround => {
            let row = (0..h).find(|y| (0..w).any(|x| stands(x, *y)));
            (row.map_or(Vec::new(), |y| (0..w).filter(|x| stands(*x, y)).map(|x| (x, y)).collect()), false)
        }
        Goal::AllExits => (marked(bit::EXIT), true),
        Goal::AllRequired | Goal::Boxes => (Vec::new(), true),
    };
    if goals.is_empty() && !matches!(game.goal, Goal::AllRequired) && !pushes {
        return Err(none("a goal"));
    }
    Ok(Ends { start, goals, all })
}

/// Whether the numbers of tiles are those the game asks for.
pub fn counts(game: &TileGame, grid: &Grid) -> Result<(), Violation> {
    let mut found = vec![0usize; game.tiles.len()];
    grid.tiles().iter().for_each(|tile| found[usize::from(*tile)] += 1);
    for count in &game.counts {
        let tiles: Vec<u8> = count.tiles.chars().filter_map(|c| game.tile(c)).collect();
        let sum: usize = tiles.iter().map(|tile| found[usize::from(*tile)]).sum();
        if sum < count.at_least || sum > count.at_most {
            let most = if count.at_most == usize::MAX { "any".into() } else { count.at_most.to_string() };
            let rule = format!("{} to {most} of `{}` (here {sum})", count.at_least, count.tiles);
            let extra = grid.cells().filter(|(.., tile)| tiles.contains(tile)).nth(count.at_most);
            return Err(Violation { rule, at: extra.map(|(x, y, _)| (x, y)) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::{dungeon, platformer, sokoban};
    use super::super::read::grid_from_text;
    use super::*;

    fn of(game: &TileGame, text: &str) -> Result<Ends, Violation> {
        ends(game, &grid_from_text(game, text, "t").unwrap())
    }

    #[test]
    fn ends_are_found_marked_or_not() {
        let found = of(&platformer(), "-----\n-X---\n---X-\nXX-X-\n").unwrap();
        assert_eq!((found.start, found.goals, found.all), ((0, 2), vec![(3, 1)], false));
        let found = of(&dungeon(), "@..\n#.>\n").unwrap();
        assert_eq!((found.start, found.goals), ((0, 0), vec![(2, 1)]));
    }

    #[test]
    fn what_is_missing_or_too_much_is_named_with_its_place() {
        assert!(of(&dungeon(), "...\n#.>\n").unwrap_err().rule.contains("1 to 1 of `@`"));
        assert_eq!(of(&dungeon(), "@..\n#@>\n").unwrap_err().at, Some((1, 1)));
        assert!(of(&sokoban(), "@$.\n  .\n").unwrap_err().rule.contains("1 and 2"));
        assert_eq!(of(&platformer(), "--\n--\n").unwrap_err().rule, "a ground to start on");
    }
}
