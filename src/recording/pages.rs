//! A store a page at a time, for whoever shows it: each question reads one stretch of the file.

use super::reader::{Recorded, Store, natural, recorded, session};
use super::session::{Session, SessionId};
use crate::error::Result;
use rusqlite::params;
use serde::Serialize;

/// What a store holds of a player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlayerRow {
    /// The player's pseudonym.
    pub player: String,
    /// Their sessions.
    pub sessions: u64,
    /// Their events.
    pub events: u64,
    /// When their first session began, in milliseconds since 1970 (UTC).
    pub first_ms: i64,
    /// When their last session began.
    pub last_ms: i64,
}

impl Store {
    /// How many sessions there are whose player or build begins with `filter` (empty: all).
    pub fn count_sessions(&self, filter: &str) -> Result<u64> {
        let rows = self.rows(
            "SELECT count(*) FROM sessions WHERE substr(player, 1, length(?1)) = ?1 OR substr(build, 1, length(?1)) = ?1",
            params![filter],
            |row| natural(row, 0),
        )?;
        Ok(rows.first().copied().unwrap_or(0))
    }

    /// At most `limit` sessions after `skip`, the latest first, of those that [`Self::count_sessions`] counts.
    pub fn sessions_page(&self, filter: &str, skip: u64, limit: u32) -> Result<Vec<Session>> {
        self.rows(
            "SELECT id, player, build, started_ms, ended_ms, seed, events, dropped FROM sessions
             WHERE substr(player, 1, length(?1)) = ?1 OR substr(build, 1, length(?1)) = ?1
             ORDER BY id DESC LIMIT ?2 OFFSET ?3",
            params![filter, limit, skip.cast_signed()],
            session,
        )
    }

    /// At most `limit` events of a session with numbers from `from` on; of one kind, if one is named.
    pub fn events_page(
        &self,
        of: SessionId,
        kind: Option<&str>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>> {
        self.rows(
            "SELECT e.session, s.player, e.seq, e.t_ms, e.kind, e.payload
             FROM events e CROSS JOIN sessions s ON s.id = e.session
             WHERE e.session = ?1 AND e.seq >= ?2 AND (?3 IS NULL OR e.kind = ?3) ORDER BY e.seq LIMIT ?4",
            params![of.to_sql(), from.cast_signed(), kind, limit],
            recorded,
        )
    }

    /// How many players there are.
    pub fn count_players(&self) -> Result<u64> {
        let rows = self.rows("SELECT count(DISTINCT player) FROM sessions", [], |row| natural(row, 0))?;
        Ok(rows.first().copied().unwrap_or(0))
    }

    /// At most `limit` players after `skip`, by pseudonym.
    pub fn players_page(&self, skip: u64, limit: u32) -> Result<Vec<PlayerRow>> {
        self.rows(
            "SELECT player, count(*), sum(events), min(started_ms), max(started_ms) FROM sessions
             GROUP BY player ORDER BY player LIMIT ?1 OFFSET ?2",
            params![limit, skip.cast_signed()],
            |row| {
                Ok(PlayerRow {
                    player: row.get(0)?,
                    sessions: natural(row, 1)?,
                    events: natural(row, 2)?,
                    first_ms: row.get(3)?,
                    last_ms: row.get(4)?,
                })
            },
        )
    }
}
