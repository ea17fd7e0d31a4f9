//! Mending: the fewest tiles changed so that a level keeps its game's rules and can be finished.
//!
//! Where one walks, a cheapest way (Dijkstra 1959) is sought through the level as it could be: to open what is closed
//! costs one change, to put ground under one's feet another. Boxes are mended by trying one change, then two and more.

use super::ends::{Cell, counts, ends};
use super::game::{Affordance, Goal, Movement, Start, TileGame, bit};
use super::grid::Grid;
use super::solve::{FINISHABLE, Limits, Solution, Verdict, solve};
use super::walk::{Cells, Gravity, GridCells};
use crate::error::{Error, Result};
use crate::seed::{Seed, Stream};
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// A level that was mended.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The level.
    pub grid: Grid,
    /// Cells that are not as they were.
    pub changes: usize,
    /// How it is finished.
    pub solution: Solution,
}

/// Mends a level with few changes, none of them in a locked cell.
///
/// # Errors
/// [`Error::Unsatisfiable`] with the rule that could not be met.
pub fn repair(
    game: &TileGame,
    grid: &Grid,
    locked: &BTreeSet<Cell>,
    limits: Limits,
    seed: Seed,
) -> Result<Repaired> {
    let mut mender =
        Mender { game, locked, limits, noise: seed.derive("repair").stream(), original: grid.clone() };
    let mut best: Option<Repaired> = None;
    for attempt in 0..6 {
        let mut now = grid.clone();
        if mender.count(&mut now).is_err() {
            continue;
        }
        let mended = match game.movement {
            Movement::Push => mender.boxes(now),
            _ => mender.way(now),
        };
        if let Some(mended) = mended
            && best.as_ref().is_none_or(|best| mended.changes < best.changes)
        {
            best = Some(mended);
        }
        // Only where something had to be placed by chance may another try be better.
        if best.as_ref().is_some_and(|best| best.changes <= attempt + 1) {
            break;
        }
    }
    best.ok_or_else(|| {
        let rule = match ends(game, grid) {
            Err(violation) => violation.rule,
            Ok(_) => FINISHABLE.to_owned(),
        };
        Error::Unsatisfiable { rule, remedy: "unlock cells, or change the level by hand".into() }
    })
}

struct Mender<'a> {
    game: &'a TileGame,
    locked: &'a BTreeSet<Cell>,
    limits: Limits,
    noise: Stream,
    original: Grid,
}

impl Mender<'_> {
    fn finished(&self, grid: Grid) -> Option<Repaired> {
        match solve(self.game, &grid, self.limits).verdict {
            Verdict::Solved(solution) => {
                let changes = self.original.distance(&grid).unwrap_or(usize::MAX);
                Some(Repaired { grid, changes, solution })
            }
            _ => None,
        }
    }

    fn empty(&self) -> Option<u8> {
        self.game.empty()
    }

    /// Brings the counts of tiles in order: takes some away, puts some on empty cells.
    fn count(&mut self, grid: &mut Grid) -> Result<(), ()> {
        let empty = self.empty().ok_or(())?;
        let mut wanted: Vec<(Vec<u8>, usize, usize)> = self
            .game
            .counts
            .iter()
            .map(|c| (c.tiles.chars().filter_map(|c| self.game.tile(c)).collect(), c.at_least, c.at_most))
            .collect();
        let with = |affordance: &Affordance| -> Vec<u8> {
            let has = |tile: &super::Tile| tile.affordances.contains(affordance);
            (0..self.game.tiles.len()).filter(|i| has(&self.game.tiles[*i])).map(|i| i as u8).collect()
        };
        if self.game.start == Start::Marked {
            wanted.push((with(&Affordance::Start), 1, 1));
        }
        if self.game.movement != Movement::Push && self.game.goal == Goal::Marked {
            wanted.push((with(&Affordance::Goal), 1, usize::MAX));
        }
        for (tiles, least, most) in wanted {
            let of = |grid: &Grid| -> Vec<Cell> {
                grid.cells().filter(|(.., tile)| tiles.contains(tile)).map(|(x, y, _)| (x, y)).collect()
            };
            let mut there = of(grid);
            while there.len() > most {
                let free: Vec<usize> =
                    (0..there.len()).filter(|i| !self.locked.contains(&there[*i])).collect();
                let gone = there.remove(*self.noise.pick(&free).ok_or(())?);
                grid.set(gone.0, gone.1, empty);
            }
            for _ in there.len()..least {
                let cell = self.room(grid).ok_or(())?;
                grid.set(cell.0, cell.1, *tiles.first().ok_or(())?);
            }
        }
        if self.game.movement == Movement::Push {
            self.match_boxes(grid, empty)?;
        }
        counts(self.game, grid).map_err(|_| ())
    }

    /// An empty cell that is not locked, with empty cells beside it where there are such.
    fn room(&mut self, grid: &Grid) -> Option<Cell> {
        let empty = self.empty()?;
        let free: Vec<Cell> = grid
            .cells()
            .filter(|(x, y, tile)| *tile == empty && !self.locked.contains(&(*x, *y)))
            .map(|(x, y, _)| (x, y))
            .collect();
        let near = |(x, y): &Cell| {
            [(-1, 0), (1, 0), (0, -1), (0, 1)]
                .iter()
                .filter(|(dx, dy)| grid.get(*x as i32 + dx, *y as i32 + dy) == Some(empty))
                .count()
        };
        let roomy: Vec<Cell> = free.iter().copied().filter(|cell| near(cell) >= 2).collect();
        self.noise.pick(&roomy).or(self.noise.pick(&free)).copied()
    }

    /// As many boxes as targets.
    fn match_boxes(&mut self, grid: &mut Grid, empty: u8) -> Result<(), ()> {
        let bits = self.game.bits();
        let of = |grid: &Grid, wanted: u16, not: u16| -> Vec<Cell> {
            let is = |tile: u8| bits[usize::from(tile)] & (wanted | not) == wanted;
            grid.cells().filter(|(.., tile)| is(*tile)).map(|(x, y, _)| (x, y)).collect()
        };
        let (box_tile, target_tile) =
            (self.game.only(&Affordance::Box).ok_or(())?, self.game.only(&Affordance::Target).ok_or(())?);
        for _ in 0..grid.tiles().len() {
            let all = |wanted| of(grid, wanted, 0).len();
            let (boxes, targets) = (all(bit::BOX), all(bit::TARGET));
            if boxes == targets && boxes > 0 {
                return Ok(());
            }
            let (fewer, more) =
                if boxes < targets { (box_tile, bit::TARGET) } else { (target_tile, bit::BOX) };
            let most = self
                .game
                .counts
                .iter()
                .filter(|c| c.tiles.contains(self.game.char_of(fewer)))
                .map(|c| c.at_most)
                .min()
                .unwrap_or(usize::MAX);
            let room = if boxes.min(targets) < most { self.room(grid) } else { None };
            if let Some((x, y)) = room {
                grid.set(x, y, fewer);
            } else {
                let other = if more == bit::BOX { bit::TARGET } else { bit::BOX };
                let extra: Vec<Cell> =
                    of(grid, more, other).into_iter().filter(|cell| !self.locked.contains(cell)).collect();
                let (x, y) = *self.noise.pick(&extra).ok_or(())?;
                grid.set(x, y, empty);
            }
        }
        Err(())
    }

    /// Mends a level one walks through, goal by goal.
    fn way(&mut self, grid: Grid) -> Option<Repaired> {
        if let Some(done) = self.finished(grid.clone()) {
            return Some(done);
        }
        let mut now = grid;
        for _ in 0..8 {
            let found = ends(self.game, &now).ok()?;
            let bits = self.game.bits();
            let cells = GridCells::new(&now, &bits);
            let mut stops: Vec<Vec<Cell>> = if found.all {
                found.goals.iter().map(|goal| vec![*goal]).collect()
            } else if found.goals.is_empty() {
                Vec::new()
            } else {
                vec![found.goals.clone()]
            };
            let keys = bit::KEY | bit::REQUIRED;
            let wanted =
                now.cells().filter(|(x, y, _)| cells.bits(*x as i32, *y as i32).unwrap_or(0) & keys != 0);
            let mut first: Vec<Vec<Cell>> = wanted.map(|(x, y, _)| vec![(x, y)]).collect();
            first.append(&mut stops);
            for stop in first {
                now = self.open_way(now, found.start, &stop)?;
            }
            if let Some(done) = self.finished(now.clone()) {
                return Some(done);
            }
        }
        None
    }

    /// Changes the fewest cells so that one of `stops` can be reached from `start`.
    fn open_way(&self, grid: Grid, start: Cell, stops: &[Cell]) -> Option<Grid> {
        let bits = self.game.bits();
        let empty = self.empty()?;
        let solid = self.game.only(&Affordance::Solid);
        let gravity = super::solve::gravity(self.game, grid.width());
        let cells = GridCells::new(&grid, &bits);
        let shut = |x: i32, y: i32| cells.bits(x, y).is_none_or(|b| b & bit::CLOSED != 0);
        let change = |x: i32, y: i32| -> bool {
            cells.bits(x, y).is_some() && !self.locked.contains(&(x as usize, y as usize))
        };
        // Cost, then place. A place is a cell and, falling or rising, how much of a jump is left.
        let rise = gravity.as_ref().map_or(0, |g| {
            let mut depth = 0i32;
            let mut stack = vec![(0usize, 0i32)];
            while let Some((at, up)) = stack.pop() {
                depth = depth.max(up);
                stack.extend(
                    g.arcs.steps[at]
                        .next
                        .iter()
                        .map(|n| (usize::from(*n), up - g.arcs.steps[usize::from(*n)].by.1)),
                );
            }
            depth
        });
        type Spot = (i32, i32, i32);
        let begin: Spot = (start.0 as i32, start.1 as i32, 0);
        let mut best: HashMap<Spot, (u32, Spot)> = HashMap::from([(begin, (0, begin))]);
        let mut queue = BinaryHeap::from([(std::cmp::Reverse(0u32), begin)]);
        let mut reached = None;
        while let Some((std::cmp::Reverse(cost), at)) = queue.pop() {
            if best[&at].0 < cost {
                continue;
            }
            if stops.contains(&(at.0 as usize, at.1 as usize)) {
                reached = Some(at);
                break;
            }
            let (x, y, left) = at;
            let mut next: Vec<(Spot, u32)> = Vec::new();
            let mut go = |to: Spot, extra: u32| {
                if to.0 < 0 || to.1 < 0 || to.0 >= cells.width || to.1 >= cells.height {
                    return;
                }
                let mut price = extra;
                if shut(to.0, to.1) {
                    if !change(to.0, to.1) {
                        return;
                    }
                    price += 1;
                }
                next.push((to, price));
            };
            match &gravity {
                None => {
                    [(0, -1), (-1, 0), (1, 0), (0, 1)].iter().for_each(|(dx, dy)| go((x + dx, y + dy, 0), 0));
                }
                Some(gravity) => {
                    let stands = Gravity::supported(&cells, x, y);
                    let ladder = cells.bits(x, y).is_some_and(|b| b & bit::LADDER != 0);
                    if ladder {
                        go((x, y - 1, 0), 0);
                        go((x, y + 1, 0), 0);
                    }
                    // Ground under the feet can be had for a change.
                    let ground = if stands {
                        Some(0)
                    } else {
                        (solid.is_some() && y + 1 < cells.height && change(x, y + 1)).then_some(1)
                    };
                    if let Some(price) = ground {
                        go((x - 1, y, 0), price);
                        go((x + 1, y, 0), price);
                        if rise > 0 {
                            go((x, y - 1, rise - 1), price);
                        }
                    }
                    if left > 0 {
                        go((x, y - 1, left - 1), 0);
                    }
                    // From the top of a jump, and while falling, one drifts.
                    let air = !stands;
                    if air {
                        go((x, y + 1, 0), 0);
                        if gravity.air_control {
                            go((x - 1, y + 1, 0), 0);
                            go((x + 1, y + 1, 0), 0);
                        }
                        if left > 0 && gravity.arcs.span > 1 {
                            go((x - 1, y, left.min(1) - 1), 0);
                            go((x + 1, y, left.min(1) - 1), 0);
                        }
                    }
                }
            }
            for (to, price) in next {
                let total = cost + price;
                if best.get(&to).is_none_or(|known| total < known.0) {
                    best.insert(to, (total, at));
                    queue.push((std::cmp::Reverse(total), to));
                }
            }
        }
        let mut at = reached?;
        let mut mended = grid.clone();
        let mut way = vec![at];
        while best[&at].1 != at {
            at = best[&at].1;
            way.push(at);
        }
        way.reverse();
        for two in way.windows(2) {
            let ((x, y, _), (nx, ny, _)) = (two[0], two[1]);
            if shut(nx, ny) {
                mended.set(nx as usize, ny as usize, empty);
            }
            let leaves_ground =
                gravity.is_some() && ny <= y && !Gravity::supported(&cells, x, y) && two[0].2 == 0;
            if let (true, Some(solid)) = (leaves_ground, solid)
                && y + 1 < cells.height
            {
                mended.set(x as usize, (y + 1) as usize, solid);
            }
        }
        Some(mended)
    }

    /// Mends a level of boxes: one change, then more, by trial.
    fn boxes(&mut self, grid: Grid) -> Option<Repaired> {
        if let Some(done) = self.finished(grid.clone()) {
            return Some(done);
        }
        let empty = self.empty()?;
        let bits = self.game.bits();
        let quick = Limits { nodes: self.limits.nodes.min(4000) };
        let movable = bit::BOX | bit::START | bit::TARGET;
        for depth in 1..=5usize {
            for _ in 0..if depth == 1 { 160 } else { 120 } {
                let mut now = grid.clone();
                for _ in 0..depth {
                    // Mostly a thing is in the wrong place; else a wall is in the way.
                    let wanted = if self.noise.chance(0.6) { movable } else { bit::SOLID };
                    let cells: Vec<Cell> = now
                        .cells()
                        .filter(|(x, y, tile)| {
                            let inside = *x > 0 && *y > 0 && *x + 1 < now.width() && *y + 1 < now.height();
                            bits[usize::from(*tile)] & wanted != 0
                                && (inside || wanted == movable)
                                && !self.locked.contains(&(*x, *y))
                        })
                        .map(|(x, y, _)| (x, y))
                        .collect();
                    let Some((x, y)) = self.noise.pick(&cells).copied() else { continue };
                    let tile = now.at(x, y);
                    if wanted == bit::SOLID {
                        now.set(x, y, empty);
                    } else if let Some((nx, ny)) = self.room(&now) {
                        now.set(x, y, empty);
                        now.set(nx, ny, tile);
                    }
                }
                if let Verdict::Solved(solution) = solve(self.game, &now, quick).verdict {
                    let changes = self.original.distance(&now).unwrap_or(usize::MAX);
                    return Some(Repaired { grid: now, changes, solution });
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::replay;
    use super::super::game::tests::{dungeon, platformer, sokoban};
    use super::super::read::grid_from_text;
    use super::*;

    fn mend(game: &TileGame, text: &str) -> Repaired {
        let grid = grid_from_text(game, text, "t").unwrap();
        let mended = repair(game, &grid, &BTreeSet::new(), Limits::default(), Seed::new(1)).unwrap();
        assert!(replay(game, &mended.grid, &mended.solution));
        assert_eq!(mended.changes, grid.distance(&mended.grid).unwrap());
        mended
    }

    #[test]
    fn walls_are_opened_and_gaps_bridged_with_few_changes() {
        assert_eq!(mend(&dungeon(), "@.#..\n..#..\n..#.>\n").changes, 1);
        assert_eq!(mend(&dungeon(), "@....\n.....\n....>\n").changes, 0);
        assert!(mend(&platformer(), "----X----\n----X----\n----X----\n----X----\nXXXXXXXXX\n").changes <= 2);
        assert!(mend(&platformer(), "----------\n----------\n----------\nXX------XX\n").changes <= 3);
        assert!(mend(&sokoban(), "#######\n#@ $  #\n#.#   #\n###   #\n#######\n").changes <= 3);
    }

    #[test]
    fn starts_are_made_one_and_boxes_as_many_as_targets() {
        assert_eq!(mend(&dungeon(), "@@...\n....>\n").changes, 1);
        assert_eq!(mend(&dungeon(), ".....\n....>\n").changes, 1);
        assert!(mend(&sokoban(), "#######\n#@ $ .#\n#  $  #\n#     #\n#######\n").changes <= 3);
    }

    #[test]
    fn what_is_locked_stays_and_what_cannot_be_names_its_rule() {
        let game = dungeon();
        let grid = grid_from_text(&game, "@.#..\n..#.>\n", "t").unwrap();
        let locked = BTreeSet::from([(2, 0), (2, 1)]);
        let error = repair(&game, &grid, &locked, Limits::default(), Seed::new(1)).unwrap_err();
        assert!(error.to_string().contains(FINISHABLE), "{error}");
        let one = repair(&game, &grid, &BTreeSet::from([(2, 0)]), Limits::default(), Seed::new(1)).unwrap();
        assert_eq!(one.grid.at(2, 0), grid.at(2, 0));
    }
}
