//! The proof that a store is whole: SQLite's own check, the hash chains, and the acknowledgement log.

use super::ack;
use super::chain::Chain;
use super::erase::tombstones;
use super::reader::Store;
use super::session::SessionId;
use super::store::{refuse, sql_error};
use crate::error::{Error, Result};
use rusqlite::Connection;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What was found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Sessions whose chain was followed.
    pub sessions: u64,
    /// Events whose digest was computed again.
    pub events: u64,
    /// Acknowledged events that were looked for and found (0 without a log).
    pub acknowledged: u64,
    /// Sessions that were erased, by their tombstones.
    pub erased: u64,
}

impl Store {
    /// Checks everything: the database's structure, that each session's events are numbered 0, 1, 2, .. without
    /// a gap, that every digest follows from its event and the one before, that no session lost its end, and
    /// that every event the acknowledgement log `acks` names is there. Works while a game is writing.
    ///
    /// # Errors
    /// [`Error::Recording`] naming the first thing that is wrong; [`Error::Io`] when the log cannot be read.
    pub fn verify(&self, acks: Option<&Path>) -> Result<Verified> {
        // The log first: what it names was committed before the view of the store that follows.
        let acks = acks.map(ack::read).transpose()?.unwrap_or_default();
        let failed = |e: rusqlite::Error| sql_error(&self.path, &e);
        let view = self.connection.unchecked_transaction().map_err(failed)?;
        let verdict: String =
            view.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(self.broken(format!("SQLite finds the store damaged ({verdict})")));
        }
        let orphan: Option<i64> = view
            .query_row(
                "SELECT min(session) FROM events WHERE session NOT IN (SELECT id FROM sessions)",
                [],
                |row| row.get(0),
            )
            .map_err(failed)?;
        if let Some(orphan) = orphan {
            return Err(self.broken(format!("the events of session {orphan} have lost their session")));
        }
        let mut found = Verified { sessions: 0, events: 0, acknowledged: 0, erased: 0 };
        let erased = tombstones(&view).map_err(failed)?.map_err(|reason| self.broken(reason))?;
        found.erased = erased.len() as u64;
        let erased: BTreeSet<SessionId> = erased.into_iter().map(SessionId::from_sql).collect();
        let mut ends = BTreeMap::new();
        for session in self.sessions() {
            let session = session?;
            if erased.contains(&session.id) {
                return Err(self.broken(format!("session {} was erased, and is there again", session.id)));
            }
            let events = self.follow(&view, session.id)?;
            found.sessions += 1;
            found.events += events;
            if acks.contains_key(&session.id) {
                ends.insert(session.id, events);
            }
        }
        // What was erased is not missing.
        for (session, last) in acks.into_iter().filter(|(session, _)| !erased.contains(session)) {
            let (there, wanted) = (ends.get(&session).copied().unwrap_or(0), last.cast_unsigned() + 1);
            if there < wanted {
                return Err(self.broken(format!(
                    "{wanted} events of session {session} were acknowledged, and {there} are there"
                )));
            }
            found.acknowledged += wanted;
        }
        Ok(found)
    }

    /// Follows one session's chain and returns its length.
    fn follow(&self, view: &Connection, session: SessionId) -> Result<u64> {
        let failed = |e: rusqlite::Error| sql_error(&self.path, &e);
        let (mut chain, length, head): (Chain, i64, Vec<u8>) = view
            .prepare_cached(
                "SELECT player, build, started_ms, seed, events, head FROM sessions WHERE id = ?1",
            )
            .and_then(|mut select| {
                select.query_row([session.to_sql()], |row| {
                    let (player, build): (String, String) = (row.get(0)?, row.get(1)?);
                    let chain = Chain::new(session.to_sql(), &player, &build, row.get(2)?, row.get(3)?);
                    Ok((chain, row.get(4)?, row.get(5)?))
                })
            })
            .map_err(failed)?;
        let mut select = view
            .prepare_cached(
                "SELECT seq, t_ms, kind, payload, digest FROM events WHERE session = ?1 ORDER BY seq",
            )
            .map_err(failed)?;
        let mut rows = select.query([session.to_sql()]).map_err(failed)?;
        let mut expected = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let seq: i64 = row.get(0).map_err(failed)?;
            if seq != expected {
                return Err(
                    self.broken(format!("session {session} lacks event {expected}: event {seq} comes next"))
                );
            }
            // Text that is no longer UTF-8 is damage too, not a failure of the check.
            let text = |column| row.get_ref(column).ok().and_then(|value| value.as_str().ok());
            let digest = row.get_ref(4).ok().and_then(|value| value.as_blob().ok());
            let follows = match (row.get(1), text(2), text(3)) {
                (Ok(t_ms), Some(kind), Some(payload)) => {
                    Some(&chain.push(seq, t_ms, kind, payload)[..]) == digest
                }
                _ => false,
            };
            if !follows {
                return Err(self.broken(format!("event {seq} of session {session} is not what was recorded")));
            }
            expected += 1;
        }
        if expected != length {
            return Err(self.broken(format!("session {session} has {expected} events instead of {length}")));
        }
        if head != chain.head() {
            return Err(self.broken(format!("the row of session {session} is not what was recorded")));
        }
        Ok(expected.cast_unsigned())
    }

    fn broken(&self, reason: String) -> Error {
        refuse(&self.path, reason, "restore a backup, or leave what is named out of training")
    }
}
