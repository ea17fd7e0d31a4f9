//! `skald generate text`.

use crate::Common;
use bevy_skald::decode::{
    Backend, Finish, Form, LoadedModel, Output, Prompt, Request, Sampling, Scheduler, SchedulerConfig,
    SchedulerCounters,
};
use bevy_skald::files::read_text;
use bevy_skald::text::Message;
use bevy_skald::{Error, Result};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Its options.
#[derive(Args)]
pub struct TextArgs {
    /// The model: a checkpoint or Hugging Face directory, or a GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// A text to go on with.
    #[arg(long, value_name = "TEXT", conflicts_with = "say", required_unless_present = "say")]
    prompt: Option<String>,
    /// What is said to a model that was taught to chat.
    #[arg(long, value_name = "TEXT")]
    say: Option<String>,
    /// What it is told first.
    #[arg(long, value_name = "TEXT", requires = "say")]
    system: Option<String>,
    /// The answer is JSON of this schema.
    #[arg(long, value_name = "F.json", conflicts_with_all = ["regex", "lark"])]
    schema: Option<PathBuf>,
    /// The answer is a text that this regular expression matches.
    #[arg(long, value_name = "REGEX", conflicts_with = "lark")]
    regex: Option<String>,
    /// The answer is a text of this grammar (llguidance's Lark).
    #[arg(long, value_name = "F.lark")]
    lark: Option<PathBuf>,
    /// An adapter for the model: a directory of `peft`'s two files.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.7)]
    temperature: f32,
    /// Keeps the smallest set of tokens whose probability reaches this.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// The longest answer, in tokens.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// How many answers, of seeds of their own, decoded together. More than one are told when they are whole.
    #[arg(long, default_value_t = 1)]
    count: usize,
}

fn form(args: &TextArgs) -> Result<Option<Form>> {
    let read = |path: &Path| read_text(path, 1 << 24, "read the grammar");
    if let Some(path) = &args.schema {
        let schema = serde_json::from_str(&read(path)?).map_err(|e| Error::Syntax {
            file: path.display().to_string(),
            line: e.line(),
            column: e.column(),
            reason: "this is no JSON".into(),
            remedy: "give a JSON schema".into(),
        })?;
        return Ok(Some(Form::JsonSchema(schema)));
    }
    let lark = args.lark.as_deref().map(read).transpose()?;
    Ok(args.regex.clone().map(Form::Regex).or(lark.map(Form::Lark)))
}

/// Answers that are made ready before there is room for them.
const AHEAD: usize = 64;

struct Answer {
    text: String,
    tokens: usize,
    finish: Option<Finish>,
}

pub fn run(args: &TextArgs, common: &Common) -> Result<()> {
    common.device.parse::<bevy_skald::nn::DeviceChoice>()?.open()?;
    crate::bench::range((1..=100_000).contains(&args.count), "--count", "1 to 100000")?;
    let form = form(args)?;
    let model = Arc::new(LoadedModel::open(&args.model)?);
    let prompt = match (&args.prompt, &args.say) {
        (Some(text), _) => Prompt::Text(model.text_prompt(text)),
        (None, said) => {
            let system = args.system.iter().map(|text| Message::new("system", text));
            let said = Message::new("user", said.as_deref().unwrap_or_default());
            Prompt::Chat(system.chain([said]).collect())
        }
    };
    let adapter = args.adapter.as_deref().map(bevy_skald::model::Adapter::load).transpose()?;
    let adapter = adapter.map(|adapter| model.adapter(&adapter)).transpose()?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        min_p: 0.0,
        max_tokens: args.max_tokens,
        ..Sampling::default()
    };
    sampling.validate("options")?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(common.threads.max(1)).build();
    let threads = threads.map_err(|e| Error::backend("starting the threads", e))?;
    let mut scheduler = Scheduler::new(Arc::clone(&model), SchedulerConfig::default());
    let mut places = BTreeMap::new();
    let start = Instant::now();
    let answer = || Answer { text: String::new(), tokens: 0, finish: None };
    let mut answers: Vec<Answer> = (0..args.count).map(|_| answer()).collect();
    let mut told = 0;
    while told < answers.len() {
        // Only some are made ahead: each has a grammar of its own.
        while places.len() < args.count && scheduler.load().0 + scheduler.load().1 < AHEAD {
            let n = places.len();
            let constraint = form.as_ref().map(|form| form.constraint(&model)).transpose()?;
            let id = scheduler.submit(Request {
                prompt: prompt.clone(),
                sampling: sampling.clone(),
                seed: common.seed().derive_index(n as u64),
                constraint,
                priority: 0,
                adapter: adapter.clone(),
            });
            places.insert(id, n);
        }
        let mut outputs = Vec::new();
        threads.install(|| scheduler.step(&mut outputs))?;
        for output in outputs {
            match output {
                Output::Delta { id, text } => {
                    let Some(&n) = places.get(&id) else { continue };
                    if args.count == 1 {
                        delta(&text, common);
                    }
                    answers[n].text += &text;
                }
                Output::Finished { id, finish, tokens, .. } => {
                    let Some(&n) = places.get(&id) else { continue };
                    (answers[n].finish, answers[n].tokens) = (Some(finish), tokens);
                }
                Output::Failed { error, .. } => return Err(error),
            }
        }
        while let Some(Answer { text, tokens, finish: Some(finish) }) = answers.get(told) {
            let speed = *tokens as f64 / start.elapsed().as_secs_f64().max(1e-9);
            tell(args, common, text, (*tokens, speed, *finish), &scheduler.counters());
            told += 1;
        }
    }
    let cut = answers.iter().filter(|answer| answer.finish == Some(Finish::Length)).count();
    if form.is_some() && cut > 0 {
        let reason = format!(
            "{cut} of {} answers were cut at {} tokens, so they may not have the form",
            args.count, args.max_tokens
        );
        let remedy = "allow more tokens, or bound the form (maxLength, maxItems)";
        return Err(Error::config("options", "--max-tokens", reason, remedy));
    }
    Ok(())
}

fn delta(text: &str, common: &Common) {
    if common.json {
        println!("{}", json!({ "delta": text }));
    } else {
        print!("{text}");
    }
    // Whoever reads a pipe wants the words as they come.
    let _ = std::io::stdout().flush();
}

fn tell(
    args: &TextArgs,
    common: &Common,
    text: &str,
    (tokens, speed, finish): (usize, f64, Finish),
    counters: &SchedulerCounters,
) {
    if common.json {
        let cut = finish == Finish::Length;
        let mut line =
            json!({ "done": true, "text": text, "tokens": tokens, "tokens_per_s": speed, "cut": cut });
        if counters.masks > 0 {
            // Of all answers so far.
            line["mask_us"] = (counters.mask_time.as_secs_f64() * 1e6 / counters.masks as f64).into();
            line["forced_tokens"] = counters.forced.into();
        }
        println!("{line}");
    } else if args.count == 1 {
        println!();
    } else {
        println!("{text}");
    }
}
