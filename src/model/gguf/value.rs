//! The metadata of a GGUF file: named values of thirteen types.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's types")]
pub enum MetadataValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(MetadataArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A list of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's types")]
pub enum MetadataArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl MetadataArray {
    /// The number of its type in a file.
    pub(super) fn id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first value.
    pub(super) fn into_first(self) -> Option<MetadataValue> {
        Some(match self {
            Self::U8(values) => MetadataValue::U8(*values.first()?),
            Self::I8(values) => MetadataValue::I8(*values.first()?),
            Self::U16(values) => MetadataValue::U16(*values.first()?),
            Self::I16(values) => MetadataValue::I16(*values.first()?),
            Self::U32(values) => MetadataValue::U32(*values.first()?),
            Self::I32(values) => MetadataValue::I32(*values.first()?),
            Self::F32(values) => MetadataValue::F32(*values.first()?),
            Self::Bool(values) => MetadataValue::Bool(*values.first()?),
            Self::String(values) => MetadataValue::String(values.into_iter().next()?),
            Self::U64(values) => MetadataValue::U64(*values.first()?),
            Self::I64(values) => MetadataValue::I64(*values.first()?),
            Self::F64(values) => MetadataValue::F64(*values.first()?),
        })
    }

    /// As whole numbers, where they are such and not negative.
    fn counts(&self) -> Option<Vec<u64>> {
        match self {
            Self::U8(values) => Some(values.iter().map(|v| u64::from(*v)).collect()),
            Self::U16(values) => Some(values.iter().map(|v| u64::from(*v)).collect()),
            Self::U32(values) => Some(values.iter().map(|v| u64::from(*v)).collect()),
            Self::U64(values) => Some(values.clone()),
            Self::I8(values) => values.iter().map(|v| u64::try_from(*v).ok()).collect(),
            Self::I16(values) => values.iter().map(|v| u64::try_from(*v).ok()).collect(),
            Self::I32(values) => values.iter().map(|v| u64::try_from(*v).ok()).collect(),
            Self::I64(values) => values.iter().map(|v| u64::try_from(*v).ok()).collect(),
            _ => None,
        }
    }
}

impl MetadataValue {
    /// A list of one.
    pub(super) fn as_array(&self) -> MetadataArray {
        match self {
            Self::U8(value) => MetadataArray::U8(vec![*value]),
            Self::I8(value) => MetadataArray::I8(vec![*value]),
            Self::U16(value) => MetadataArray::U16(vec![*value]),
            Self::I16(value) => MetadataArray::I16(vec![*value]),
            Self::U32(value) => MetadataArray::U32(vec![*value]),
            Self::I32(value) => MetadataArray::I32(vec![*value]),
            Self::F32(value) => MetadataArray::F32(vec![*value]),
            Self::Bool(value) => MetadataArray::Bool(vec![*value]),
            Self::String(value) => MetadataArray::String(vec![value.clone()]),
            Self::Array(array) => array.clone(),
            Self::U64(value) => MetadataArray::U64(vec![*value]),
            Self::I64(value) => MetadataArray::I64(vec![*value]),
            Self::F64(value) => MetadataArray::F64(vec![*value]),
        }
    }
}

impl From<&str> for MetadataValue {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

/// Named values, sorted by name. What is asked for and of another type is an error naming file and key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    file: String,
    values: BTreeMap<String, MetadataValue>,
}

impl Metadata {
    /// None yet. `file` is for messages.
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), values: BTreeMap::new() }
    }

    /// The file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A value.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.values.get(key)
    }

    /// Sets a value and returns the one before.
    pub fn insert(&mut self, key: impl Into<String>, value: MetadataValue) -> Option<MetadataValue> {
        self.values.insert(key.into(), value)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &MetadataValue)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// An error about a key.
    pub(super) fn wrong(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::config(&self.file, key, reason, "convert the model again, or use another file")
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        of: impl Fn(&'a MetadataValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        of(value).map(Some).ok_or_else(|| self.wrong(key, format!("the value is not {wanted}")))
    }

    /// A whole number that is not negative. A list whose values are all the same counts as that value.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "one whole number", |value| {
            let all = value.as_array().counts()?;
            let first = *all.first()?;
            all.iter().all(|n| *n == first).then(|| usize::try_from(first).ok()).flatten()
        })
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| match value {
            MetadataValue::F32(value) => Some(*value),
            MetadataValue::F64(value) => Some(*value as f32),
            _ => None,
        })
    }

    /// Yes or no.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            MetadataValue::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            MetadataValue::String(value) => Some(value.as_str()),
            _ => None,
        })
    }

    /// Texts.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "a list of texts", |value| match value {
            MetadataValue::Array(MetadataArray::String(values)) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "a list of numbers", |value| match value {
            MetadataValue::Array(MetadataArray::F32(values)) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Whole numbers that are not negative.
    pub fn counts(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.typed(key, "a list of whole numbers", |value| match value {
            MetadataValue::Array(array) => array.counts(),
            _ => None,
        })
    }
}
