//! [`Request`]: what a click asks for. Panels only say it; the desk or the game does it.

use super::layout::Panel;
use crate::decode::Sampling;
use crate::recording::SessionId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a training is of, and so how its config and data are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recipe {
    /// `skald train dialogue`.
    #[default]
    Dialogue,
    /// `skald train level`.
    Level,
}

/// Work that takes long, and can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    /// Checking a store.
    Verify,
    /// An answer of an NPC.
    Talk,
    /// A level.
    Level,
    /// An evaluation.
    Evaluation,
}

/// Which sessions leave the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erase {
    /// Those of a player, by pseudonym.
    Player(String),
    /// Those that began more than so many days ago.
    OlderThan(u32),
}

/// What a click asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Show the sessions from this one on, the latest first.
    Sessions {
        /// How many to pass over.
        skipped: u64,
    },
    /// Show a session's events.
    Events {
        /// The session.
        session: SessionId,
        /// The first event.
        from: u64,
        /// Only of this kind; empty: of any.
        kind: String,
    },
    /// Look at files and the store again.
    Refresh,
    /// Follow every hash chain.
    Verify,
    /// Erase.
    Erase(Erase),
    /// Start a training.
    Train {
        /// What of.
        recipe: Recipe,
        /// Its config.
        config: PathBuf,
        /// Its data.
        data: Vec<PathBuf>,
        /// Its directory.
        out: PathBuf,
        /// Whether the run in that directory goes on.
        resume: bool,
    },
    /// Let the training rest, after saving.
    Pause,
    /// Let it go on.
    Continue,
    /// Save and end it.
    Stop,
    /// Ask an NPC, one model or two.
    Ask {
        /// The persona's file.
        persona: PathBuf,
        /// What the player says.
        said: String,
        /// How to draw.
        sampling: Sampling,
        /// The seed of the first; the second's is the next.
        seed: u64,
        /// The models.
        models: Vec<PathBuf>,
    },
    /// Keep that answer `chosen` is better than the other.
    Prefer {
        /// 0 or 1.
        chosen: usize,
    },
    /// Write a level.
    Generate {
        /// The model.
        model: PathBuf,
        /// What is asked of the knobs.
        controls: BTreeMap<String, f64>,
        /// Width and height; nothing: as usual.
        size: Option<(usize, usize)>,
        /// The seed.
        seed: u64,
        /// What of the shown level is written anew; nothing: all of it is.
        open: Option<BTreeSet<(usize, usize)>>,
    },
    /// Mend the shown level so that it can be finished.
    Repair,
    /// Evaluate a dialogue model on held-out talks.
    Evaluate {
        /// The model.
        model: PathBuf,
        /// The corpus.
        data: PathBuf,
    },
    /// Give up a job.
    Cancel(Job),
    /// Let this model speak in the running game.
    Promote(PathBuf),
    /// Let the one before speak again.
    RollBack,
    /// Write a table.
    Export {
        /// The file's name, without its end.
        name: String,
        /// Its text.
        csv: String,
    },
    /// The panel's message was read.
    Dismiss(Panel),
}
