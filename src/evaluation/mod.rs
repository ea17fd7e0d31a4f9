//! Numbers a designer can trust: baselines, text figures, rankings, reports. Every figure names its protocol, and a
//! baseline always stands beside it.

mod bleu;
mod chrf;
mod gate;
mod html;
mod lines;
mod nested;
mod ngram;
mod overlap;
mod porter;
mod ranking;
mod report;
mod rouge;
mod scores;
mod text;
mod variety;

pub use bleu::{bleu, tokenize_13a};
pub use chrf::chrf2;
pub use gate::{Gated, LANGUAGE_GATE, RANKING_GATE, Regression, TEXT_GATE};
pub use html::{Page, SampleLine};
pub use lines::{TEXT_PROTOCOL, read_pairs, text_report};
pub use ngram::NGram;
pub use overlap::{Pair, misplaced, overlap_figures, overlap_measured};
pub use ranking::{Rank, ReliabilityBin, auc, brier, ece, log_loss, ndcg, reliability};
pub use report::{Measured, Report, UnitLoss, bootstrap, language_figures};
pub use rouge::{Rouge, Words, rouge_blind, rouge_l, rouge_lsum, rouge_n};
pub use scores::{RANKING_PROTOCOL, Scores};
pub use text::{TrainingText, repeats};
pub use variety::{distinct, variety_figures};
