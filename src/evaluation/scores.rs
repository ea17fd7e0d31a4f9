//! [`Scores`]: what a ranker or a classifier said, read from a file, and the figures of that.

use super::ranking::{
    Rank, ReliabilityBin, ascending, auc_of, brier, ece_of, log_loss, reliability, reliability_of,
    squared_error, surprise,
};
use super::report::{Measured, Report, means};
use crate::error::{Error, Result};
use crate::seed::Seed;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The name of the protocol.
pub const RANKING_PROTOCOL: &str = "rows {scores, target}: one right item, ties at their expected rank r = above + \
    tied others / 2, HR@k = [r < k], NDCG@k = [r < k] / log2(r + 2), MRR@k = [r < k] / (r + 1), means over \
    rows; rows {label, probability} or {label, score}: AUC by mid-ranks, log-loss clipped at 1e-12 (nats), Brier score, \
    ECE over 15 bins of equal width; intervals bootstrapped over rows (percentiles; of ECE mirrored at the figure, since resampling \
    adds to it)";

/// The `k` of HR@k, NDCG@k and MRR@k.
const CUTS: [usize; 4] = [1, 5, 10, 20];

/// Bins of the calibration error.
const BINS: usize = 15;

/// A row of a file of scores.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreRow {
    scores: Option<Vec<f64>>,
    target: Option<usize>,
    label: Option<u8>,
    probability: Option<f64>,
    score: Option<f64>,
}

/// What a ranker or a classifier said, and what was right.
#[derive(Debug, Default, PartialEq)]
pub struct Scores {
    /// Where the right item stood, and among how many.
    ranks: Vec<(Rank, usize)>,
    /// Probabilities, or plain scores, of rows with a label.
    values: Vec<f64>,
    labels: Vec<bool>,
    are_probabilities: bool,
    hash: String,
}

impl Scores {
    /// Reads a JSONL file, a row a line: `{"scores":[0.1,2.5],"target":1}` for what a user was offered and which of
    /// it (from 0) was right, `{"label":1,"probability":0.8}` for a prediction, `{"label":0,"score":-3.2}` for one
    /// that is no probability. Empty lines are skipped. Errors name the line.
    pub fn read(path: &Path) -> Result<Self> {
        let mut scores = Self::default();
        let mut hasher = blake3::Hasher::new();
        let file = File::open(path).map_err(|e| Error::io("read the scores", path, e))?;
        for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line.map_err(|e| Error::io("read the scores", path, e))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let row = scores.take(&line).map_err(|(column, reason)| Error::Syntax {
                file: path.display().to_string(),
                line: number + 1,
                column,
                reason,
                remedy: "mend that line (`skald evaluate ranking --help` shows the format)".into(),
            })?;
            hasher.update(row.as_bytes());
        }
        if scores.ranks.is_empty() && scores.values.is_empty() {
            return Err(Error::Data {
                source_name: path.display().to_string(),
                reason: "there are no scores".into(),
                remedy: "give a .jsonl file with a row a line".into(),
            });
        }
        scores.hash = hasher.finalize().to_hex().to_string();
        Ok(scores)
    }

    /// Takes in a row. Returns what of it does not depend on who scores; fails with a column and a reason.
    fn take(&mut self, line: &[u8]) -> Result<String, (usize, String)> {
        let row: ScoreRow = serde_json::from_slice(line).map_err(|e| {
            let text = String::from_utf8_lossy(line).to_lowercase();
            let infinite = e.to_string().starts_with("number out of range");
            let reason = if infinite || text.contains("nan") || text.contains("inf") {
                "a score is not a finite number".to_owned()
            } else {
                format!("this is no row of scores: {e}")
            };
            (e.column(), reason)
        })?;
        let wrong = |reason: String| Err((0, reason));
        match row {
            ScoreRow {
                scores: Some(scores),
                target: Some(target),
                label: None,
                probability: None,
                score: None,
            } => {
                let Some(rank) = Rank::of(&scores, target) else {
                    let count = scores.len();
                    return wrong(format!("`target` is {target} (from 0), and there are {count} scores"));
                };
                self.ranks.push((rank, scores.len()));
                Ok(format!("{target} of {}\n", scores.len()))
            }
            ScoreRow { scores: None, target: None, label: Some(label), probability, score } => {
                let (value, is_probability) = match (probability, score) {
                    (Some(p), None) => (p, true),
                    (None, Some(score)) => (score, false),
                    _ => return wrong("a label needs either a `probability` or a `score`".into()),
                };
                if is_probability && !(0.0..=1.0).contains(&value) {
                    return wrong(format!("`probability` is {value}, not 0 to 1"));
                }
                if label > 1 {
                    return wrong(format!("`label` is {label}, not 0 or 1"));
                }
                if !self.values.is_empty() && is_probability != self.are_probabilities {
                    return wrong(
                        "this file has both `probability` and `score`, which cannot be compared".into(),
                    );
                }
                self.are_probabilities = is_probability;
                self.values.push(value);
                self.labels.push(label == 1);
                Ok(format!("label {label}\n"))
            }
            _ => wrong(
                "a row has either `scores` and `target`, or `label` and `probability` or `score`".into(),
            ),
        }
    }

    /// The reliability diagram, where there are probabilities.
    pub fn reliability(&self) -> Option<Vec<ReliabilityBin>> {
        let there = self.are_probabilities && !self.values.is_empty();
        there.then(|| reliability(&self.values, &self.labels, BINS))
    }

    /// `hr`, `ndcg` and `mrr` at 1, 5, 10 and 20, `tied` (the share of rows whose right item is tied with others),
    /// `auc`, `log_loss`, `brier` and `ece`, with intervals; beside them what guessing gets, and what always saying
    /// the base rate.
    pub fn report(&self, seed: Seed) -> Report {
        let mut report = Report {
            protocol: RANKING_PROTOCOL.split_whitespace().collect::<Vec<_>>().join(" "),
            data_hash: self.hash.clone(),
            n: self.ranks.len() + self.values.len(),
            ..Report::default()
        };
        if !self.ranks.is_empty() {
            let own = |(rank, _): &(Rank, usize), gain: Gain, k| gain(rank, k);
            let mut columns = self.columns(own);
            let tied = self.ranks.iter().map(|(rank, _)| f64::from(u8::from(rank.ties > 0)));
            columns.insert("tied".into(), tied.collect());
            report.take(Measured::means(&columns, seed.derive("ranks")));
            // The mean over all places.
            let guess = |&(_, count): &(Rank, usize), gain: Gain, k| {
                let places = (0..count.min(k)).map(|above| gain(&Rank { above, ties: 0 }, k));
                places.sum::<f64>() / count as f64
            };
            let guess = self.columns(guess);
            report.baselines.insert("guessing".into(), means(&guess, &vec![1.0; self.ranks.len()]));
        }
        if !self.values.is_empty() {
            report.take(self.classification(seed.derive("labels")));
            report.baselines.insert("base rate".into(), self.base_rate());
        }
        report
    }

    fn columns(&self, value: impl Fn(&(Rank, usize), Gain, usize) -> f64) -> BTreeMap<String, Vec<f64>> {
        let gains: [(&str, Gain); 3] = [("hr", Rank::hit), ("ndcg", Rank::ndcg), ("mrr", Rank::reciprocal)];
        let mut columns = BTreeMap::new();
        for (name, gain) in gains {
            for k in CUTS {
                let column = self.ranks.iter().map(|row| value(row, gain, k)).collect();
                columns.insert(format!("{name}@{k}"), column);
            }
        }
        columns
    }

    fn classification(&self, seed: Seed) -> Measured {
        let (values, labels) = (&self.values, &self.labels);
        let of_row = |f: fn(f64, bool) -> f64| values.iter().zip(labels).map(|(p, l)| f(*p, *l)).collect();
        let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        if self.are_probabilities {
            columns.insert("log_loss".into(), of_row(surprise));
            columns.insert("brier".into(), of_row(squared_error));
        }
        let order = ascending(values);
        let mut measured = Measured::bootstrapped(values.len(), seed, |counts| {
            let mut figures = means(&columns, counts);
            figures.extend(auc_of(&order, values, labels, counts).map(|auc| ("auc".to_owned(), auc)));
            if self.are_probabilities {
                let ece = ece_of(&reliability_of(values, labels, counts, BINS));
                figures.extend(ece.map(|ece| ("ece".to_owned(), ece)));
            }
            figures
        });
        // The basic bootstrap (Davison and Hinkley 1997): noise alone makes a calibration error, so that of a
        // resample is as much too large as the figure itself is.
        if let (Some(ece), Some(ends)) = (measured.figures.get("ece"), measured.ci95.get_mut("ece")) {
            *ends = [(2.0 * ece - ends[1]).max(0.0), (2.0 * ece - ends[0]).max(0.0)];
        }
        measured
    }

    /// What one gets who always says how often it is so in these rows.
    fn base_rate(&self) -> BTreeMap<String, f64> {
        let positives = self.labels.iter().filter(|label| **label).count();
        let rate = vec![positives as f64 / self.labels.len() as f64; self.labels.len()];
        let mut figures = BTreeMap::new();
        if 0 < positives && positives < self.labels.len() {
            figures.insert("auc".to_owned(), 0.5);
        }
        if self.are_probabilities {
            figures.extend(log_loss(&rate, &self.labels).map(|loss| ("log_loss".to_owned(), loss)));
            figures.extend(brier(&rate, &self.labels).map(|brier| ("brier".to_owned(), brier)));
            figures.insert("ece".into(), 0.0);
        }
        figures
    }
}

/// A figure of a rank at a cut.
type Gain = fn(&Rank, usize) -> f64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Scores> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Scores::read(file.path())
    }

    fn error(text: &str) -> String {
        let error = read(text).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[test]
    fn ranks_and_probabilities_have_their_figures_and_what_guessing_gets() {
        let ranks = "{\"scores\":[3,2,1],\"target\":0}\n\n{\"scores\":[1,2,2,0],\"target\":1}\n";
        let report = read(ranks).unwrap().report(Seed::new(1));
        // The second stands at 0.5: not the first, and in the first five.
        assert_eq!((report.figures["hr@1"], report.figures["hr@5"], report.figures["tied"]), (1.0, 1.0, 0.5));
        assert!((report.figures["mrr@20"] - f64::midpoint(1.0, 1.0 / 1.5)).abs() < 1e-12);
        let guess = &report.baselines["guessing"];
        assert!((guess["hr@1"] - f64::midpoint(1.0 / 3.0, 0.25)).abs() < 1e-12 && guess["hr@5"] == 1.0);
        assert!(!report.figures.contains_key("auc") && report.ci95.contains_key("ndcg@10"));

        let labels = "{\"label\":1,\"probability\":0.9}\n{\"label\":0,\"probability\":0.4}\n";
        let scores = read(labels).unwrap();
        let report = scores.report(Seed::new(1));
        assert_eq!((report.figures["auc"], report.n), (1.0, 2));
        assert!((report.figures["brier"] - f64::midpoint(0.01, 0.16)).abs() < 1e-12);
        assert!((report.baselines["base rate"]["log_loss"] - std::f64::consts::LN_2).abs() < 1e-12);
        assert!(!report.figures.contains_key("hr@1") && scores.reliability().is_some());

        let plain = read("{\"label\":1,\"score\":7}\n{\"label\":0,\"score\":-40.5}").unwrap();
        let report = plain.report(Seed::new(1));
        assert!(report.figures.keys().eq(["auc"]) && plain.reliability().is_none());
    }

    #[test]
    fn the_interval_of_a_calibration_error_reaches_down_to_what_is_true() {
        let mut dice = Seed::new(5).stream();
        let row = |n: u32| {
            let p = f64::from(n) / 1000.0;
            format!("{{\"label\":{},\"probability\":{p}}}\n", u8::from(dice.uniform_f64() < p))
        };
        let report = read(&(0..1000).map(row).collect::<String>()).unwrap().report(Seed::new(1));
        let ([low, high], figure) = (report.ci95["ece"], report.figures["ece"]);
        assert!(low < 0.5 * figure && high < 1.2 * figure, "{figure} in {low} to {high}");
    }

    #[test]
    fn the_data_is_the_same_whoever_scores_it() {
        let hash = |text: &str| read(text).unwrap().hash;
        assert_eq!(hash("{\"scores\":[3,2],\"target\":0}"), hash("{\"target\":0,\"scores\":[0,9]}\n"));
        assert_ne!(hash("{\"scores\":[3,2],\"target\":0}"), hash("{\"scores\":[3,2],\"target\":1}"));
    }

    #[test]
    fn bad_rows_are_named_by_line() {
        let good = "{\"scores\":[1,2],\"target\":0}\n";
        for (row, part) in [
            ("{\"scores\":[1,NaN],\"target\":0}", "not a finite number"),
            ("{\"scores\":[1,-Infinity],\"target\":0}", "not a finite number"),
            ("{\"label\":1,\"score\":1e999}", "not a finite number"),
            ("{\"scores\":[1,2],\"target\":2}", "there are 2 scores"),
            ("{\"scores\":[],\"target\":0}", "there are 0 scores"),
            ("{\"scores\":[1,2]}", "either `scores` and `target`"),
            ("{\"label\":2,\"probability\":0.5}", "not 0 or 1"),
            ("{\"label\":1,\"probability\":1.5}", "not 0 to 1"),
            ("{\"label\":1}", "either a `probability` or a `score`"),
            ("{\"label\":1,\"probability\":0.5}\n{\"label\":1,\"score\":3}", "both"),
            ("{\"scores\":[1,2],\"traget\":0}", "traget"),
            ("{\"scores\":[1,null],\"target\":0}", "null"),
            ("[1,2]", "no row of scores"),
            ("\u{fffd}", "no row of scores"),
        ] {
            let (error, line) = (error(&format!("{good}{row}")), 2 + row.lines().count() - 1);
            assert!(error.contains(part) && error.contains(&format!(":{line}:")), "{row}: {error}");
        }
        assert!(error("").contains("no scores") && error("\n \n").contains("no scores"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn any_row_is_read_or_refused(scores in prop::collection::vec(any::<f64>(), 0..4), target in 0usize..5) {
            let row = serde_json::json!({ "scores": scores, "target": target }).to_string();
            let whole = target < scores.len() && scores.iter().all(|score| score.is_finite());
            prop_assert_eq!(read(&row).is_ok(), whole, "{}", row);
        }
    }
}
