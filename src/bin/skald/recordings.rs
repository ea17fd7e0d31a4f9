//! `skald recordings`: looks after a playtest store.

use bevy_skald::files::read_text;
use bevy_skald::recording::{Erased, Mapping, Store, erase_player, import, retain};
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
    /// Take in events that were recorded elsewhere: CSV, TSV, columns of blanks, lines of JSON.
    Import {
        #[command(flatten)]
        store: StoreArgs,
        /// Which column is what, RON (see assets/mappings).
        #[arg(long, value_name = "F.mapping.ron")]
        mapping: PathBuf,
        /// The tables.
        #[arg(long, value_name = "F", num_args = 1.., required = true)]
        data: Vec<PathBuf>,
    },
    /// Check that a store is whole and that nothing acknowledged is missing.
    Verify {
        #[command(flatten)]
        store: StoreArgs,
        /// The acknowledgement log the recorder wrote beside the store.
        #[arg(long, value_name = "LOG")]
        ack: Option<PathBuf>,
    },
    /// List the players of a store, by pseudonym.
    Players(StoreArgs),
    /// Erase all that a store holds of a player, its bytes included; `verify` still holds.
    Erase {
        #[command(flatten)]
        store: StoreArgs,
        /// The pseudonym, or the id the game knows them by (needs the store's key).
        #[arg(long)]
        player: String,
    },
    /// Erase the sessions that began more than some days ago.
    Retain {
        #[command(flatten)]
        store: StoreArgs,
        /// How many days are kept, at least one.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        days: u32,
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
        Action::Import { store: StoreArgs { store }, mapping, data } => {
            let text = read_text(mapping, 1 << 20, "read the mapping")?;
            let mapping = Mapping::from_ron(&text, &mapping.display().to_string())?;
            let begun = std::time::Instant::now();
            let told = import(&mapping, data, store)?;
            let seconds = begun.elapsed().as_secs_f64();
            if common.json {
                let mut value = serde_json::to_value(&told).map_err(|e| Error::backend("writing JSON", e))?;
                value["seconds"] = seconds.into();
                return say(&value.to_string());
            }
            let mut text = format!(
                "{} events of {} players in {} sessions, in {seconds:.1} s",
                told.events, told.players, told.sessions
            );
            for (reason, count) in &told.dropped {
                text.push_str(&format!("\n{count:>12}  rows dropped: {reason}"));
            }
            if let Some(first) = &told.first_dropped {
                text.push_str(&format!("\n              the first of them is {first}"));
            }
            say(&text)
        }
        Action::Players(StoreArgs { store }) => {
            let opened = Store::open_read(store)?;
            let mut skip = 0;
            loop {
                let page = opened.players_page(skip, 500)?;
                skip += page.len() as u64;
                for row in &page {
                    if common.json {
                        say(&json(row)?)?;
                    } else {
                        say(&format!("{}  {} events in {} sessions", row.player, row.events, row.sessions))?;
                    }
                }
                if page.is_empty() {
                    return Ok(());
                }
            }
        }
        Action::Erase { store: StoreArgs { store }, player } => {
            tell_erased(&erase_player(store, player)?, common)
        }
        Action::Retain { store: StoreArgs { store }, days } => tell_erased(&retain(store, *days)?, common),
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

fn tell_erased(erased: &Erased, common: &crate::Common) -> Result<()> {
    if common.json {
        return say(&json(erased)?);
    }
    say(&format!("{} events of {} sessions are erased", erased.events, erased.sessions))
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
