//! `skald level difficulty`.

use bevy_skald::files::read_text;
use bevy_skald::level::{
    Attempt, Grid, LevelModel, LevelRequest, TileGame, fit, read_levels, with_difficulty,
};
use bevy_skald::model::Checkpoint;
use bevy_skald::{Error, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args)]
pub struct DifficultyArgs {
    /// The model: a checkpoint directory of `skald train level`.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Attempts, one JSON object a line: player, level (its rows, or the name of one in --levels), finished, and if they
    /// are known deaths, seconds, quit.
    #[arg(long, value_name = "F.jsonl")]
    attempts: PathBuf,
    /// The levels that attempts name: files and folders.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    levels: Vec<PathBuf>,
    /// The model with the knob: another checkpoint directory.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &DifficultyArgs) -> Result<()> {
    let file = args.attempts.display().to_string();
    let text = read_text(&args.attempts, 1 << 28, "read the attempts")?;
    let mut attempts: Vec<Attempt> = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        attempts.push(serde_json::from_str(line).map_err(|e| Error::Syntax {
            file: file.clone(),
            line: n + 1,
            column: e.column(),
            reason: e.to_string(),
            remedy: "write one attempt a line: player, level, finished".into(),
        })?);
    }
    if args.out.join(bevy_skald::model::CARD).exists() {
        let reason = "the directory already holds a model";
        return Err(Error::config(
            args.out.display().to_string(),
            "--out",
            reason,
            "choose another directory",
        ));
    }
    let checkpoint = Checkpoint::load(&args.model)?;
    let model = LevelModel::new(&checkpoint)?;
    let game: &TileGame = model.game();
    let mut named: BTreeMap<String, Grid> = BTreeMap::new();
    if !args.levels.is_empty() {
        named = read_levels(game, &args.levels)?.into_iter().map(|level| (level.name, level.grid)).collect();
    }
    let (completion, report) = fit(game, &attempts, &named, LevelRequest::default().limits)?;
    with_difficulty(&checkpoint, completion)?.save(&args.out)?;
    println!("{}", serde_json::to_string(&report).map_err(|e| Error::backend("writing the report", e))?);
    Ok(())
}
