//! `skald level convert`.

use bevy_skald::files::write_atomic;
use bevy_skald::level::{LevelFormat, TileGame, picture, read_levels};
use bevy_skald::{Error, Result};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args)]
pub struct ConvertArgs {
    /// The game's file.
    #[arg(long, value_name = "F.game.ron")]
    game: PathBuf,
    /// Levels: files and folders, in any of the formats.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// The format to write.
    #[arg(long, value_enum)]
    to: To,
    /// Where the files go, one a level.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    /// A character a tile, a line a row.
    Text,
    /// Tiled's XML.
    Tmx,
    /// Tiled's JSON.
    Tmj,
    /// `LDtk`.
    Ldtk,
    /// RON.
    Ron,
    /// A picture.
    Png,
}

pub fn run(args: &ConvertArgs) -> Result<()> {
    let game = TileGame::read(&args.game)?;
    let levels = read_levels(&game, &args.data)?;
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io("make the folder of levels", &args.out, e))?;
    for level in &levels {
        let (end, format) = match args.to {
            To::Text => ("txt", Some(LevelFormat::Text)),
            To::Tmx => ("tmx", Some(LevelFormat::Tmx)),
            To::Tmj => ("tmj", Some(LevelFormat::Tmj)),
            To::Ldtk => ("ldtk", Some(LevelFormat::Ldtk)),
            To::Ron => ("level.ron", Some(LevelFormat::Ron)),
            To::Png => ("png", None),
        };
        let bytes = match format {
            Some(format) => format.write(&game, &level.grid).into_bytes(),
            None => picture(&game, &level.grid, None)?,
        };
        write_atomic(&args.out.join(format!("{}.{end}", level.name.replace('#', "_"))), &bytes)?;
    }
    eprintln!("{} levels written", levels.len());
    Ok(())
}
