//! `skald generate`.

pub mod level;
mod quest;
mod text;

use crate::Common;
use bevy_skald::decode::{Backend, LoadedModel, Output, Sampling, Scheduler, SchedulerConfig};
use bevy_skald::dialogue::{Manner, Memory, PersonFact, Persona, Turn};
use bevy_skald::files::read_limited;
use bevy_skald::model::Adapter;
use bevy_skald::{Error, Result};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Its options.
#[derive(Args)]
pub struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// An NPC's answer, streamed.
    Dialogue(DialogueArgs),
    /// Quests over what exists in a world, for a player if one is named.
    Quest(quest::QuestArgs),
    /// Levels that can be finished, each with its solution.
    Level(level::GenerateLevelArgs),
    /// What any model says, streamed: a text that goes on, an answer in a conversation, or a value of a given form.
    Text(text::TextArgs),
}

#[derive(Args)]
struct DialogueArgs {
    /// The model: a checkpoint directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Who speaks: a persona file.
    #[arg(long, value_name = "F.persona.ron")]
    persona: PathBuf,
    /// What the player says (empty: they walk up).
    #[arg(long, value_name = "TEXT")]
    say: String,
    /// An adapter for the model: a directory of `peft`'s two files.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The world (default: that of the village example).
    #[arg(long, value_name = "F.ron")]
    world: Option<PathBuf>,
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = Sampling::default().temperature)]
    temperature: f32,
    /// Keeps the smallest set of tokens whose probability reaches this.
    #[arg(long, default_value_t = Sampling::default().top_p)]
    top_p: f32,
    /// The longest answer.
    #[arg(long, default_value_t = Sampling::default().max_tokens)]
    max_tokens: usize,
}

pub fn run(args: &GenerateArgs, common: &Common) -> Result<()> {
    match &args.what {
        What::Dialogue(args) => dialogue(args, common),
        What::Quest(args) => quest::generate(args, common),
        What::Level(args) => level::run(args, common),
        What::Text(args) => text::run(args, common),
    }
}

fn dialogue(args: &DialogueArgs, common: &Common) -> Result<()> {
    common.device.parse::<bevy_skald::nn::DeviceChoice>()?.open()?;
    let file = args.persona.display().to_string();
    let persona = Persona::from_bytes(&read_limited(&args.persona, 1 << 20, "read the persona")?, &file)?;
    let mut world = crate::data::world(args.world.as_deref())?;
    if world.person(&persona.name).is_none() {
        // Somebody new: they stand at the first place.
        let place = world.places.first().map(|place| place.name.clone());
        let (name, role) = (persona.name.clone(), persona.role.clone());
        world.people.push(PersonFact { name, role, place, known_to: None });
    }
    let model = Arc::new(LoadedModel::open(&args.model)?);
    if model.card.domain != "dialogue" && model.chat.is_none() {
        let reason = format!("the model is for `{}`, and was not taught to chat", model.card.domain);
        return Err(Error::config(
            args.model.display().to_string(),
            "domain",
            reason,
            "give a dialogue model, or one with a chat template",
        ));
    }
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        max_tokens: args.max_tokens,
        ..Sampling::default()
    };
    sampling.validate("options")?;
    let manner = Manner::of(&model, sampling);
    if !manner.chats && !manner.voices.contains(&persona.voice) {
        eprintln!(
            "note: the model does not know the voice `{}`; it speaks in the average of {}",
            persona.voice,
            manner.voices.join(", ")
        );
    }
    let turn = Turn::prepare(&persona, &world, &Memory::default(), &args.say, common.seed(), &manner);
    let (mut request, mut speech) = turn.into_request(&model)?;
    if let Some(adapter) = &args.adapter {
        request.adapter = Some(model.adapter(&Adapter::load(adapter)?)?);
    }
    let mut scheduler = Scheduler::new(model, SchedulerConfig::default());
    scheduler.submit(request);
    let start = Instant::now();
    let mut out = std::io::stdout();
    loop {
        let mut outputs = Vec::new();
        scheduler.step(&mut outputs)?;
        for output in outputs {
            match output {
                Output::Delta { text, .. } => {
                    let new = speech.push(&text);
                    if !new.is_empty() {
                        if common.json {
                            println!("{}", serde_json::json!({ "delta": new }));
                        } else {
                            print!("{new}");
                        }
                        // Whoever reads a pipe wants the words as they come.
                        let _ = out.flush();
                    }
                }
                Output::Finished { finish, tokens, .. } => {
                    let seconds = start.elapsed().as_secs_f64();
                    let shown = speech.shown().trim_end().to_owned();
                    let spoken = speech.finish(finish, tokens);
                    let rest = spoken.text.strip_prefix(shown.as_str()).unwrap_or_default();
                    if common.json {
                        if !rest.is_empty() {
                            println!("{}", serde_json::json!({ "delta": rest }));
                        }
                        let line = serde_json::json!({
                            "done": true, "text": spoken.text, "act": spoken.act, "goal": spoken.goal,
                            "tokens": tokens, "tokens_per_s": tokens as f64 / seconds.max(1e-9), "fallback": false,
                        });
                        println!("{line}");
                    } else {
                        println!("{rest}");
                    }
                    return Ok(());
                }
                Output::Failed { error, .. } => return Err(error),
            }
        }
    }
}
