//! The loss curve of a run: one JSON object a line.

use super::fit::Progress;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Appends to `curve.jsonl`.
pub(super) struct Curve {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Curve {
    /// Opens the curve of a run that stands at `step`: what comes after it (of a run that was killed) is cut.
    pub(super) fn open(path: &Path, step: u64) -> Result<Self> {
        let old = if step == 0 { String::new() } else { std::fs::read_to_string(path).unwrap_or_default() };
        let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
        let kept: String = old
            .lines()
            .filter(|line| of(line).is_some_and(|s| s <= step))
            .map(|line| format!("{line}\n"))
            .collect();
        write_atomic(path, kept.as_bytes())?;
        let file =
            File::options().append(true).open(path).map_err(|e| Error::io("open the curve", path, e))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    pub(super) fn add(&mut self, progress: &Progress) -> Result<()> {
        let line = serde_json::to_string(progress).map_err(|e| Error::backend("writing the curve", e))?;
        writeln!(self.file, "{line}").map_err(|e| Error::io("write the curve", &self.path, e))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io("write the curve", &self.path, e))
    }
}
