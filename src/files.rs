//! Reading and writing files the crate's way: bounded reads, and writes that are there whole or not at all.

use crate::error::{Error, Result};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` beside `path` and renames it into place, so a reader sees the old file or the new one,
/// never a half. What was written is synced to the disk first; on failure nothing stays behind.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`], for what is not in memory as a whole: `fill` writes it.
pub fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut io::BufWriter<fs::File>) -> io::Result<()>,
) -> Result<()> {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let beside = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let write = || {
        let mut file = io::BufWriter::new(fs::File::create(&beside)?);
        fill(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&beside);
        Error::io("write the file", path, source)
    })
}

/// Reads a whole file of at most `limit` bytes. `doing` is an infinitive for the message ("read the config").
pub fn read_limited(path: &Path, limit: u64, doing: &'static str) -> Result<Vec<u8>> {
    let length = fs::metadata(path).map_err(|e| Error::io(doing, path, e))?.len();
    if length > limit {
        return Err(Error::config(
            path.display().to_string(),
            "size",
            format!("the file has {length} bytes, more than the {limit} that can be read"),
            "check that this is the right file",
        ));
    }
    fs::read(path).map_err(|e| Error::io(doing, path, e))
}

/// Reads a text file of at most `limit` bytes; bytes that are not UTF-8 are an error naming the line.
pub fn read_text(path: &Path, limit: u64, doing: &'static str) -> Result<String> {
    let bytes = read_limited(path, limit, doing)?;
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
        Error::Syntax {
            file: path.display().to_string(),
            line,
            column: 0,
            reason: "the text is not UTF-8".into(),
            remedy: "save the file as UTF-8".into(),
        }
    })
}

/// Parses RON that people write: optional values need no `Some(..)`. Errors name file, line and column.
pub fn parse_ron<T: serde::de::DeserializeOwned>(text: &str, file: &str) -> Result<T> {
    ron::Options::default()
        .with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME)
        .from_str(text)
        .map_err(|e| Error::ron(file, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_atomic(&dir.path().join("no/such/a.txt"), b"x").unwrap_err();
        assert!(error.to_string().contains("a.txt"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn text_that_is_not_utf8_names_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        fs::write(&path, b"good\nbad \xff\n").unwrap();
        let error = read_text(&path, 1000, "read it").unwrap_err().to_string();
        assert!(error.contains("a.txt:2"), "{error}");
        assert!(read_limited(&path, 3, "read it").is_err());
    }
}
