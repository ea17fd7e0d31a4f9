//! What stands beside a model: levels of a Markov chain over slices, and of `WaveFunctionCollapse` (Gumin 2016) on tiles.

use super::game::TileGame;
use super::grid::Grid;
use super::slices::{Slice, grid_of, slices_of};
use crate::seed::{Seed, Stream};
use std::collections::{BTreeMap, BTreeSet};

/// A Markov chain over slices (Snodgrass and Ontañón 2014): each is drawn from those that followed the last two, or the
/// last, in the levels it learned from.
pub struct Markov<'a> {
    game: &'a TileGame,
    first: Vec<Slice>,
    after: [BTreeMap<Vec<Slice>, Vec<Slice>>; 2],
}

impl<'a> Markov<'a> {
    /// Counts what follows what. Levels should have slices of one length; others are passed over.
    pub fn new(game: &'a TileGame, levels: &[Grid]) -> Self {
        let all: Vec<Vec<Slice>> = levels.iter().map(|grid| slices_of(game, grid, &[])).collect();
        let across = all.first().map_or(0, |slices| slices[0].len());
        let mut chain = Self { game, first: Vec::new(), after: [BTreeMap::new(), BTreeMap::new()] };
        for slices in all.iter().filter(|slices| slices[0].len() == across) {
            chain.first.push(slices[0].clone());
            for order in [1, 2] {
                for run in slices.windows(order + 1) {
                    let after = &mut chain.after[order - 1];
                    after.entry(run[..order].to_vec()).or_default().push(run[order].clone());
                }
            }
        }
        chain
    }

    /// A level of so many slices. `None`: it learned from nothing.
    pub fn draw(&self, count: usize, seed: Seed) -> Option<Grid> {
        let mut noise = seed.stream();
        let mut slices = vec![noise.pick(&self.first)?.clone()];
        while slices.len() < count {
            let seen = |order: usize| {
                let from = slices.len().checked_sub(order)?;
                self.after[order - 1].get(&slices[from..])
            };
            let options = seen(2).or_else(|| seen(1));
            let next =
                options.and_then(|options| noise.pick(options)).or_else(|| noise.pick(&self.first))?.clone();
            slices.push(next);
        }
        Some(grid_of(self.game.scan, &slices))
    }
}

/// `WaveFunctionCollapse` with overlapping windows of 2 x 2 tiles.
pub struct Wfc {
    patterns: Vec<[u8; 4]>,
    weights: Vec<f64>,
    /// Which may stand to the right of each, and below.
    right: Vec<Vec<bool>>,
    below: Vec<Vec<bool>>,
}

/// A level is begun anew so often, when it comes to a contradiction.
const RESTARTS: usize = 10;

impl Wfc {
    /// Learns the windows of levels.
    pub fn new(levels: &[Grid]) -> Self {
        let mut counts: BTreeMap<[u8; 4], f64> = BTreeMap::new();
        for grid in levels {
            for y in 0..grid.height().saturating_sub(1) {
                for x in 0..grid.width().saturating_sub(1) {
                    let window = [grid.at(x, y), grid.at(x + 1, y), grid.at(x, y + 1), grid.at(x + 1, y + 1)];
                    *counts.entry(window).or_default() += 1.0;
                }
            }
        }
        let patterns: Vec<[u8; 4]> = counts.keys().copied().collect();
        let weights = counts.values().copied().collect();
        let fits = |a: fn(&[u8; 4]) -> [u8; 2], b: fn(&[u8; 4]) -> [u8; 2]| -> Vec<Vec<bool>> {
            patterns.iter().map(|p| patterns.iter().map(|q| a(p) == b(q)).collect()).collect()
        };
        let right = fits(|p| [p[1], p[3]], |q| [q[0], q[2]]);
        let below = fits(|p| [p[2], p[3]], |q| [q[0], q[1]]);
        Self { patterns, weights, right, below }
    }

    /// A level of so many columns and rows, at least 2 each; `None` when it came to contradictions only.
    pub fn draw(&self, width: usize, height: usize, seed: Seed) -> Option<Grid> {
        if width < 2 || height < 2 || self.patterns.is_empty() {
            return None;
        }
        (0..RESTARTS).find_map(|n| self.attempt(width, height, &mut seed.derive_index(n as u64).stream()))
    }

    fn attempt(&self, width: usize, height: usize, noise: &mut Stream) -> Option<Grid> {
        let (w, h, n) = (width - 1, height - 1, self.patterns.len());
        let mut options = vec![vec![true; n]; w * h];
        let mut left = vec![n; w * h];
        let mut open: BTreeSet<usize> = (0..w * h).collect();
        while !open.is_empty() {
            // The cell with the fewest options, the first of equals.
            let at = *open.iter().min_by_key(|cell| left[**cell])?;
            open.remove(&at);
            let weights: Vec<f64> =
                (0..n).map(|p| if options[at][p] { self.weights[p] } else { 0.0 }).collect();
            let mut draw = noise.uniform_f64() * weights.iter().sum::<f64>();
            let chosen = weights.iter().position(|w| {
                draw -= w;
                *w > 0.0 && draw <= 0.0
            });
            let chosen = chosen.or_else(|| weights.iter().rposition(|w| *w > 0.0))?;
            options[at].iter_mut().enumerate().for_each(|(p, option)| *option = p == chosen);
            left[at] = 1;
            let mut changed = vec![at];
            while let Some(at) = changed.pop() {
                let (x, y) = (at % w, at / w);
                let sides = [
                    (x + 1 < w, at + 1, &self.right, false),
                    (x > 0, at.wrapping_sub(1), &self.right, true),
                    (y + 1 < h, at + w, &self.below, false),
                    (y > 0, at.wrapping_sub(w), &self.below, true),
                ];
                for (inside, other, rule, back) in sides {
                    if !inside {
                        continue;
                    }
                    let mut lost = false;
                    for q in 0..n {
                        if options[other][q]
                            && !(0..n).any(|p| options[at][p] && if back { rule[q][p] } else { rule[p][q] })
                        {
                            options[other][q] = false;
                            left[other] -= 1;
                            lost = true;
                        }
                    }
                    if left[other] == 0 {
                        return None;
                    }
                    if lost {
                        changed.push(other);
                    }
                }
            }
        }
        let pattern = |x: usize, y: usize| options[y * w + x].iter().position(|option| *option);
        let mut tiles = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let (px, py) = (x.min(w - 1), y.min(h - 1));
                tiles.push(self.patterns[pattern(px, py)?][(y - py) * 2 + (x - px)]);
            }
        }
        Some(Grid::from_rows(width, tiles))
    }
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::super::measures::patterns;
    use super::super::read::grid_from_text;
    use super::*;

    #[test]
    fn both_make_levels_of_what_they_saw_and_nothing_else() {
        let game = platformer();
        let seen = grid_from_text(&game, "----------\n---X---E--\n--XX--X---\nXXXX--XXXX\n", "t").unwrap();
        let markov = Markov::new(&game, std::slice::from_ref(&seen)).draw(30, Seed::new(1)).unwrap();
        assert_eq!((markov.width(), markov.height()), (30, 4));
        let wfc = Wfc::new(std::slice::from_ref(&seen)).draw(12, 4, Seed::new(2)).unwrap();
        let known = patterns([&seen].into_iter(), 2);
        assert!(patterns([&wfc].into_iter(), 2).keys().all(|window| known.contains_key(window)));
        assert!(Markov::new(&game, &[]).draw(3, Seed::new(1)).is_none());
        assert!(Wfc::new(&[]).draw(5, 5, Seed::new(1)).is_none());
    }
}
