//! A run's directory: who may write there, and what a killed run left behind.
//!
//! While a run is alive its directory holds [`MARK`], locked. A run that was killed leaves the file but not
//! the lock, so `--resume` knows that a run began here even if it never came to its first resume point.

use super::curve::CURVE;
use super::state;
use crate::error::{Error, Result};
use crate::model::{CARD, FILES};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// The file that marks a directory in which a run began and has not ended.
pub const MARK: &str = ".training.lock";

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At step 0.
    Fresh,
    /// Where it stood.
    Resume,
}

/// Says how a run in `out` begins. Fails when a new run would write over an old run or a model, and when
/// there is nothing to go on with.
fn start(out: &Path, resume: bool) -> Result<Start> {
    let refuse = |option: &str, reason: &str, remedy: &str| {
        Err(Error::config(out.display().to_string(), option, reason, remedy))
    };
    match (resume, state::exists(out)) {
        (true, true) => Ok(Start::Resume),
        // Killed before its first resume point.
        (true, false) if out.join(MARK).exists() => Ok(Start::Fresh),
        (true, false) => refuse(
            "--resume",
            &format!("the directory holds no run to go on with ({} is missing)", state::STATE),
            "check the path, or start a new run without `--resume`",
        ),
        (false, true) => refuse(
            "--out",
            "the directory already holds a run",
            "go on with it (`--resume`), or choose another directory",
        ),
        (false, false) if out.join(CARD).exists() || out.join(FILES[1]).exists() => refuse(
            "--out",
            "the directory already holds a model, which training would replace",
            "choose another directory",
        ),
        (false, false) => Ok(Start::Fresh),
    }
}

/// The right to write in a run's directory. Dropped, it takes its mark away, and the directory too if
/// it made it and nothing came of it.
pub struct Claim {
    out: PathBuf,
    start: Start,
    made: bool,
    _lock: File,
}

impl Claim {
    /// Claims `out` for a new run (the directory is made if it is missing), or with `resume` for going on
    /// with the run in it. Leftovers of a killed run are swept.
    ///
    /// Fails when a new run would write over an old run or a model, when there is nothing to go on with,
    /// and when another training is at work there. Take it before the data is read: that may be long.
    pub fn take(out: &Path, resume: bool) -> Result<Self> {
        let start = start(out, resume)?;
        let made = !out.exists();
        fs::create_dir_all(out).map_err(|e| Error::io("make the run's directory", out, e))?;
        let mark = out.join(MARK);
        let lock = File::options().create(true).append(true).open(&mark).map_err(|e| {
            if made {
                let _ = fs::remove_dir(out);
            }
            Error::io("write in the run's directory", &mark, e)
        })?;
        // A file system without locks is no reason not to train.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::config(
                out.display().to_string(),
                "--out",
                "another training is writing there",
                "wait for it, or choose another directory",
            ));
        }
        sweep(out);
        Ok(Self { out: out.to_owned(), start, made, _lock: lock })
    }

    /// How the run begins.
    pub fn start(&self) -> Start {
        self.start
    }

    /// The directory.
    pub fn out(&self) -> &Path {
        &self.out
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.out.join(MARK));
        if self.made {
            // Refused unless it is empty.
            let _ = fs::remove_dir(&self.out);
        }
    }
}

/// Removes the unfinished files of a run that was killed while it wrote ([`crate::files::write_atomic`]).
fn sweep(out: &Path) {
    let ours = |name: &str| {
        let (file, pid) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
        let known = FILES.contains(&file)
            || [CARD, CURVE, state::STATE, super::DATA_REPORT, super::ENVIRONMENT].contains(&file);
        (known && pid.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
    };
    for entry in fs::read_dir(out).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| ours(name).is_some()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_once_and_an_empty_one_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let claim = Claim::take(&out, false).unwrap();
        assert!(Claim::take(&out, false).err().unwrap().to_string().contains("another training"));
        drop(claim);
        assert!(!out.exists());
    }

    #[test]
    fn leftovers_of_a_killed_run_are_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let keep = [".notes.1.tmp", "curve.jsonl", ".model.safetensors.x1.tmp"];
        let go = [".model.safetensors.17.tmp", ".training_state.safetensors.4.tmp"];
        keep.iter().chain(&go).for_each(|name| fs::write(dir.path().join(name), b"x").unwrap());
        drop(Claim::take(dir.path(), false).unwrap());
        assert!(keep.iter().all(|name| dir.path().join(name).exists()));
        assert!(go.iter().all(|name| !dir.path().join(name).exists()));
    }

    #[test]
    fn how_a_run_begins_follows_from_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        assert_eq!(start(out, false).unwrap(), Start::Fresh);
        assert!(start(out, true).unwrap_err().to_string().contains("no run to go on with"));
        fs::write(out.join(MARK), b"").unwrap();
        assert_eq!(start(out, true).unwrap(), Start::Fresh);
        fs::write(out.join(CARD), b"").unwrap();
        assert!(start(out, false).unwrap_err().to_string().contains("holds a model"));
        fs::write(out.join(state::STATE), b"").unwrap();
        assert_eq!(start(out, true).unwrap(), Start::Resume);
        assert!(start(out, false).unwrap_err().to_string().contains("--resume"));
    }
}
