//! Opening a store: every way it can go wrong is one error that names the file and the remedy.

use super::pseudonym::Secret;
use super::schema::{APPLICATION_ID, CREATE, VERSION};
use crate::error::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// How long to wait for another program that holds the store, when opening it.
const PATIENCE: Duration = Duration::from_secs(2);

/// An [`Error::Recording`] about `path`.
pub(super) fn refuse(path: &Path, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Recording { file: path.to_owned(), reason: reason.into(), remedy: remedy.into() }
}

/// Turns what SQLite says into what to do.
pub(super) fn sql_error(path: &Path, error: &rusqlite::Error) -> Error {
    let (reason, remedy) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("the store is locked by another program", "close that program and try again")
        }
        Some(ErrorCode::NotADatabase) => {
            ("the file is not an SQLite database", "check the path, or name a new file")
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            return refuse(
                path,
                format!("the store is truncated or damaged ({error})"),
                "restore a backup, or rescue what is left with `sqlite3 FILE .recover`",
            );
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => ("the store cannot be written", "make the file and its folder writable"),
        Some(ErrorCode::CannotOpen) => (
            "the store cannot be opened",
            "check the permissions of the file and of its folder (SQLite keeps -wal and -shm files there)",
        ),
        Some(ErrorCode::DiskFull) => {
            ("the disk is full, or the store has reached its limit", "free some space and start again")
        }
        _ => {
            return refuse(path, format!("SQLite failed: {error}"), "check the disk and try again");
        }
    };
    refuse(path, reason, remedy)
}

/// Opens or creates a store for writing, and its secret.
pub(super) fn open_write(path: &Path, given: Option<Secret>) -> Result<(Connection, Secret)> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(refuse(path, "the store's folder does not exist", "create the folder first"));
    }
    if path.is_dir() {
        return Err(refuse(path, "the store is a folder", "name a file"));
    }
    look_at_the_file(path)?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| sql_error(path, &e))?;
    let failed = |e: rusqlite::Error| sql_error(path, &e);
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(refuse(path, "the store cannot be written", "make the file and its folder writable"));
    }
    let fresh = identify(&connection, path)? == Identity::Empty;
    if fresh {
        // Where shared memory is missing SQLite stays with its rollback journal, which is as durable.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(failed)?;
    }
    // A commit returns when it is on the disk: that is what an acknowledgement means.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 4_096, |_| Ok(())).map_err(failed)?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(())).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -16_384).map_err(failed)?;
    // The writer puts a session before its events; `verify` looks for orphans.
    connection.pragma_update(None, "foreign_keys", false).map_err(failed)?;

    // The lock is taken here, so that a locked store is noticed now and not at the first event,
    // and so that of two programs creating it one waits.
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let secret = if identify(&change, path)? == Identity::Empty {
        let secret = given.map_or_else(|| Secret::load_or_create(path), Ok)?;
        change.execute_batch(CREATE).map_err(failed)?;
        change
            .execute("INSERT INTO meta(name, value) VALUES('key_check', ?1)", [secret.check()])
            .map_err(failed)?;
        change.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        change.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        secret
    } else {
        own_secret(&change, path, given)?
    };
    change.commit().map_err(failed)?;
    Ok((connection, secret))
}

/// The secret a store was made with. Another one would give known players new pseudonyms.
fn own_secret(connection: &Connection, path: &Path, given: Option<Secret>) -> Result<Secret> {
    let check: String = connection
        .query_row("SELECT value FROM meta WHERE name = 'key_check'", [], |row| row.get(0))
        .map_err(|e| sql_error(path, &e))?;
    let secret = match given {
        Some(secret) => secret,
        None => Secret::load(path)?.ok_or_else(|| {
            let key = Secret::path(path);
            refuse(
                path,
                format!("the store's key {} is missing", key.display()),
                "restore the key, or record into a new store",
            )
        })?,
    };
    if secret.check() != check {
        return Err(refuse(
            path,
            "the key is not the one this store was made with",
            "restore the store's own key, or record into a new store",
        ));
    }
    Ok(secret)
}

/// Opens a store for reading. Works while a game is writing.
pub(super) fn open_read(path: &Path) -> Result<Connection> {
    if !path.is_file() {
        return Err(refuse(path, "there is no such store", "check the path"));
    }
    look_at_the_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| sql_error(path, &e))?;
    connection.busy_timeout(PATIENCE).map_err(|e| sql_error(path, &e))?;
    match identify(&connection, path)? {
        Identity::Store => Ok(connection),
        Identity::Empty => {
            Err(refuse(path, "the store is empty", "record something first, or check the path"))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// A database without tables: SQLite has just made it, or a program was killed while creating it.
    Empty,
    /// A store of a version we know.
    Store,
}

fn identify(connection: &Connection, path: &Path) -> Result<Identity> {
    let failed = |e: rusqlite::Error| sql_error(path, &e);
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION_ID {
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        if application == 0 && version == 0 && tables == 0 {
            return Ok(Identity::Empty);
        }
        return Err(refuse(
            path,
            "the file is an SQLite database of another program",
            "check the path, or name a new file",
        ));
    }
    if version > VERSION {
        return Err(refuse(
            path,
            format!("the store has schema {version}, and this program knows schemas up to {VERSION}"),
            "update this program",
        ));
    }
    if version < 1 {
        return Err(refuse(
            path,
            format!("the store has schema {version}, which never was"),
            "restore a backup",
        ));
    }
    // Touching each table's root page finds a file that lost its end.
    connection
        .query_row(
            "SELECT (SELECT max(id) FROM sessions), (SELECT max(session) FROM events), (SELECT count(*) FROM meta)",
            [],
            |_| Ok(()),
        )
        .map_err(failed)?;
    Ok(Identity::Store)
}

/// What can be told from the header alone: SQLite itself would only notice when it comes to the missing page.
fn look_at_the_file(path: &Path) -> Result<()> {
    let doing = "open the store";
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(doing, path, error)),
    };
    if length == 0 {
        return Ok(());
    }
    let mut header = Vec::with_capacity(100);
    let file = File::open(path).map_err(|e| Error::io(doing, path, e))?;
    file.take(100).read_to_end(&mut header).map_err(|e| Error::io(doing, path, e))?;
    let magic = b"SQLite format 3\0";
    if !header.starts_with(&magic[..header.len().min(magic.len())]) {
        return Err(refuse(path, "the file is not an SQLite database", "check the path, or name a new file"));
    }
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    if std::fs::metadata(wal).is_ok_and(|wal| wal.len() > 0) {
        // The missing pages may be in there: a checkpoint was cut short, and SQLite will finish it.
        return Ok(());
    }
    let expected = match header.get(..32) {
        Some(h) => {
            let page = match u16::from_be_bytes([h[16], h[17]]) {
                1 => 65_536,
                size => u64::from(size),
            };
            page * u64::from(u32::from_be_bytes([h[28], h[29], h[30], h[31]]))
        }
        None => 100,
    };
    if length < expected.max(100) {
        return Err(refuse(
            path,
            format!("the store is truncated: {length} of {expected} bytes are there"),
            "restore a backup, or rescue what is left with `sqlite3 FILE .recover`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn refusal(path: &Path) -> String {
        let error = open_write(path, None).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Recording { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        text
    }

    #[test]
    fn a_store_opens_again_and_reads_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        let (_, first) = open_write(&path, None).unwrap();
        let (_, second) = open_write(&path, None).unwrap();
        assert!(first == second);
        open_read(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        fs::write(&path, "name,score\nada,7\n").unwrap();
        assert!(refusal(&path).contains("not an SQLite database"));
        assert_eq!(fs::read(&path).unwrap(), b"name,score\nada,7\n");
        fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE other(x)").unwrap();
        assert!(refusal(&path).contains("another program"));
        assert!(refusal(dir.path()).contains("folder"));
        assert!(refusal(&dir.path().join("no/play.sqlite")).contains("create the folder"));
        let missing = open_read(&dir.path().join("none")).map(|_| ()).unwrap_err().to_string();
        assert!(missing.contains("no such store"), "{missing}");
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        assert!(open_read(&empty).map(|_| ()).unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        let (connection, _) = open_write(&path, None).unwrap();
        connection.pragma_update(None, "user_version", 2).unwrap();
        drop(connection);
        assert!(refusal(&path).contains("schema 2"));
        assert!(open_read(&path).map(|_| ()).unwrap_err().to_string().contains("update this program"));
    }

    #[test]
    fn a_truncated_store_is_refused_at_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        drop(open_write(&path, None).unwrap());
        let whole = fs::read(&path).unwrap();
        for length in [5, 50, 99, 4096, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(refusal(&path).contains("truncated"), "{length} bytes");
            assert!(open_read(&path).is_err());
        }
    }

    #[test]
    fn a_locked_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        let (other, _) = open_write(&path, None).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(refusal(&path).contains("locked"));
        open_read(&path).unwrap();
    }

    #[test]
    fn a_store_without_its_own_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        drop(open_write(&path, None).unwrap());
        assert!(open_write(&path, Some(Secret::from_bytes([1; 32]))).is_err());
        fs::remove_file(Secret::path(&path)).unwrap();
        assert!(refusal(&path).contains("play.sqlite.key"));
        assert!(!Secret::path(&path).exists());
    }

    #[test]
    fn a_store_that_may_not_be_written_is_refused() {
        let read_only = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(8), None);
        let text = sql_error(Path::new("a.sqlite"), &read_only).to_string();
        assert!(text.contains("a.sqlite") && text.contains("writable"), "{text}");
    }
}
