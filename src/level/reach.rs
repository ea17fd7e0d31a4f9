//! [`Reach`]: what can be reached in a platformer that is written column by column. It goes on from where it stood when a
//! column comes, and back when columns are taken away.

use super::game::{Start, TileGame};
use super::solve::gravity;
use super::walk::{Cells, Gravity, Place};

/// What can be reached so far.
pub(super) struct Reach {
    gravity: Gravity,
    height: usize,
    /// Bits, column by column.
    bits: Vec<u16>,
    /// By column, row and step: how many columns there were when it was first reached (0: it was not).
    reached: Vec<u32>,
    /// Everything reached, in order.
    log: Vec<Place>,
    started: bool,
}

struct Written<'a> {
    bits: &'a [u16],
    height: usize,
}

impl Cells for Written<'_> {
    fn bits(&self, x: i32, y: i32) -> Option<u16> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        if y >= self.height { None } else { self.bits.get(x * self.height + y).copied() }
    }
}

impl Reach {
    /// For a game that starts on the leftmost ground and falls; `None` for others.
    pub fn new(game: &TileGame, height: usize) -> Option<Self> {
        let gravity =
            gravity(game, 0).filter(|g| g.wraps.is_none() && game.start == Start::LeftmostGround)?;
        Some(Self { gravity, height, bits: Vec::new(), reached: Vec::new(), log: Vec::new(), started: false })
    }

    pub fn columns(&self) -> usize {
        self.bits.len() / self.height
    }

    fn index(&self, place: Place) -> usize {
        (place.x as usize * self.height + place.y as usize) * self.gravity.arcs.steps.len()
            + usize::from(place.step)
    }

    /// A column is written, its bits from the top.
    pub fn push(&mut self, column: &[u16]) {
        self.bits.extend(column);
        self.reached.resize(self.bits.len() * self.gravity.arcs.steps.len(), 0);
        let columns = self.columns();
        let stamp = columns as u32;
        let stride = self.gravity.arcs.stride.0.max(1) as usize;
        let written = Written { bits: &self.bits, height: self.height };
        let mut open: Vec<Place> = Vec::new();
        if !self.started {
            let x = columns as i32 - 1;
            if let Some(y) = (0..self.height as i32).rev().find(|y| Gravity::standable(&written, x, *y)) {
                open.push(Place { x, y, step: 0 });
                self.started = true;
            }
        }
        for place in &open {
            let index = self.index(*place);
            self.reached[index] = stamp;
        }
        self.log.extend(&open);
        // Whoever stood at the edge can go on.
        open.extend(self.log.iter().filter(|place| place.x as usize + stride + 1 >= columns));
        let mut next = Vec::new();
        while let Some(place) = open.pop() {
            let written = Written { bits: &self.bits, height: self.height };
            next.clear();
            self.gravity.next(&written, place, |to| next.push(to));
            for to in &next {
                let index = self.index(*to);
                if self.reached[index] == 0 {
                    self.reached[index] = stamp;
                    self.log.push(*to);
                    open.push(*to);
                }
            }
        }
    }

    /// Takes all but the first columns away.
    pub fn truncate(&mut self, columns: usize) {
        self.bits.truncate(columns * self.height);
        let steps = self.gravity.arcs.steps.len();
        while let Some(place) = self.log.last().copied() {
            let index = self.index(place);
            if self.reached[index] as usize <= columns {
                break;
            }
            self.reached[index] = 0;
            self.log.pop();
        }
        self.reached.truncate(self.bits.len() * steps);
        self.started = !self.log.is_empty();
    }

    /// Whether the way may still go on: somebody stands, or could have jumped, near the edge. Before there is any ground it may.
    pub fn alive(&self) -> bool {
        if !self.started {
            return true;
        }
        let written = Written { bits: &self.bits, height: self.height };
        let span = self.gravity.arcs.span + 1;
        let edge = self.columns() as i32 - span;
        // The last column itself counts in the air as well: it may land in the next.
        self.log.iter().any(|p| {
            p.x + 1 >= self.columns() as i32 || (p.x >= edge && Gravity::standable(&written, p.x, p.y))
        })
    }

    /// Whether somebody stands in the last column that has ground.
    pub fn finished(&self) -> bool {
        let written = Written { bits: &self.bits, height: self.height };
        let stands = |x: i32, y: i32| Gravity::standable(&written, x, y);
        let ground = |x: &i32| (0..self.height as i32).any(|y| stands(*x, y));
        let Some(last) = (0..self.columns() as i32).rev().find(ground) else { return false };
        self.log.iter().any(|place| place.x == last && stands(place.x, place.y))
    }
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::super::read::grid_from_text;
    use super::super::solve::{Limits, Verdict, solve};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn column_by_column_it_agrees_with_the_solver(text in prop::collection::vec("[---XXEH]{9}", 5), back in 1usize..9) {
            let game = platformer();
            let grid = grid_from_text(&game, &text.join("\n"), "t").unwrap();
            let bits = game.bits();
            let column = |x: usize| (0..5).map(|y| bits[usize::from(grid.at(x, y))]).collect::<Vec<_>>();
            let mut reach = Reach::new(&game, 5).unwrap();
            (0..9).for_each(|x| reach.push(&column(x)));
            let once = reach.finished();
            // Going back and on again changes nothing.
            reach.truncate(back);
            (back..9).for_each(|x| reach.push(&column(x)));
            prop_assert_eq!(reach.finished(), once);
            prop_assert_eq!(once, matches!(solve(&game, &grid, Limits::default()).verdict, Verdict::Solved(_)));
            if once {
                prop_assert!(reach.alive());
            }
        }
    }
}
