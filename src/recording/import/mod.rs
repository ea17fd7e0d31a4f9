//! Tables of events from anywhere (CSV, TSV, columns of blanks, lines of JSON) into a store.
//!
//! A [`Mapping`] says which column is what. Player ids become the store's pseudonyms, and only those of whom it is said
//! that they consented are written. Rows that cannot be used are counted by reason. All of it is one transaction: the
//! store has the whole import or nothing of it.

mod mapping;
mod rows;

pub use mapping::{Basis, Column, Format, Kind, Mapping, Time, TimeUnit};

use super::chain::Chain;
use super::schema::INSERT_EVENT;
use super::session::SessionIds;
use super::store::{self, sql_error};
use crate::error::{Error, Result};
use rows::{Cells, Header, Line, milliseconds};
use rusqlite::{Connection, TransactionBehavior, params};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Imported {
    /// Events written.
    pub events: u64,
    /// Sessions written.
    pub sessions: u64,
    /// Different players.
    pub players: u64,
    /// Rows that were not used, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The first of them, as `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_dropped: Option<String>,
}

struct Row {
    at_ms: i64,
    kind: u32,
    payload: String,
}

/// Names, each once, by number.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    index: HashMap<String, u32>,
}

impl Names {
    fn id(&mut self, name: String) -> u32 {
        if let Some(id) = self.index.get(&name) {
            return *id;
        }
        let id = self.list.len() as u32;
        self.list.push(name.clone());
        self.index.insert(name, id);
        id
    }
}

/// Writes the rows of `files` into the store at `path`, which is made if it is not there.
///
/// # Errors
/// [`Error::Data`] if no row could be used, naming the commonest reason and the first such line; [`Error::Io`] and
/// [`Error::Recording`] for files that cannot be read or written. After an error the store is as it was.
pub fn import(mapping: &Mapping, files: &[PathBuf], path: &Path) -> Result<Imported> {
    mapping.validate("mapping")?;
    let mut told = Imported::default();
    let (mut players, mut kinds) = (Names::default(), Names::default());
    let mut events: Vec<Vec<Row>> = Vec::new();
    for file in files {
        rows::read(file, mapping, |line, row, header| {
            let row = match row {
                Line::Row(cells) => event(&cells, header, mapping),
                Line::Bad(reason) => Err(reason.to_owned()),
            };
            match row {
                Ok((player, kind, at_ms, payload)) => {
                    let player = players.id(player) as usize;
                    if player == events.len() {
                        events.push(Vec::new());
                    }
                    // Without a time, the place in the table is one.
                    let at_ms = at_ms.unwrap_or(told.events.cast_signed());
                    events[player].push(Row { at_ms, kind: kinds.id(kind), payload });
                    told.events += 1;
                }
                Err(reason) => {
                    told.first_dropped.get_or_insert_with(|| format!("{}:{line}", file.display()));
                    *told.dropped.entry(reason).or_default() += 1;
                }
            }
            Ok(())
        })?;
    }
    if told.events == 0 {
        let commonest = told.dropped.iter().max_by_key(|(_, count)| **count);
        let reason = match commonest {
            Some((reason, count)) => format!("none of the rows can be used ({count} times: {reason})"),
            None => "there are no rows".to_owned(),
        };
        let whole = || files.first().map_or_else(String::new, |file| file.display().to_string());
        return Err(Error::Data {
            source_name: told.first_dropped.unwrap_or_else(whole),
            reason,
            remedy: "check that the mapping is the one for this file".into(),
        });
    }
    told.players = players.list.len() as u64;
    let (mut connection, secret) = store::open_write(path, None)?;
    let failed = |e: rusqlite::Error| sql_error(path, &e);
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let ids = SessionIds::new();
    let gap =
        mapping.session_gap_s.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000));
    for (player, rows) in players.list.iter().zip(&mut events) {
        // Time may go backwards in a table; among equals its order stands.
        rows.sort_by_key(|row| row.at_ms);
        let player = secret.pseudonym(player);
        let apart = |a: &Row, b: &Row| gap.is_none_or(|gap| b.at_ms - a.at_ms <= gap);
        for session in rows.chunk_by(apart) {
            write_session(&change, ids.next().to_sql(), &player, &mapping.build, session, &kinds.list)
                .map_err(failed)?;
            told.sessions += 1;
        }
    }
    if let Basis::Stated(words) = &mapping.consent {
        let sql = "INSERT INTO meta(name, value) VALUES('imported_consent', ?1)
                   ON CONFLICT(name) DO UPDATE SET value = value || '; ' || ?1 WHERE instr(value, ?1) = 0";
        change.execute(sql, [words]).map_err(failed)?;
    }
    change.commit().map_err(failed)?;
    // A reader may be in the way. Then the log stays, and the next to open the store folds it.
    let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    Ok(told)
}

fn write_session(
    to: &Connection,
    id: i64,
    player: &str,
    build: &str,
    rows: &[Row],
    kinds: &[String],
) -> rusqlite::Result<()> {
    let (first, last) = (rows.first().map_or(0, |row| row.at_ms), rows.last().map_or(0, |row| row.at_ms));
    let mut chain = Chain::new(id, player, build, first, None);
    let mut insert = to.prepare_cached(INSERT_EVENT)?;
    for (seq, row) in (0i64..).zip(rows) {
        let (t_ms, kind) = (row.at_ms - first, &kinds[row.kind as usize]);
        let digest = chain.push(seq, t_ms, kind, &row.payload);
        insert.execute(params![id, seq, t_ms, kind, row.payload, digest])?;
    }
    let session = "INSERT INTO sessions(id, player, build, started_ms, ended_ms, seed, events, head)
                   VALUES(?1, ?2, ?3, ?4, ?5, NULL, ?6, ?7)";
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    to.prepare_cached(session)?.execute(params![id, player, build, first, last, count, chain.head()])?;
    Ok(())
}

/// The fold of a player: the BLAKE3 hash of their id, a big-endian number, modulo `folds`.
fn fold(player: &str, folds: u8) -> u8 {
    let hash = blake3::hash(player.as_bytes());
    let rest = hash
        .as_bytes()
        .iter()
        .fold(0u32, |rest, byte| (rest * 256 + u32::from(*byte)) % u32::from(folds.max(1)));
    rest as u8
}

/// Player, kind, time and payload of a row, or why it cannot be used.
fn event(
    cells: &Cells,
    header: &Header,
    mapping: &Mapping,
) -> Result<(String, String, Option<i64>, String), String> {
    let get = |column: &Column| cells.get(column, header);
    if let Basis::Column(column) = &mapping.consent {
        let said = get(column).unwrap_or_default().to_lowercase();
        if !["1", "true", "yes", "granted"].contains(&said.as_str()) {
            return Err("no consent".into());
        }
    }
    let missing = |what: &str, column: &Column| format!("no {what} in column {column}");
    let player = get(&mapping.player).ok_or_else(|| missing("player", &mapping.player))?;
    let kind = match &mapping.kind {
        Kind::Always(kind) => kind.clone(),
        Kind::In(column) => get(column).ok_or_else(|| missing("kind", column))?,
    };
    let at_ms = match &mapping.time {
        None => None,
        Some(time) => {
            let text = get(&time.column).ok_or_else(|| missing("time", &time.column))?;
            Some(milliseconds(&text, time).ok_or_else(|| format!("no time in column {}", time.column))?)
        }
    };
    let mut payload = serde_json::Map::new();
    if let Some(column) = &mapping.subject {
        let subject = get(column).ok_or_else(|| missing("subject", column))?;
        payload.insert("subject".into(), subject.into());
    }
    if let Some(folds) = mapping.folds {
        payload.insert("fold".into(), fold(&player, folds).into());
    }
    for (name, column) in &mapping.values {
        if let Some(text) = get(column) {
            let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            payload.insert(name.clone(), number.map_or_else(|| text.into(), Into::into));
        }
    }
    Ok((player, kind, at_ms, serde_json::Value::Object(payload).to_string()))
}

#[cfg(test)]
mod tests;
