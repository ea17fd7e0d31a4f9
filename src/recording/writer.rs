//! The recorder's thread: it alone writes to the store.

use super::ack::AckLog;
use super::chain::Chain;
use super::recorder::{RecorderConfig, Shared, lock};
use super::schema::{END_SESSION, INSERT_EVENT, INSERT_SESSION, UPDATE_SESSION};
use super::session::{Live, Written, now_ms};
use super::store::{refuse, sql_error};
use crate::error::{Error, Result};
use crossbeam_channel::{Receiver, Select, Sender};
use rusqlite::{Connection, ErrorCode, Statement, params};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The most events in one transaction: what is lost to a power cut is at most what was not acknowledged,
/// and a reader never waits long for a checkpoint.
const MAX_BATCH: usize = 16_384;

/// How long another program may hold the store before the writer gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event on its way to the store.
pub(super) struct Event {
    pub(super) session: Arc<Live>,
    /// What [`Permission::stamp`](super::consent::Permission::stamp) said when it was recorded.
    pub(super) stamp: u32,
    pub(super) t_ms: i64,
    pub(super) kind: Cow<'static, str>,
    pub(super) payload: String,
}

/// What else the writer is told.
pub(super) enum Control {
    Begin(Arc<Live>),
    End(Arc<Live>, i64),
    /// Enough events wait to make a batch.
    Nudge,
    /// Answer when everything before this is committed.
    Flush(Sender<()>),
    Close,
}

pub(super) struct Writer {
    connection: Connection,
    acks: Option<AckLog>,
    events: Receiver<Event>,
    control: Receiver<Control>,
    shared: Arc<Shared>,
    build: String,
    flush_every: Duration,
    batch: u64,
    /// The sessions the current batch has touched.
    touched: Vec<Arc<Live>>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        acks: Option<AckLog>,
        events: Receiver<Event>,
        control: Receiver<Control>,
        shared: Arc<Shared>,
        config: &RecorderConfig,
    ) -> Result<Self> {
        let failed = |e: rusqlite::Error| sql_error(&shared.path, &e);
        if let Some(limit) = config.max_store_bytes {
            let page: i64 =
                connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
            let pages = i64::try_from(limit).unwrap_or(i64::MAX) / page.max(1);
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(failed)?;
        }
        connection.busy_timeout(Duration::from_millis(250)).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(Self {
            connection,
            acks,
            events,
            control,
            shared,
            build: config.build.clone(),
            flush_every: config.flush_every,
            batch: 0,
            touched: Vec::new(),
        })
    }

    /// Writes until it is told to close. A failure, even a panic, ends up in `Shared::failure`.
    pub(super) fn run(mut self) {
        let done = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let error = match done {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let message = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                Error::Panicked { job: "the recorder's thread".into(), message: message.into() }
            }
        };
        let shared = Arc::clone(&self.shared);
        let _ = shared.failure.set(Arc::new(error));
        // This closes the channel: later events see that. What waited is lost, and said to be.
        drop(self);
        shared.lose(shared.queued.load(Ordering::Acquire) as u64);
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            let mut told = Vec::new();
            let mut wait = Select::new();
            let control = wait.recv(&self.control);
            wait.recv(&self.events);
            if wait.ready() != control {
                // Events gather while the writer sleeps, so that the game need not wake it for each.
                told.extend(self.control.recv_timeout(self.flush_every).ok());
            }
            told.extend(self.control.try_iter());
            let closing = told.iter().any(|control| matches!(control, Control::Close));
            // All that was sent before those words is in the queue by now.
            let mut due = self.events.len();
            while due > MAX_BATCH {
                self.transaction(MAX_BATCH, Vec::new())?;
                due -= MAX_BATCH;
            }
            self.transaction(due, told)?;
            if closing {
                return self.finish();
            }
        }
    }

    /// Commits `due` events, then what was told.
    fn transaction(&mut self, due: usize, told: Vec<Control>) -> Result<()> {
        let quiet =
            |control: &Control| matches!(control, Control::Nudge | Control::Flush(_) | Control::Close);
        if due > 0 || !told.iter().all(quiet) {
            self.begin()?;
            self.batch += 1;
            let (mut bytes, mut taken, mut written) = (0, 0, 0);
            let mut touched = std::mem::take(&mut self.touched);
            // Looked up once: finding a prepared statement costs as much as a good part of using it.
            let mut insert = self.connection.prepare_cached(INSERT_EVENT).map_err(|e| self.failed(&e))?;
            for event in self.events.try_iter().take(due) {
                bytes += event.payload.capacity();
                taken += 1;
                if event.session.permission.holds(event.stamp) {
                    self.write_event(&mut insert, &event, &mut touched)?;
                    written += 1;
                }
            }
            drop(insert);
            self.touched = touched;
            for control in &told {
                match control {
                    Control::Begin(live) if live.permission.stamp().is_some() => {
                        self.write_session(live, &mut lock(&live.written))?;
                    }
                    Control::End(live, at) => self.end(live, *at)?,
                    _ => {}
                }
            }
            self.update_sessions()?;
            self.execute("COMMIT")?;
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.shared.queued.fetch_sub(taken, Ordering::AcqRel);
            self.acknowledge(written)?;
        }
        for control in told {
            if let Control::Flush(reply) = control {
                // Nobody waits any more.
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    /// Takes the write lock, waiting for other programs within reason.
    fn begin(&self) -> Result<()> {
        let since = Instant::now();
        loop {
            match self.connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => return Ok(()),
                Err(e)
                    if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && since.elapsed() < PATIENCE => {}
                Err(e) => return Err(self.failed(&e)),
            }
        }
    }

    fn write_event(
        &self,
        insert: &mut Statement<'_>,
        event: &Event,
        touched: &mut Vec<Arc<Live>>,
    ) -> Result<()> {
        let mut written = lock(&event.session.written);
        self.write_session(&event.session, &mut written)?;
        if written.batch != self.batch {
            written.batch = self.batch;
            touched.push(Arc::clone(&event.session));
        }
        let seq = written.next_seq;
        written.next_seq += 1;
        let chain = written.chain.as_mut().expect("write_session has just set it");
        let digest = chain.push(seq, event.t_ms, &event.kind, &event.payload);
        let row = params![event.session.id.to_sql(), seq, event.t_ms, event.kind, event.payload, digest];
        insert.execute(row).map_err(|e| self.failed(&e))?;
        Ok(())
    }

    /// Writes a session's row, unless it is there.
    fn write_session(&self, live: &Live, written: &mut Written) -> Result<()> {
        if written.chain.is_some() {
            return Ok(());
        }
        let (id, seed) = (live.id.to_sql(), live.seed.map(u64::cast_signed));
        let chain = Chain::new(id, &live.player, &self.build, live.started_ms, seed);
        let row = params![id, live.player, self.build, live.started_ms, seed, chain.head()];
        self.connection
            .prepare_cached(INSERT_SESSION)
            .and_then(|mut insert| insert.execute(row))
            .map_err(|e| self.failed(&e))?;
        written.chain = Some(chain);
        Ok(())
    }

    /// Notes a session's end, unless the player has withdrawn: then nothing about them is written.
    fn end(&self, live: &Live, at_ms: i64) -> Result<()> {
        if live.permission.stamp().is_none() {
            return Ok(());
        }
        self.write_session(live, &mut lock(&live.written))?;
        let dropped = live.dropped.load(Ordering::Relaxed).cast_signed();
        self.connection
            .prepare_cached(END_SESSION)
            .and_then(|mut update| update.execute(params![live.id.to_sql(), at_ms, dropped]))
            .map_err(|e| self.failed(&e))?;
        Ok(())
    }

    /// Brings the rows of the touched sessions up to their events.
    fn update_sessions(&self) -> Result<()> {
        for live in &self.touched {
            let written = lock(&live.written);
            let Some(chain) = &written.chain else { continue };
            let dropped = live.dropped.load(Ordering::Relaxed).cast_signed();
            let row = params![live.id.to_sql(), written.next_seq, chain.head(), dropped];
            self.connection
                .prepare_cached(UPDATE_SESSION)
                .and_then(|mut update| update.execute(row))
                .map_err(|e| self.failed(&e))?;
        }
        Ok(())
    }

    /// Tells what has been committed.
    fn acknowledge(&mut self, events: u64) -> Result<()> {
        if let Some(acks) = &mut self.acks {
            for live in &self.touched {
                acks.note(live.id, lock(&live.written).next_seq - 1);
            }
            acks.write()?;
        }
        self.touched.clear();
        self.shared.acknowledged.fetch_add(events, Ordering::AcqRel);
        Ok(())
    }

    /// Ends what has not ended, and folds the log into the store's one file.
    fn finish(&mut self) -> Result<()> {
        let open: Vec<_> =
            self.shared.sessions.write().unwrap_or_else(PoisonError::into_inner).drain().collect();
        let due = self.events.len();
        let ends = open.into_iter().map(|(_, live)| Control::End(live, now_ms())).collect();
        self.transaction(due, ends)?;
        // A reader may be in the way. Then the log stays, and the next to open the store folds it.
        let _ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        Ok(())
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.connection.execute_batch(sql).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &rusqlite::Error) -> Error {
        if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
            let waited = format!("another program held the store for {} s", PATIENCE.as_secs());
            return refuse(&self.shared.path, waited, "close that program and start again");
        }
        sql_error(&self.shared.path, error)
    }
}
