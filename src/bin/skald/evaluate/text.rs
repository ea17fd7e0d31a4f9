//! `skald evaluate text`.

use super::{Evaluated, ReportArgs};
use crate::Common;
use bevy_skald::Result;
use bevy_skald::evaluation::{Pair, SampleLine, TEXT_GATE, read_pairs, repeats, rouge_blind, text_report};
use clap::Args;
use std::path::PathBuf;

/// What files of texts look like.
pub const FORMAT: &str = "\
Format: a text a line. In a file that ends in .jsonl a line is a string, or
  {\"hypothesis\": \"..\"}                                             among the hypotheses,
  {\"reference\": \"..\"}, {\"references\": [\"..\", \"..\"]} or [\"..\", \"..\"]  among the references.

BLEU and chrF2 are those of sacrebleu, ROUGE that of rouge-score (also with its stemmer), self-BLEU
that of Texygen.";

#[derive(Args)]
pub struct TextArgs {
    /// The generated texts.
    #[arg(long, value_name = "F")]
    hypotheses: PathBuf,
    /// What they should be like, line by line; several files are several references for each line.
    #[arg(long, value_name = "F", num_args = 1.., required = true)]
    references: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) report: ReportArgs,
}

pub fn evaluate(args: &TextArgs, common: &Common) -> Result<Evaluated> {
    let pairs = read_pairs(&args.hypotheses, &args.references)?;
    let texts = pairs.iter().flat_map(|pair| pair.references.iter().chain([&pair.hypothesis]));
    let blind = rouge_blind(texts.map(String::as_str));
    if blind > 0.5 {
        eprintln!(
            "warning: ROUGE knows only the letters a to z and drops {:.0} % of these; look at chrf2",
            100.0 * blind
        );
    }
    Ok(Evaluated {
        report: text_report(&pairs, common.seed()),
        title: "Generated texts",
        units: "lines",
        source: args.hypotheses.display().to_string(),
        gated: TEXT_GATE,
        reliability: None,
        samples: samples(&pairs),
        pictures: String::new(),
    })
}

fn samples(pairs: &[Pair]) -> Vec<SampleLine> {
    let said: Vec<String> = pairs.iter().map(|pair| pair.hypothesis.clone()).collect();
    let sample = |(pair, repeated): (&Pair, bool)| SampleLine {
        opening: None,
        line: pair.hypothesis.clone(),
        reference: pair.references.join(" / "),
        flags: repeated.then_some("repeated").into_iter().collect(),
    };
    pairs.iter().zip(repeats(&said)).map(sample).collect()
}
