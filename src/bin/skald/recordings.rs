//! `skald recordings`: looks after a playtest store.

use bevy_skald::recording::Store;
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;

/// Its options.
#[derive(Args)]
pub struct RecordingsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Count what is in a store.
    Stats(StoreArgs),
    /// Check that a store is whole and that nothing acknowledged is missing.
    Verify {
        #[command(flatten)]
        store: StoreArgs,
        /// The acknowledgement log the recorder wrote beside the store.
        #[arg(long, value_name = "LOG")]
        ack: Option<PathBuf>,
    },
}

#[derive(Args)]
struct StoreArgs {
    /// The store.
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
}

pub fn run(args: &RecordingsArgs, common: &crate::Common) -> Result<()> {
    match &args.action {
        Action::Stats(StoreArgs { store }) => {
            let stats = Store::open_read(store)?.stats()?;
            if common.json {
                return say(&json(&stats)?);
            }
            let mut text = format!(
                "{} events in {} sessions of {} players, {} bytes, {} events dropped",
                stats.events, stats.sessions, stats.players, stats.bytes, stats.dropped
            );
            for (kind, count) in &stats.kinds {
                text.push_str(&format!("\n{count:>12}  {kind}"));
            }
            say(&text)
        }
        Action::Verify { store: StoreArgs { store }, ack } => {
            let verified = Store::open_read(store)?.verify(ack.as_deref())?;
            if common.json {
                return say(&json(&verified)?);
            }
            let mut text = format!("{} events in {} sessions are whole", verified.events, verified.sessions);
            if ack.is_some() {
                text.push_str(&format!(", and all {} acknowledged events are there", verified.acknowledged));
            }
            say(&text)
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::backend("writing JSON", e))
}

/// One line on stdout. A reader that went away (`| head`) is no failure.
fn say(line: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write the answer", "stdout", error))
        }
        _ => Ok(()),
    }
}
