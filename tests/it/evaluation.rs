//! `skald evaluate text | ranking` from outside: names in the JSON, reports, gates and wrong input.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder with files.
struct Place(tempfile::TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| fs::write(place.at(name), text).unwrap());
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skald"));
        command.arg("evaluate").args(args).current_dir(self.0.path()).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn error(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{text}");
        errors[0].to_owned()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SAID: &str = "The cat sat on the mat.\nHe was running to the inn, happily.\nWelcome, traveller.\n";
const WRITTEN: &str = "The cat sat on a mat.\nShe runs to the inn, happily.\nGood day.\n";
const TEXT: &[&str] = &["text", "--hypotheses", "said.txt", "--references", "written.txt"];

fn texts() -> Place {
    Place::new(&[("said.txt", SAID), ("written.txt", WRITTEN)])
}

/// Rows of 30 users, the right item first, second or fifth, and of 40 predictions.
fn scores() -> String {
    let users = (0..30).map(|n| format!("{{\"scores\":[5,4,3,2,1,0],\"target\":{}}}\n", [0, 1, 4][n % 3]));
    let predictions = (0..40).map(|n| {
        format!("{{\"label\":{},\"probability\":{}}}\n", u8::from(n % 4 == 0 || n > 30), f64::from(n) / 40.0)
    });
    users.chain(predictions).collect()
}

const RANKING: &[&str] = &["ranking", "--scores", "scores.jsonl"];

#[test]
fn texts_have_all_figures_by_name_and_an_interval_each() {
    let report = texts().json(TEXT);
    let names = [
        "bleu",
        "chrf2",
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum",
        "rouge1_stem",
        "rouge2_stem",
        "rougeL_stem",
        "distinct_1",
        "distinct_2",
        "self_bleu_2",
        "self_bleu_3",
        "self_bleu_4",
        "self_bleu_5",
    ];
    for name in names {
        let figure = report[name].as_f64().unwrap_or_else(|| panic!("{name}: {report}"));
        let [low, high]: [f64; 2] = serde_json::from_value(report["ci95"][name].clone()).unwrap();
        assert!(low <= figure + 1e-9 && figure <= high + 1e-9, "{name}: {figure} in {low} to {high}");
    }
    assert_eq!(report["n"], 3);
    assert!(report["protocol"].as_str().unwrap().contains("tok:13a") && report["data_hash"].is_string());
    assert!(report["rouge1_stem"].as_f64() > report["rouge1"].as_f64());
    assert!(report["baselines"]["the references"]["self_bleu_4"].is_f64());
    assert!(report["bleu"].as_f64() > report["baselines"]["another line's reference"]["bleu"].as_f64());
    assert_eq!(report, texts().json(TEXT), "the same seed gives the same report");
}

#[test]
fn a_second_file_of_references_counts_where_it_is_closer() {
    let place = texts();
    let one = place.json(TEXT);
    fs::write(place.at("more.txt"), SAID).unwrap();
    let two = place.json(&[TEXT, &["more.txt"]].concat());
    assert!(one["bleu"].as_f64() < Some(90.0) && two["rougeL"] == 1.0 && two["bleu"].as_f64() > Some(99.9));
}

#[test]
fn rankings_and_probabilities_have_all_figures_by_name() {
    let place = Place::new(&[("scores.jsonl", &scores())]);
    let report = place.json(RANKING);
    for family in ["hr", "ndcg", "mrr"] {
        for k in ["1", "5", "10", "20"] {
            let figures = [&report, &report["baselines"]["guessing"]].map(|of| of[family][k].as_f64());
            assert!(
                figures.iter().all(Option::is_some) && report["ci95"][family][k].is_array(),
                "{family} {k}"
            );
        }
    }
    assert!((report["hr"]["1"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12 && report["hr"]["5"] == 1.0);
    for name in ["auc", "log_loss", "brier", "ece"] {
        assert!(report[name].is_f64() && report["ci95"][name].is_array(), "{name}");
        assert!(report["baselines"]["base rate"][name].is_f64(), "{name}");
    }
    assert_eq!(report["n"], 70);
    fs::write(place.at("scores.jsonl"), scores().lines().next().unwrap()).unwrap();
    let report = place.json(RANKING);
    assert!(report.get("auc").is_none() && report["hr"]["1"] == 1.0 && report["ci95"].get("hr").is_none());
}

#[test]
fn a_gate_holds_back_what_got_worse_and_refuses_other_data() {
    let place = texts();
    fs::write(place.at("old.json"), place.json(TEXT).to_string()).unwrap();
    let gate = [TEXT, &["--baseline", "old.json", "--gate"]].concat();
    assert!(place.run(&gate).status.success());
    fs::write(place.at("said.txt"), "Mat.\nNo inn.\nBad day.\n").unwrap();
    let error = place.error(1, &gate);
    assert!(
        error.contains("worse than the baseline") && error.contains("rouge1") && error.contains("said.txt")
    );
    let lax = [&gate[..], &["--tolerance", "1"]].concat();
    assert!(place.run(&lax).status.success());
    fs::write(place.at("written.txt"), "Other.\nThings\nhere.\n").unwrap();
    assert!(place.error(1, &gate).contains("data_hash"));
    assert!(place.error(1, &[&gate[..], &["--tolerance", "2"]].concat()).contains("--tolerance"));
    assert!(place.error(2, &[TEXT, &["--gate"]].concat()).contains("required"));

    let place = Place::new(&[("scores.jsonl", &scores())]);
    fs::write(place.at("old.json"), place.json(RANKING).to_string()).unwrap();
    let gate = [RANKING, &["--baseline", "old.json", "--gate"]].concat();
    assert!(place.run(&gate).status.success());
    fs::write(place.at("scores.jsonl"), scores().replace("[5,4,3,2,1,0]", "[0,1,2,3,4,5]")).unwrap();
    assert!(place.error(1, &gate).contains("hr@1"));
}

#[test]
fn a_page_is_one_file_that_needs_nothing_else() {
    let place =
        Place::new(&[("scores.jsonl", &scores()), ("said.txt", "<b>1</b>\n2\n"), ("written.txt", "1\n3\n")]);
    for (args, parts) in [(TEXT, ["&lt;b&gt;1&lt;/b&gt;", "<svg"]), (RANKING, ["Reliability", "<circle"])] {
        let output = place.run(&[args, &["--html", "out.html"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let html = fs::read_to_string(place.at("out.html")).unwrap();
        assert!(parts.iter().all(|part| html.contains(part)), "{html}");
        for part in ["<b>", "<script", "src=", "href=", "url(", "NaN"] {
            assert!(!html.contains(part), "{part}");
        }
    }
    assert!(place.error(1, &[RANKING, &["--html", "no/such/out.html"]].concat()).contains("out.html"));
}

#[test]
fn wrong_input_is_one_clear_error() {
    let place = texts();
    fs::write(place.at("more.txt"), "a\nb\n").unwrap();
    let error = place.error(1, &[TEXT, &["more.txt"]].concat());
    assert!(error.contains("2 lines") && error.contains("3 lines") && error.contains("more.txt"), "{error}");
    let nowhere = ["text", "--hypotheses", "no.txt", "--references", "written.txt"];
    assert!(place.error(1, &nowhere).contains("check the path"));
    fs::write(place.at("said.txt"), b"fine\nnot \xff fine\n").unwrap();
    assert!(place.error(1, TEXT).contains("said.txt:2"));
    for (row, part) in
        [("{\"scores\":[NaN,1],\"target\":0}", "finite"), ("{\"scores\":[1],\"target\":1}", "target")]
    {
        fs::write(place.at("scores.jsonl"), format!("{}{row}\n", scores())).unwrap();
        let error = place.error(1, RANKING);
        assert!(error.contains("scores.jsonl:71") && error.contains(part), "{error}");
    }
    fs::write(place.at("scores.jsonl"), "").unwrap();
    assert!(place.error(1, RANKING).contains("no scores"));
    assert!(place.error(2, &["ranking"]).contains("required"));
}

#[test]
fn help_shows_the_formats() {
    let help = |what: &str| String::from_utf8(Place::new(&[]).run(&[what, "--help"]).stdout).unwrap();
    assert!(help("ranking").contains("{\"scores\": [0.1") && help("text").contains("{\"hypothesis\""));
}

#[test]
fn text_that_rouge_cannot_read_and_tied_scores_are_warned_of() {
    let place = Place::new(&[("said.txt", "東京は夜です\n"), ("written.txt", "東京は朝です\n")]);
    let output = place.run(TEXT);
    assert!(output.status.success() && stderr(&output).contains("warning: ROUGE"), "{}", stderr(&output));
    assert!(!stderr(&texts().run(TEXT)).contains("warning"));
    fs::write(place.at("scores.jsonl"), "{\"scores\":[1,1,1],\"target\":2}\n").unwrap();
    assert!(stderr(&place.run(RANKING)).contains("tied"));
}
