//! What is in a store: the tables, and how to tell that a file is one.

/// `SKLD`, in the SQLite header, so that `file` and we can tell a store from any other database.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"SKLD");

/// The schema this crate writes. A store with a higher number is from a newer crate.
pub(super) const VERSION: i32 = 1;

/// Version 1. Events lie in the order of their sessions, so reading one session reads one stretch of the file.
pub(super) const CREATE: &str = "
CREATE TABLE meta(
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE sessions(
  id         INTEGER PRIMARY KEY,
  player     TEXT    NOT NULL,           -- a keyed pseudonym, never the player's id
  build      TEXT    NOT NULL,
  started_ms INTEGER NOT NULL,           -- since 1970, UTC
  ended_ms   INTEGER,
  seed       INTEGER,
  events     INTEGER NOT NULL,           -- how many there are
  head       BLOB    NOT NULL,           -- the digest of the last one
  dropped    INTEGER NOT NULL DEFAULT 0  -- lost to a full queue
) STRICT;
CREATE TABLE events(
  session INTEGER NOT NULL REFERENCES sessions(id),
  seq     INTEGER NOT NULL,              -- 0, 1, 2, ..
  t_ms    INTEGER NOT NULL,              -- the game's time
  kind    TEXT    NOT NULL,
  payload TEXT    NOT NULL,              -- JSON
  digest  BLOB    NOT NULL,              -- BLAKE3(digest before, seq, t_ms, kind, payload)
  PRIMARY KEY(session, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_player ON sessions(player);
";

pub(super) const INSERT_SESSION: &str =
    "INSERT INTO sessions(id, player, build, started_ms, seed, events, head)
 VALUES(?1, ?2, ?3, ?4, ?5, 0, ?6)";
pub(super) const UPDATE_SESSION: &str =
    "UPDATE sessions SET events = ?2, head = ?3, dropped = ?4 WHERE id = ?1";
pub(super) const END_SESSION: &str = "UPDATE sessions SET ended_ms = ?2, dropped = ?3 WHERE id = ?1";
pub(super) const INSERT_EVENT: &str =
    "INSERT INTO events(session, seq, t_ms, kind, payload, digest) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
