//! What levels are measured by, as sets.
//!
//! - `tpkl_k`: Kullback-Leibler divergence of tile patterns (Lucas and Volz 2019, "Tile pattern KL-divergence for analysing
//!   and evolving game levels"), both ways averaged, on k x k windows.
//! - `novelty`: the edit distance to the nearest training level; `diversity`: the mean pairwise one (as Horn et al. 2014,
//!   "A comparative evaluation of procedural level generators in the Mario AI framework", compare levels), both over slices,
//!   as shares of the longer level. Exact slices only are alike. Levels are compared with parts of training levels that are
//!   as long: a difference in length alone is no novelty.
//! - `longest_copied_run`: the longest run of slices that one training level has too (Snodgrass and Ontañón 2017 call the
//!   like of it plagiarism).

use super::game::TileGame;
use super::grid::Grid;
use super::slices::{Slice, slices_of};
use std::collections::{HashMap, HashSet};

/// How often each window of `k` x `k` tiles is there.
pub type Patterns = HashMap<Vec<u8>, f64>;

/// The windows of `k` x `k` tiles of levels.
pub fn patterns<'a>(levels: impl Iterator<Item = &'a Grid>, k: usize) -> Patterns {
    let mut all = Patterns::new();
    for grid in levels {
        for y in 0..(grid.height() + 1).saturating_sub(k) {
            for x in 0..(grid.width() + 1).saturating_sub(k) {
                let window = (y..y + k).flat_map(|row| (x..x + k).map(move |column| grid.at(column, row)));
                *all.entry(window.collect()).or_default() += 1.0;
            }
        }
    }
    all
}

/// The divergence of two sets of patterns, in nats; the smoothing is Lucas and Volz's, with 1e-5.
pub fn tpkl(a: &Patterns, b: &Patterns) -> Option<f64> {
    const SMALL: f64 = 1e-5;
    let (all_a, all_b) = (a.values().sum::<f64>(), b.values().sum::<f64>());
    if all_a == 0.0 || all_b == 0.0 {
        return None;
    }
    let share = |set: &Patterns, all: f64, key: &Vec<u8>| {
        (set.get(key).copied().unwrap_or(0.0) + SMALL) / ((all + SMALL) * (1.0 + SMALL))
    };
    let towards = |a: &Patterns, all_a: f64, b: &Patterns, all_b: f64| -> f64 {
        let mut keys: Vec<&Vec<u8>> = a.keys().collect();
        keys.sort_unstable();
        keys.iter()
            .map(|key| {
                let p = share(a, all_a, key);
                p * (p / share(b, all_b, key)).ln()
            })
            .sum()
    };
    Some(0.5 * towards(a, all_a, b, all_b) + 0.5 * towards(b, all_b, a, all_a))
}

/// A level as numbered slices, for distances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered(Vec<u32>);

impl Numbered {
    /// Its parts of so many slices, a new one every `stride`; itself, where it has no more.
    pub fn parts(&self, count: usize, stride: usize) -> Vec<Self> {
        if self.0.len() <= count {
            return vec![self.clone()];
        }
        self.0.windows(count).step_by(stride.max(1)).map(|part| Self(part.to_vec())).collect()
    }
}

/// Numbers slices: equal ones alike.
#[derive(Default)]
pub struct Numbering(HashMap<Slice, u32>);

impl Numbering {
    /// A level's slices, numbered.
    pub fn number(&mut self, game: &TileGame, grid: &Grid) -> Numbered {
        let slices = slices_of(game, grid, &[]);
        let number = |slice: Slice| {
            let fresh = self.0.len() as u32;
            *self.0.entry(slice).or_insert(fresh)
        };
        Numbered(slices.into_iter().map(number).collect())
    }
}

/// The edit distance (Levenshtein 1966) of two levels' slices, as a share of the longer.
pub fn distance(a: &Numbered, b: &Numbered) -> f64 {
    let (a, b) = (&a.0, &b.0);
    let longest = a.len().max(b.len());
    if longest == 0 {
        return 0.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let same = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = same.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()] as f64 / longest as f64
}

/// The distance to the nearest of `others`.
pub fn novelty(level: &Numbered, others: &[Numbered]) -> Option<f64> {
    others.iter().map(|other| distance(level, other)).min_by(f64::total_cmp)
}

/// The longest run of slices that one of `others` has too.
pub fn longest_copied_run(level: &Numbered, others: &[Numbered]) -> usize {
    let has = |length: usize| {
        let runs: HashSet<&[u32]> = level.0.windows(length).collect();
        others.iter().any(|other| other.0.windows(length).any(|run| runs.contains(run)))
    };
    // Whoever has a run of some length has all shorter ones.
    let (mut low, mut high) = (0, level.0.len());
    while low < high {
        let middle = (low + high).div_ceil(2);
        if has(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::super::read::grid_from_text;
    use super::*;

    fn grid(text: &str) -> Grid {
        grid_from_text(&platformer(), text, "t").unwrap()
    }

    #[test]
    fn divergence_is_zero_for_the_same_and_grows_with_strangeness() {
        let (a, b) = (grid("----\n-X--\nXXXX\n"), grid("-E--\n-X-E\nXX-X\n"));
        let of = |grid: &Grid| patterns([grid].into_iter(), 2);
        assert!(tpkl(&of(&a), &of(&a)).unwrap().abs() < 1e-12);
        assert!(tpkl(&of(&a), &of(&b)).unwrap() > 1.0);
        assert_eq!(of(&a).values().sum::<f64>(), 6.0);
        assert!(tpkl(&of(&a), &Patterns::new()).is_none());
    }

    #[test]
    fn distances_and_runs_are_those_of_the_columns() {
        let mut numbering = Numbering::default();
        let mut number = |text: &str| numbering.number(&platformer(), &grid(text));
        let (a, b) = (number("-X-XE-\nXXXXXX\n"), number("E-X-X-\nXXXXXX\n"));
        assert!((distance(&a, &b) - 2.0 / 6.0).abs() < 1e-12);
        assert_eq!(longest_copied_run(&a, std::slice::from_ref(&b)), 4);
        assert_eq!(a.parts(4, 2).len(), 2);
        assert_eq!(a.parts(6, 3), std::slice::from_ref(&a));
        assert!(a.parts(4, 2).iter().all(|part| distance(&a, part) == 2.0 / 6.0));
        assert_eq!((novelty(&a, &[b, a.clone()]), novelty(&a, &[])), (Some(0.0), None));
    }
}
