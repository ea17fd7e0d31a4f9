//! Dungeons on demand: each can be finished, and a small figure shows how.
//!
//! ```text
//! cargo run --release --example dungeon                        in a window: space another, up and down the length
//! cargo run --release --example dungeon -- --headless --seed 7 three levels, printed, and dungeon-N.png
//! ```

#![expect(clippy::print_stdout, reason = "the levels are printed")]

mod headless;
mod window;

use std::process::ExitCode;

/// What was asked on the command line.
pub struct Options {
    headless: bool,
    seed: u64,
    /// A model among the assets.
    model: String,
    /// Where pictures go.
    out: String,
}

const HELP: &str = "dungeon [--headless] [--seed N] [--model models/dungeon] [--out DIR]";

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { headless: false, seed: 7, model: "models/dungeon".into(), out: ".".into() };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--headless" => options.headless = true,
            "--seed" => options.seed = value()?.parse().map_err(|_| "--seed takes a number".to_owned())?,
            "--model" => options.model = value()?,
            "--out" => options.out = value()?,
            _ => return Err(format!("{arg} is unknown")),
        }
    }
    Ok(options)
}

/// The folder of assets, from the repository's root or beside the binary.
pub fn assets() -> String {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
    if std::path::Path::new(here).exists() { here.to_owned() } else { "assets".to_owned() }
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("error: {wrong}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let done = if options.headless { headless::play(&options) } else { window::play(&options) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}
