//! Lines beside references, read from files, and the figures of them.

use super::overlap::{Pair, misplaced, overlap_figures, overlap_measured};
use super::report::Report;
use super::variety::variety_figures;
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::seed::Seed;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The name of the protocol.
pub const TEXT_PROTOCOL: &str = "BLEU nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp and chrF2 over the corpus, as \
    sacrebleu 2.6.0 (0 to 100); ROUGE F1 as rouge-score 0.1.2, the best reference of each line, means over lines (0 to \
    1); distinct-n over lower-case words; self-BLEU as Texygen, each line against all others, 13a tokens (0 to 1); \
    intervals bootstrapped over lines, of distinct-n by the jackknife";

/// The longest text of a line, in characters.
const LONGEST: usize = 1 << 16;

/// A row of a JSONL file of generated texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Generated {
    Plain(String),
    Named { hypothesis: String },
}

/// A row of a JSONL file of references.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Many(Vec<String>),
    Named { references: Vec<String> },
    NamedOne { reference: String },
}

/// Reads generated texts and what they should be like, a text a line; the lines of several `references` files are
/// several references. In a file that ends in `.jsonl` a line is a string or an object with `hypothesis` (in
/// `hypotheses`), or a string, a list, or an object with `reference` or `references` (in `references`); other fields
/// are ignored, so one file may hold both. Fails when the files have different numbers of lines.
pub fn read_pairs(hypotheses: &Path, references: &[PathBuf]) -> Result<Vec<Pair>> {
    let said = rows(hypotheses, |row: Generated| match row {
        Generated::Plain(hypothesis) | Generated::Named { hypothesis } => vec![hypothesis],
    })?;
    let mut pairs: Vec<Pair> =
        said.into_iter().flatten().map(|hypothesis| Pair { hypothesis, references: Vec::new() }).collect();
    if pairs.is_empty() {
        return Err(Error::Data {
            source_name: hypotheses.display().to_string(),
            reason: "there is no line".into(),
            remedy: "give a file with a text a line".into(),
        });
    }
    for path in references {
        let written = rows(path, |row: Written| match row {
            Written::One(one) | Written::NamedOne { reference: one } => vec![one],
            Written::Many(many) | Written::Named { references: many } => many,
        })?;
        if written.len() != pairs.len() {
            return Err(Error::Data {
                source_name: path.display().to_string(),
                reason: format!(
                    "there are {} lines of references for the {} lines of {}",
                    written.len(),
                    pairs.len(),
                    hypotheses.display()
                ),
                remedy: "give one line for each".into(),
            });
        }
        pairs.iter_mut().zip(written).for_each(|(pair, written)| pair.references.extend(written));
    }
    match pairs.iter().position(|pair| pair.references.is_empty()) {
        None => Ok(pairs),
        Some(at) => Err(Error::Data {
            source_name: references.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
            reason: format!("line {} has no reference", at + 1),
            remedy: "give each line at least one, an empty text if need be".into(),
        }),
    }
}

fn rows<T: for<'de> Deserialize<'de>>(path: &Path, texts: fn(T) -> Vec<String>) -> Result<Vec<Vec<String>>> {
    let text = read_text(path, 1 << 30, "read the lines")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("jsonl"));
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let broken = |column: usize, reason: String| Error::Syntax {
            file: path.display().to_string(),
            line: number + 1,
            column,
            reason,
            remedy: "mend that line".into(),
        };
        let row = if !json {
            vec![line.to_owned()]
        } else if line.trim().is_empty() {
            continue;
        } else {
            let row = serde_json::from_str::<serde_json::Value>(line)
                .map_err(|e| broken(e.column(), format!("this is no JSON: {e}")))?;
            let row = serde_json::from_value(row).map_err(|_| {
                broken(1, "this is neither a text nor an object with `hypothesis` or `references`".into())
            })?;
            texts(row)
        };
        if row.iter().any(|text| text.chars().nth(LONGEST).is_some()) {
            return Err(broken(0, format!("a text is longer than {LONGEST} characters")));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The figures of generated texts: those of [`overlap_figures`] and [`variety_figures`], with intervals. Beside them
/// stand the variety of the (first) references, and the overlap of references with those of another line
/// ([`misplaced`]).
pub fn text_report(pairs: &[Pair], seed: Seed) -> Report {
    let mut hasher = blake3::Hasher::new();
    for reference in pairs.iter().flat_map(|pair| pair.references.iter().map(String::as_str).chain(["\n"])) {
        hasher.update(&reference.len().to_le_bytes()).update(reference.as_bytes());
    }
    let mut report = Report {
        protocol: TEXT_PROTOCOL.split_whitespace().collect::<Vec<_>>().join(" "),
        data_hash: hasher.finalize().to_hex().to_string(),
        n: pairs.len(),
        ..Report::default()
    };
    let said: Vec<String> = pairs.iter().map(|pair| pair.hypothesis.clone()).collect();
    report.take(overlap_measured(pairs, seed.derive("overlap")));
    report.take(variety_figures(&said, seed.derive("variety")));
    let written: Vec<String> = pairs.iter().filter_map(|pair| pair.references.first().cloned()).collect();
    let floor = overlap_figures(&misplaced(pairs));
    if !floor.is_empty() {
        report.baselines.insert("another line's reference".into(), floor);
    }
    report.baselines.insert("the references".into(), variety_figures(&written, seed).figures);
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
            Self(dir)
        }

        fn read(&self, hypotheses: &str, references: &[&str]) -> Result<Vec<Pair>> {
            let references: Vec<PathBuf> = references.iter().map(|name| self.0.path().join(name)).collect();
            read_pairs(&self.0.path().join(hypotheses), &references)
        }
    }

    fn pair(hypothesis: &str, references: &[&str]) -> Pair {
        Pair { hypothesis: hypothesis.into(), references: references.iter().map(|r| (*r).into()).collect() }
    }

    #[test]
    fn texts_and_json_lines_are_read_alike() {
        let files = Files::new(&[
            ("h.txt", "\u{feff}one\r\n\r\nthree\r\n"),
            ("r.txt", "a\n\nc"),
            ("r2.txt", "d\ne\nf\n"),
            ("h.jsonl", "\"one\"\n{\"hypothesis\":\"\",\"references\":[\"\",\"e\"]}\n\n\"three\"\n"),
            (
                "r.jsonl",
                "[\"a\",\"d\"]\n{\"references\":[\"\",\"e\"],\"hypothesis\":\"x\"}\n{\"references\":[\"c\",\"f\"]}\n",
            ),
        ]);
        let expected = [pair("one", &["a", "d"]), pair("", &["", "e"]), pair("three", &["c", "f"])];
        assert_eq!(files.read("h.txt", &["r.txt", "r2.txt"]).unwrap(), expected);
        assert_eq!(files.read("h.jsonl", &["r.jsonl"]).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_counts_or_the_line() {
        let files = Files::new(&[
            ("two.txt", "a\nb\n"),
            ("three.txt", "a\nb\nc\n"),
            ("none.txt", ""),
            ("bad.jsonl", "\"a\"\n{\"text\":\"b\"}\n"),
            ("broken.jsonl", "\"a\"\n{\"hyp"),
            ("no.jsonl", "[\"a\"]\n[]\n"),
        ]);
        let error = |h: &str, r: &str| {
            let error = files.read(h, &[r]).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            error
        };
        let counts = error("two.txt", "three.txt");
        assert!(
            counts.contains("3 lines") && counts.contains("2 lines") && counts.contains("three.txt"),
            "{counts}"
        );
        assert!(error("none.txt", "two.txt").contains("no line"));
        assert!(error("bad.jsonl", "two.txt").contains("bad.jsonl:2"));
        assert!(error("broken.jsonl", "two.txt").contains("broken.jsonl:2"));
        assert!(error("two.txt", "no.jsonl").contains("line 2 has no reference"));
        assert!(error("two.txt", "nowhere.txt").contains("check the path"));
        std::fs::write(files.0.path().join("long.txt"), "x".repeat(LONGEST + 1)).unwrap();
        assert!(error("long.txt", "two.txt").contains("long.txt:1"));
    }

    #[test]
    fn a_report_has_a_baseline_for_every_figure() {
        let pairs = [pair("the dog sat", &["the dog sat"]), pair("a dog ran", &["a dog ran", "it ran"])];
        let report = text_report(&pairs, Seed::new(1));
        for name in report.figures.keys() {
            assert!(report.baselines.values().any(|baseline| baseline.contains_key(name)), "{name}");
        }
        assert_eq!((report.figures["rougeL_stem"], report.n), (1.0, 2));
        assert!((report.baselines["another line's reference"]["rouge1"] - 1.0 / 3.0).abs() < 1e-12);
        let other = [Pair { hypothesis: "x".into(), ..pairs[0].clone() }, pairs[1].clone()];
        assert_eq!(report.data_hash, text_report(&other, Seed::new(1)).data_hash);
        let split = [pair("the dog sat", &["the dog", "sat"]), pairs[1].clone()];
        assert_ne!(report.data_hash, text_report(&split, Seed::new(1)).data_hash);
    }

    proptest! {
        #[test]
        fn any_json_line_is_read_or_refused(text in "[\\[\\]{}\",:a-z\\\\ \n]{0,60}") {
            let files = Files::new(&[("f.jsonl", &text)]);
            let _ = files.read("f.jsonl", &["f.jsonl"]);
        }
    }
}
