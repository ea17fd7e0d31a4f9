//! Sequences to weights: data sets, packing, the training job, resume points.
//!
//! Everything drawn is a function of the seed and of where the run stands, so a run that was killed goes on
//! as if it had not been. Not here: what the sequences mean (the domains), progress bars (`skald`).

mod config;
mod curve;
mod fit;
mod packing;
mod source;
mod state;
mod text_source;

pub use config::{Keep, ModelShape, Schedule, TokenizerKind, TrainingConfig};
pub use fit::{Fit, Fitted, Progress};
pub use packing::{Batch, PackedRow, pack};
pub use source::{DataSets, Sample, SampleSource};
pub use state::{STATE, Standing};
pub use text_source::text_sets;
