//! Taking a player, or what is old, out of a store for good.
//!
//! Each session has a hash chain of its own, so those of others stay whole. What is left of an erased session is a
//! tombstone: its number and when it was erased, nothing of the player or of what they did. Tombstones form a hash chain
//! themselves, whose end stands in `meta`; so [`Store::verify`](super::Store::verify) tells an erasure from a loss.
//!
//! Rows are overwritten (`secure_delete`), the file is written anew (`VACUUM`) and the log cut, so that the bytes are gone
//! from the store's files. Backups, exports and blocks that a file system or a drive keeps are not reached.

use super::pseudonym::Secret;
use super::session::now_ms;
use super::store::{self, refuse, sql_error};
use crate::error::Result;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use std::path::Path;

/// Sessions that are gone. The trigger keeps a recorder that is still at work from writing into one.
const CREATE: &str = "
CREATE TABLE IF NOT EXISTS erased(
  session   INTEGER PRIMARY KEY,
  erased_ms INTEGER NOT NULL,
  digest    BLOB    NOT NULL               -- BLAKE3(digest before, session, erased_ms)
) STRICT;
CREATE TRIGGER IF NOT EXISTS erased_stays_erased BEFORE INSERT ON events
WHEN EXISTS(SELECT 1 FROM erased WHERE session = NEW.session)
BEGIN SELECT RAISE(IGNORE); END;
";

/// Where the chain of tombstones begins.
const START: &[u8] = b"bevy_skald erased v1";

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Sessions.
    pub sessions: u64,
    /// Events in them.
    pub events: u64,
}

/// Erases all sessions of a player: of a pseudonym as it stands in the store, or of the id that the game knows them by,
/// which needs the store's key. A recorder that is at work may go on; what it still brings of an erased session is not
/// written. Withdraw the player's consent there first, or their next session is recorded again.
///
/// # Errors
/// [`Error::Recording`](crate::Error::Recording) when there is no such store or player, when another program keeps the store
/// locked, or when a reader keeps the old bytes alive: the rows are gone then, and erasing again takes the rest.
pub fn erase_player(store: &Path, player: &str) -> Result<Erased> {
    let mut connection = open(store)?;
    let there = |pseudonym: &str| {
        connection
            .query_row("SELECT 1 FROM sessions WHERE player = ?1 LIMIT 1", [pseudonym], |_| Ok(()))
            .optional()
            .map_err(|e| sql_error(store, &e))
    };
    let mut pseudonym = Some(player.to_owned()).filter(|_| !player.is_empty());
    if there(player)?.is_none() {
        pseudonym = Secret::load(store)?.map(|secret| secret.pseudonym(player));
        if pseudonym.as_deref().map(there).transpose()?.flatten().is_none() {
            pseudonym = None;
        }
    }
    let Some(pseudonym) = pseudonym else {
        // After a reader was in the way, what is left is taken by asking again.
        rewrite(&connection, store)?;
        return Err(refuse(
            store,
            format!("the store has no player `{player}`"),
            "give a pseudonym of `skald recordings players`, or the game's id beside the store's key",
        ));
    };
    let erased = bury(&mut connection, store, "player = ?1", &pseudonym)?;
    rewrite(&connection, store)?;
    Ok(erased)
}

/// Erases the sessions that began more than `days` days ago.
///
/// # Errors
/// As [`erase_player`]; that there are none is no error.
pub fn retain(store: &Path, days: u32) -> Result<Erased> {
    let mut connection = open(store)?;
    let before = now_ms().saturating_sub(i64::from(days) * 86_400_000);
    let erased = bury(&mut connection, store, "started_ms < ?1", &before)?;
    rewrite(&connection, store)?;
    Ok(erased)
}

fn open(path: &Path) -> Result<Connection> {
    // As a reader first: what is no store is told, and nothing is made.
    drop(store::open_read(path)?);
    let failed = |e: rusqlite::Error| sql_error(path, &e);
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed)?;
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(())).map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", false).map_err(failed)?;
    Ok(connection)
}

/// Deletes the sessions that `condition` names and leaves tombstones.
fn bury(
    connection: &mut Connection,
    path: &Path,
    condition: &str,
    value: &dyn rusqlite::ToSql,
) -> Result<Erased> {
    let failed = |e: rusqlite::Error| sql_error(path, &e);
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    change.execute_batch(CREATE).map_err(failed)?;
    let sessions: Vec<i64> = change
        .prepare(&format!("SELECT id FROM sessions WHERE {condition} ORDER BY id"))
        .and_then(|mut select| select.query_map([value], |row| row.get(0))?.collect())
        .map_err(failed)?;
    let mut head = head(&change).map_err(failed)?.unwrap_or_else(|| *blake3::hash(START).as_bytes());
    let mut erased = Erased::default();
    for session in sessions {
        let at = now_ms();
        head = link(&head, session, at);
        let bury = || -> rusqlite::Result<usize> {
            let events =
                change.prepare_cached("DELETE FROM events WHERE session = ?1")?.execute([session])?;
            change.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([session])?;
            change
                .prepare_cached("INSERT INTO erased(session, erased_ms, digest) VALUES(?1, ?2, ?3)")?
                .execute(params![session, at, head])?;
            Ok(events)
        };
        erased.events += bury().map_err(failed)? as u64;
        erased.sessions += 1;
    }
    if erased.sessions > 0 {
        let text = blake3::Hash::from_bytes(head).to_hex().to_string();
        change
            .execute(
                "INSERT INTO meta(name, value) VALUES('erased_head', ?1)
                 ON CONFLICT(name) DO UPDATE SET value = excluded.value",
                [text],
            )
            .map_err(failed)?;
    }
    change.commit().map_err(failed)?;
    Ok(erased)
}

/// The end of the chain of tombstones; `None` when nothing was ever erased.
fn head(connection: &Connection) -> rusqlite::Result<Option<[u8; 32]>> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE name = 'erased_head'", [], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| blake3::Hash::from_hex(text).ok()).map(|hash| *hash.as_bytes()))
}

fn link(before: &[u8; 32], session: i64, at_ms: i64) -> [u8; 32] {
    let mut bytes = before.to_vec();
    bytes.extend(session.to_le_bytes());
    bytes.extend(at_ms.to_le_bytes());
    *blake3::hash(&bytes).as_bytes()
}

/// Writes the file anew without what was deleted, and cuts the log.
fn rewrite(connection: &Connection, path: &Path) -> Result<()> {
    let failed = |e: rusqlite::Error| sql_error(path, &e);
    connection.execute_batch("VACUUM").map_err(failed)?;
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(failed)?;
    if busy != 0 {
        return Err(refuse(
            path,
            "the rows are deleted, but another program reads the store and keeps their bytes in its log",
            "close that program and erase again",
        ));
    }
    Ok(())
}

/// The sessions that were erased, their chain checked. `Err` says what is wrong with it.
pub(super) fn tombstones(view: &Connection) -> rusqlite::Result<Result<Vec<i64>, String>> {
    let table: Option<i64> = view
        .query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'erased'", [], |row| {
            row.get(0)
        })
        .optional()?;
    let end = head(view)?;
    if table.is_none() {
        return Ok(if end.is_some() {
            Err("the list of what was erased is gone".into())
        } else {
            Ok(Vec::new())
        });
    }
    // Appended in the order of erasure, which need not be that of the numbers.
    let mut left: Vec<(i64, i64, Vec<u8>)> = view
        .prepare("SELECT session, erased_ms, digest FROM erased ORDER BY erased_ms, session")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut at = *blake3::hash(START).as_bytes();
    let mut sessions = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let follows =
            |(session, ms, digest): &(i64, i64, Vec<u8>)| link(&at, *session, *ms)[..] == digest[..];
        let Some(next) = left.iter().position(follows) else {
            return Ok(Err(format!("the tombstone of session {} is not what was written", left[0].0)));
        };
        let (session, ms, _) = left.remove(next);
        at = link(&at, session, ms);
        sessions.push(session);
    }
    if !sessions.is_empty() && end != Some(at) {
        return Ok(Err("the last tombstones are gone".into()));
    }
    Ok(if sessions.is_empty() && end.is_some() {
        Err("all tombstones are gone".into())
    } else {
        Ok(sessions)
    })
}
