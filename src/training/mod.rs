//! Sequences to weights: data sets, packing, the training job, resume points.
//!
//! Everything drawn is a function of the seed and of where the run stands, so a run that was killed goes on
//! as if it had not been. Not here: what the sequences mean (the domains), progress bars (`skald`).

mod calibration;
mod config;
mod curve;
mod data_card;
mod directory;
mod environment;
mod feed;
mod fit;
mod learner;
mod objective;
mod packing;
mod pairs;
mod privacy;
mod private;
mod progress;
pub mod runs;
mod schedule;
mod shape;
mod source;
mod split;
mod state;
mod taste;
mod tensorboard;
mod text_source;
mod tokens;
mod train;

pub use config::{Adaptation, Keep, TokenizerKind, TrainingConfig};
pub use curve::CURVE;
pub use data_card::{DATA_RON, DataCard, DataNotes, DataSource, NOT_STATED, Origin, PartCard, SplitMethod};
pub use directory::{Claim, MARK, Start};
pub use environment::{ENVIRONMENT, Environment, record_start};
pub use fit::{Fit, RunSetup};
pub use objective::Objective;
pub use packing::{Batch, PackedRow, pack};
pub use pairs::{Pairs, Rehearsed};
pub use privacy::{Accountant, PrivacyConfig, PrivacyUnit, noise_for};
pub use private::PrivacyState;
pub use progress::{Fitted, Progress, Stage};
pub use schedule::{Rates, Schedule};
pub use shape::{Architecture, ModelShape};
pub use source::{DataSets, Rejected, Sample, SampleSource};
pub use split::{Part, Shares, check_groups, check_times, split_by_group, split_by_time};
pub use state::{STATE, Standing};
pub use tensorboard::{EVENTS, EventFile};
pub use text_source::{HoldOut, TextCorpus, TextSets, text_sets};
pub use train::{Train, TrainControl, Trained, TrainingRun};

/// What a run's data was, within its directory: counts, what was dropped and why, the hash.
pub const DATA_REPORT: &str = "data.json";
