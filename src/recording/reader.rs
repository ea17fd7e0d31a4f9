//! [`Store`]: the reading side. It works while a game is writing, and memory stays bounded.

use super::session::{Session, SessionId};
use super::store::{self, refuse, sql_error};
use crate::error::{Error, Result};
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How many rows are read at a time. Between two pages no lock is held, so a long read does not keep the
/// writer from folding its log.
const PAGE: i64 = 512;

/// A store, open for reading.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
}

/// An event from a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// The session it happened in.
    pub session: SessionId,
    /// The player's pseudonym.
    pub player: String,
    /// Its place in the session: 0, 1, 2, ..
    pub seq: u64,
    /// The game's time, in milliseconds.
    pub t_ms: u64,
    /// What happened.
    pub kind: String,
    /// The particulars, JSON.
    pub payload: String,
}

impl Recorded {
    /// The payload as the type it was recorded from.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) when the payload is of another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.payload).map_err(|e| crate::Error::Data {
            source_name: format!("event {} ({}) of session {}", self.seq, self.kind, self.session),
            reason: format!("the payload is not what was expected: {e}"),
            remedy: "read it with the build that recorded it, or leave this kind out".into(),
        })
    }
}

/// What is in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Events.
    pub events: u64,
    /// Sessions.
    pub sessions: u64,
    /// Different players.
    pub players: u64,
    /// The size of the store's file and of its write-ahead log.
    pub bytes: u64,
    /// Events of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// Events that were lost because the recorder's queue was full.
    pub dropped: u64,
}

impl Store {
    /// Whether the file at `path` is a store, by its name's end or its first bytes. A folder is none.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be read.
    pub fn is_at(path: &Path) -> Result<bool> {
        if path.is_dir() {
            return Ok(false);
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if ["db", "sqlite", "sqlite3"].contains(&extension) {
            return Ok(true);
        }
        let mut head = [0; 16];
        let mut file = File::open(path).map_err(|e| Error::io("open the data", path, e))?;
        let read = file.read(&mut head).map_err(|e| Error::io("read the data", path, e))?;
        Ok(head[..read].starts_with(b"SQLite format 3"))
    }

    /// Opens a store for reading.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) when there is none, or the file is no store, is damaged or
    /// is of a newer version.
    pub fn open_read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self { connection: store::open_read(path)?, path: path.to_owned() })
    }

    /// The sessions, the earliest first.
    pub fn sessions(&self) -> impl Iterator<Item = Result<Session>> + '_ {
        let mut after = -1;
        pages(move || {
            let page: Vec<Session> = self.rows(
                "SELECT id, player, build, started_ms, ended_ms, seed, events, dropped FROM sessions
                 WHERE id > ?1 ORDER BY id LIMIT ?2",
                params![after, PAGE],
                session,
            )?;
            after = page.last().map_or(after, |last| last.id.to_sql());
            Ok(page)
        })
    }

    /// The events, of one kind or all, session by session (the earliest first) and each in its order.
    ///
    /// What is written meanwhile appears if it comes after what was already read.
    pub fn events<'a>(&'a self, kind: Option<&'a str>) -> impl Iterator<Item = Result<Recorded>> + 'a {
        let mut after = (-1, -1);
        pages(move || {
            let page: Vec<Recorded> = self.rows(
                "SELECT e.session, s.player, e.seq, e.t_ms, e.kind, e.payload
                 FROM events e CROSS JOIN sessions s ON s.id = e.session
                 WHERE (e.session, e.seq) > (?1, ?2) AND (?3 IS NULL OR e.kind = ?3)
                 ORDER BY e.session, e.seq LIMIT ?4",
                params![after.0, after.1, kind, PAGE],
                recorded,
            )?;
            after = page.last().map_or(after, |last| (last.session.to_sql(), last.seq.cast_signed()));
            Ok(page)
        })
    }

    /// The events of one session, in order.
    pub fn session_events(&self, session: SessionId) -> impl Iterator<Item = Result<Recorded>> + '_ {
        let mut after = -1;
        pages(move || {
            let page: Vec<Recorded> = self.rows(
                "SELECT e.session, s.player, e.seq, e.t_ms, e.kind, e.payload
                 FROM events e CROSS JOIN sessions s ON s.id = e.session
                 WHERE e.session = ?1 AND e.seq > ?2 ORDER BY e.seq LIMIT ?3",
                params![session.to_sql(), after, PAGE],
                recorded,
            )?;
            after = page.last().map_or(after, |last| last.seq.cast_signed());
            Ok(page)
        })
    }

    /// Counts what is there, in one consistent view. Reads all events.
    pub fn stats(&self) -> Result<Stats> {
        let failed = |e: rusqlite::Error| sql_error(&self.path, &e);
        let view = self.connection.unchecked_transaction().map_err(failed)?;
        let (sessions, players, dropped) = view
            .query_row("SELECT count(*), count(DISTINCT player), total(dropped) FROM sessions", [], |row| {
                Ok((natural(row, 0)?, natural(row, 1)?, row.get::<_, f64>(2)? as u64))
            })
            .map_err(failed)?;
        let kinds: BTreeMap<String, u64> = {
            let mut select =
                view.prepare("SELECT kind, count(*) FROM events GROUP BY kind").map_err(failed)?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, natural(row, 1)?))).map_err(failed)?;
            rows.collect::<Result<_, _>>().map_err(failed)?
        };
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(Stats {
            events: kinds.values().sum(),
            sessions,
            players,
            bytes: length(&self.path) + length(Path::new(&wal)),
            kinds,
            dropped,
        })
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = || -> rusqlite::Result<_> {
            self.connection.prepare_cached(sql)?.query_map(parameters, read)?.collect()
        };
        rows().map_err(|e| match e {
            rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..) => refuse(
                &self.path,
                format!("a value in the store is of the wrong type ({e})"),
                "restore a backup: another program has written into the store",
            ),
            e => sql_error(&self.path, &e),
        })
    }
}

/// Strings pages together. Ends at an empty page, or after an error.
fn pages<'a, T: 'a>(mut next: impl FnMut() -> Result<Vec<T>> + 'a) -> impl Iterator<Item = Result<T>> + 'a {
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let page = next();
        over = page.as_ref().map_or(true, Vec::is_empty);
        let (items, error) = match page {
            Ok(items) => (items, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        Some(items.into_iter().map(Ok).chain(error))
    })
    .flatten()
}

pub(super) fn natural(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: SessionId::from_sql(row.get(0)?),
        player: row.get(1)?,
        build: row.get(2)?,
        started_ms: row.get(3)?,
        ended_ms: row.get(4)?,
        seed: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        events: natural(row, 6)?,
        dropped: natural(row, 7)?,
    })
}

pub(super) fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    Ok(Recorded {
        session: SessionId::from_sql(row.get(0)?),
        player: row.get(1)?,
        seq: natural(row, 2)?,
        t_ms: natural(row, 3)?,
        kind: row.get(4)?,
        payload: row.get(5)?,
    })
}
