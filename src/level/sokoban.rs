//! Sokoban: A* over pushes, with dead squares, frozen boxes and a matching of boxes to targets (Junghanns and Schaeffer
//! 2001, "Sokoban: Enhancing general single-agent search methods using domain knowledge").

use super::ends::Cell;
use super::game::{TileGame, bit};
use super::grid::Grid;
use super::solve::{FINISHABLE, Limits, Mixer, Solution, Solved, Verdict};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const FAR: u16 = u16::MAX;
/// Boxes up to this many are matched exactly; with more, each counts its nearest target.
const MATCHED: usize = 8;
const NAMES: [char; 4] = ['u', 'l', 'r', 'd'];

/// What never changes in a level. Cells are numbered within a border of walls.
pub(super) struct Board {
    width: usize,
    walls: Vec<bool>,
    targets: Vec<usize>,
    target: Vec<bool>,
    /// For each target and cell, the pushes a lone box needs.
    pushes: Vec<Vec<u16>>,
    dead: Vec<bool>,
}

impl Board {
    pub fn new(game: &TileGame, grid: &Grid) -> Self {
        let bits = game.bits();
        let (w, h) = (grid.width() + 2, grid.height() + 2);
        let mut walls = vec![true; w * h];
        let mut targets = Vec::new();
        for (x, y, tile) in grid.cells() {
            let cell = (y + 1) * w + x + 1;
            walls[cell] = bits[usize::from(tile)] & (bit::SOLID | bit::HAZARD | bit::ENEMY) != 0;
            if bits[usize::from(tile)] & bit::TARGET != 0 {
                targets.push(cell);
            }
        }
        let mut board = Self {
            width: w,
            target: vec![false; w * h],
            pushes: Vec::new(),
            dead: Vec::new(),
            walls,
            targets,
        };
        board.targets.iter().for_each(|t| board.target[*t] = true);
        board.pushes = board.targets.iter().map(|target| board.pull(*target)).collect();
        board.dead = (0..w * h).map(|cell| board.pushes.iter().all(|from| from[cell] == FAR)).collect();
        board
    }

    fn directions(&self) -> [isize; 4] {
        let w = self.width as isize;
        [-w, -1, 1, w]
    }

    /// The pushes a lone box needs from each cell to a target, by pulling it away from there.
    fn pull(&self, target: usize) -> Vec<u16> {
        let mut pushes = vec![FAR; self.walls.len()];
        pushes[target] = 0;
        let mut queue = std::collections::VecDeque::from([target]);
        while let Some(at) = queue.pop_front() {
            for d in self.directions() {
                let from = at.wrapping_add_signed(-d);
                // A wall stands around everything, so one step is inside; the second may be the border.
                if self.walls[from] || self.walls[from.wrapping_add_signed(-d)] || pushes[from] != FAR {
                    continue;
                }
                pushes[from] = pushes[at].saturating_add(1);
                queue.push_back(from);
            }
        }
        pushes
    }

    /// The least pushes for all boxes; `None` when no matching exists.
    fn estimate(&self, boxes: &[u16]) -> Option<u32> {
        let n = boxes.len();
        if n > MATCHED {
            let nearest = |b: &u16| self.pushes.iter().map(|from| from[usize::from(*b)]).min().unwrap_or(FAR);
            return boxes.iter().map(nearest).try_fold(0, |sum, d| (d != FAR).then(|| sum + u32::from(d)));
        }
        let mut best = [u32::MAX; 1 << MATCHED];
        best[0] = 0;
        for taken in 0..(1usize << n) - 1 {
            if best[taken] == u32::MAX {
                continue;
            }
            let next = boxes[taken.count_ones() as usize];
            for (t, from) in self.pushes.iter().enumerate() {
                let d = from[usize::from(next)];
                if taken & (1 << t) == 0 && d != FAR {
                    let with = taken | 1 << t;
                    best[with] = best[with].min(best[taken] + u32::from(d));
                }
            }
        }
        let all = best[(1 << n) - 1];
        (all != u32::MAX).then_some(all)
    }

    /// Whether a box can never move again and one of those that hold it is off its target.
    fn frozen(&self, at: usize, occupied: &[bool]) -> bool {
        let mut held = Vec::new();
        self.blocked(at, occupied, &mut held) && held.iter().any(|cell| !self.target[*cell])
    }

    fn blocked(&self, at: usize, occupied: &[bool], held: &mut Vec<usize>) -> bool {
        let depth = held.len();
        held.push(at);
        for step in [1, self.width] {
            let (a, b) = (at - step, at + step);
            let wall = |cell: usize| self.walls[cell] || held.contains(&cell);
            if wall(a) || wall(b) || (self.dead[a] && self.dead[b]) {
                continue;
            }
            let stuck = [a, b].into_iter().any(|cell| occupied[cell] && self.blocked(cell, occupied, held));
            if !stuck {
                held.truncate(depth);
                return false;
            }
        }
        true
    }
}

/// Where the player can walk.
struct Flood {
    seen: Vec<u32>,
    stamp: u32,
    queue: Vec<usize>,
}

impl Flood {
    /// Marks what can be reached; the lowest cell of it.
    fn fill(&mut self, board: &Board, from: usize, occupied: &[bool]) -> usize {
        self.stamp += 1;
        self.queue.clear();
        self.queue.push(from);
        self.seen[from] = self.stamp;
        let mut lowest = from;
        while let Some(at) = self.queue.pop() {
            lowest = lowest.min(at);
            for d in board.directions() {
                let to = at.wrapping_add_signed(d);
                if self.seen[to] != self.stamp && !board.walls[to] && !occupied[to] {
                    self.seen[to] = self.stamp;
                    self.queue.push(to);
                }
            }
        }
        lowest
    }

    fn reached(&self, cell: usize) -> bool {
        self.seen[cell] == self.stamp
    }
}

struct Search<'a> {
    board: &'a Board,
    count: usize,
    /// Boxes and, last, the lowest cell the player can get to; `count + 1` numbers a node.
    arena: Vec<u16>,
    /// Where each node came from: the parent, the box's cell before, and the direction.
    from: Vec<(u32, u16, u8)>,
    pushed: Vec<u16>,
    /// Whether a node was expanded.
    closed: Vec<bool>,
    known: HashMap<u64, u32, BuildHasherDefault<Mixer>>,
    flood: Flood,
    occupied: Vec<bool>,
}

/// Solves a level whose boxes are as many as its targets.
pub(super) fn solve(game: &TileGame, grid: &Grid, start: Cell, limits: Limits) -> Solved {
    let unsolvable = |nodes| Solved { verdict: Verdict::Unsolvable(FINISHABLE.into()), nodes };
    if (grid.width() + 2) * (grid.height() + 2) > usize::from(u16::MAX) {
        return Solved { verdict: Verdict::Unknown, nodes: 0 };
    }
    let bits = game.bits();
    let board = Board::new(game, grid);
    let inside = |x: usize, y: usize| (y + 1) * board.width + x + 1;
    let boxes: Vec<u16> = grid
        .cells()
        .filter(|(.., tile)| bits[usize::from(*tile)] & bit::BOX != 0)
        .map(|(x, y, _)| inside(x, y) as u16)
        .collect();
    if board.walls[inside(start.0, start.1)] {
        return unsolvable(0);
    }
    // The best first, for as long as that may take; then whatever comes soon.
    let first = Search::run(&board, &boxes, inside(start.0, start.1), 1, limits.nodes / 4);
    let (outcome, mut nodes) = first;
    let outcome = match outcome {
        None => {
            let (outcome, more) =
                Search::run(&board, &boxes, inside(start.0, start.1), 5, limits.nodes.saturating_sub(nodes));
            nodes += more;
            outcome
        }
        some => some,
    };
    match outcome {
        None => Solved { verdict: Verdict::Unknown, nodes },
        Some(None) => unsolvable(nodes),
        Some(Some(moves)) => Solved { verdict: Verdict::Solved(Solution::Moves(moves)), nodes },
    }
}

/// `None`: the limit was reached; `Some(None)`: there is no way.
type Outcome = Option<Option<String>>;

impl<'a> Search<'a> {
    fn run(board: &'a Board, boxes: &[u16], player: usize, weight: u32, limit: usize) -> (Outcome, usize) {
        let size = board.walls.len();
        let mut search = Self {
            board,
            count: boxes.len(),
            arena: Vec::new(),
            from: Vec::new(),
            pushed: Vec::new(),
            closed: Vec::new(),
            known: HashMap::default(),
            flood: Flood { seen: vec![0; size], stamp: 0, queue: Vec::new() },
            occupied: vec![false; size],
        };
        let mut buckets: Vec<Vec<u32>> = Vec::new();
        let (mut f, mut nodes) = (0usize, 0usize);
        let mut sorted = boxes.to_vec();
        sorted.sort_unstable();
        search.place(&sorted, true);
        let lowest = search.flood.fill(board, player, &search.occupied);
        search.place(&sorted, false);
        let Some(estimate) = board.estimate(&sorted) else { return (Some(None), 0) };
        search.add(&sorted, lowest, (0, 0, 0), 0);
        push(&mut buckets, (estimate * weight) as usize, 0);
        let mut boxes = vec![0; sorted.len()];
        while f < buckets.len() {
            let Some(node) = buckets[f].pop() else {
                f += 1;
                continue;
            };
            let n = node as usize;
            if std::mem::replace(&mut search.closed[n], true) {
                continue;
            }
            let at = n * (search.count + 1);
            boxes.copy_from_slice(&search.arena[at..at + search.count]);
            if boxes.iter().all(|b| board.target[usize::from(*b)]) {
                return (Some(Some(search.moves(n, player))), nodes);
            }
            nodes += 1;
            if nodes > limit {
                return (None, nodes);
            }
            search.expand(n, &boxes, weight, &mut |f2, child| push(&mut buckets, f2.max(f), child));
        }
        (Some(None), nodes)
    }

    fn place(&mut self, boxes: &[u16], there: bool) {
        boxes.iter().for_each(|b| self.occupied[usize::from(*b)] = there);
    }

    fn expand(&mut self, node: usize, boxes: &[u16], weight: u32, queue: &mut impl FnMut(usize, u32)) {
        let board = self.board;
        let player = usize::from(self.arena[node * (self.count + 1) + self.count]);
        self.place(boxes, true);
        self.flood.fill(board, player, &self.occupied);
        let mut pushes = Vec::new();
        for (i, b) in boxes.iter().enumerate() {
            let at = usize::from(*b);
            for (d, step) in board.directions().into_iter().enumerate() {
                let (behind, to) = (at.wrapping_add_signed(-step), at.wrapping_add_signed(step));
                if self.flood.reached(behind) && !board.walls[to] && !self.occupied[to] && !board.dead[to] {
                    pushes.push((i, d, at, to));
                }
            }
        }
        let pushed = self.pushed[node] + 1;
        let mut child = vec![0u16; boxes.len()];
        for (i, d, at, to) in pushes {
            self.occupied[at] = false;
            self.occupied[to] = true;
            if !board.frozen(to, &self.occupied) {
                child.copy_from_slice(boxes);
                child[i] = to as u16;
                child.sort_unstable();
                let lowest = self.flood.fill(board, at, &self.occupied);
                if let Some(id) = self.add(&child, lowest, (node as u32, at as u16, d as u8), pushed)
                    && let Some(estimate) = board.estimate(&child)
                {
                    queue(usize::from(pushed) + (estimate * weight) as usize, id);
                }
            }
            self.occupied[at] = true;
            self.occupied[to] = false;
        }
        self.place(boxes, false);
    }

    /// The node of a state, if it is new or was reached with fewer pushes and not yet expanded.
    fn add(&mut self, boxes: &[u16], lowest: usize, from: (u32, u16, u8), pushed: u16) -> Option<u32> {
        let mut hasher = Mixer::default();
        boxes.iter().for_each(|b| hasher.write_u64(u64::from(*b)));
        hasher.write_u64(lowest as u64 | 1 << 32);
        let mut hash = hasher.finish();
        let width = self.count + 1;
        loop {
            let fresh = self.from.len() as u32;
            let id = *self.known.entry(hash).or_insert(fresh);
            if id == fresh {
                self.arena.extend(boxes);
                self.arena.push(lowest as u16);
                self.from.push(from);
                self.pushed.push(pushed);
                self.closed.push(false);
                return Some(id);
            }
            let n = id as usize;
            let state = &self.arena[n * width..(n + 1) * width];
            if &state[..self.count] == boxes && usize::from(state[self.count]) == lowest {
                if pushed >= self.pushed[n] {
                    return None;
                }
                // With an estimate that is not consistent a shorter way may come late.
                self.closed[n] = false;
                self.pushed[n] = pushed;
                self.from[n] = from;
                return Some(id);
            }
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// The moves to a node, with the player's steps between pushes.
    fn moves(&mut self, node: usize, player: usize) -> String {
        let mut pushes = Vec::new();
        let mut at = node;
        while at != 0 {
            let (parent, cell, d) = self.from[at];
            pushes.push((usize::from(cell), usize::from(d)));
            at = parent as usize;
        }
        pushes.reverse();
        let first: Vec<u16> = self.arena[..self.count].to_vec();
        self.place(&first, true);
        let (mut player, mut moves) = (player, String::new());
        for (cell, d) in pushes {
            let step = self.board.directions()[d];
            let behind = cell.wrapping_add_signed(-step);
            moves.push_str(&steps(self.board, player, behind, &self.occupied));
            moves.push(NAMES[d].to_ascii_uppercase());
            self.occupied[cell] = false;
            self.occupied[cell.wrapping_add_signed(step)] = true;
            player = cell;
        }
        moves
    }
}

fn push(buckets: &mut Vec<Vec<u32>>, f: usize, node: u32) {
    if buckets.len() <= f {
        buckets.resize_with(f + 1, Vec::new);
    }
    buckets[f].push(node);
}

/// The player's shortest way between two cells, which is there.
fn steps(board: &Board, from: usize, to: usize, occupied: &[bool]) -> String {
    let mut came: Vec<Option<usize>> = vec![None; board.walls.len()];
    let mut queue = std::collections::VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            break;
        }
        for (d, step) in board.directions().into_iter().enumerate() {
            let next = at.wrapping_add_signed(step);
            if next != from && came[next].is_none() && !board.walls[next] && !occupied[next] {
                came[next] = Some(d);
                queue.push_back(next);
            }
        }
    }
    let mut way = String::new();
    let mut at = to;
    while at != from {
        let Some(d) = came[at] else { break };
        way.push(NAMES[d]);
        at = at.wrapping_add_signed(-board.directions()[d]);
    }
    way.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::{plain_search, replay};
    use super::super::game::tests::sokoban;
    use super::super::read::grid_from_text;
    use super::super::solve::solve;
    use super::*;
    use proptest::prelude::*;

    fn verdict(text: &str) -> Verdict {
        let game = sokoban();
        solve(&game, &grid_from_text(&game, text, "t").unwrap(), Limits::default()).verdict
    }

    #[test]
    fn small_levels_are_solved_with_the_fewest_pushes() {
        assert_eq!(verdict("#####\n#@$.#\n#####\n"), Verdict::Solved(Solution::Moves("R".into())));
        let Verdict::Solved(solution) = verdict("######\n#.   #\n# $  #\n#  @ #\n######\n") else { panic!() };
        assert_eq!(solution.pushes(), Some(2));
        assert!(matches!(verdict("#####\n#@ $#\n#.  #\n#####\n"), Verdict::Unsolvable(_)));
        assert!(
            matches!(verdict("#####\n#@$ #\n#####\n"), Verdict::Unsolvable(rule) if rule.contains("1 and 0"))
        );
        assert_eq!(verdict("####\n#@*#\n####\n"), Verdict::Solved(Solution::Moves(String::new())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn the_solver_and_a_plain_search_agree(text in prop::collection::vec("[  #$.]{5}", 4)) {
            let game = sokoban();
            let mut grid = grid_from_text(&game, &text.join("\n"), "t").unwrap();
            grid.set(2, 2, game.tile('@').unwrap());
            let found = solve(&game, &grid, Limits::default()).verdict;
            let plain = plain_search(&game, &grid, 1 << 18);
            if let Some(plain) = plain {
                prop_assert_eq!(matches!(found, Verdict::Solved(_)), plain);
            }
            if let Verdict::Solved(solution) = found {
                prop_assert!(replay(&game, &grid, &solution), "{:?}", solution);
            }
        }
    }
}
