//! The loss curve of a run: one JSON object a line, with what is the same whenever and wherever the run is
//! repeated on this machine. Speeds are not in it, so two curves of one run are equal byte for byte.

use super::progress::Progress;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file's name within a run's directory.
pub const CURVE: &str = "curve.jsonl";

#[derive(Serialize)]
struct Line {
    step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    train_loss: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
    lr: f64,
}

/// Appends to `curve.jsonl`.
pub(super) struct Curve {
    path: PathBuf,
    file: File,
}

impl Curve {
    /// Opens the curve of the run in `dir` whose last line is that of step `last` (none: no line yet).
    /// What comes after it, of a run that was killed, is cut.
    pub(super) fn open(dir: &Path, last: Option<u64>) -> Result<Self> {
        let path = dir.join(CURVE);
        let old = match last {
            Some(_) => std::fs::read(&path).unwrap_or_default(),
            None => Vec::new(),
        };
        let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
        let kept: String = String::from_utf8_lossy(&old)
            .lines()
            .filter(|line| of(line).is_some_and(|step| Some(step) <= last))
            .map(|line| format!("{line}\n"))
            .collect();
        write_atomic(&path, kept.as_bytes())?;
        let file =
            File::options().append(true).open(&path).map_err(|e| Error::io("open the curve", &path, e))?;
        Ok(Self { path, file })
    }

    /// Adds a line. When the disk refuses, none of it stays.
    pub(super) fn add(&mut self, progress: &Progress) -> Result<()> {
        let Progress { step, train_loss, val_loss, pair_accuracy, epsilon, lr, .. } = *progress;
        let mut line = serde_json::to_vec(&Line { step, train_loss, val_loss, pair_accuracy, epsilon, lr })
            .map_err(|e| Error::backend("writing the curve", e))?;
        line.push(b'\n');
        let failed = |e| Error::io("write the curve", &self.path, e);
        let before = self.file.metadata().map_err(failed)?.len();
        self.file.write_all(&line).map_err(|e| {
            let _ = self.file.set_len(before);
            failed(e)
        })
    }

    /// Puts the lines on the disk: a resume point must not be ahead of them.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("write the curve", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Stage;

    fn progress(step: u64, val_loss: Option<f64>) -> Progress {
        let stage = Stage::Stepped;
        Progress {
            step,
            steps: 9,
            train_loss: Some(0.5),
            val_loss,
            pair_accuracy: None,
            epsilon: None,
            lr: 0.25,
            tokens_per_s: 7.0,
            stage,
        }
    }

    #[test]
    fn a_curve_is_cut_to_the_resume_point_and_half_lines_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut curve = Curve::open(dir.path(), None).unwrap();
        (0..4).for_each(|step| curve.add(&progress(step, (step == 0).then_some(1.5))).unwrap());
        curve.file.write_all(b"{\"step\":4,\"tr").unwrap();
        drop(curve);
        let mut curve = Curve::open(dir.path(), Some(1)).unwrap();
        curve.add(&progress(2, None)).unwrap();
        assert_eq!(
            std::fs::read_to_string(dir.path().join(CURVE)).unwrap(),
            "{\"step\":0,\"train_loss\":0.5,\"val_loss\":1.5,\"lr\":0.25}\n\
             {\"step\":1,\"train_loss\":0.5,\"lr\":0.25}\n{\"step\":2,\"train_loss\":0.5,\"lr\":0.25}\n"
        );
        Curve::open(dir.path(), None).unwrap();
        assert_eq!(std::fs::read(dir.path().join(CURVE)).unwrap(), b"");
    }
}
