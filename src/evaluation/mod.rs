//! Numbers a designer can trust: baselines, text figures, reports. Every figure names its protocol, and a
//! baseline always stands beside it.

mod gate;
mod ngram;
mod overlap;
mod ranking;
mod report;
mod text;

pub use gate::Regression;
pub use ngram::NGram;
pub use overlap::{Pair, Rouge, bleu, chrf2, rouge_l, rouge_n, tokenize_13a};
pub use ranking::{Rank, ReliabilityBin, auc, brier, ece, log_loss, ndcg, reliability};
pub use report::{Report, UnitLoss, bootstrap, language_figures};
pub use text::{TrainingText, distinct, repetition};
