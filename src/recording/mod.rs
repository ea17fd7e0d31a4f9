//! Play to store: who may be recorded, what they did, and the proof that nothing of it was lost.
//!
//! [`Recorder`] is the writing side. A game calls [`Recorder::record`] from its frame; the call never waits,
//! a thread of its own batches the events into one SQLite file. [`Store`] is the reading side and works while
//! a game is writing. With the feature `bevy`, [`RecordingPlugin`](plugin::RecordingPlugin) does the calling.
//!
//! * **Consent.** Without [`Consent::Granted`] nothing of a player is written.
//! * **Pseudonyms.** Players are keyed hashes ([`Secret::pseudonym`]); their ids stay in memory. What the game
//!   puts into a payload is written as it is: keep names out of it.
//! * **Durability.** What [`Recorder::acknowledged`] counts is on the disk and survives `kill -9`.
//! * **Proof.** The events of a session form a hash chain, so [`Store::verify`] finds changed, missing and
//!   reordered ones. The chain is not keyed: it finds accidents, not a forger who recomputes it.
//! * **Erasure.** [`erase_player`] and [`retain`] take sessions out of the file, bytes included, and leave tombstones.
//!
//! ```
//! use bevy_skald::recording::{Consent, Recorder, RecorderConfig, Store};
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("playtest.sqlite");
//! let recorder = Recorder::open(&path, RecorderConfig { build: "0.3.1".into(), ..Default::default() })?;
//! recorder.set_consent("steam:7656119", Consent::Granted);
//! let session = recorder.begin_session("steam:7656119");
//! recorder.record(session, 1_250, "Died", &serde_json::json!({ "by": "spikes" }));
//! recorder.end_session(session);
//! recorder.close()?;
//!
//! let store = Store::open_read(&path)?;
//! for event in store.events(Some("Died")) {
//!     println!("{}", event?.payload);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ack;
mod chain;
mod consent;
mod erase;
mod import;
mod pages;
#[cfg(feature = "bevy")]
pub mod plugin;
mod pseudonym;
mod reader;
mod recorder;
mod schema;
mod session;
mod store;
mod verify;
mod writer;

pub use consent::Consent;
pub use erase::{Erased, erase_player, retain};
pub use import::{Basis, Column, Format, Imported, Kind, Mapping, Time, TimeUnit, import};
pub use pages::PlayerRow;
pub use pseudonym::Secret;
pub use reader::{Recorded, Stats, Store};
pub use recorder::{Outcome, Recorder, RecorderConfig};
pub use session::{Session, SessionId};
pub use verify::Verified;
