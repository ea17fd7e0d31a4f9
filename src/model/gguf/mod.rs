//! GGUF, the file format of llama.cpp: reading and writing, and its quantized blocks.
//!
//! A file is a header, named values (architecture, sizes, vocabulary), the tensors' names and places, and their data.
//! [`GgufFile`] reads versions 2 and 3; [`write_gguf`] writes version 3. Damaged or lying files are one clear error.

mod blocks;
mod config;
mod k_blocks;
mod names;
mod read;
mod tensor_type;
#[cfg(test)]
mod tests;
mod value;
mod vocabulary;
mod vocabulary_files;
mod weights;
mod words;
mod write;

pub use blocks::{Block, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub use k_blocks::{Q4K, Q5K, Q6K, scale_and_min};
pub use read::{GgufFile, GgufTensor};
pub use tensor_type::TensorType;
pub use value::{Metadata, MetadataArray, MetadataValue};
pub use vocabulary::{GgufVocabulary, vocabulary_to_metadata};
pub use weights::{GgufBlocks, Quantization, model_to_gguf};
pub use write::{GgufOutput, write_gguf};
