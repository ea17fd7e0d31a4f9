//! [`Recorder`]: the writing side of a store, safe to call from a frame.

use super::ack::AckLog;
use super::consent::{Consent, Permission};
use super::pseudonym::Secret;
use super::session::{Live, SessionId, SessionIds, now_ms};
use super::store;
use super::writer::{Control, Event, Writer};
use crate::error::{Error, Result};
use crossbeam_channel::{Sender, TrySendError};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a [`Recorder`] works. The defaults suit a game; nobody is recorded by default.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// The consent of a player of whom [`Recorder::set_consent`] has not been told. `Granted` is for a
    /// playtest whose players have all agreed beforehand.
    pub consent: Consent,
    /// The key of the pseudonyms. `None`: it is kept in `<store>.key`, and made there the first time.
    pub secret: Option<Secret>,
    /// How many events may wait for the writer. More are dropped and counted.
    pub capacity: usize,
    /// How many bytes of payload may wait for the writer. More are dropped and counted.
    pub capacity_bytes: usize,
    /// The longest an event waits before it is committed.
    pub flush_every: Duration,
    /// How many waiting events are committed without waiting for `flush_every`.
    pub batch: usize,
    /// The game's build, noted with each session.
    pub build: String,
    /// Where to append what was committed, for a check by somebody else (`skald recordings verify --ack`).
    pub ack_log: Option<PathBuf>,
    /// How large the store may become. At the limit recording stops with a [`Recorder::failure`].
    pub max_store_bytes: Option<u64>,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            consent: Consent::Denied,
            secret: None,
            capacity: 65_536,
            capacity_bytes: 64 << 20,
            flush_every: Duration::from_millis(50),
            batch: 2_048,
            build: String::new(),
            ack_log: None,
            max_store_bytes: None,
        }
    }
}

/// What became of an event handed to [`Recorder::record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for the writer.
    Queued,
    /// The player has not consented. It is gone.
    NoConsent,
    /// The queue is full, or the writer has failed. It is gone, and [`Recorder::dropped`] counts it.
    Dropped,
    /// The game's mistake: the session is unknown or has ended, the recorder is closed, or the payload is not
    /// JSON (a map whose keys are not text) or larger than [`Recorder::MAX_PAYLOAD`]. It is gone, and
    /// [`Recorder::refused`] counts it.
    Refused,
}

/// Records play into a store. Cheap to clone; all clones are the same recorder.
///
/// A thread of its own writes. Nothing but [`open`](Self::open), [`flush`](Self::flush) and
/// [`close`](Self::close) touches the disk or waits for it. When the last clone is dropped, the drop waits
/// until everything queued is on the disk.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    events: Sender<Event>,
    control: Sender<Control>,
    writer: Mutex<Option<JoinHandle<()>>>,
    config: RecorderConfig,
    secret: Secret,
    ids: SessionIds,
    players: Mutex<HashMap<String, Arc<Permission>>>,
}

/// What the game's threads and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    /// The sessions that have not ended.
    pub(super) sessions: RwLock<HashMap<SessionId, Arc<Live>>>,
    pub(super) queued: AtomicUsize,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) acknowledged: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    pub(super) failure: OnceLock<Arc<Error>>,
}

impl Recorder {
    /// The largest payload, in bytes of JSON.
    pub const MAX_PAYLOAD: usize = 1 << 20;

    /// Opens the store at `path`, or creates it (its folder must be there), and starts the writer.
    ///
    /// # Errors
    /// [`Error::Recording`] when the file is no store, is damaged, is of a newer version, is locked or cannot
    /// be written, or when its key is missing or another one; [`Error::Config`] for a size of 0.
    pub fn open(path: impl AsRef<Path>, config: RecorderConfig) -> Result<Self> {
        let path = path.as_ref();
        for (field, value) in [
            ("capacity", config.capacity),
            ("capacity_bytes", config.capacity_bytes),
            ("batch", config.batch),
        ] {
            if value == 0 {
                return Err(Error::config("RecorderConfig", field, "it is 0", "give at least 1"));
            }
        }
        let (connection, secret) = store::open_write(path, config.secret.clone())?;
        let acks = config.ack_log.as_deref().map(AckLog::open).transpose()?;
        let (events, event_queue) = crossbeam_channel::bounded(config.capacity);
        let (control, control_queue) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            sessions: RwLock::default(),
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            acknowledged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failure: OnceLock::new(),
        });
        let writer = Writer::new(connection, acks, event_queue, control_queue, Arc::clone(&shared), &config)?;
        let thread = std::thread::Builder::new()
            .name("skald recorder".into())
            .spawn(move || writer.run())
            .map_err(|e| Error::io("start the recorder's thread", path, e))?;
        Ok(Self(Arc::new(Inner {
            shared,
            events,
            control,
            writer: Mutex::new(Some(thread)),
            config,
            secret,
            ids: SessionIds::new(),
            players: Mutex::default(),
        })))
    }

    /// Grants or withdraws a player's consent, at any time. After a withdrawal nothing more is queued, and what
    /// is queued is discarded; what was committed stays until it is erased.
    pub fn set_consent(&self, player_id: &str, consent: Consent) {
        self.permission(&self.pseudonym(player_id)).set(consent);
    }

    /// A player's consent.
    pub fn consent(&self, player_id: &str) -> Consent {
        self.permission(&self.pseudonym(player_id)).consent()
    }

    /// The player's pseudonym in this store.
    pub fn pseudonym(&self, player_id: &str) -> String {
        self.0.secret.pseudonym(player_id)
    }

    /// Begins a session of a player. Without their consent the session exists in memory only, until they give
    /// it.
    pub fn begin_session(&self, player_id: &str) -> SessionId {
        self.begin(player_id, None)
    }

    /// [`begin_session`](Self::begin_session), noting the seed it is played with.
    pub fn begin_seeded_session(&self, player_id: &str, seed: u64) -> SessionId {
        self.begin(player_id, Some(seed))
    }

    fn begin(&self, player_id: &str, seed: Option<u64>) -> SessionId {
        let player = self.pseudonym(player_id);
        let live = Arc::new(Live {
            id: self.0.ids.next(),
            permission: self.permission(&player),
            player,
            started_ms: now_ms(),
            seed,
            dropped: AtomicU64::new(0),
            written: Mutex::default(),
        });
        let id = live.id;
        let mut sessions = self.0.shared.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(id, Arc::clone(&live));
        drop(sessions);
        // A writer that is gone has said why in `failure`.
        let _ = self.0.control.send(Control::Begin(live));
        id
    }

    /// Records that something happened in a session, `t_ms` milliseconds of game time in. Never waits.
    pub fn record(
        &self,
        session: SessionId,
        t_ms: u64,
        kind: impl Into<Cow<'static, str>>,
        payload: &impl Serialize,
    ) -> Outcome {
        let shared = &self.0.shared;
        let live = shared.session(session);
        let Some(live) = live else {
            return shared.refuse();
        };
        let Some(stamp) = live.permission.stamp() else {
            return Outcome::NoConsent;
        };
        let payload = match serde_json::to_string(payload) {
            Ok(payload) if payload.len() <= Self::MAX_PAYLOAD => payload,
            _ => return shared.refuse(),
        };
        let bytes = payload.capacity();
        let waiting = shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let position = shared.queued.fetch_add(1, Ordering::AcqRel) + 1;
        let event = Event {
            session: live,
            stamp,
            t_ms: i64::try_from(t_ms).unwrap_or(i64::MAX),
            kind: kind.into(),
            payload,
        };
        let no_use = waiting > self.0.config.capacity_bytes || shared.failure.get().is_some();
        let sent = if no_use { Err(TrySendError::Full(event)) } else { self.0.events.try_send(event) };
        match sent {
            Ok(()) => {
                if position == self.0.config.batch.min(self.0.config.capacity.div_ceil(2)) {
                    let _ = self.0.control.send(Control::Nudge);
                }
                Outcome::Queued
            }
            Err(unsent) => {
                shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                shared.queued.fetch_sub(1, Ordering::AcqRel);
                let closed =
                    matches!(unsent, TrySendError::Disconnected(_)) && shared.failure.get().is_none();
                let event = unsent.into_inner();
                if closed {
                    return shared.refuse();
                }
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                event.session.dropped.fetch_add(1, Ordering::Relaxed);
                Outcome::Dropped
            }
        }
    }

    /// Ends a session. What was recorded before is still written; nothing more can be recorded in it.
    pub fn end_session(&self, session: SessionId) {
        let mut sessions = self.0.shared.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let ended = sessions.remove(&session);
        drop(sessions);
        if let Some(live) = ended {
            let _ = self.0.control.send(Control::End(live, now_ms()));
        }
    }

    /// How many events are on the disk for good, since this recorder was opened. Never falls.
    pub fn acknowledged(&self) -> u64 {
        self.0.shared.acknowledged.load(Ordering::Acquire)
    }

    /// How many events were lost because the queue was full or the writer had failed.
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.load(Ordering::Relaxed)
    }

    /// How many events were refused: see [`Outcome::Refused`].
    pub fn refused(&self) -> u64 {
        self.0.shared.refused.load(Ordering::Relaxed)
    }

    /// How many events wait for the writer.
    pub fn queued(&self) -> usize {
        self.0.shared.queued.load(Ordering::Relaxed)
    }

    /// Why the writer stopped (the disk is full, the store's folder is gone, ..), if it did. The game goes on;
    /// what it records from then on is counted as dropped.
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.0.shared.failure.get().cloned()
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.0.shared.path
    }

    /// Waits until everything recorded so far is on the disk. Not for a frame.
    ///
    /// # Errors
    /// The writer's [`failure`](Self::failure).
    pub fn flush(&self) -> Result<(), Arc<Error>> {
        let (reply, done) = crossbeam_channel::bounded(1);
        if self.0.control.send(Control::Flush(reply)).is_ok() {
            // An error means that the writer has ended, which `failure` explains or `close` has asked for.
            let _ = done.recv();
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// Ends all sessions, waits until everything is on the disk, and stops. For the end of the program.
    ///
    /// # Errors
    /// The writer's [`failure`](Self::failure).
    pub fn close(&self) -> Result<(), Arc<Error>> {
        self.0.close();
        self.failure().map_or(Ok(()), Err)
    }

    fn permission(&self, pseudonym: &str) -> Arc<Permission> {
        let mut players = lock(&self.0.players);
        if let Some(known) = players.get(pseudonym) {
            return Arc::clone(known);
        }
        let new = Arc::new(Permission::new(self.0.config.consent));
        players.insert(pseudonym.to_owned(), Arc::clone(&new));
        new
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        let _ = self.control.send(Control::Close);
        if let Some(thread) = lock(&self.writer).take() {
            // A panic in there has become a `failure`.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn session(&self, id: SessionId) -> Option<Arc<Live>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn refuse(&self) -> Outcome {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Outcome::Refused
    }

    /// Counts events that were queued when the writer failed.
    pub(super) fn lose(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }
}

/// Locks, also where a thread panicked while it held the lock: no invariant spans two statements here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
