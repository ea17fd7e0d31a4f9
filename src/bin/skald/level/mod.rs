//! `skald level`: what needs no model. Solves, mends, converts and draws levels, and makes a game's file of `TheVGLC`'s.

mod convert;
mod difficulty;
mod repair;

use crate::Common;
use bevy_skald::files::{read_text, write_atomic};
use bevy_skald::level::{
    LARGEST_FILE, Limits, TileGame, Verdict, game_from_json, read_levels, replay, solve,
};
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Instant;

/// Its options.
#[derive(Args)]
pub struct LevelArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Solve levels, and check each solution by replaying it.
    Solve(SolveArgs),
    /// Mend levels that cannot be finished, with the fewest changes found.
    Repair(repair::RepairArgs),
    /// Write levels in another format, or as pictures.
    Convert(convert::ConvertArgs),
    /// Learn from recorded attempts how hard a level is, and give a model the knob `difficulty`.
    Difficulty(difficulty::DifficultyArgs),
    /// Make a game's file of `TheVGLC`'s tiles.json and jumps.json. It is a first draft: look it over.
    Game(GameArgs),
}

/// A game and its levels.
#[derive(Args)]
struct SolveArgs {
    /// The game's file.
    #[arg(long, value_name = "F.game.ron")]
    game: PathBuf,
    /// Levels: files and folders.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// The most states that are looked at, for each level.
    #[arg(long, default_value_t = Limits::default().nodes)]
    nodes: usize,
}

#[derive(Args)]
struct GameArgs {
    /// `TheVGLC`'s tiles.json.
    #[arg(long, value_name = "F.json")]
    tiles: PathBuf,
    /// Its jumps.json, for a platformer.
    #[arg(long, value_name = "F.json")]
    jumps: Option<PathBuf>,
    /// The game's name.
    #[arg(long, default_value = "game")]
    name: String,
    /// The game's file.
    #[arg(long, value_name = "F.game.ron")]
    out: PathBuf,
}

pub fn run(args: &LevelArgs, common: &Common) -> Result<()> {
    match &args.what {
        What::Solve(args) => solve_levels(args, common),
        What::Repair(args) => repair::run(args, common),
        What::Convert(args) => convert::run(args),
        What::Difficulty(args) => difficulty::run(args),
        What::Game(args) => game(args),
    }
}

fn solve_levels(args: &SolveArgs, common: &Common) -> Result<()> {
    let game = TileGame::read(&args.game)?;
    let levels = read_levels(&game, &args.data)?;
    let (mut solved, mut unknown) = (0, 0);
    for level in &levels {
        let start = Instant::now();
        let found = solve(&game, &level.grid, Limits { nodes: args.nodes });
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let (solvable, rule) = match &found.verdict {
            Verdict::Solved(solution) if replay(&game, &level.grid, solution) => (Some(true), None),
            Verdict::Solved(_) => {
                return Err(Error::Data {
                    source_name: level.name.clone(),
                    reason: "the solution does not hold when it is replayed".into(),
                    remedy: "please report this with the level and the game's file".into(),
                });
            }
            Verdict::Unsolvable(rule) => (Some(false), Some(rule.clone())),
            Verdict::Unknown => (None, None),
        };
        solved += usize::from(solvable == Some(true));
        unknown += usize::from(solvable.is_none());
        let solution = found.clone().solution();
        if common.json {
            let line = serde_json::json!({ "level": level.name, "solvable": solvable, "rule": rule,
                "solution": solution, "nodes": found.nodes, "ms": ms });
            println!("{line}");
        } else {
            let length = solution.map_or_else(String::new, |s| format!(", {} steps", s.length()));
            let what = match (solvable, rule) {
                (Some(true), _) => format!("solved{length}"),
                (_, Some(rule)) => format!("cannot be finished: {rule}"),
                _ => "unknown, the limit was reached".to_owned(),
            };
            println!("{}: {what} ({} nodes, {ms:.1} ms)", level.name, found.nodes);
        }
    }
    eprintln!("{solved} of {} solved, {unknown} unknown", levels.len());
    Ok(())
}

fn game(args: &GameArgs) -> Result<()> {
    let text = |path: &PathBuf| -> Result<(String, String)> {
        Ok((read_text(path, LARGEST_FILE, "read VGLC's file")?, path.display().to_string()))
    };
    let tiles = text(&args.tiles)?;
    let jumps = args.jumps.as_ref().map(text).transpose()?;
    let jumps = jumps.as_ref().map(|(text, file)| (text.as_str(), file.as_str()));
    let game = game_from_json(&args.name, (&tiles.0, &tiles.1), jumps)?;
    write_atomic(&args.out, game.to_ron()?.as_bytes())
}
