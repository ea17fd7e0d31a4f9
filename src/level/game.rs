//! [`TileGame`]: a tile game as a RON file. What its tiles afford, how one moves, where a level begins and ends, what a
//! designer may ask for. A new game is a new file, not new code.

use super::arcs::Arc;
use super::knob::Knob;
use crate::error::{Error, Result};
use crate::files::{parse_ron, read_text};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A kind of tile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Its character in text levels.
    pub char: char,
    /// Its name, for people.
    #[serde(default)]
    pub name: String,
    /// What it affords; nothing: it is empty.
    #[serde(default)]
    pub affordances: Vec<Affordance>,
    /// Its colour in pictures, red, green, blue (default: by what it affords).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<(u8, u8, u8)>,
}

/// What a tile affords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affordance {
    /// Nobody gets in, and one can stand on it.
    Solid,
    /// Whoever gets in is dead, so nobody does.
    Hazard,
    /// A hazard that moves about: solvers keep off its cell, leniency counts it.
    Enemy,
    /// One climbs on it, and stands on its top.
    Ladder,
    /// One hangs on it and goes left and right.
    Rope,
    /// Solid, but can be dug through by whoever stands beside it (Lode Runner's bricks).
    Diggable,
    /// Stood on, but passed from below and from the side.
    OneWay,
    /// Where a level begins.
    Start,
    /// Where a level ends.
    Goal,
    /// A way in and out; see [`Start::FirstExit`] and [`Goal::AllExits`].
    Exit,
    /// Nice to have. No solver looks for it.
    Collectible,
    /// Must be taken before the goal counts; with [`Goal::AllRequired`] taking all of them is the goal.
    Required,
    /// Opens the doors of this name.
    Key(String),
    /// Solid without a key of this name.
    Door(String),
    /// Can be pushed (Sokoban).
    Box,
    /// Where a box belongs (Sokoban).
    Target,
}

/// How one moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Movement {
    /// Gravity: one walks on what is solid, jumps along arcs, falls, climbs ladders.
    Platformer {
        /// The arcs: places relative to where the jump began, x to the right and y down. Each is mirrored too, if its
        /// mirror is not there.
        #[serde(default)]
        jumps: Vec<Arc>,
        /// VGLC's `jumps.json` with more arcs, relative to the game's file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jumps_file: Option<String>,
        /// Arcs that are enough for levels that are written from nothing, if they are to be easier than `jumps` would allow
        /// (default: `jumps`). What one starts from, fills or mends may need any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        easy_jumps: Vec<Arc>,
        /// Whether one drifts left and right while falling (default: yes).
        #[serde(default = "yes")]
        air_control: bool,
        /// Whether whoever leaves at the left comes back at the right (Kid Icarus).
        #[serde(default)]
        wraps: bool,
    },
    /// No gravity: one walks to the four neighbours.
    TopDown {
        /// Whether a key is used up by the door it opens (default: no, it opens all of its name).
        #[serde(default)]
        keys_are_used_up: bool,
    },
    /// Sokoban: one walks to the four neighbours and pushes one box at a time, until each target has one.
    Push,
}

fn yes() -> bool {
    true
}

/// In which order a level is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scan {
    /// Column by column, from the left.
    #[default]
    Columns,
    /// Row by row, from the top.
    Rows,
    /// Row by row, from the bottom, for games that climb.
    RowsUpwards,
}

/// Where a level begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// At the one tile that affords it.
    #[default]
    Marked,
    /// On the lowest ground of the leftmost column that has any.
    LeftmostGround,
    /// On the leftmost ground of the lowest row that has any (games that climb).
    LowestGround,
    /// At the first exit, from the top left.
    FirstExit,
}

/// Where a level ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// At any tile that affords it.
    #[default]
    Marked,
    /// On any ground of the rightmost column that has any.
    RightmostGround,
    /// On any ground of the highest row that has any.
    HighestGround,
    /// All exits can be reached.
    AllExits,
    /// All required things are taken.
    AllRequired,
    /// Every target has a box (the goal of [`Movement::Push`]).
    Boxes,
}

/// How many of some tiles a level must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The tiles, by character; their sum counts.
    pub tiles: String,
    /// At least so many.
    #[serde(default)]
    pub at_least: usize,
    /// At most so many.
    #[serde(default = "any")]
    pub at_most: usize,
}

fn any() -> usize {
    usize::MAX
}

/// Under which images a level is as good as itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Symmetries {
    /// None.
    #[default]
    None,
    /// Left and right exchanged.
    Mirror,
    /// All rotations and mirrors.
    All,
}

/// How an axis of a player's style turns a knob: an axis at 1 asks for `0.5 + weight / 2` of the knob's range of the levels that
/// were learned (as a quantile), at 0.5 for its middle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taste {
    /// The axis, 0 to 1, as in a style file's `axes`.
    pub axis: String,
    /// The knob.
    pub knob: String,
    /// How strongly; negative turns it the other way.
    pub weight: f64,
}

/// A tile game. Unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileGame {
    /// Its name.
    pub name: String,
    /// Its tiles. The first without affordances is what an empty cell is.
    pub tiles: Vec<Tile>,
    /// How one moves.
    pub movement: Movement,
    /// In which order levels are written.
    #[serde(default)]
    pub scan: Scan,
    /// Where a level begins.
    #[serde(default)]
    pub start: Start,
    /// Where it ends.
    #[serde(default)]
    pub goal: Goal,
    /// How many of some tiles it must have.
    #[serde(default)]
    pub counts: Vec<Count>,
    /// What a designer may ask for.
    #[serde(default)]
    pub knobs: Vec<Knob>,
    /// How a player's style turns knobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tastes: Vec<Taste>,
    /// Levels are cut into rooms of this many columns and rows before they are learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<(usize, usize)>,
    /// Under which images a level is as good as itself: learned from all of them.
    #[serde(default)]
    pub symmetries: Symmetries,
    /// Whether the model sees the solution's way in the levels it learns from (default: yes).
    #[serde(default = "yes")]
    pub path_aware: bool,
    /// The longest run of slices that may be copied from one level it learned from (default: any). A slice is a column
    /// or row of the scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_copy: Option<usize>,
}

impl TileGame {
    /// Reads a game's file, and the file of arcs that it may name.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let mut game: Self = parse_ron(&read_text(path, 1 << 20, "read the game")?, &file)?;
        if let Movement::Platformer { jumps, jumps_file, .. } = &mut game.movement
            && let Some(name) = jumps_file.take()
        {
            let from = path.parent().unwrap_or(Path::new("")).join(&name);
            let text = read_text(&from, 1 << 22, "read the jump arcs")?;
            jumps.extend(super::vglc::jumps_from_json(&text, &from.display().to_string())?);
        }
        game.validate(&file)?;
        Ok(game)
    }

    /// Reads a game from its text. `file` is for messages. A file of arcs cannot be named here.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let game: Self = parse_ron(text, file)?;
        if matches!(&game.movement, Movement::Platformer { jumps_file: Some(_), .. }) {
            let reason = "a game without a path cannot name another file";
            return Err(Error::config(file, "movement.jumps_file", reason, "write the arcs into `jumps`"));
        }
        game.validate(file)?;
        Ok(game)
    }

    /// As RON.
    pub fn to_ron(&self) -> Result<String> {
        ron::ser::to_string_pretty(self, ron::ser::PrettyConfig::new().struct_names(false).depth_limit(3))
            .map_err(|e| Error::backend("writing the game", e))
    }

    /// Refuses what makes no game, naming the field.
    pub fn validate(&self, file: &str) -> Result<()> {
        let wrong =
            |field: &str, reason: String, remedy: &str| Err(Error::config(file, field, reason, remedy));
        if self.tiles.is_empty() || self.tiles.len() > 100 {
            return wrong("tiles", format!("there are {} tiles", self.tiles.len()), "write 1 to 100");
        }
        for (i, tile) in self.tiles.iter().enumerate() {
            if self.tiles[..i].iter().any(|before| before.char == tile.char) {
                return wrong(
                    "tiles",
                    format!("`{}` stands twice", tile.char),
                    "give each tile its own character",
                );
            }
            if tile.char.is_control() || tile.char == PATH_MARK || tile.char == ';' {
                return wrong(
                    "tiles.char",
                    format!("`{}` cannot be a tile", tile.char.escape_debug()),
                    "choose another",
                );
            }
            let many =
                tile.affordances.iter().filter(|a| matches!(a, Affordance::Key(_) | Affordance::Door(_)));
            if many.count() > 1 {
                let reason = format!("`{}` is more than one key or door", tile.char);
                return wrong("tiles.affordances", reason, "give a tile one of them");
            }
        }
        if self.empty().is_none() && !matches!(self.movement, Movement::Push) {
            return wrong("tiles", "no tile is without affordances".into(), "add an empty one");
        }
        let affords = |what: &Affordance| self.tiles.iter().any(|tile| tile.affordances.contains(what));
        let need: &[(bool, Affordance, &str)] = &[
            (self.start == Start::Marked, Affordance::Start, "Start"),
            (self.goal == Goal::Marked && self.movement != Movement::Push, Affordance::Goal, "Goal"),
            (self.start == Start::FirstExit || self.goal == Goal::AllExits, Affordance::Exit, "Exit"),
            (self.goal == Goal::AllRequired, Affordance::Required, "Required"),
            (self.movement == Movement::Push, Affordance::Box, "Box"),
            (self.movement == Movement::Push, Affordance::Target, "Target"),
        ];
        for (needed, affordance, name) in need {
            if *needed && !affords(affordance) {
                let remedy = format!("give one `{name}`, or choose another `start`, `goal` or `movement`");
                return wrong("tiles", format!("no tile affords {name}"), &remedy);
            }
        }
        if self.movement == Movement::Push && !matches!(self.goal, Goal::Boxes | Goal::Marked) {
            return wrong("goal", "boxes are pushed to targets".into(), "choose `Boxes`");
        }
        if self.movement != Movement::Push && self.goal == Goal::Boxes {
            return wrong("goal", "nothing is pushed".into(), "choose `movement: Push`");
        }
        if let Movement::Platformer { jumps, easy_jumps, .. } = &self.movement {
            super::arcs::check(jumps, file)?;
            super::arcs::check(easy_jumps, file)?;
        }
        for count in &self.counts {
            if count.at_least > count.at_most || count.at_least > 1 << 20 {
                return wrong("counts", format!("`{}`: no number fits", count.tiles), "at_least <= at_most");
            }
            if let Some(unknown) = count.tiles.chars().find(|c| self.tile(*c).is_none()) {
                return wrong("counts.tiles", format!("`{unknown}` is no tile"), "name tiles of this game");
            }
        }
        for (i, knob) in self.knobs.iter().enumerate() {
            knob.validate(self, file)?;
            if self.knobs[..i].iter().any(|before| before.name == knob.name) {
                return wrong(
                    "knobs",
                    format!("`{}` stands twice", knob.name),
                    "give each knob its own name",
                );
            }
        }
        for taste in &self.tastes {
            if !self.knobs.iter().any(|knob| knob.name == taste.knob) {
                return wrong(
                    "tastes.knob",
                    format!("`{}` is no knob", taste.knob),
                    "name a knob of this game",
                );
            }
            if !(taste.weight.is_finite() && taste.weight.abs() <= 10.0) {
                return wrong(
                    "tastes.weight",
                    format!("{} is out of range", taste.weight),
                    "choose -10 to 10",
                );
            }
        }
        if let Some((width, height)) = self.room {
            super::grid::check_size(width, height, file, "room")?;
        }
        Ok(())
    }

    /// The game with its easy jumps for all jumps.
    #[must_use]
    pub fn eased(&self) -> Self {
        let mut game = self.clone();
        if let Movement::Platformer { jumps, easy_jumps, .. } = &mut game.movement
            && !easy_jumps.is_empty()
        {
            jumps.clone_from(easy_jumps);
        }
        game
    }

    /// The tile of a character.
    pub fn tile(&self, char: char) -> Option<u8> {
        self.tiles.iter().position(|tile| tile.char == char).map(|i| i as u8)
    }

    /// The character of a tile.
    pub fn char_of(&self, tile: u8) -> char {
        self.tiles.get(usize::from(tile)).map_or('?', |tile| tile.char)
    }

    /// The tile of an empty cell.
    pub fn empty(&self) -> Option<u8> {
        self.tiles.iter().position(|tile| tile.affordances.is_empty()).map(|i| i as u8)
    }

    /// The first tile that affords just this.
    pub fn only(&self, affordance: &Affordance) -> Option<u8> {
        self.tiles.iter().position(|t| t.affordances == [affordance.clone()]).map(|i| i as u8)
    }

    /// What each tile affords, as bits.
    pub(super) fn bits(&self) -> Vec<u16> {
        let bits = |tile: &Tile| tile.affordances.iter().map(bit::of).fold(0, |all, one| all | one);
        self.tiles.iter().map(bits).collect()
    }
}

/// Stands before a tile's character in the vocabulary where the solution goes through it.
pub(super) const PATH_MARK: char = '•';

/// What a tile affords, as a bit.
pub(super) mod bit {
    use super::Affordance;

    pub const SOLID: u16 = 1;
    pub const HAZARD: u16 = 1 << 1;
    pub const ENEMY: u16 = 1 << 2;
    pub const LADDER: u16 = 1 << 3;
    pub const ROPE: u16 = 1 << 4;
    pub const DIGGABLE: u16 = 1 << 5;
    pub const ONE_WAY: u16 = 1 << 6;
    pub const START: u16 = 1 << 7;
    pub const GOAL: u16 = 1 << 8;
    pub const EXIT: u16 = 1 << 9;
    pub const REQUIRED: u16 = 1 << 10;
    pub const KEY: u16 = 1 << 11;
    pub const DOOR: u16 = 1 << 12;
    pub const BOX: u16 = 1 << 13;
    pub const TARGET: u16 = 1 << 14;
    pub const COLLECTIBLE: u16 = 1 << 15;
    /// Nobody can be there.
    pub const CLOSED: u16 = SOLID | HAZARD | ENEMY | DIGGABLE;

    pub fn of(affordance: &Affordance) -> u16 {
        match affordance {
            Affordance::Solid => SOLID,
            Affordance::Hazard => HAZARD,
            Affordance::Enemy => ENEMY,
            Affordance::Ladder => LADDER,
            Affordance::Rope => ROPE,
            Affordance::Diggable => DIGGABLE,
            Affordance::OneWay => ONE_WAY,
            Affordance::Start => START,
            Affordance::Goal => GOAL,
            Affordance::Exit => EXIT,
            Affordance::Collectible => COLLECTIBLE,
            Affordance::Required => REQUIRED,
            Affordance::Key(_) => KEY,
            Affordance::Door(_) => DOOR,
            Affordance::Box => BOX,
            Affordance::Target => TARGET,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A platformer with one arc two cells high and three wide.
    pub fn platformer() -> TileGame {
        TileGame::from_ron(
            r#"(
                name: "p",
                tiles: [
                    (char: '-'), (char: 'X', affordances: [Solid]), (char: 'E', affordances: [Enemy]),
                    (char: 'H', affordances: [Ladder]), (char: 'B', affordances: [Diggable]),
                    (char: '=', affordances: [OneWay]), (char: '~', affordances: [Rope]),
                ],
                movement: Platformer(jumps: [[(0, -1), (0, -2), (1, -2), (2, -2), (3, -1), (3, 0)]]),
                start: LeftmostGround, goal: RightmostGround,
                knobs: [(name: "enemies", measure: Share("E"))],
                longest_copy: 10,
            )"#,
            "p.game.ron",
        )
        .unwrap()
    }

    /// Rooms with keys and doors.
    pub fn dungeon() -> TileGame {
        TileGame::from_ron(
            r##"(
                name: "d",
                tiles: [
                    (char: '.'), (char: '#', affordances: [Solid]), (char: '@', affordances: [Start]),
                    (char: '>', affordances: [Goal]), (char: 'k', affordances: [Key("red")]),
                    (char: 'D', affordances: [Door("red")]), (char: '^', affordances: [Hazard]),
                    (char: '*', affordances: [Required]),
                ],
                movement: TopDown(), scan: Rows,
                counts: [(tiles: "@", at_least: 1, at_most: 1), (tiles: ">", at_least: 1, at_most: 1)],
            )"##,
            "d.game.ron",
        )
        .unwrap()
    }

    /// Boxoban's tiles.
    pub fn sokoban() -> TileGame {
        TileGame::from_ron(
            r##"(
                name: "s",
                tiles: [
                    (char: ' '), (char: '#', affordances: [Solid]), (char: '@', affordances: [Start]),
                    (char: '$', affordances: [Box]), (char: '.', affordances: [Target]),
                    (char: '*', affordances: [Box, Target]), (char: '+', affordances: [Start, Target]),
                ],
                movement: Push, scan: Rows, goal: Boxes, symmetries: All, path_aware: false,
                counts: [(tiles: "@+", at_least: 1, at_most: 1)],
            )"##,
            "s.game.ron",
        )
        .unwrap()
    }

    #[test]
    fn a_game_survives_its_ron() {
        for game in [platformer(), dungeon(), sokoban()] {
            assert_eq!(TileGame::from_ron(&game.to_ron().unwrap(), "again").unwrap(), game);
        }
    }

    #[test]
    fn what_makes_no_game_is_refused_by_line_or_field() {
        let text = platformer().to_ron().unwrap();
        for (from, to, part) in [
            ("name: \"p\",", "name: \"p\",\n    colour: 3,", "x.ron:3"),
            ("char: 'X'", "char: '-'", "stands twice"),
            ("start: LeftmostGround", "start: Marked", "no tile affords Start"),
            ("Share(\"E\")", "Share(\"Q\")", "`Q` is no tile"),
        ] {
            assert!(text.contains(from), "{text}");
            let error = TileGame::from_ron(&text.replacen(from, to, 1), "x.ron").unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
