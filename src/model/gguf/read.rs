//! Reading: header, metadata, tensor infos, data. Each size is checked against what the file still holds before
//! anything is allocated for it.

use super::tensor_type::TensorType;
use super::value::{Metadata, MetadataArray, MetadataValue};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

/// The first bytes of a file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Where the file says how tensors are aligned, and what holds where it does not.
pub(super) const ALIGNMENT: &str = "general.alignment";
/// See [`ALIGNMENT`].
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;
/// The longest text or list in the metadata, in bytes.
const LONGEST: u64 = 1 << 28;
/// What to do about a damaged file.
const AGAIN: &str = "copy or download the file again";

/// A tensor as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct GgufTensor<'a> {
    /// How the values are stored.
    pub kind: TensorType,
    /// Rows before columns, as in `PyTorch` (a GGUF file has it the other way round). Blocks run along the last.
    pub shape: &'a [usize],
    /// The blocks.
    pub data: &'a [u8],
}

impl GgufTensor<'_> {
    /// The values.
    pub fn dequantize(&self) -> Vec<f32> {
        self.kind.dequantize(self.data)
    }
}

/// A GGUF file (version 2 or 3, little-endian) in memory.
#[derive(Clone, Debug)]
pub struct GgufFile {
    metadata: Metadata,
    tensors: BTreeMap<String, Info>,
    data: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Info {
    kind: TensorType,
    shape: Vec<usize>,
    /// Within the data.
    start: usize,
    length: usize,
}

impl GgufFile {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |e| Error::io("read the model", path, e);
        let file = File::open(path).map_err(wrong)?;
        let meta = file.metadata().map_err(wrong)?;
        if !meta.is_file() {
            return Err(wrong(std::io::ErrorKind::IsADirectory.into()));
        }
        Self::read(BufReader::new(file), meta.len(), &path.display().to_string())
    }

    /// Reads the bytes of a file. `file` is for messages.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        Self::read(Cursor::new(bytes), bytes.len() as u64, file)
    }

    fn read(inner: impl Read, length: u64, file: &str) -> Result<Self> {
        let mut source = Source { inner, position: 0, length, file };
        let (tensor_count, value_count) = source.header()?;
        let mut metadata = Metadata::new(file);
        for _ in 0..value_count {
            let key = source.string("a key")?;
            let kind = source.u32("the type of a value")?;
            let value = source.value(kind, &key)?;
            if metadata.insert(key.as_str(), value).is_some() {
                return Err(metadata.wrong(&key, "the key is there twice"));
            }
        }
        let alignment = metadata.count(ALIGNMENT)?.map_or(DEFAULT_ALIGNMENT, |n| n as u64);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(metadata.wrong(ALIGNMENT, format!("{alignment} is no power of two up to 1048576")));
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = source.string("a tensor's name")?;
            let info = source.info(&name, alignment)?;
            if tensors.contains_key(&name) {
                return Err(source.tensor(&name, "the tensor is there twice", AGAIN));
            }
            tensors.insert(name, info);
        }
        let needed = source.check_places(&tensors, alignment)?;
        let data = source.take(needed, "the tensors")?;
        Ok(Self { metadata, tensors, data })
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        self.metadata.file()
    }

    /// A tensor, its blocks as they are stored.
    pub fn tensor(&self, name: &str) -> Option<GgufTensor<'_>> {
        self.tensors.get(name).map(|info| self.view(info))
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, GgufTensor<'_>)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), self.view(info)))
    }

    fn view<'a>(&'a self, info: &'a Info) -> GgufTensor<'a> {
        let data = &self.data[info.start..info.start + info.length];
        GgufTensor { kind: info.kind, shape: &info.shape, data }
    }
}

/// A file of known length that is read from start to end.
struct Source<'a, R> {
    inner: R,
    position: u64,
    length: u64,
    file: &'a str,
}

impl<R: Read> Source<'_, R> {
    fn wrong(&self, reason: impl std::fmt::Display, remedy: &str) -> Error {
        Error::weights(self.file, "", format!("{reason} (at byte {})", self.position), remedy)
    }

    fn tensor(&self, name: &str, reason: impl Into<String>, remedy: &str) -> Error {
        Error::weights(self.file, name, reason, remedy)
    }

    fn left(&self) -> u64 {
        self.length - self.position
    }

    /// The next bytes. More than the file holds are not asked of the allocator.
    fn take(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        let left = self.left();
        if count > left {
            let reason = format!("{what} would take {count} bytes, and the file has {left} more");
            return Err(self.wrong(reason, AGAIN));
        }
        let mut bytes = Vec::new();
        let room = usize::try_from(count).ok().and_then(|count| bytes.try_reserve_exact(count).ok());
        if room.is_none() {
            let remedy = "free some memory or use a smaller model";
            return Err(self.wrong(format!("there is no memory for {what} of {count} bytes"), remedy));
        }
        let read = (&mut self.inner).take(count).read_to_end(&mut bytes);
        let read = read.map_err(|e| Error::io("read the model", self.file, e))?;
        if read as u64 != count {
            return Err(self.wrong(format!("the file ends within {what}"), AGAIN));
        }
        self.position += count;
        Ok(bytes)
    }

    fn short(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        if count > LONGEST {
            let reason = format!("{what} is said to have {count} bytes, more than {LONGEST}");
            return Err(self.wrong(reason, AGAIN));
        }
        self.take(count, what)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(super::blocks::array(&self.take(4, what)?)))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(super::blocks::array(&self.take(8, what)?)))
    }

    fn string(&mut self, what: &str) -> Result<String> {
        let length = self.u64(what)?;
        let bytes = self.short(length, what)?;
        String::from_utf8(bytes).map_err(|e| self.wrong(format!("{what} is no UTF-8: {e}"), AGAIN))
    }

    /// How many tensors and how many values of metadata there are.
    fn header(&mut self) -> Result<(u64, u64)> {
        let magic = self.take(4, "the header")?;
        if magic != MAGIC {
            return Err(self.wrong("this is no GGUF file", "give a file that begins with `GGUF`"));
        }
        let version = self.u32("the header")?;
        if version.swap_bytes() <= 3 && version > 3 {
            return Err(self.wrong("the file is big-endian", "convert the model for little-endian machines"));
        }
        if !(2..=3).contains(&version) {
            let reason = format!("the version of GGUF is {version}, and 2 and 3 are read");
            return Err(self.wrong(reason, "convert the model again with a current llama.cpp"));
        }
        let tensors = self.u64("the header")?;
        let values = self.u64("the header")?;
        // What each takes at least: a tensor's info, a key with its value.
        for (count, least, what) in [(tensors, 32, "tensors"), (values, 13, "values of metadata")] {
            if count > self.left() / least {
                let reason = format!("the file is said to have {count} {what}, and is too short for them");
                return Err(self.wrong(reason, AGAIN));
            }
        }
        Ok((tensors, values))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<MetadataValue> {
        if kind != 9 {
            let one = self.array(kind, 1, key)?;
            return one.into_first().ok_or_else(|| self.wrong(format!("`{key}` has no value"), AGAIN));
        }
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        self.array(kind, count, key).map(MetadataValue::Array)
    }

    fn array(&mut self, kind: u32, count: u64, key: &str) -> Result<MetadataArray> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(self.wrong(format!("`{key}` is a list of lists, which is not read"), AGAIN)),
            _ => return Err(self.wrong(format!("`{key}` is of the unknown type {kind}"), AGAIN)),
        };
        if count > self.left() / width {
            let reason =
                format!("`{key}` is said to have {count} values, and the file is too short for them");
            return Err(self.wrong(reason, AGAIN));
        }
        if kind == 8 {
            let strings: Result<Vec<String>> = (0..count).map(|_| self.string(key)).collect();
            return strings.map(MetadataArray::String);
        }
        let bytes = self.short(count * width, key)?;
        Ok(match kind {
            0 => MetadataArray::U8(bytes),
            1 => MetadataArray::I8(each(&bytes, i8::from_le_bytes)),
            2 => MetadataArray::U16(each(&bytes, u16::from_le_bytes)),
            3 => MetadataArray::I16(each(&bytes, i16::from_le_bytes)),
            4 => MetadataArray::U32(each(&bytes, u32::from_le_bytes)),
            5 => MetadataArray::I32(each(&bytes, i32::from_le_bytes)),
            6 => MetadataArray::F32(each(&bytes, f32::from_le_bytes)),
            7 => match bytes.iter().find(|byte| **byte > 1) {
                Some(byte) => {
                    return Err(self.wrong(format!("`{key}` is {byte} and should be 0 or 1"), AGAIN));
                }
                None => MetadataArray::Bool(bytes.iter().map(|byte| *byte == 1).collect()),
            },
            10 => MetadataArray::U64(each(&bytes, u64::from_le_bytes)),
            11 => MetadataArray::I64(each(&bytes, i64::from_le_bytes)),
            _ => MetadataArray::F64(each(&bytes, f64::from_le_bytes)),
        })
    }

    fn info(&mut self, name: &str, alignment: u64) -> Result<Info> {
        let dimensions = self.u32(name)?;
        if !(1..=4).contains(&dimensions) {
            return Err(self.tensor(name, format!("{dimensions} dimensions are not 1 to 4"), AGAIN));
        }
        let sizes = (0..dimensions).map(|_| self.u64(name)).collect::<Result<Vec<_>>>()?;
        let kind = TensorType::from_id(self.u32(name)?).map_err(|kind| {
            let remedy = "use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K";
            self.tensor(name, format!("the tensor's {kind} is not read"), remedy)
        })?;
        let offset = self.u64(name)?;
        let values = sizes.iter().try_fold(1u64, |all, n| all.checked_mul(*n)).unwrap_or(0);
        let length = usize::try_from(values).ok().and_then(|values| kind.bytes(values));
        let whole = sizes[0].is_multiple_of(kind.block_values() as u64);
        let (Some(length), true, true) = (length, whole, values > 0) else {
            let reason = format!("{sizes:?} is no shape of {} values", kind.name());
            return Err(self.tensor(name, reason, AGAIN));
        };
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            let reason = format!(
                "{length} bytes from {offset} on do not fit into the file's {} (the file is truncated?)",
                self.length
            );
            return Err(self.tensor(name, reason, AGAIN));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(self.tensor(
                name,
                format!("the offset {offset} is not aligned to {alignment}"),
                AGAIN,
            ));
        }
        // They fit into the file, and so into a `usize`.
        let shape = sizes.iter().rev().map(|n| *n as usize).collect();
        Ok(Info { kind, shape, start: offset as usize, length })
    }

    /// Goes to where the data begins; returns its length. No two tensors may share a byte.
    fn check_places(&mut self, tensors: &BTreeMap<String, Info>, alignment: u64) -> Result<u64> {
        let padding = self.position.next_multiple_of(alignment) - self.position;
        if tensors.is_empty() {
            return Ok(0);
        }
        self.take(padding, "the padding before the tensors")?;
        let mut sorted: Vec<(&String, &Info)> = tensors.iter().collect();
        sorted.sort_by_key(|(_, info)| info.start);
        let (mut end, mut before) = (0, "");
        for (name, info) in sorted {
            if info.start < end {
                return Err(self.tensor(name, format!("the tensor overlaps `{before}`"), AGAIN));
            }
            (end, before) = (info.start + info.length, name);
        }
        if end as u64 > self.left() {
            let reason = format!(
                "the tensor ends at byte {end} of the data, and the file has {} (it is truncated)",
                self.left()
            );
            return Err(self.tensor(before, reason, AGAIN));
        }
        Ok(end as u64)
    }
}

fn each<T, const N: usize>(bytes: &[u8], of: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|bytes| of(*bytes)).collect()
}
