//! The acknowledgement log: what was committed, told to a second file, so that a third party can check it.
//!
//! One line per commit and session, `session seq`: all events of the session up to and including this number
//! are on the disk. It is appended after the commit, so it may know less than the store, never more.

use super::session::SessionId;
use super::store::refuse;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Appends to the log.
#[derive(Debug)]
pub(super) struct AckLog {
    path: PathBuf,
    file: File,
    lines: String,
}

impl AckLog {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e| Error::io("open the acknowledgement log", path, e);
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path).map_err(failed)?;
        // A program killed in the middle of a line must not spoil the next one.
        let mut last = [b'\n'];
        if file.metadata().map_err(failed)?.len() > 0 {
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(failed)?;
        }
        let lines = if last == [b'\n'] { String::new() } else { "\n".into() };
        Ok(Self { path: path.to_owned(), file, lines })
    }

    /// Notes that the session is committed up to `seq`.
    pub(super) fn note(&mut self, session: SessionId, seq: i64) {
        self.lines.push_str(&format!("{session} {seq}\n"));
    }

    /// Writes what was noted, in one piece.
    pub(super) fn write(&mut self) -> Result<()> {
        let written = self.file.write_all(self.lines.as_bytes());
        self.lines.clear();
        written.map_err(|e| Error::io("write the acknowledgement log", &self.path, e))
    }
}

/// The last acknowledged event of each session. A line that is not whole (the program was killed while
/// writing it) acknowledges nothing.
pub(super) fn read(path: &Path) -> Result<BTreeMap<SessionId, i64>> {
    let failed = |e| Error::io("read the acknowledgement log", path, e);
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut last = BTreeMap::new();
    for number in 1_u64.. {
        let mut line = Vec::new();
        // A line has at most 41 bytes; more is not our log, and must not fill the memory.
        reader.by_ref().take(64).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            break;
        }
        let text = std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix('\n'));
        let entry = text.and_then(|line| line.split_once(' ')).and_then(|(session, seq)| {
            Some((session.parse().ok()?, seq.parse::<i64>().ok().filter(|seq| *seq >= 0)?))
        });
        match entry {
            Some((session, seq)) => {
                let known = last.entry(SessionId::new(session)).or_insert(seq);
                *known = seq.max(*known);
            }
            // Cut short by a kill, at the end or before the next program's line break.
            None if torn(&line) => {}
            None => {
                return Err(refuse(
                    path,
                    format!("line {number} of the acknowledgement log is not `session seq`"),
                    "name the log the recorder wrote",
                ));
            }
        }
    }
    Ok(last)
}

/// Whether this is the beginning of a line.
fn torn(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let digits = line.strip_suffix(b" ").unwrap_or(line);
    digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_log_keeps_the_last_number_and_forgives_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        let mut log = AckLog::open(&path).unwrap();
        log.note(SessionId::new(5), 9);
        log.note(SessionId::new(6), 1);
        log.write().unwrap();
        fs::write(&path, format!("{}51", fs::read_to_string(&path).unwrap())).unwrap();
        assert_eq!(read(&path).unwrap().into_values().collect::<Vec<_>>(), [9, 1]);
        let mut log = AckLog::open(&path).unwrap();
        log.note(SessionId::new(5), 20);
        log.write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "5 9\n6 1\n51\n5 20\n");
        assert_eq!(read(&path).unwrap().into_values().collect::<Vec<_>>(), [20, 1]);
    }

    #[test]
    fn another_file_is_not_taken_for_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        for text in ["one\n", "5 9\n5 x\n", &"7".repeat(5000)] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("acks"));
        }
    }
}
