//! [`Weights`]: named tensors in f32, immutable, and their safetensors form.

use crate::error::{Error, Result};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How weights are stored in a file. In memory they are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredAs {
    /// Two bytes a weight.
    #[default]
    F16,
    /// Four bytes a weight.
    F32,
}

/// Named tensors in f32. Immutable; a clone is cheap.
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: Arc<BTreeMap<String, (Vec<usize>, Vec<f32>)>>,
}

impl Weights {
    /// From names, shapes and values. Fails when a shape does not have as many values.
    pub fn new(tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Result<Self> {
        for (name, (shape, values)) in &tensors {
            if shape.iter().product::<usize>() != values.len() {
                let reason = format!("{} values for the shape {shape:?}", values.len());
                return Err(Error::weights("weights", name, reason, "please report this"));
            }
        }
        Ok(Self { tensors: Arc::new(tensors) })
    }

    /// A tensor's shape and values (row-major).
    pub fn get(&self, name: &str) -> Option<(&[usize], &[f32])> {
        self.tensors.get(name).map(|(shape, values)| (shape.as_slice(), values.as_slice()))
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.tensors
            .iter()
            .map(|(name, (shape, values))| (name.as_str(), shape.as_slice(), values.as_slice()))
    }

    /// How many values in all.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|(_, values)| values.len()).sum()
    }

    /// BLAKE3 over names, shapes and f32 values, in the order of names.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, shape, values) in self.iter() {
            hasher.update(format!("{name}{shape:?}").as_bytes());
            for value in values {
                hasher.update(&value.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Checks that these are the tensors of `expected` (name and shape), all of them and no others.
    pub fn check(&self, expected: &[(String, Vec<usize>)], file: &str) -> Result<()> {
        let remedy = "check that config.json and the weights belong together";
        for (name, shape) in expected {
            match self.tensors.get(name) {
                None => return Err(Error::weights(file, name, "a tensor is missing", remedy)),
                Some((found, _)) if found != shape => {
                    let reason = format!("the shape is {found:?} and should be {shape:?}");
                    return Err(Error::weights(file, name, reason, remedy));
                }
                Some((_, values)) => {
                    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                        let reason = format!("value {at} is {}", values[at]);
                        return Err(Error::weights(
                            file,
                            name,
                            reason,
                            "train again, or use an earlier checkpoint",
                        ));
                    }
                }
            }
        }
        match self.tensors.keys().find(|name| !expected.iter().any(|(known, _)| known == *name)) {
            Some(name) => Err(Error::weights(file, name, "the model has no such tensor", remedy)),
            None => Ok(()),
        }
    }

    /// Reads safetensors (F32, F16, BF16). The format's own checks see to it that no tensor reaches beyond
    /// the file, so nothing larger than the file is allocated (twice for 16-bit weights).
    pub fn from_safetensors(bytes: &[u8], file: &str) -> Result<Self> {
        let parsed = SafeTensors::deserialize(bytes).map_err(|e| {
            let remedy = "check that the file is whole and is a safetensors file";
            Error::weights(file, "", format!("the weights cannot be read: {e}"), remedy)
        })?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.iter() {
            let values = decoded(name, &view, file)?;
            tensors.insert(name.to_owned(), (view.shape().to_vec(), values));
        }
        Self::new(tensors)
    }

    /// Writes safetensors. A weight that f16 cannot hold is an error.
    pub fn to_safetensors(&self, stored_as: StoredAs) -> Result<Vec<u8>> {
        let mut data: Vec<(&str, &[usize], Vec<u8>)> = Vec::new();
        for (name, shape, values) in self.iter() {
            let bytes: Vec<u8> = match stored_as {
                StoredAs::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                StoredAs::F16 => {
                    if let Some(value) = values.iter().find(|value| !f16::from_f32(**value).is_finite()) {
                        let reason = format!("the value {value} does not fit into f16");
                        return Err(Error::weights("weights", name, reason, "set `stored_as: F32`"));
                    }
                    values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
                }
            };
            data.push((name, shape, bytes));
        }
        let dtype = match stored_as {
            StoredAs::F32 => Dtype::F32,
            StoredAs::F16 => Dtype::F16,
        };
        let views = data
            .iter()
            .map(|(name, shape, bytes)| Ok((*name, TensorView::new(dtype, shape.to_vec(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| Error::backend("writing the weights", e))?;
        // `format: pt` is what transformers asks for.
        let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
        serialize(views, metadata).map_err(|e| Error::backend("writing the weights", e))
    }
}

/// The values of a tensor in a file (F32, F16, BF16).
pub(super) fn decoded(name: &str, view: &TensorView<'_>, file: &str) -> Result<Vec<f32>> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        other => {
            let reason = format!("the type {other:?} is not supported");
            return Err(Error::weights(file, name, reason, "store F32, F16 or BF16"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights() -> Weights {
        let a = ("a".to_owned(), (vec![2, 2], vec![1.0, -0.5, 0.25, 3.0]));
        Weights::new([a, ("b".to_owned(), (vec![1], vec![0.1]))].into()).unwrap()
    }

    #[test]
    fn weights_survive_a_round_trip() {
        let bytes = weights().to_safetensors(StoredAs::F32).unwrap();
        assert_eq!(Weights::from_safetensors(&bytes, "w").unwrap().hash(), weights().hash());
        let bytes = weights().to_safetensors(StoredAs::F16).unwrap();
        let back = Weights::from_safetensors(&bytes, "w").unwrap();
        assert_eq!(back.get("a").unwrap().1, weights().get("a").unwrap().1);
        assert!((back.get("b").unwrap().1[0] - 0.1).abs() < 1e-4);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let expected = [("a".to_owned(), vec![2, 2]), ("b".to_owned(), vec![1])];
        weights().check(&expected, "w").unwrap();
        let error =
            |expected: &[(String, Vec<usize>)]| weights().check(expected, "w").unwrap_err().to_string();
        assert!(error(&[("a".to_owned(), vec![4]), ("b".to_owned(), vec![1])]).contains("[2, 2]"));
        assert!(error(&expected[..1]).contains("`b`"));
        assert!(error(&[("c".to_owned(), vec![1])]).contains("missing"));
        let nan = Weights::new([("a".to_owned(), (vec![1], vec![f32::NAN]))].into()).unwrap();
        assert!(nan.check(&[("a".to_owned(), vec![1])], "w").unwrap_err().to_string().contains("NaN"));
        let large = Weights::new([("a".to_owned(), (vec![1], vec![1e6]))].into()).unwrap();
        assert!(large.to_safetensors(StoredAs::F16).is_err());
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut bytes = weights().to_safetensors(StoredAs::F32).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Weights::from_safetensors(&bytes, "w");
            bytes.truncate(cut);
            let _ = Weights::from_safetensors(&bytes, "w");
        }
    }
}
