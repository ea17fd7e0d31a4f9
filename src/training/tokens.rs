//! [`Tokens`]: the token ids of a text, in memory or, when there are many, in a file that is read where it is needed.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The token ids of a text.
pub(super) enum Tokens {
    Memory(Vec<u32>),
    File(TokenFile),
}

impl Tokens {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(ids) => ids.len(),
            Self::File(file) => file.length,
        }
    }

    /// The ids of a range, which must be inside.
    pub(super) fn read(&self, range: Range<usize>) -> Result<Vec<u32>> {
        match self {
            Self::Memory(ids) => Ok(ids[range].to_vec()),
            Self::File(file) => file.read(range),
        }
    }
}

/// Ids in a file, four bytes each, little-endian. The file goes when this does.
pub(super) struct TokenFile {
    path: PathBuf,
    file: Mutex<File>,
    length: usize,
}

const WIDTH: usize = size_of::<u32>();

impl TokenFile {
    fn read(&self, range: Range<usize>) -> Result<Vec<u32>> {
        let mut bytes = vec![0; range.len() * WIDTH];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = || {
            file.seek(SeekFrom::Start((range.start * WIDTH) as u64))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(|e| Error::io("read the tokens", &self.path, e))?;
        Ok(bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect())
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        // What stays of a killed run is written over by the next.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes ids one after the other.
pub(super) struct TokenWriter {
    hasher: blake3::Hasher,
    length: usize,
    to: To,
}

enum To {
    Memory(Vec<u32>),
    File(PathBuf, BufWriter<File>),
}

impl TokenWriter {
    /// To memory, or to a file that is created.
    pub(super) fn new(file: Option<&Path>) -> Result<Self> {
        let to = match file {
            None => To::Memory(Vec::new()),
            Some(path) => {
                let mut options = File::options();
                let file = options.create(true).truncate(true).read(true).write(true).open(path);
                let file = file.map_err(|e| Error::io("create the token file", path, e))?;
                To::File(path.to_owned(), BufWriter::new(file))
            }
        };
        Ok(Self { hasher: blake3::Hasher::new(), length: 0, to })
    }

    pub(super) fn push(&mut self, ids: &[u32]) -> Result<()> {
        self.length += ids.len();
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.hasher.update(&bytes);
        match &mut self.to {
            To::Memory(all) => all.extend(ids),
            To::File(path, file) => {
                file.write_all(&bytes).map_err(|e| Error::io("write the tokens", path.as_path(), e))?;
            }
        }
        Ok(())
    }

    /// The ids, and their hash.
    pub(super) fn finish(self) -> Result<(Tokens, String)> {
        let tokens = match self.to {
            To::Memory(ids) => Tokens::Memory(ids),
            To::File(path, file) => {
                let file =
                    file.into_inner().map_err(|e| Error::io("write the tokens", &path, e.into_error()))?;
                Tokens::File(TokenFile { path, file: Mutex::new(file), length: self.length })
            }
        };
        Ok((tokens, self.hasher.finalize().to_hex().to_string()))
    }
}
