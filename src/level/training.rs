//! A training of levels: config, game and levels on the disk become a run.

use super::game::TileGame;
use super::pieces::Pieces;
use super::read::{Level, read_levels};
use super::sequence::{Range, specials};
use super::slices::{Slice, hash, image_hash, shape, slices_of};
use super::solve::{Limits, solve};
use super::source::{Known, LevelData, Shared, Windows, images};
use crate::error::{Error, Result};
use crate::files::{parse_ron, read_text};
use crate::model::Card;
use crate::training::{DataNotes, DataSets, DataSource, RunSetup, TrainingConfig, TrainingRun};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Styles that a card keeps, at most.
const MOST_STYLES: usize = 1024;

/// The domain of a level model, in its card.
pub const DOMAIN: &str = "level";

/// The config of a training of levels, as a RON file. Unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelTraining {
    /// The game's file, relative to this one.
    pub game: String,
    /// How it learns.
    pub training: TrainingConfig,
    /// What its samples are made like.
    #[serde(default)]
    pub data: LevelData,
}

impl LevelTraining {
    /// Reads a config file; the game's file is then named relative to the working directory.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_ron(&read_text(path, 1 << 20, "read the config")?, path)
    }

    /// Reads a config from its text. `path` is where it stands.
    pub fn from_ron(text: &str, path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let mut config: Self = parse_ron(text, &file)?;
        let near = path.parent().unwrap_or(Path::new("")).join(&config.game);
        config.game = near.display().to_string();
        config.training.validate(&file)?;
        let data = &config.data;
        let share = |value: f32| (0.0..1.0).contains(&value);
        let rules = [
            (
                "data.window",
                data.window.0 >= 1 && data.window.0 <= data.window.1,
                "1 or more, the least first",
            ),
            ("data.window", data.window.1 <= 1 << 16, "at most 65536"),
            ("data.fill", share(data.fill), "0 or more, below 1"),
            ("data.open", share(data.open), "0 or more, below 1"),
            ("data.piece_dropout", share(data.piece_dropout), "0 or more, below 1"),
            ("data.merges", data.merges <= 1 << 14, "at most 16384"),
            ("data.hold_out", data.hold_out >= 2, "2 or more"),
            ("data.nodes", data.nodes >= 1, "1 or more"),
            ("training.base", config.training.base.is_none(), "no base: levels have their own vocabulary"),
        ];
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => {
                Err(Error::config(file, *field, "the value is out of range", format!("choose {range}")))
            }
            None => Ok(config),
        }
    }

    /// Reads game and levels, solves the levels, and makes vocabulary and samples of them.
    pub fn prepare(self, data: &[PathBuf]) -> Result<RunSetup> {
        let game = TileGame::read(Path::new(&self.game))?;
        let levels = read_levels(&game, data)?;
        let sources = data.iter().map(|path| DataSource::of(path)).collect::<Result<_>>()?;
        let mut setup = self.setup(game, levels)?;
        setup.notes.sources = sources;
        Ok(setup)
    }

    /// As [`Self::prepare`], of a game and levels that are there.
    pub fn setup(self, game: TileGame, levels: Vec<Level>) -> Result<RunSetup> {
        let read = levels.len();
        let mut seen = BTreeSet::new();
        let levels: Vec<Level> =
            levels.into_iter().filter(|level| seen.insert(image_hash(&level.grid))).collect();
        let doubles = (read - levels.len()) as u64;
        let limits = Limits { nodes: self.data.nodes };
        let known: Vec<Known> = levels
            .into_par_iter()
            .map(|level| {
                let solution = solve(&game, &level.grid, limits).solution();
                let path =
                    solution.as_ref().map_or(Vec::new(), |solution| solution.cells(&game, &level.grid));
                Known { grid: level.grid, theme: level.theme, solution, path }
            })
            .collect();
        let unsolved = known.iter().filter(|level| level.solution.is_none()).count();
        let (train, held) = split(known, self.data.hold_out)?;
        let across: BTreeSet<usize> = train
            .iter()
            .chain(&held)
            .map(|level| shape(game.scan, level.grid.width(), level.grid.height()).0)
            .collect();
        let across: Vec<usize> = across.into_iter().collect();
        if across.len() > 64 || across.last().is_some_and(|most| most * game.tiles.len() > 1 << 15) {
            return Err(Error::Data {
                source_name: "--data".into(),
                reason: format!(
                    "the slices of the levels have {} lengths, up to {:?}",
                    across.len(),
                    across.last()
                ),
                remedy: "cut the levels into rooms (`room` in the game's file), or scan them the other way"
                    .into(),
            });
        }
        let themes: BTreeSet<String> =
            train.iter().filter(|level| !level.theme.is_empty()).map(|level| level.theme.clone()).collect();
        let themes: Vec<String> = themes.into_iter().filter(|theme| plain(theme)).collect();
        let names: Vec<String> = game.knobs.iter().map(|knob| knob.name.clone()).collect();
        let sliced: Vec<Vec<Slice>> = train
            .iter()
            .flat_map(|level| images(&game, &level.grid, &level.path))
            .map(|(grid, path)| slices_of(&game, &grid, &path))
            .collect();
        let all: Vec<&Slice> = sliced.iter().flatten().collect();
        let pieces =
            Pieces::learn(&all, game.tiles.len(), self.data.merges, &specials(&across, &names, &themes));
        let values = knob_values(&game, &train, self.data.window);
        let ranges = ranges(&game, &values);
        let tokenizer = pieces.tokenizer(&game)?;
        let mut card = card(&game, &train, &ranges, &across, &themes)?;
        card.conditioning.insert("styles".into(), styles(&ranges, &values));
        let details = serde_json::json!({
            "levels": train.len() + held.len(), "solved": train.len() + held.len() - unsolved,
            "pieces": tokenizer.vocab_size(),
        });
        let dropped = BTreeMap::from([("the same level, or an image of it".to_owned(), doubles)]);
        let shared = Arc::new(Shared { game, pieces, ranges, data: self.data });
        let sets = DataSets {
            train: Box::new(Windows::new(Arc::clone(&shared), train)),
            validation: Box::new(Windows::new(shared, held)),
        };
        let notes = DataNotes { dropped, details, ..DataNotes::default() };
        Ok(RunSetup { config: self.training, tokenizer, data: sets, card, base: None, notes })
    }
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_- ".contains(c)) && name != "any"
}

/// One level in `every` is held out, by its content, so that the order of files changes nothing.
pub(super) fn split(levels: Vec<Known>, every: usize) -> Result<(Vec<Known>, Vec<Known>)> {
    if levels.len() < 2 {
        return Err(Error::Data {
            source_name: "--data".into(),
            reason: format!("there are {} different levels", levels.len()),
            remedy: "give two or more: one is held out".into(),
        });
    }
    let held = (levels.len() / every).max(1);
    let mut order: Vec<(u64, usize)> =
        levels.iter().enumerate().map(|(i, level)| (image_hash(&level.grid), i)).collect();
    order.sort_unstable();
    let chosen: BTreeSet<usize> = order[..held].iter().map(|(_, i)| *i).collect();
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (i, level) in levels.into_iter().enumerate() {
        if chosen.contains(&i) { validation.push(level) } else { train.push(level) }
    }
    Ok((train, validation))
}

/// What each knob measures in the levels, and in windows of long ones: a row a window.
fn knob_values(game: &TileGame, levels: &[Known], window: (usize, usize)) -> Vec<Vec<Option<f64>>> {
    let mut rows = Vec::new();
    for level in levels {
        let whole = slices_of(game, &level.grid, &level.path);
        let length = ((window.0 + window.1) / 2).clamp(1, whole.len());
        let mut from = 0;
        while from + length <= whole.len() {
            let part = length < whole.len();
            let grid = super::slices::grid_of(game.scan, &whole[from..from + length]);
            let marked =
                whole[from..from + length].iter().flatten().filter(|s| **s & super::slices::ON_PATH != 0);
            let of_part =
                level.solution.as_ref().map(|_| super::solve::Solution::Cells(vec![(0, 0); marked.count()]));
            let solution = if part { of_part.as_ref() } else { level.solution.as_ref() };
            rows.push(game.knobs.iter().map(|knob| knob.measure(game, &grid, solution)).collect());
            from += (length / 4).max(1);
        }
    }
    rows
}

fn ranges(game: &TileGame, values: &[Vec<Option<f64>>]) -> Vec<Range> {
    let column = |k: usize| values.iter().filter_map(|row| row[k]).collect();
    game.knobs.iter().enumerate().map(|(k, knob)| Range::of(&knob.name, column(k))).collect()
}

/// The bands that go together in the levels, a text a window: `3 0 - 7`.
fn styles(ranges: &[Range], values: &[Vec<Option<f64>>]) -> Vec<String> {
    let step = values.len().div_ceil(MOST_STYLES).max(1);
    let band = |(range, value): (&Range, &Option<f64>)| {
        value.map_or_else(|| "-".to_owned(), |value| range.band(value).to_string())
    };
    let style = |row: &Vec<Option<f64>>| ranges.iter().zip(row).map(band).collect::<Vec<_>>().join(" ");
    values.iter().step_by(step).map(style).collect()
}

/// The card: the game, what can be asked, and hashes of what must not be copied.
fn card(
    game: &TileGame,
    train: &[Known],
    ranges: &[Range],
    across: &[usize],
    themes: &[String],
) -> Result<Card> {
    let mut card = Card::new(DOMAIN);
    let mut put = |name: &str, values: Vec<String>| card.conditioning.insert(name.to_owned(), values);
    put("game", vec![game.to_ron()?]);
    ranges.iter().for_each(|range| {
        put(&format!("knob {}", range.name), range.to_strings());
    });
    put("across", across.iter().map(usize::to_string).collect());
    put("theme", themes.to_vec());
    let mut counts: Vec<usize> =
        train.iter().map(|level| shape(game.scan, level.grid.width(), level.grid.height()).1).collect();
    counts.sort_unstable();
    let typical = [counts[0], counts[counts.len() / 2], counts[counts.len() - 1]];
    put("slices", typical.iter().map(usize::to_string).collect());
    let mut known: BTreeSet<u64> = train.iter().map(|level| image_hash(&level.grid)).collect();
    put("levels", known.iter().map(|hash| format!("{hash:016x}")).collect());
    if let Some(most) = game.longest_copy {
        known.clear();
        for level in train {
            for (grid, _) in images(game, &level.grid, &[]) {
                let slices = slices_of(game, &grid, &[]);
                known.extend(slices.windows(most + 1).map(hash));
            }
        }
        put("copies", known.iter().map(|hash| format!("{hash:016x}")).collect());
    }
    Ok(card)
}

impl TrainingRun {
    /// What `skald train level` does: the config at `config` ([`LevelTraining`]), learned from files and folders of
    /// levels.
    pub fn level(
        config: impl Into<PathBuf>,
        data: impl IntoIterator<Item = impl Into<PathBuf>>,
        out: impl Into<PathBuf>,
    ) -> Self {
        let data = data.into_iter().map(Into::into).collect();
        Self::from_files("level", config.into(), data, out.into(), |config, data| {
            LevelTraining::read(config)?.prepare(data)
        })
    }
}
