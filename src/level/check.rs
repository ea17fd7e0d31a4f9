//! A second opinion, which shares no code with the solvers: a plain breadth-first search, and the replay of a solution
//! step by step. Slow and simple on purpose.

use super::ends::ends;
use super::game::{Affordance, Movement, TileGame};
use super::grid::Grid;
use super::solve::Solution;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

/// All there is to a moment of play.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Moment {
    x: i32,
    y: i32,
    /// The arc and the places of it that were passed.
    jump: Option<(usize, usize)>,
    /// Keys taken, doors opened, required things taken: their cells.
    taken: BTreeSet<(i32, i32)>,
    boxes: BTreeSet<(i32, i32)>,
}

struct Rules<'a> {
    game: &'a TileGame,
    grid: &'a Grid,
    arcs: Vec<Vec<(i32, i32)>>,
    goals: Vec<(i32, i32)>,
    all: bool,
}

impl Rules<'_> {
    fn has(&self, x: i32, y: i32, wanted: &Affordance) -> bool {
        let x = if self.wraps() { x.rem_euclid(self.grid.width() as i32) } else { x };
        self.grid
            .get(x, y)
            .is_some_and(|tile| self.game.tiles[usize::from(tile)].affordances.contains(wanted))
    }

    fn wraps(&self) -> bool {
        matches!(self.game.movement, Movement::Platformer { wraps: true, .. })
    }

    fn inside(&self, x: i32, y: i32) -> bool {
        (self.wraps() || (0..self.grid.width() as i32).contains(&x))
            && (0..self.grid.height() as i32).contains(&y)
    }

    fn free(&self, x: i32, y: i32) -> bool {
        use Affordance::{Diggable, Enemy, Hazard, Solid};
        self.inside(x, y) && ![Solid, Diggable, Hazard, Enemy].iter().any(|a| self.has(x, y, a))
    }

    fn stands(&self, x: i32, y: i32) -> bool {
        use Affordance::{Diggable, Ladder, OneWay, Rope, Solid};
        [Ladder, Rope].iter().any(|a| self.has(x, y, a))
            || [Solid, Diggable, OneWay, Ladder].iter().any(|a| self.has(x, y + 1, a))
    }

    fn name(&self, x: i32, y: i32) -> Option<(bool, String)> {
        let tile = self.grid.get(x, y)?;
        self.game.tiles[usize::from(tile)].affordances.iter().find_map(|a| match a {
            Affordance::Key(name) => Some((true, name.clone())),
            Affordance::Door(name) => Some((false, name.clone())),
            _ => None,
        })
    }

    /// Arrives in a cell, if its door lets one in.
    fn arrive(&self, from: &Moment, x: i32, y: i32, jump: Option<(usize, usize)>) -> Option<Moment> {
        let x = if self.wraps() { x.rem_euclid(self.grid.width() as i32) } else { x };
        let mut to = Moment { x, y, jump, ..from.clone() };
        match self.name(x, y) {
            Some((true, _)) => {
                to.taken.insert((x, y));
            }
            Some((false, name)) if !to.taken.contains(&(x, y)) => {
                let of = |key: bool| {
                    let same = |cell: &&(i32, i32)| self.name(cell.0, cell.1) == Some((key, name.clone()));
                    to.taken.iter().filter(same).count()
                };
                let used_up = matches!(self.game.movement, Movement::TopDown { keys_are_used_up: true });
                if of(true) == 0 || (used_up && of(true) <= of(false)) {
                    return None;
                }
                if used_up {
                    to.taken.insert((x, y));
                }
            }
            _ => {}
        }
        if self.has(x, y, &Affordance::Required) || (self.all && self.goals.contains(&(x, y))) {
            to.taken.insert((x, y));
        }
        Some(to)
    }

    fn after(&self, now: &Moment) -> Vec<Moment> {
        let mut places: Vec<(i32, i32, Option<(usize, usize)>)> = Vec::new();
        let (x, y) = (now.x, now.y);
        match &self.game.movement {
            Movement::Push => return self.pushes(now),
            Movement::TopDown { .. } => {
                let sides = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)];
                places.extend(sides.iter().filter(|(x, y)| self.free(*x, *y)).map(|(x, y)| (*x, *y, None)));
            }
            Movement::Platformer { air_control, .. } => {
                let one_way = |x, y| self.has(x, y, &Affordance::OneWay);
                let falls_into = |x, y| self.free(x, y) && !one_way(x, y);
                let mut starts: Vec<(usize, usize)> = now.jump.into_iter().collect();
                if self.stands(x, y) {
                    starts.extend((0..self.arcs.len()).map(|arc| (arc, 0)));
                    for side in [x - 1, x + 1] {
                        if self.free(side, y) {
                            places.push((side, y, None));
                            if self.has(side, y + 1, &Affordance::Diggable) {
                                places.push((side, y + 1, None));
                            }
                        }
                    }
                    let on = |a: &Affordance| self.has(x, y, a);
                    if on(&Affordance::Ladder) && self.free(x, y - 1) {
                        places.push((x, y - 1, None));
                    }
                    let climbs = on(&Affordance::Ladder)
                        || on(&Affordance::Rope)
                        || self.has(x, y + 1, &Affordance::Ladder);
                    if climbs && falls_into(x, y + 1) {
                        places.push((x, y + 1, None));
                    }
                } else if falls_into(x, y + 1) {
                    places.push((x, y + 1, None));
                    let sides =
                        [x - 1, x + 1].into_iter().filter(|side| *air_control && falls_into(*side, y + 1));
                    places.extend(sides.map(|side| (side, y + 1, None)));
                }
                for (arc, passed) in starts {
                    let Some(to) = self.arcs[arc].get(passed) else { continue };
                    let from = passed.checked_sub(1).map_or((0, 0), |p| self.arcs[arc][p]);
                    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
                    let long = dx.abs().max(dy.abs());
                    let way: Vec<(i32, i32)> =
                        (0..=long).map(|s| (x + dx * s / long, y + dy * s / long)).collect();
                    let clear = way.windows(2).all(|two| {
                        let ((ax, ay), (bx, by)) = (two[0], two[1]);
                        let into = if dy > 0 { falls_into(bx, by) } else { self.free(bx, by) };
                        into && (ax == bx || ay == by || self.free(ax, by) || self.free(bx, ay))
                    });
                    if clear {
                        places.push((x + dx, y + dy, Some((arc, passed + 1))));
                    }
                }
            }
        }
        places.into_iter().filter_map(|(x, y, jump)| self.arrive(now, x, y, jump)).collect()
    }

    fn pushes(&self, now: &Moment) -> Vec<Moment> {
        let mut after = Vec::new();
        for (dx, dy) in [(0, -1), (0, 1), (-1, 0), (1, 0)] {
            let to = (now.x + dx, now.y + dy);
            if !self.free(to.0, to.1) {
                continue;
            }
            let mut next = Moment { x: to.0, y: to.1, ..now.clone() };
            if next.boxes.remove(&to) {
                let beyond = (to.0 + dx, to.1 + dy);
                if !self.free(beyond.0, beyond.1) || !next.boxes.insert(beyond) {
                    continue;
                }
            }
            after.push(next);
        }
        after
    }

    fn finished(&self, now: &Moment) -> bool {
        if self.game.movement == Movement::Push {
            return now.boxes.iter().all(|(x, y)| self.has(*x, *y, &Affordance::Target));
        }
        let cells = self.grid.cells().map(|(x, y, _)| (x as i32, y as i32));
        let mut required = cells.filter(|(x, y)| self.has(*x, *y, &Affordance::Required));
        required.all(|cell| now.taken.contains(&cell))
            && if self.all {
                self.goals.iter().all(|goal| now.taken.contains(goal))
            } else {
                self.goals.is_empty() || self.goals.contains(&(now.x, now.y))
            }
    }
}

fn rules<'a>(game: &'a TileGame, grid: &'a Grid) -> Option<(Rules<'a>, Moment)> {
    let found = ends(game, grid).ok()?;
    let place = |(x, y): &(usize, usize)| (*x as i32, *y as i32);
    let mut arcs = Vec::new();
    if let Movement::Platformer { jumps, .. } = &game.movement {
        for jump in jumps {
            // Staying a moment in the air changes nothing on a grid.
            let mut arc = jump.clone();
            arc.dedup();
            if arc.first() == Some(&(0, 0)) {
                arc.remove(0);
            }
            arcs.push(arc.iter().map(|(x, y)| (-x, *y)).collect());
            arcs.push(arc);
        }
    }
    let goals = found.goals.iter().map(place).collect();
    let rules = Rules { game, grid, arcs, goals, all: found.all };
    let boxes = grid
        .cells()
        .map(|(x, y, _)| (x as i32, y as i32))
        .filter(|(x, y)| rules.has(*x, *y, &Affordance::Box));
    let (x, y) = place(&found.start);
    let first = Moment { x, y, jump: None, taken: BTreeSet::new(), boxes: boxes.collect() };
    let first = rules.arrive(&first, x, y, None)?;
    Some((rules, first))
}

/// Whether a level can be finished, by looking at every moment of play, breadth first. `None` when there are more than
/// `most` of them.
pub fn plain_search(game: &TileGame, grid: &Grid, most: usize) -> Option<bool> {
    let Some((rules, first)) = rules(game, grid) else { return Some(false) };
    if !rules.free(first.x, first.y) {
        return Some(false);
    }
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    while let Some(now) = queue.pop_front() {
        if rules.finished(&now) {
            return Some(true);
        }
        for next in rules.after(&now) {
            if seen.insert(next.clone()) {
                if seen.len() > most {
                    return None;
                }
                queue.push_back(next);
            }
        }
    }
    Some(false)
}

/// Whether a solution finishes a level, step by step by its game's rules.
pub fn replay(game: &TileGame, grid: &Grid, solution: &Solution) -> bool {
    let Some((rules, first)) = rules(game, grid) else { return false };
    match solution {
        Solution::Moves(moves) => {
            let mut now = first;
            for step in moves.chars() {
                let (dx, dy) = match step.to_ascii_lowercase() {
                    'u' => (0, -1),
                    'd' => (0, 1),
                    'l' => (-1, 0),
                    'r' => (1, 0),
                    _ => return false,
                };
                let to = (now.x + dx, now.y + dy);
                let Some(next) = rules.after(&now).into_iter().find(|next| (next.x, next.y) == to) else {
                    return false;
                };
                if step.is_ascii_uppercase() != (next.boxes != now.boxes) {
                    return false;
                }
                now = next;
            }
            rules.finished(&now)
        }
        Solution::Cells(cells) => {
            let here = |now: &Moment, cell: &(usize, usize)| (now.x, now.y) == (cell.0 as i32, cell.1 as i32);
            if !cells.first().is_some_and(|cell| here(&first, cell)) {
                return false;
            }
            // All moments that the cells so far may mean, most places taken first.
            let mut now: BTreeMap<Moment, ()> = BTreeMap::from([(first, ())]);
            for cell in &cells[1..] {
                let next = now.keys().flat_map(|moment| rules.after(moment));
                now = next.filter(|moment| here(moment, cell)).map(|moment| (moment, ())).collect();
            }
            now.keys().any(|moment| rules.finished(moment))
        }
    }
}
