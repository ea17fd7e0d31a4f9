//! Levels that can always be finished: a model learned from a game's own levels proposes, a solver walks along, and every
//! level leaves with its solution.
//!
//! A tile game is a RON file ([`TileGame`]). Not here: drawing tiles in a game (the game's own business).

mod arcs;
mod baseline;
mod check;
mod difficulty;
mod endless;
#[cfg(feature = "bevy")]
mod endless_plugin;
mod ends;
pub mod evaluate;
mod formats;
mod game;
mod generate;
#[cfg(test)]
mod generate_tests;
mod grid;
mod knob;
pub mod measures;
mod model;
mod picture;
mod pieces;
#[cfg(feature = "bevy")]
mod plugin;
mod reach;
mod read;
mod repair;
mod sequence;
mod shaping;
mod slices;
mod sokoban;
mod solve;
mod source;
mod training;
mod vglc;
mod walk;
mod writer;

pub use arcs::Arc;
pub use baseline::{Markov, Wfc};
pub use check::{plain_search, replay};
pub use difficulty::{Attempt, Completion, DifficultyReport, fit};
pub use endless::Endless;
#[cfg(feature = "bevy")]
pub use endless_plugin::{ColumnsCame, MoreColumns};
pub use ends::{Cell, Ends, Violation, counts, ends};
pub use formats::{LevelFormat, levels_from};
pub use game::{Affordance, Count, Goal, Movement, Scan, Start, Symmetries, Taste, Tile, TileGame};
pub use generate::{
    Generate, GeneratedLevel, LevelReport, LevelRequest, LevelUpdate, measured, region, sound,
};
pub use grid::{Grid, LONGEST_SIDE, check_size};
pub use knob::{Knob, Measure, leniency, linearity, symmetry};
pub use model::{LevelModel, with_difficulty};
pub use picture::{picture, svg};
#[cfg(feature = "bevy")]
pub use plugin::{
    GenerateLevel, LevelFailed, LevelFinished, LevelGrew, LevelPlugin, LevelSolution, TileGrid,
};
pub use read::{LARGEST_FILE, Level, check, grid_from_text, levels_from_text, read_levels};
pub use repair::{Repaired, repair};
pub use sequence::Range;
pub use solve::{FINISHABLE, Limits, Solution, Solved, Verdict, solve};
pub use source::LevelData;
pub use training::{DOMAIN, LevelTraining};
pub use vglc::{game_from_json, jumps_from_json};
