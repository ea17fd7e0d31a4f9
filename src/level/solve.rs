//! Solving a level: A* (Hart et al. 1968) on its game's movement, bounded in nodes. What the bound stops is [`Verdict::Unknown`],
//! which never counts as solved.

use super::arcs::Arcs;
use super::ends::{Cell, Ends, ends};
use super::game::{Affordance, Movement, TileGame, bit};
use super::grid::Grid;
use super::sokoban;
use super::walk::{Gravity, GridCells, Place, open};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// How a level is finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Solution {
    /// The cells walked, `[column, row]`, from start to goal.
    Cells(Vec<Cell>),
    /// Sokoban's moves: `l`, `u`, `r`, `d`; capitals push.
    Moves(String),
}

impl Solution {
    /// Cells walked, or moves.
    pub fn length(&self) -> usize {
        match self {
            Self::Cells(cells) => cells.len(),
            Self::Moves(moves) => moves.len(),
        }
    }

    /// How often a box is pushed, in Sokoban.
    pub fn pushes(&self) -> Option<usize> {
        match self {
            Self::Cells(_) => None,
            Self::Moves(moves) => Some(moves.bytes().filter(u8::is_ascii_uppercase).count()),
        }
    }

    /// The cells the figure is in, one after the other.
    pub fn cells(&self, game: &TileGame, grid: &Grid) -> Vec<Cell> {
        match self {
            Self::Cells(cells) => cells.clone(),
            Self::Moves(moves) => {
                let Ok(Ends { start: (mut x, mut y), .. }) = ends(game, grid) else { return Vec::new() };
                let mut cells = vec![(x, y)];
                for step in moves.bytes() {
                    match step.to_ascii_lowercase() {
                        b'l' => x = x.saturating_sub(1),
                        b'r' => x += 1,
                        b'u' => y = y.saturating_sub(1),
                        _ => y += 1,
                    }
                    cells.push((x, y));
                }
                cells
            }
        }
    }
}

/// What a solver may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// States that are looked at. Each takes some 40 bytes.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 1_000_000 }
    }
}

/// What a solver found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can be finished, like this.
    Solved(Solution),
    /// It cannot be finished: the rule that does not hold.
    Unsolvable(String),
    /// The limits were reached before it was known.
    Unknown,
}

/// A verdict, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solved {
    /// The verdict.
    pub verdict: Verdict,
    /// States looked at.
    pub nodes: usize,
}

impl Solved {
    /// The solution, if there is one.
    pub fn solution(self) -> Option<Solution> {
        match self.verdict {
            Verdict::Solved(solution) => Some(solution),
            _ => None,
        }
    }
}

/// The rule that is broken by a level that cannot be finished.
pub const FINISHABLE: &str = "the level can be finished";

/// Solves a level.
pub fn solve(game: &TileGame, grid: &Grid, limits: Limits) -> Solved {
    let ends = match ends(game, grid) {
        Ok(ends) => ends,
        Err(violation) => return Solved { verdict: Verdict::Unsolvable(violation.rule), nodes: 0 },
    };
    if game.movement == Movement::Push {
        return sokoban::solve(game, grid, ends.start, limits);
    }
    let Some(walk) = Walk::new(game, grid, &ends) else {
        return Solved { verdict: Verdict::Unknown, nodes: 0 };
    };
    walk.solve(ends.start, limits)
}

/// The movement of a game that walks, for one grid: gravity, or none.
pub(super) fn gravity(game: &TileGame, width: usize) -> Option<Gravity> {
    let Movement::Platformer { jumps, air_control, wraps, .. } = &game.movement else { return None };
    let wraps = wraps.then_some(width as i32);
    Some(Gravity { arcs: Arcs::new(jumps), air_control: *air_control, wraps })
}

/// A state: the place in the lower bits, what was taken above.
type State = u64;
const PLACE_BITS: u32 = 34;
/// More things than this are not taken in the best order but one by one.
const MOST_ITEMS: usize = 20;

struct Walk {
    cells: GridCells,
    gravity: Option<Gravity>,
    steps: u64,
    /// Bits gained in a cell.
    gains: HashMap<usize, u64>,
    /// For each door: the bits of which one must be held.
    doors: HashMap<usize, Door>,
    /// All that must be taken.
    required: u64,
    /// The cells of what must be taken, by bit.
    places: Vec<(u64, Cell)>,
    /// What is taken one by one, where it is too much for bits.
    one_by_one: Vec<Cell>,
    goals: Vec<bool>,
    /// The box around the goals.
    around: Option<(i32, i32, i32, i32)>,
}

enum Door {
    /// Opens for whoever holds this bit.
    Kept(u64),
    /// Takes one of the keys for good; its own bit, its keys' bits, its siblings' bits.
    UsesUp { own: u64, keys: u64, doors: u64 },
}

impl Walk {
    fn new(game: &TileGame, grid: &Grid, ends: &Ends) -> Option<Self> {
        let cells = GridCells::new(grid, &game.bits());
        let gravity = gravity(game, grid.width());
        let steps = gravity.as_ref().map_or(1, |g| g.arcs.steps.len()) as u64;
        if (grid.tiles().len() as u64).checked_mul(steps)? >= 1 << PLACE_BITS {
            return None;
        }
        let name = |tile: u8| {
            game.tiles[usize::from(tile)].affordances.iter().find_map(|a| match a {
                Affordance::Key(name) => Some((true, name.as_str())),
                Affordance::Door(name) => Some((false, name.as_str())),
                _ => None,
            })
        };
        let bits = std::cell::Cell::new(0usize);
        let fresh = || {
            bits.set(bits.get() + 1);
            (bits.get() <= 63 - PLACE_BITS as usize).then(|| 1u64 << (bits.get() - 1))
        };
        let used_up = matches!(game.movement, Movement::TopDown { keys_are_used_up: true });
        let (mut gains, mut doors) = (HashMap::new(), HashMap::new());
        let mut named: HashMap<&str, (u64, u64)> = HashMap::new();
        let mut found = Vec::new();
        for (i, tile) in grid.tiles().iter().enumerate() {
            let Some((key, name)) = name(*tile) else { continue };
            let entry = named.entry(name).or_default();
            let slot = if key { &mut entry.0 } else { &mut entry.1 };
            let bit = if used_up {
                let bit = fresh()?;
                *slot |= bit;
                bit
            } else {
                if entry.0 == 0 {
                    entry.0 = fresh()?;
                }
                entry.0
            };
            found.push((i, key, name, bit));
        }
        for (i, key, name, bit) in found {
            if key {
                *gains.entry(i).or_default() |= bit;
            } else if used_up {
                let (keys, siblings) = named[name];
                doors.insert(i, Door::UsesUp { own: bit, keys, doors: siblings });
            } else {
                doors.insert(i, Door::Kept(bit));
            }
        }
        let index = |(x, y): Cell| y * grid.width() + x;
        let mut wanted: Vec<Cell> = grid
            .cells()
            .filter(|(x, y, _)| cells.bits[index((*x, *y))] & bit::REQUIRED != 0)
            .map(|(x, y, _)| (x, y))
            .collect();
        if ends.all {
            wanted.extend(&ends.goals);
        }
        let (mut required, mut places, mut one_by_one) = (0, Vec::new(), Vec::new());
        if wanted.len() + bits.get().min(MOST_ITEMS) <= MOST_ITEMS {
            for cell in wanted {
                let bit = fresh()?;
                required |= bit;
                *gains.entry(index(cell)).or_default() |= bit;
                places.push((bit, cell));
            }
        } else {
            one_by_one = wanted;
        }
        let mut walk = Self {
            cells,
            gravity,
            steps,
            gains,
            doors,
            required,
            places,
            one_by_one,
            goals: vec![false; grid.tiles().len()],
            around: None,
        };
        if !ends.all {
            walk.aim(&ends.goals);
        }
        Some(walk)
    }

    /// Sets the goals.
    fn aim(&mut self, goals: &[Cell]) {
        self.goals.iter_mut().for_each(|goal| *goal = false);
        self.around = None;
        for (x, y) in goals {
            self.goals[y * self.cells.width as usize + x] = true;
            let (x, y) = (*x as i32, *y as i32);
            let around = self.around.get_or_insert((x, y, x, y));
            *around = (around.0.min(x), around.1.min(y), around.2.max(x), around.3.max(y));
        }
    }

    fn place(&self, state: State) -> Place {
        let place = state & ((1 << PLACE_BITS) - 1);
        let (cell, step) = (place / self.steps, place % self.steps);
        let width = self.cells.width as u64;
        Place { x: (cell % width) as i32, y: (cell / width) as i32, step: step as u16 }
    }

    fn cell(&self, place: Place) -> usize {
        (place.y * self.cells.width + place.x) as usize
    }

    /// The state of a figure that gets to a place holding this; `None` when a door keeps it out.
    fn enter(&self, place: Place, held: u64) -> Option<State> {
        let cell = self.cell(place);
        let mut held = held | self.gains.get(&cell).copied().unwrap_or(0);
        match self.doors.get(&cell) {
            Some(Door::Kept(key)) if held & key == 0 => return None,
            Some(Door::UsesUp { own, keys, doors }) if held & own == 0 => {
                if (held & keys).count_ones() <= (held & doors).count_ones() {
                    return None;
                }
                held |= own;
            }
            _ => {}
        }
        Some((held << PLACE_BITS) | (cell as u64 * self.steps + u64::from(place.step)))
    }

    fn next(&self, state: State, mut visit: impl FnMut(State)) {
        let (from, held) = (self.place(state), state >> PLACE_BITS);
        let mut go = |place: Place| {
            if let Some(state) = self.enter(place, held) {
                visit(state);
            }
        };
        match &self.gravity {
            Some(gravity) => gravity.next(&self.cells, from, go),
            None => {
                for (dx, dy) in [(0, -1), (-1, 0), (1, 0), (0, 1)] {
                    let (x, y) = (from.x + dx, from.y + dy);
                    if open(&self.cells, x, y) {
                        go(Place { x, y, step: 0 });
                    }
                }
            }
        }
    }

    fn apart(&self, dx: i32, dy: i32) -> u32 {
        let steps = match &self.gravity {
            Some(gravity) => {
                let dx = if gravity.wraps.is_some() { 0 } else { dx };
                let (sx, sy) = gravity.arcs.stride;
                ((dx + sx - 1) / sx).max((dy + sy - 1) / sy)
            }
            None => dx + dy,
        };
        steps as u32
    }

    /// Never more than it takes.
    fn estimate(&self, state: State) -> u32 {
        let Place { x, y, .. } = self.place(state);
        let mut least = match self.around {
            Some((x0, y0, x1, y1)) => self.apart((x0 - x).max(x - x1).max(0), (y0 - y).max(y - y1).max(0)),
            None => 0,
        };
        let missing = self.required & !(state >> PLACE_BITS);
        for (bit, (px, py)) in &self.places {
            if missing & bit != 0 {
                least = least.max(self.apart((*px as i32 - x).abs(), (*py as i32 - y).abs()));
            }
        }
        least
    }

    fn done(&self, state: State) -> bool {
        let held = state >> PLACE_BITS;
        held & self.required == self.required
            && (self.around.is_none() || self.goals[self.cell(self.place(state))])
    }

    fn solve(mut self, start: Cell, limits: Limits) -> Solved {
        let begin = Place { x: start.0 as i32, y: start.1 as i32, step: 0 };
        let Some(mut state) = self.enter(begin, 0) else {
            return Solved { verdict: Verdict::Unsolvable(FINISHABLE.into()), nodes: 0 };
        };
        let (mut nodes, mut path) = (0, vec![state]);
        let mut left = std::mem::take(&mut self.one_by_one);
        let goals: Vec<Cell> = (0..self.goals.len())
            .filter(|i| self.goals[*i])
            .map(|i| (i % self.cells.width as usize, i / self.cells.width as usize))
            .collect();
        let first = left.len();
        left.retain(|cell| *cell != start);
        while !left.is_empty() {
            self.aim(&left);
            let (found, spent) = self.search(state, limits.nodes.saturating_sub(nodes));
            nodes += spent;
            let Found::Path(way) = found else {
                // From the start itself nothing was given away: what cannot be reached then never can.
                let certain = matches!(found, Found::None) && left.len() == first;
                let verdict = if certain { Verdict::Unsolvable(FINISHABLE.into()) } else { Verdict::Unknown };
                return Solved { verdict, nodes };
            };
            path.extend(&way[1..]);
            state = *way.last().unwrap_or(&state);
            let walked: Vec<usize> = way.iter().map(|s| self.cell(self.place(*s))).collect();
            left.retain(|(x, y)| !walked.contains(&(y * self.cells.width as usize + x)));
        }
        self.aim(&goals);
        let (found, spent) = self.search(state, limits.nodes.saturating_sub(nodes));
        nodes += spent;
        let verdict = match found {
            Found::Path(way) => {
                path.extend(&way[1..]);
                let mut cells: Vec<Cell> = path
                    .iter()
                    .map(|state| {
                        let place = self.place(*state);
                        (place.x as usize, place.y as usize)
                    })
                    .collect();
                cells.dedup();
                Verdict::Solved(Solution::Cells(cells))
            }
            Found::None if first == 0 => Verdict::Unsolvable(FINISHABLE.into()),
            _ => Verdict::Unknown,
        };
        Solved { verdict, nodes }
    }

    fn search(&self, start: State, limit: usize) -> (Found, usize) {
        let mut seen: HashMap<State, (State, u32), BuildHasherDefault<Mixer>> = HashMap::default();
        let mut buckets: Vec<Vec<(State, u32)>> = Vec::new();
        let push = |buckets: &mut Vec<Vec<(State, u32)>>, f: u32, entry| {
            let f = f as usize;
            if buckets.len() <= f {
                buckets.resize_with(f + 1, Vec::new);
            }
            buckets[f].push(entry);
        };
        seen.insert(start, (start, 0));
        push(&mut buckets, self.estimate(start), (start, 0));
        let (mut f, mut nodes) = (0, 0);
        while f < buckets.len() {
            let Some((state, g)) = buckets[f].pop() else {
                f += 1;
                continue;
            };
            if seen[&state].1 < g {
                continue;
            }
            if self.done(state) {
                let mut path = vec![state];
                let mut at = state;
                while at != start {
                    at = seen[&at].0;
                    path.push(at);
                }
                path.reverse();
                return (Found::Path(path), nodes);
            }
            nodes += 1;
            if nodes > limit {
                return (Found::Unknown, nodes);
            }
            self.next(state, |next| {
                let g = g + 1;
                let known = seen.entry(next).or_insert((state, u32::MAX));
                if g < known.1 {
                    *known = (state, g);
                    // The estimate may fall by more than a step where a goal is taken; a bucket never goes back.
                    push(&mut buckets, (g + self.estimate(next)).max(f as u32), (next, g));
                }
            });
        }
        (Found::None, nodes)
    }
}

enum Found {
    Path(Vec<State>),
    None,
    Unknown,
}

/// A fast mixer for states, which nobody chooses to make collide.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{plain_search, replay};
    use super::super::game::Goal;
    use super::super::game::tests::{dungeon, platformer};
    use super::super::read::grid_from_text;
    use super::*;
    use proptest::prelude::*;

    fn verdict(game: &TileGame, text: &str) -> Verdict {
        solve(game, &grid_from_text(game, text, "t").unwrap(), Limits::default()).verdict
    }

    fn solved(game: &TileGame, text: &str) -> bool {
        matches!(verdict(game, text), Verdict::Solved(_))
    }

    #[test]
    fn one_jumps_gaps_and_steps_and_no_farther() {
        let game = platformer();
        assert!(solved(&game, "------\n------\n------\nXX--XX\n"));
        assert!(!solved(&game, "---------\n---------\n---------\nXX-----XX\n"));
        assert!(solved(&game, "------\n----XX\n----XX\nXXXXXX\n"));
        assert!(!solved(&game, "------\n----XX\n----XX\n----XX\n----XX\nXXXXXX\n"));
        assert!(!solved(&game, "-E-\n-E-\n-E-\nXXX\n") && solved(&game, "-----\n-----\n--E--\nXXXXX\n"));
    }

    #[test]
    fn one_climbs_hangs_digs_and_passes_platforms_from_below() {
        let game = platformer();
        assert!(solved(&game, "-----\n---HX\n---H-\n---H-\n---H-\n---H-\nXXXXX\n"));
        assert!(solved(&game, "------\n-~~~~-\nX----X\n------\n"));
        let game = TileGame { goal: Goal::Marked, start: super::super::game::Start::Marked, ..game };
        let mut tiles = game.tiles.clone();
        for (char, affordance) in [('s', Affordance::Start), ('g', Affordance::Goal)] {
            tiles.push(super::super::game::Tile {
                char,
                name: String::new(),
                affordances: vec![affordance],
                colour: None,
            });
        }
        let game = TileGame { tiles, ..game };
        assert!(solved(&game, "s--X\nXBXX\nX-gX\nXXXX\n"));
        assert!(!solved(&game, "s--X\nXXXX\nX-gX\nXXXX\n"));
        assert!(solved(&game, "--g-\n====\ns---\nXXXX\n"));
        assert!(!solved(&game, "--s-\n====\ng---\nXXXX\n"));
    }

    #[test]
    fn doors_need_their_keys_and_required_things_are_taken() {
        let game = dungeon();
        assert!(solved(&game, "@.k\n#D#\n..>\n"));
        assert!(!solved(&game, "@..\n#D#\n.k>\n"));
        let Verdict::Solved(Solution::Cells(cells)) = verdict(&game, "@...\n.##.\n*..>\n") else { panic!() };
        assert!(cells.contains(&(0, 2)) && cells.last() == Some(&(3, 2)));
        // One key, two doors: enough where it is kept, not where it is used up.
        let two = "@k\nD#\n.#\nD#\n>#\n";
        assert!(solved(&game, two));
        let used = TileGame { movement: Movement::TopDown { keys_are_used_up: true }, ..game };
        assert!(!solved(&used, two) && solved(&used, "@k\nDk\n.#\nD#\n>#\n"));
    }

    #[test]
    fn reached_limits_are_unknown() {
        let game = dungeon();
        let grid = grid_from_text(&game, "@......\n.......\n......>\n", "t").unwrap();
        assert_eq!(solve(&game, &grid, Limits { nodes: 3 }).verdict, Verdict::Unknown);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn the_solver_and_a_plain_search_agree(text in prop::collection::vec("[-XXEHB=~]{7}", 5)) {
            let game = platformer();
            let grid = grid_from_text(&game, &text.join("\n"), "t").unwrap();
            let found = solve(&game, &grid, Limits::default()).verdict;
            prop_assert_eq!(matches!(found, Verdict::Solved(_)), plain_search(&game, &grid, 1 << 20).unwrap_or(false));
            if let Verdict::Solved(solution) = found {
                prop_assert!(replay(&game, &grid, &solution), "{:?}", solution);
            }
        }

        #[test]
        fn they_agree_on_doors_too(text in prop::collection::vec("[..#kD^*]{6}", 5), used: bool) {
            let game = TileGame { movement: Movement::TopDown { keys_are_used_up: used }, ..dungeon() };
            let mut grid = grid_from_text(&game, &text.join("\n"), "t").unwrap();
            grid.set(0, 0, game.tile('@').unwrap());
            grid.set(5, 4, game.tile('>').unwrap());
            let found = solve(&game, &grid, Limits::default()).verdict;
            let plain = plain_search(&game, &grid, 1 << 20);
            if found != Verdict::Unknown && plain.is_some() {
                prop_assert_eq!(matches!(found, Verdict::Solved(_)), plain.unwrap_or(false));
            }
            if let Verdict::Solved(solution) = found {
                prop_assert!(replay(&game, &grid, &solution), "{:?}", solution);
            }
        }
    }
}
