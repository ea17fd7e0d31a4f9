//! Levels as training samples: windows of slices, gaps to fill, with what was measured of them in front.

use super::ends::Cell;
use super::game::{Symmetries, TileGame};
use super::grid::Grid;
use super::pieces::Pieces;
use super::sequence::{AROUND, Asked, BEGIN, Range, Scribe};
use super::slices::{ON_PATH, Slice, grid_of, slices_of};
use super::solve::Solution;
use crate::seed::Stream;
use crate::training::{Sample, SampleSource};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What samples are made like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LevelData {
    /// Windows of at least and at most so many slices are learned from longer levels.
    pub window: (usize, usize),
    /// The share of samples in which a gap is filled.
    pub fill: f32,
    /// How often each knob is left open.
    pub open: f32,
    /// How often a shorter piece is taken (BPE-dropout).
    pub piece_dropout: f32,
    /// The most merges of the vocabulary.
    pub merges: usize,
    /// One level in so many is held out.
    pub hold_out: usize,
    /// The solver's limit for each level, in nodes.
    pub nodes: usize,
}

impl Default for LevelData {
    fn default() -> Self {
        Self {
            window: (16, 100),
            fill: 0.25,
            open: 0.4,
            piece_dropout: 0.1,
            merges: 256,
            hold_out: 8,
            nodes: 300_000,
        }
    }
}

/// A level to learn from.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub grid: Grid,
    pub theme: String,
    pub solution: Option<Solution>,
    /// The cells of the solution.
    pub path: Vec<Cell>,
}

/// What all samples share.
pub(super) struct Shared {
    pub game: TileGame,
    pub pieces: Pieces,
    pub ranges: Vec<Range>,
    pub data: LevelData,
}

pub(super) struct Windows {
    shared: Arc<Shared>,
    names: Vec<String>,
    /// Each level's images, each image's slices; the first is the level itself.
    levels: Vec<(Known, Vec<Vec<Slice>>)>,
    /// Windows of validation: level and first slice.
    fixed: Vec<(usize, usize)>,
    hash: String,
}

/// The images of a level under the game's symmetries that keep its shape.
pub(super) fn images(game: &TileGame, grid: &Grid, path: &[Cell]) -> Vec<(Grid, Vec<Cell>)> {
    let mut marked = grid.clone();
    let path = if game.path_aware { path } else { &[] };
    path.iter().for_each(|(x, y)| marked.set(*x, *y, grid.at(*x, *y) | ON_PATH));
    let wanted: Vec<Grid> = match game.symmetries {
        Symmetries::None => vec![marked],
        Symmetries::Mirror => vec![marked.clone(), marked.mirrored()],
        Symmetries::All => {
            marked.images().into_iter().filter(|image| image.width() == grid.width()).collect()
        }
    };
    let plain = |image: &Grid| {
        let path = image.cells().filter(|(.., t)| t & ON_PATH != 0).map(|(x, y, _)| (x, y)).collect();
        let tiles = image.tiles().iter().map(|t| t & !ON_PATH).collect();
        (Grid::from_rows(image.width(), tiles), path)
    };
    wanted.iter().map(plain).collect()
}

impl Windows {
    pub fn new(shared: Arc<Shared>, levels: Vec<Known>) -> Self {
        let names = shared.ranges.iter().map(|range| range.name.clone()).collect();
        let mut hasher = blake3::Hasher::new();
        for level in &levels {
            hasher.update(&(level.grid.width() as u32).to_le_bytes());
            hasher.update(level.grid.tiles());
            hasher.update(level.theme.as_bytes());
        }
        let sliced = |level: Known| {
            let images = images(&shared.game, &level.grid, &level.path);
            let slices = images.iter().map(|(grid, path)| slices_of(&shared.game, grid, path)).collect();
            (level, slices)
        };
        let levels: Vec<(Known, Vec<Vec<Slice>>)> = levels.into_iter().map(sliced).collect();
        let step = shared.data.window.1.max(1);
        let fixed = levels.iter().enumerate();
        let fixed =
            fixed.flat_map(|(n, (_, images))| (0..images[0].len()).step_by(step).map(move |at| (n, at)));
        Self { fixed: fixed.collect(), shared, names, levels, hash: hasher.finalize().to_hex().to_string() }
    }

    /// What a window measures, as bands.
    fn asked(
        &self,
        level: &Known,
        image: &[Slice],
        from: usize,
        to: usize,
        mut noise: Option<&mut Stream>,
    ) -> Asked {
        let shared = &*self.shared;
        let whole = to - from == image.len();
        let grid = grid_of(shared.game.scan, &image[from..to]);
        let marked = image[from..to].iter().flatten().filter(|symbol| **symbol & ON_PATH != 0).count();
        // Of a part the cells that the way goes through stand for the way.
        let part = level.solution.as_ref().map(|_| Solution::Cells(vec![(0, 0); marked]));
        let solution = if whole { level.solution.as_ref() } else { part.as_ref() };
        let mut asked = Asked::default();
        for (knob, range) in shared.game.knobs.iter().zip(&shared.ranges) {
            if noise.as_mut().is_some_and(|noise| noise.chance(shared.data.open)) {
                continue;
            }
            if let Some(value) = knob.measure(&shared.game, &grid, solution) {
                asked.bands.insert(knob.name.clone(), range.band(value));
            }
        }
        let open = noise.is_some_and(|noise| noise.chance(shared.data.open));
        asked.theme = (!open && !level.theme.is_empty()).then(|| level.theme.clone());
        asked
    }

    /// The window of an image as a sample.
    fn window(
        &self,
        n: usize,
        image: usize,
        from: usize,
        to: usize,
        mut noise: Option<&mut Stream>,
    ) -> Sample {
        let (level, images) = &self.levels[n];
        let slices = &images[image];
        let scribe = Scribe { pieces: &self.shared.pieces, knobs: &self.names };
        let (mut ids, mut loss) = (Vec::new(), Vec::new());
        let asked = self.asked(level, slices, from, to, noise.as_deref_mut());
        scribe.head(slices[0].len(), &asked, &mut ids);
        if from == 0 {
            ids.extend(self.shared.pieces.special(BEGIN));
        }
        for (at, slice) in slices.iter().enumerate().take(to).skip(from) {
            ids.extend(scribe.countdown(slices.len() - 1 - at));
            loss.resize(ids.len(), 0.0);
            let dropout = noise.as_deref_mut().map(|noise| (self.shared.data.piece_dropout, noise));
            self.shared.pieces.encode(slice, dropout, &mut ids);
            loss.resize(ids.len(), 1.0);
        }
        loss.resize(ids.len(), 0.0);
        Sample::new(ids, loss)
    }

    /// A gap to fill.
    fn gap(&self, n: usize, image: usize, noise: &mut Stream) -> Sample {
        let (level, images) = &self.levels[n];
        let plain = |slice: &Slice| slice.iter().map(|symbol| symbol & !ON_PATH).collect::<Slice>();
        let slices: Vec<Slice> = images[image].iter().map(plain).collect();
        let scribe = Scribe { pieces: &self.shared.pieces, knobs: &self.names };
        let length = 1 + noise.below((slices.len() - 1).clamp(1, 24));
        let from = noise.below(slices.len() - length.min(slices.len() - 1));
        let to = (from + length).min(slices.len());
        let (mut ids, mut loss) = (Vec::new(), Vec::new());
        let theme = (!level.theme.is_empty() && noise.chance(0.5)).then(|| level.theme.clone());
        scribe.head(slices[0].len(), &Asked { theme, ..Asked::default() }, &mut ids);
        scribe.around(&slices[from.saturating_sub(AROUND)..from], &slices[to..], &mut ids);
        for (at, slice) in slices[from..to].iter().enumerate() {
            ids.extend(scribe.countdown(to - from - 1 - at));
            loss.resize(ids.len(), 0.0);
            self.shared.pieces.encode(slice, Some((self.shared.data.piece_dropout, noise)), &mut ids);
            loss.resize(ids.len(), 1.0);
        }
        Sample::new(ids, loss)
    }
}

impl SampleSource for Windows {
    fn len(&self) -> usize {
        // Long levels count as often as they have windows.
        self.fixed.len()
    }

    fn sample(&self, index: usize, noise: &mut Stream) -> Sample {
        let n = self.fixed[index].0;
        let images = &self.levels[n].1;
        let image = noise.below(images.len());
        let slices = images[image].len();
        if slices > 2 && noise.chance(self.shared.data.fill) {
            return self.gap(n, image, noise);
        }
        let (least, most) = self.shared.data.window;
        let length = (least + noise.below(most.saturating_sub(least) + 1)).min(slices);
        let last = slices - length;
        // Beginnings and ends are rare and matter.
        let from = match noise.below(8) {
            0 => 0,
            1 => last,
            _ => noise.below(last + 1),
        };
        self.window(n, image, from, from + length, Some(noise))
    }

    fn fixed(&self, index: usize) -> Sample {
        let (n, from) = self.fixed[index];
        let to = (from + self.shared.data.window.1).min(self.levels[n].1[0].len());
        self.window(n, 0, from, to, None)
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }
}
