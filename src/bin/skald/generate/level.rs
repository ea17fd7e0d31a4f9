//! `skald generate level`: new levels, gaps filled, levels continued and mutated; each leaves with its solution.

use crate::Common;
use bevy_skald::files::write_atomic;
use bevy_skald::job;
use bevy_skald::level::{
    Generate, GeneratedLevel, Grid, LevelModel, LevelRequest, Limits, Scan, TileGame, read_levels, region,
};
use bevy_skald::{Error, Result};
use clap::Args;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args)]
pub struct GenerateLevelArgs {
    /// The model: a checkpoint directory of `skald train level`.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// How many levels; with --from, how many for each level there.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Where the levels and `levels.jsonl` go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is asked of a knob of the game, as often as wanted.
    #[arg(long, value_name = "KNOB=VALUE")]
    control: Vec<String>,
    /// Columns and rows (default: as usual in the levels that were learned).
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// One of the model's themes.
    #[arg(long)]
    theme: Option<String>,
    /// Levels to begin with: files and folders. What --open or --mutate does not name stays as it is.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    from: Vec<PathBuf>,
    /// Slices that are written anew, of --from: columns (or rows, where the game is scanned by rows) A up to, not with, B.
    #[arg(long, value_name = "A..B", requires = "from", conflicts_with_all = ["mutate", "continue_by"])]
    open: Option<String>,
    /// The share of cells that are written anew, of --from, in one window.
    #[arg(long, value_name = "SHARE", requires = "from", conflicts_with = "continue_by")]
    mutate: Option<f64>,
    /// Columns that are written behind the end, of --from.
    #[arg(long = "continue", value_name = "N", requires = "from")]
    continue_by: Option<usize>,
    /// Each level is a mirror image of itself, left and right.
    #[arg(long, conflicts_with = "from")]
    symmetric: bool,
    /// A player's style: an axis of the game's `tastes`, 0 to 1, as often as wanted.
    #[arg(long, value_name = "AXIS=VALUE")]
    style: Vec<String>,
    /// Below 1 more usual, above 1 stranger.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// What each solving may spend, in states.
    #[arg(long, default_value_t = LevelRequest::default().limits.nodes)]
    nodes: usize,
    /// Writes a picture of each level too.
    #[arg(long)]
    png: bool,
}

pub fn run(args: &GenerateLevelArgs, common: &Common) -> Result<()> {
    let model = Arc::new(LevelModel::load(&args.model)?);
    let (controls, style) = (pairs("--control", &args.control)?, pairs("--style", &args.style)?);
    let size = args.size.as_deref().map(size).transpose()?;
    let base = LevelRequest {
        size,
        controls,
        theme: args.theme.clone(),
        symmetric: args.symmetric,
        style,
        temperature: args.temperature,
        limits: Limits { nodes: args.nodes },
        ..LevelRequest::default()
    };
    let mut requests: Vec<(String, LevelRequest)> = Vec::new();
    let name = |n: usize, from: &str| {
        if from.is_empty() { format!("level-{n:04}") } else { format!("{from}-{n:02}") }
    };
    if args.from.is_empty() {
        for n in 0..args.count {
            let seed = common.seed().derive("level").derive_index(n as u64);
            requests.push((name(n, ""), LevelRequest { seed, ..base.clone() }));
        }
    } else {
        for level in read_levels(model.game(), &args.from)? {
            for n in 0..args.count {
                let seed = common.seed().derive(&level.name).derive_index(n as u64);
                let (grid, open) = opened(args, model.game(), &level.grid, seed)?;
                let from = level.name.replace(['#', '@', ','], "_");
                requests
                    .push((name(n, &from), LevelRequest { seed, from: Some(grid), open, ..base.clone() }));
            }
        }
    }
    // What cannot be served is said before anything is written.
    if let Some((_, request)) = requests.first() {
        Generate::new(Arc::clone(&model), request.clone())?;
    }
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io("make the folder of levels", &args.out, e))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(common.threads)
        .build()
        .map_err(|e| Error::backend("starting threads", e))?;
    let made: Vec<Result<GeneratedLevel>> = pool.install(|| {
        requests
            .par_iter()
            .map(|(_, request)| job::run(Generate::new(Arc::clone(&model), request.clone())?, |_| {}))
            .collect()
    });
    let mut lines = String::new();
    let mut ms = Vec::new();
    for ((name, _), level) in requests.iter().zip(made) {
        let level = level?;
        let file = format!("{name}.txt");
        write_atomic(&args.out.join(&file), level.grid.to_text(model.game()).as_bytes())?;
        if args.png {
            let png = bevy_skald::level::picture(model.game(), &level.grid, Some(&level.report.solution))?;
            write_atomic(&args.out.join(format!("{name}.png")), &png)?;
        }
        ms.push(level.report.ms);
        let mut line =
            serde_json::to_value(&level.report).map_err(|e| Error::backend("writing the report", e))?;
        line["file"] = file.into();
        if common.json {
            println!("{line}");
        }
        lines += &format!("{line}\n");
    }
    write_atomic(&args.out.join("levels.jsonl"), lines.as_bytes())?;
    ms.sort_by(f64::total_cmp);
    if let Some(median) = ms.get(ms.len() / 2) {
        eprintln!(
            "{} levels in {}, each with its solution; the median took {median:.1} ms",
            ms.len(),
            args.out.display()
        );
    }
    Ok(())
}

fn wrong(option: &str, reason: String, remedy: &str) -> Error {
    Error::config("options", option, reason, remedy)
}

/// `name=value`, each once.
fn pairs(option: &str, texts: &[String]) -> Result<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let pair = text
            .split_once('=')
            .and_then(|(knob, value)| Some((knob.trim(), value.trim().parse::<f64>().ok()?)));
        let Some((knob, value)) = pair else {
            return Err(wrong(option, format!("`{text}` is no name and number"), "write name=0.5"));
        };
        if all.insert(knob.to_owned(), value).is_some() {
            return Err(wrong(option, format!("`{knob}` is asked twice"), "ask each once"));
        }
    }
    Ok(all)
}

/// `WxH`.
pub fn size(text: &str) -> Result<(usize, usize)> {
    let pair = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    pair.ok_or_else(|| wrong("--size", format!("`{text}` is no size"), "write columns x rows, as 100x14"))
}

/// The level with what is to be written anew.
fn opened(
    args: &GenerateLevelArgs,
    game: &TileGame,
    grid: &Grid,
    seed: bevy_skald::seed::Seed,
) -> Result<(Grid, BTreeSet<(usize, usize)>)> {
    let slices = if game.scan == Scan::Columns { grid.width() } else { grid.height() };
    if let Some(text) = &args.open {
        let pair = text
            .split_once("..")
            .and_then(|(a, b)| Some((a.parse::<usize>().ok()?, b.parse::<usize>().ok()?)));
        let Some((a, b)) = pair.filter(|(a, b)| a < b && *b <= slices) else {
            let reason = format!("`{text}` are no slices of {slices}");
            return Err(wrong("--open", reason, "write A..B, with B at most their number"));
        };
        return Ok((grid.clone(), region(game, grid, a, b)));
    }
    if let Some(more) = args.continue_by {
        if game.scan != Scan::Columns || more == 0 || more > 4096 {
            let reason = format!("a level cannot be continued by {more}");
            return Err(wrong(
                "--continue",
                reason,
                "choose 1 to 4096 columns, of a game scanned by columns",
            ));
        }
        let width = grid.width() + more;
        let mut longer = Grid::new(width, grid.height(), 0)?;
        grid.cells().for_each(|(x, y, tile)| longer.set(x, y, tile));
        return Ok((longer.clone(), region(game, &longer, grid.width(), width)));
    }
    let share = args.mutate.unwrap_or(0.2);
    if !(share > 0.0 && share <= 1.0) {
        return Err(wrong("--mutate", format!("{share} is out of range"), "choose more than 0, at most 1"));
    }
    let length = ((slices as f64 * share).ceil() as usize).clamp(1, slices);
    let from = seed.derive("mutate").stream().below(slices - length + 1);
    Ok((grid.clone(), region(game, grid, from, from + length)))
}
