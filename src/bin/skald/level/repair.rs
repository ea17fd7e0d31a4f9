//! `skald level repair`.

use crate::Common;
use bevy_skald::files::{read_text, write_atomic};
use bevy_skald::level::{Grid, LARGEST_FILE, Level, Limits, TileGame, levels_from, repair};
use bevy_skald::{Error, Result};
use clap::Args;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(Args)]
pub struct RepairArgs {
    /// The game's file.
    #[arg(long, value_name = "F.game.ron")]
    game: PathBuf,
    /// Levels: files.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Cells that must stay, as `column,row`.
    #[arg(long, value_name = "X,Y")]
    lock: Vec<String>,
    /// First change so many cells by chance in each level: a measurement of mending.
    #[arg(long, default_value_t = 0, value_name = "N")]
    break_by: usize,
    /// The most states that are looked at, for each solving.
    #[arg(long, default_value_t = 200_000)]
    nodes: usize,
    /// Where the mended levels and `repaired.jsonl` go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &RepairArgs, common: &Common) -> Result<()> {
    let game = TileGame::read(&args.game)?;
    let mut levels: Vec<Level> = Vec::new();
    for path in &args.data {
        // What is broken may lack a start, so its rules are not checked yet.
        let text = read_text(path, LARGEST_FILE, "read the levels")?;
        levels.extend(levels_from(&game, &text, &path.display().to_string())?);
    }
    let locked: BTreeSet<(usize, usize)> = args.lock.iter().map(|text| cell(text)).collect::<Result<_>>()?;
    for level in &levels {
        let inside = |(x, y): &&(usize, usize)| *x < level.grid.width() && *y < level.grid.height();
        if let Some((x, y)) = locked.iter().find(|cell| !inside(cell)) {
            let reason = format!("{x},{y} is not in the level {}", level.name);
            return Err(Error::config("options", "--lock", reason, "name cells of the level"));
        }
    }
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io("make the folder of levels", &args.out, e))?;
    let limits = Limits { nodes: args.nodes };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(common.threads)
        .build()
        .map_err(|e| Error::backend("starting threads", e))?;
    let mended: Vec<_> = pool.install(|| {
        levels
            .par_iter()
            .map(|level| {
                let seed = common.seed().derive(&level.name);
                let grid = broken(&game, &level.grid, args.break_by, seed);
                repair(&game, &grid, &locked, limits, seed)
            })
            .collect()
    });
    let (mut lines, mut changes, mut failed) = (String::new(), Vec::new(), Vec::new());
    for (level, mended) in levels.iter().zip(mended) {
        let name = level.name.replace('#', "_");
        let line = match mended {
            Ok(mended) => {
                let file = format!("{name}.txt");
                write_atomic(&args.out.join(&file), mended.grid.to_text(&game).as_bytes())?;
                changes.push(mended.changes);
                serde_json::json!({ "file": file, "level": level.name, "solvable": true, "changes": mended.changes,
                    "solution": mended.solution })
            }
            Err(error @ Error::Unsatisfiable { .. }) => {
                failed.push(error.to_string());
                serde_json::json!({ "level": level.name, "solvable": false, "error": error.to_string() })
            }
            Err(error) => return Err(error),
        };
        if common.json {
            println!("{line}");
        }
        lines += &format!("{line}\n");
    }
    write_atomic(&args.out.join("repaired.jsonl"), lines.as_bytes())?;
    changes.sort_unstable();
    let median =
        changes.get(changes.len() / 2).map_or_else(String::new, |n| format!(", the median with {n} changes"));
    eprintln!("{} of {} levels mended{median}", changes.len(), levels.len());
    match failed.first() {
        Some(error) if changes.is_empty() => Err(Error::Data {
            source_name: levels[0].name.clone(),
            reason: error.clone(),
            remedy: "change the level by hand".into(),
        }),
        _ => Ok(()),
    }
}

fn cell(text: &str) -> Result<(usize, usize)> {
    let pair = text.split_once(',').and_then(|(x, y)| Some((x.trim().parse().ok()?, y.trim().parse().ok()?)));
    pair.ok_or_else(|| {
        Error::config("options", "--lock", format!("`{text}` is no cell"), "write column,row, from 0")
    })
}

fn broken(game: &TileGame, grid: &Grid, edits: usize, seed: bevy_skald::seed::Seed) -> Grid {
    let mut noise = seed.derive("break").stream();
    let mut grid = grid.clone();
    for _ in 0..edits {
        let (x, y) = (noise.below(grid.width()), noise.below(grid.height()));
        grid.set(x, y, noise.below(game.tiles.len()) as u8);
    }
    grid
}
