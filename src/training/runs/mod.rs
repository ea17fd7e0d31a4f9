//! Past trainings, as their directories tell them: found, read and set beside each other.
//!
//! Whatever state a directory is in, it is read: what is missing or damaged is said in [`Run::faults`].

mod read;

use super::curve::CURVE;
use crate::error::{Error, Result};
use read::read;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Its directory, below the one that was searched.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// How far it has come.
    pub status: Status,
    /// What it learned ("dialogue").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The network ("Llama").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The network's parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// The last step of its curve.
    pub steps: u64,
    /// The steps it was to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_steps: Option<u64>,
    /// The lowest validation loss of its curve, in nats a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_val_loss: Option<f64>,
    /// The step of the lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    /// The last training loss, in nats a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    /// BLAKE3 of its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_hash: Option<String>,
    /// Its seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Seconds of work up to its last resume point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// When it first started (UTC, RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When its curve last grew (UTC, RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// What is missing or damaged, a line each.
    pub faults: Vec<String>,
    /// Its settings by dotted name (`model.layers`, `environment.threads`).
    #[serde(skip)]
    pub settings: BTreeMap<String, Value>,
    /// Its curve, by rising step.
    #[serde(skip)]
    pub curve: Vec<Point>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It took all its steps, or stopped early by its own rule.
    Done,
    /// It is at work, or was killed.
    Open,
    /// It was stopped before its end, and can go on.
    Stopped,
    /// It cannot be told.
    Unknown,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Open => "open",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// A line of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Point {
    /// Optimiser steps done.
    pub step: u64,
    /// The step's loss, in nats a token.
    #[serde(default)]
    pub train_loss: Option<f64>,
    /// The validation loss, in nats a token.
    #[serde(default)]
    pub val_loss: Option<f64>,
}

/// What was found below a folder.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The runs, by name.
    pub runs: Vec<Run>,
    /// Folders that could not be searched.
    pub unreadable: Vec<PathBuf>,
}

/// Finds the runs in `root` and below it: folders with a [`CURVE`]. Links to folders are not followed.
///
/// # Errors
/// [`Error::Io`] if `root` cannot be read.
pub fn find(root: &Path) -> Result<Found> {
    std::fs::read_dir(root).map_err(|e| Error::io("search the folder for runs", root, e))?;
    let mut found = Found::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            found.unreadable.push(folder);
            continue;
        };
        if folder.join(CURVE).is_file() {
            let name = match folder.strip_prefix(root) {
                Ok(below) if below != Path::new("") => below,
                _ => folder.file_name().map_or(folder.as_path(), Path::new),
            };
            found.runs.push(read(&folder, name.display().to_string()));
        }
        let inner = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(inner.map(|entry| entry.path()));
    }
    found.runs.sort_by(|a, b| a.name.cmp(&b.name));
    found.unreadable.sort();
    Ok(found)
}

impl Run {
    /// Reads the run in `dir`; its name is the path as given.
    ///
    /// # Errors
    /// [`Error::Data`] if the folder holds no run.
    pub fn open(dir: &Path) -> Result<Self> {
        if dir.join(CURVE).is_file() {
            return Ok(read(dir, dir.display().to_string()));
        }
        Err(Error::Data {
            source_name: dir.display().to_string(),
            reason: format!("the folder holds no run ({CURVE} is missing)"),
            remedy: "give the directory of a training (`skald runs list DIR` finds them)".into(),
        })
    }
}

/// Runs beside each other.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The runs, that with the lowest validation loss first.
    pub runs: Vec<Run>,
    /// The settings that are not the same in all, each with its values in the order of `runs` (null: it has none).
    pub differing: BTreeMap<String, Vec<Value>>,
    /// Whether all learned from the same data. Losses of different data, or under another tokenizer, say nothing
    /// about which run is better.
    pub same_data: bool,
}

/// Sets runs beside each other, the best first.
pub fn compare(mut runs: Vec<Run>) -> Comparison {
    let loss = |run: &Run| run.best_val_loss.unwrap_or(f64::INFINITY);
    runs.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
    let mut differing: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for name in runs.iter().flat_map(|run| run.settings.keys()) {
        let values: Vec<Value> =
            runs.iter().map(|run| run.settings.get(name).cloned().unwrap_or_default()).collect();
        if values.iter().any(|value| *value != values[0]) {
            differing.insert(name.clone(), values);
        }
    }
    let first = runs.first().and_then(|run| run.data_hash.as_ref());
    let same_data = first.is_some() && runs.iter().all(|run| run.data_hash.as_ref() == first);
    Comparison { runs, differing, same_data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;
    use crate::model::{CARD, Card, FILES};
    use crate::nn::Compute;
    use crate::text::Tokenizer;
    use crate::training::config::tests::small;
    use crate::training::text_source::text_sets;
    use crate::training::{
        DATA_REPORT, DataNotes, ENVIRONMENT, Fit, Fitted, MARK, RunSetup, STATE, TrainingConfig,
    };
    use proptest::prelude::*;

    const TEXT: &str = "the cat sat on the mat and the dog sat on the log and so on and on they sat ";

    fn train(dir: &Path, seed: u64) -> Fitted {
        let config = TrainingConfig { seed, steps: 6, warmup_steps: 2, ..small() };
        let tokenizer = Tokenizer::characters(TEXT).unwrap();
        let sets = text_sets(&TEXT.repeat(8), &tokenizer, config.sequence).unwrap();
        let setup = RunSetup {
            config,
            tokenizer,
            data: sets,
            card: Card::new("text"),
            base: None,
            notes: DataNotes::default(),
        };
        let fit = Fit::new(setup, dir, &Compute::cpu(1)).unwrap();
        job::run(fit, |_| ()).unwrap()
    }

    const PARTS: [&str; 6] = [CARD, STATE, FILES[0], FILES[1], DATA_REPORT, ENVIRONMENT];

    #[test]
    fn a_run_is_read_as_it_was_trained() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("deep/one");
        let fitted = train(&dir, 7);
        let found = find(root.path()).unwrap();
        let [run] = &found.runs[..] else { panic!("{found:?}") };
        assert_eq!((run.name.as_str(), run.status, run.steps), ("deep/one", Status::Done, 6));
        assert_eq!(run.faults, [""; 0]);
        assert!((run.best_val_loss.unwrap() - fitted.best_val_loss).abs() < 1e-12);
        assert_eq!(run.best_step, Some(fitted.best_step));
        assert_eq!((run.seed, run.domain.as_deref()), (Some(7), Some("text")));
        let model = small().model.unwrap();
        let shape = model.config(Tokenizer::characters(TEXT).unwrap().vocab_size());
        assert_eq!(run.parameters, Some(shape.parameters() as u64));
        assert_eq!(run.settings["model.layers"], model.layers);
        assert!(run.started.is_some() && run.train_loss.is_some() && run.data_hash.is_some());
        // The root may be a run itself.
        assert_eq!(find(&dir).unwrap().runs[0].name, "one");
    }

    #[test]
    fn runs_are_set_beside_each_other_the_best_first() {
        let root = tempfile::tempdir().unwrap();
        let losses = [1, 2].map(|seed| train(&root.path().join(format!("r{seed}")), seed).best_val_loss);
        let mut runs = find(root.path()).unwrap().runs;
        runs[0].settings.remove("rows");
        let best = if losses[0] <= losses[1] { "r1" } else { "r2" };
        let compared = compare(runs);
        assert_eq!(compared.runs[0].name, best);
        assert!(compared.same_data);
        assert_eq!(compared.differing.keys().collect::<Vec<_>>(), ["rows", "seed"]);
        let at = compared.runs.iter().position(|run| run.name == "r1").unwrap();
        assert_eq!(compared.differing["rows"][at], Value::Null);
        assert_eq!(compared.differing["seed"][at], 1);
        let mut other = compared.runs.clone();
        other[0].data_hash = Some("other".into());
        assert!(!compare(other).same_data);
    }

    #[test]
    fn what_is_missing_or_cut_is_said() {
        let root = tempfile::tempdir().unwrap();
        train(root.path(), 3);
        for part in PARTS {
            let path = root.path().join(part);
            let whole = std::fs::read(&path).unwrap();
            for length in (0..whole.len()).step_by(whole.len().div_ceil(40)) {
                std::fs::write(&path, &whole[..length]).unwrap();
                let run = Run::open(root.path()).unwrap();
                assert!(
                    run.faults.iter().any(|fault| fault.contains(part)),
                    "{part} {length}: {:?}",
                    run.faults
                );
                assert_eq!(run.steps, 6);
            }
            std::fs::remove_file(&path).unwrap();
            let run = Run::open(root.path()).unwrap();
            // Runs of older versions have no environment.
            assert_eq!(run.faults.is_empty(), part == ENVIRONMENT, "{part}: {:?}", run.faults);
            std::fs::write(&path, &whole).unwrap();
        }
        assert!(Run::open(root.path()).unwrap().faults.is_empty());
        std::fs::remove_file(root.path().join(CURVE)).unwrap();
        assert!(Run::open(root.path()).unwrap_err().to_string().contains("holds no run"));
        assert!(find(&root.path().join("none")).unwrap_err().to_string().contains("check the path"));
    }

    #[test]
    fn a_curve_with_damaged_lines_keeps_the_others() {
        let root = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(root.path().join(CURVE), text).unwrap();
        let read = || Run::open(root.path()).unwrap();
        write(
            "{\"step\":0,\"val_loss\":3.5,\"lr\":0}\n{\"step\":1,\"train_loss\":3.25,\"lr\":0}\n{\"step\":2,\"tr",
        );
        let run = read();
        assert_eq!((run.steps, run.best_val_loss, run.train_loss), (1, Some(3.5), Some(3.25)));
        assert!(run.faults.iter().any(|fault| fault.contains("curve.jsonl:3")), "{:?}", run.faults);
        write("{\"step\":5}\n{\"step\":5}\nx\n{\"step\":6}\n");
        let run = read();
        assert_eq!((run.steps, run.status), (6, Status::Unknown));
        assert!(run.faults.iter().any(|fault| fault.contains("2 lines are damaged")), "{:?}", run.faults);
        write("");
        assert!(read().faults.iter().any(|fault| fault.contains("no step was made")));
        std::fs::write(root.path().join(MARK), "").unwrap();
        assert_eq!(read().status, Status::Open);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_confuse_the_reader(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 7)) {
            let root = tempfile::tempdir().unwrap();
            for (part, bytes) in PARTS.iter().chain([&CURVE]).zip(&contents) {
                std::fs::write(root.path().join(part), bytes).unwrap();
            }
            prop_assert!(!Run::open(root.path()).unwrap().faults.is_empty());
        }
    }
}
