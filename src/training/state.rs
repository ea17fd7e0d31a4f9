//! The resume point of a run: weights, moments and where it stands, in one safetensors file.

use super::config::{Keep, TrainingConfig};
use super::private::PrivacyState;
use crate::error::{Error, Result};
use crate::files::{read_limited, write_atomic};
use crate::nn::Tensors;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file's name within a run's directory.
pub const STATE: &str = "training_state.safetensors";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Optimiser steps done.
    pub step: u64,
    /// The epoch it is in.
    pub epoch: u64,
    /// The part of that epoch it is in.
    #[serde(default)]
    pub block: usize,
    /// Rows of that part already used.
    pub cursor: usize,
    /// The best validation loss so far, in nats.
    pub best_val_loss: Option<f64>,
    /// The step of the best.
    pub best_step: u64,
    /// Validations since the best.
    pub since_best: u64,
    /// The validation loss before the first step.
    pub first_val_loss: Option<f64>,
    /// Whether the validation due at `step` has been done.
    pub validated: bool,
    /// The loss of the last validation.
    pub val_loss: Option<f64>,
    /// The temperature at which that validation cost least, and its loss there (when calibrating).
    pub calibration: Option<(f64, f64)>,
    /// Of the held-out pairs of that validation, the share that is ranked right (when taste is learned).
    pub pair_accuracy: Option<f64>,
    /// The training loss of `step`.
    pub train_loss: Option<f32>,
    /// What hiding the players has cost, where they are hidden.
    #[serde(default)]
    pub privacy: Option<PrivacyState>,
    /// Seconds of work.
    pub seconds: f64,
    /// The run's config.
    pub config: TrainingConfig,
    /// The data's hash.
    pub data_hash: String,
}

impl Standing {
    pub(super) fn new(config: TrainingConfig, data_hash: String) -> Self {
        Self {
            step: 0,
            epoch: 0,
            block: 0,
            cursor: 0,
            best_val_loss: None,
            best_step: 0,
            since_best: 0,
            first_val_loss: None,
            validated: false,
            val_loss: None,
            calibration: None,
            pair_accuracy: None,
            train_loss: None,
            privacy: None,
            seconds: 0.0,
            config,
            data_hash,
        }
    }

    /// Whether a validation belongs to `step` and is still to be done.
    pub(super) fn due(&self) -> bool {
        let last = self.step == self.config.steps;
        !self.validated && (last || self.step.is_multiple_of(self.config.validate_every))
    }

    /// Whether the model of `step` is the one to keep.
    pub(super) fn kept(&self) -> bool {
        self.validated && (self.best_step == self.step || self.config.keep == Keep::Last)
    }

    /// Takes in the validation loss of `step`.
    pub(super) fn judge(&mut self, loss: f64) {
        (self.validated, self.val_loss) = (true, Some(loss));
        self.first_val_loss.get_or_insert(loss);
        if self.best_val_loss.is_none_or(|best| loss < best) {
            (self.best_val_loss, self.best_step, self.since_best) = (Some(loss), self.step, 0);
        } else {
            self.since_best += 1;
        }
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join(STATE)
}

/// Whether a directory holds a resume point.
pub fn exists(dir: &Path) -> bool {
    file(dir).exists()
}

/// Saves a resume point: the old one or the new one is there, never a half.
pub fn save(dir: &Path, standing: &Standing, tensors: &Tensors) -> Result<()> {
    let mut data = Vec::new();
    for (name, (shape, values)) in tensors {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        data.push((name.clone(), shape.clone(), bytes));
    }
    let views = data
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| Error::backend("writing the training state", e))?;
    // RON, because its numbers come back exactly as they were; serde_json's may be off by the last bit.
    let standing = ron::to_string(standing).map_err(|e| Error::backend("writing the training state", e))?;
    let bytes = serialize(views, Some([("standing".to_owned(), standing)].into()))
        .map_err(|e| Error::backend("writing the training state", e))?;
    write_atomic(&file(dir), &bytes)
}

/// Loads a resume point.
pub fn load(dir: &Path) -> Result<(Standing, Tensors)> {
    let path = file(dir);
    let name = path.display().to_string();
    let bytes = read_limited(&path, 1 << 36, "read the training state")?;
    let broken = |reason: String| Error::weights(&name, "", reason, "start a new run in another directory");
    let (_, metadata) = SafeTensors::read_metadata(&bytes)
        .map_err(|e| broken(format!("the training state cannot be read: {e}")))?;
    let standing = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get("standing"))
        .ok_or_else(|| broken("this is no training state of ours".into()))?;
    let standing: Standing = ron::from_str(standing)
        .map_err(|e| broken(format!("the training state is of another version: {e}")))?;
    let parsed = SafeTensors::deserialize(&bytes)
        .map_err(|e| broken(format!("the training state cannot be read: {e}")))?;
    let mut tensors = Tensors::new();
    for (tensor, view) in parsed.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(Error::weights(&name, tensor, "the tensor is not F32", "start a new run"));
        }
        let values: Vec<f32> = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        tensors.insert(tensor.to_owned(), (view.shape().to_vec(), values));
    }
    Ok((standing, tensors))
}

/// The first field in which two configs differ, as `field: was, is`.
pub fn difference(was: &TrainingConfig, is: &TrainingConfig) -> Option<(String, String)> {
    fn walk(path: &str, was: &serde_json::Value, is: &serde_json::Value) -> Option<(String, String)> {
        if let (Some(a), Some(b)) = (was.as_object(), is.as_object()) {
            let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            return a.iter().find_map(|(key, value)| walk(&join(key), value, b.get(key)?));
        }
        (was != is).then(|| (path.to_owned(), format!("it was {was} and is {is}")))
    }
    walk("", &serde_json::to_value(was).ok()?, &serde_json::to_value(is).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::config::tests::small;

    #[test]
    fn a_state_comes_back_to_the_last_bit() {
        let dir = tempfile::tempdir().unwrap();
        let mut standing = Standing::new(small(), "hash".into());
        standing.config.learning_rate = 0.1 + 0.2;
        standing.judge(1.0 / 3.0);
        standing.train_loss = Some(0.1_f32 + 0.7);
        let values = [f32::MIN_POSITIVE, -0.0, 1.0 / 3.0];
        let tensor = (vec![1, 3], values.to_vec());
        save(dir.path(), &standing, &[("w".to_owned(), tensor)].into()).unwrap();
        let (found, tensors) = load(dir.path()).unwrap();
        assert_eq!(found, standing);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensors["w"].1), bits(&values));
    }

    #[test]
    fn a_truncated_state_is_an_error_at_every_length() {
        let dir = tempfile::tempdir().unwrap();
        let tensor = (vec![9], vec![0.0; 9]);
        save(dir.path(), &Standing::new(small(), String::new()), &[("w".to_owned(), tensor)].into()).unwrap();
        let whole = std::fs::read(file(dir.path())).unwrap();
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(file(dir.path()), &whole[..length]).unwrap();
            let error = load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(STATE), "{error}");
        }
    }
}
