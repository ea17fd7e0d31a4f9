//! [`SessionId`] and [`Session`], and the recorder's own view of a session.

use super::chain::Chain;
use super::consent::Permission;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names a session. Below 2^53, so JSON keeps it; later sessions have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(u64);

impl SessionId {
    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as it stands in the store.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(super) const fn to_sql(self) -> i64 {
        self.0.cast_signed()
    }

    pub(super) const fn from_sql(number: i64) -> Self {
        Self(number.cast_unsigned())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The player's pseudonym.
    pub player: String,
    /// The game's build.
    pub build: String,
    /// When it began, in milliseconds since 1970 (UTC).
    pub started_ms: i64,
    /// When it ended. `None`: it goes on, the game crashed, or the player withdrew their consent.
    pub ended_ms: Option<i64>,
    /// The seed it was played with, where the game said so.
    pub seed: Option<u64>,
    /// How many events it has.
    pub events: u64,
    /// How many were lost because the recorder's queue was full.
    pub dropped: u64,
}

/// Milliseconds since 1970 (UTC). A clock before 1970 counts as 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Gives out session ids: 41 bits of milliseconds since 2020, then 12 bits that start at random, so that two
/// programs writing into one store do not meet.
#[derive(Debug)]
pub(super) struct SessionIds(AtomicU64);

impl SessionIds {
    const EPOCH_MS: i64 = 1_577_836_800_000;

    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn next(&self) -> SessionId {
        let ms = now_ms().saturating_sub(Self::EPOCH_MS).clamp(0, (1 << 41) - 2).cast_unsigned();
        let mut low = [0; 2];
        // Without a source of randomness the ids of this program still differ among themselves.
        let _ = getrandom::fill(&mut low);
        let fresh = (ms << 12) | u64::from(u16::from_le_bytes(low) & 0xfff);
        let after = |last: u64| Some(fresh.max(last + 1));
        let last = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, after).unwrap_or_default();
        SessionId(fresh.max(last + 1))
    }
}

/// A session that is being recorded. The game's threads, the queued events and the writer share it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: SessionId,
    pub(super) player: String,
    pub(super) started_ms: i64,
    pub(super) seed: Option<u64>,
    pub(super) permission: Arc<Permission>,
    /// Events lost to a full queue.
    pub(super) dropped: AtomicU64,
    /// Only the writer's thread locks this.
    pub(super) written: Mutex<Written>,
}

/// What of a session is in the store.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// `None` until the session's row is there.
    pub(super) chain: Option<Chain>,
    /// The next event's number.
    pub(super) next_seq: i64,
    /// The last batch that touched it.
    pub(super) batch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_fit_into_json() {
        let ids = SessionIds::new();
        let drawn: Vec<u64> = (0..10_000).map(|_| ids.next().get()).collect();
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(drawn.iter().all(|id| *id < 1 << 53));
    }
}
