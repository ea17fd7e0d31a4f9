//! A small village whose people talk, each line made on this machine.
//!
//! ```text
//! cargo run --release --example village                          in a window
//! cargo run --release --example village -- --headless --seed 7   a scripted visit, printed; village.png
//! cargo run --release --example village -- --headless --bots 8 --minutes 20 --record play.db
//! ```

#![expect(clippy::print_stdout, reason = "the visit is printed")]

mod art;
mod bots;
mod game;
mod options;
mod people;
mod picture;
mod quests;
mod sayings;
mod visit;
mod window;

use options::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    if picture::draw_if_asked() {
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("error: {wrong}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    let done = if options.bots > 0 {
        bots::play(&options)
    } else if options.headless {
        visit::play(&options)
    } else {
        window::play(&options)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}
