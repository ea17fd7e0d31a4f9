//! The gate: whether a model is worse than the one before it.

use super::report::Report;
use crate::error::{Error, Result};

/// A figure that a gate looks at, and whether more of it is better. `family@` stands for all its members.
pub type Gated = (&'static str, bool);

/// What a gate on a language model looks at.
pub const LANGUAGE_GATE: &[Gated] = &[("loss", false), ("bits_per_byte", false), ("slot_accuracy", true)];
/// What a gate on texts with references looks at.
pub const TEXT_GATE: &[Gated] =
    &[("bleu", true), ("chrf2", true), ("rouge1", true), ("rouge2", true), ("rougeL", true)];
/// What a gate on rankings and probabilities looks at.
pub const RANKING_GATE: &[Gated] = &[
    ("hr@", true),
    ("ndcg@", true),
    ("mrr@", true),
    ("auc", true),
    ("log_loss", false),
    ("brier", false),
    ("ece", false),
];

/// A figure that got worse.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// Which.
    pub figure: String,
    /// What it was.
    pub was: f64,
    /// What it is.
    pub is: f64,
}

impl Report {
    /// Reads a report written as JSON. `file` is for messages.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::Syntax {
            file: file.to_owned(),
            line: e.line(),
            column: e.column(),
            reason: format!("this is no report of an evaluation: {e}"),
            remedy: "give what `skald evaluate .. --json` printed".into(),
        })
    }

    /// The `gated` figures that are worse than in `baseline` by more than `tolerance` (a share of the baseline's).
    /// Fails when the two were not measured alike: another protocol or other data.
    pub fn regressions(
        &self,
        baseline: &Self,
        file: &str,
        tolerance: f64,
        gated: &[Gated],
    ) -> Result<Vec<Regression>> {
        for (field, same) in [
            ("protocol", self.protocol == baseline.protocol),
            ("data_hash", self.data_hash == baseline.data_hash),
        ] {
            if !same {
                let reason = "the baseline was measured differently";
                return Err(Error::config(file, field, reason, "evaluate the old model again, on this data"));
            }
        }
        let mut worse = Vec::new();
        for (figure, &was) in &baseline.figures {
            let looks =
                |(name, _): &&Gated| figure == name || (name.ends_with('@') && figure.starts_with(name));
            let (Some((_, more_is_better)), Some(&is)) = (gated.iter().find(looks), self.figures.get(figure))
            else {
                continue;
            };
            let lost = if *more_is_better { was - is } else { is - was };
            if lost > tolerance * was.abs() {
                worse.push(Regression { figure: figure.clone(), was, is });
            }
        }
        Ok(worse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(loss: f64, slots: f64) -> Report {
        let mut report = Report { protocol: "p".into(), data_hash: "h".into(), ..Report::default() };
        report.set("loss", Some(loss));
        report.set("slot_accuracy", Some(slots));
        report
    }

    #[test]
    fn only_what_got_worse_beyond_the_tolerance_is_told() {
        let old = report(3.0, 1.0);
        let worse = |new: Report| new.regressions(&old, "f", 0.02, LANGUAGE_GATE).unwrap();
        assert!(worse(report(3.05, 0.99)).is_empty() && worse(report(1.0, 1.0)).is_empty());
        let told = worse(report(3.1, 0.9));
        assert_eq!(told.iter().map(|r| r.figure.as_str()).collect::<Vec<_>>(), ["loss", "slot_accuracy"]);
        assert_eq!((told[0].was, told[0].is), (3.0, 3.1));
    }

    #[test]
    fn all_members_of_a_family_are_looked_at_and_nothing_else_is() {
        let (mut old, mut new) = (report(3.0, 1.0), report(9.0, 1.0));
        for (name, was, is) in [("hr@5", 0.5, 0.4), ("hr@10", 0.6, 0.6), ("hr", 1.0, 0.0)] {
            old.set(name, Some(was));
            new.set(name, Some(is));
        }
        let told = new.regressions(&old, "f", 0.02, RANKING_GATE).unwrap();
        assert_eq!(told, [Regression { figure: "hr@5".into(), was: 0.5, is: 0.4 }]);
    }

    #[test]
    fn a_baseline_measured_differently_is_refused_and_reports_come_back_from_json() {
        let old = report(3.0, 1.0);
        let other = Report { data_hash: "x".into(), ..old.clone() };
        assert!(old.regressions(&other, "f", 0.0, &[]).unwrap_err().to_string().contains("data_hash"));
        let json = serde_json::to_string(&old).unwrap();
        let back = Report::from_json(&json, "f").unwrap();
        assert_eq!((back.figures, back.protocol), (old.figures, old.protocol));
        assert!(Report::from_json("{}", "f.json").unwrap_err().to_string().contains("f.json"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,120}") {
            let _ = Report::from_json(&text, "f");
        }
    }
}
