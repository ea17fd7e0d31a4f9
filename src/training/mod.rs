//! Sequences to weights: data sets, packing, the training job, resume points.
//!
//! Everything drawn is a function of the seed and of where the run stands, so a run that was killed goes on
//! as if it had not been. Not here: what the sequences mean (the domains), progress bars (`skald`).

mod calibration;
mod config;
mod curve;
mod directory;
mod fit;
mod learner;
mod packing;
mod progress;
mod schedule;
mod source;
mod state;
mod text_source;

pub use config::{Architecture, Keep, ModelShape, TokenizerKind, TrainingConfig};
pub use curve::CURVE;
pub use directory::{Claim, MARK, Start};
pub use fit::Fit;
pub use packing::{Batch, PackedRow, pack};
pub use progress::{Fitted, Progress, Stage};
pub use schedule::{Rates, Schedule};
pub use source::{DataSets, Sample, SampleSource};
pub use state::{STATE, Standing};
pub use text_source::{TextCorpus, text_sets};

/// What a run's data was, within its directory: counts, what was dropped and why, the hash.
pub const DATA_REPORT: &str = "data.json";
