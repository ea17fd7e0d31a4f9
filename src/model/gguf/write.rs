//! Writing: version 3, little-endian, tensors in the order given.

use super::read::{ALIGNMENT, DEFAULT_ALIGNMENT, MAGIC};
use super::tensor_type::TensorType;
use super::value::{Metadata, MetadataArray, MetadataValue};
use crate::error::{Error, Result};
use crate::files::write_atomic_with;
use std::io::{self, Write};
use std::path::Path;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct GgufOutput {
    /// Its name.
    pub name: String,
    /// How its values are stored.
    pub kind: TensorType,
    /// Rows before columns, as in `PyTorch`.
    pub shape: Vec<usize>,
}

/// Writes a file, beside and then renamed. `data` gives the blocks of each tensor in turn, so that no more than one
/// need be in memory. What is not as long as its shape says is an error.
pub fn write_gguf(
    path: &Path,
    metadata: &Metadata,
    tensors: &[GgufOutput],
    mut data: impl FnMut(&GgufOutput) -> Result<Vec<u8>>,
) -> Result<()> {
    let alignment = metadata.count(ALIGNMENT)?.map_or(DEFAULT_ALIGNMENT, |n| n as u64);
    let header = header(metadata, tensors, alignment)?;
    // An error of ours comes back out of the write as what it was.
    let mut failed = None;
    let written = write_atomic_with(path, |file| {
        file.write_all(&header)?;
        for tensor in tensors {
            let bytes = data(tensor).and_then(|bytes| {
                if Some(bytes.len()) == length(tensor) {
                    return Ok(bytes);
                }
                let reason = format!("{} bytes for the shape {:?}", bytes.len(), tensor.shape);
                Err(Error::weights(path.display().to_string(), &tensor.name, reason, "please report this"))
            });
            match bytes {
                Ok(bytes) => {
                    file.write_all(&bytes)?;
                    pad(file, bytes.len() as u64, alignment)?;
                }
                Err(error) => {
                    failed = Some(error);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(())
    });
    failed.map_or(written, Err)
}

fn length(tensor: &GgufOutput) -> Option<usize> {
    let last = *tensor.shape.last()?;
    let whole = last.is_multiple_of(tensor.kind.block_values());
    let values = tensor.shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n))?;
    tensor.kind.bytes(values).filter(|_| whole)
}

fn pad(out: &mut impl Write, length: u64, alignment: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), length.next_multiple_of(alignment) - length), out)?;
    Ok(())
}

fn header(metadata: &Metadata, tensors: &[GgufOutput], alignment: u64) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.iter().len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        string(&mut out, key);
        let array = value.as_array();
        if matches!(value, MetadataValue::Array(_)) {
            out.extend(9u32.to_le_bytes());
            out.extend(array.id().to_le_bytes());
            out.extend((array.len() as u64).to_le_bytes());
        } else {
            out.extend(array.id().to_le_bytes());
        }
        values(&mut out, &array);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        let Some(length) = length(tensor) else {
            let reason = format!("{:?} is no shape of {} values", tensor.shape, tensor.kind.name());
            return Err(Error::weights(metadata.file(), &tensor.name, reason, "store it as F32"));
        };
        string(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        out.extend(tensor.shape.iter().rev().flat_map(|n| (*n as u64).to_le_bytes()));
        out.extend(tensor.kind.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += (length as u64).next_multiple_of(alignment);
    }
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
    Ok(out)
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn values(out: &mut Vec<u8>, array: &MetadataArray) {
    match array {
        MetadataArray::U8(values) => out.extend(values),
        MetadataArray::I8(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::U16(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::I16(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::U32(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::I32(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::F32(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::Bool(values) => out.extend(values.iter().map(|v| u8::from(*v))),
        MetadataArray::String(values) => values.iter().for_each(|text| string(out, text)),
        MetadataArray::U64(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::I64(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        MetadataArray::F64(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
    }
}
