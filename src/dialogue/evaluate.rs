//! Evaluation of a dialogue model on held-out dialogues.

use super::corpus::{Corpus, Part};
use super::persona::Persona;
use super::slot::slots_of;
use super::source::{DialogueSource, test_set};
use super::speak::{Manner, Turn};
use super::world::World;
use super::{CorpusTurn, Memory};
use crate::decode::{Backend, LoadedModel, Output, Sampling, Scheduler, SchedulerConfig};
use crate::error::Result;
use crate::evaluation::{
    NGram, Pair, Report, TrainingText, UnitLoss, bleu, bootstrap, chrf2, distinct, language_figures,
    repetition, rouge_l,
};
use crate::model::{Row, Scratch};
use crate::seed::Seed;
use crate::training::{Sample, SampleSource};
use std::sync::Arc;

/// The name of the protocol.
pub const PROTOCOL: &str = "written dialogues of the test part (one in twenty, grouped so that none shares an NPC \
    line with the training or validation part; training never reads it); loss over the NPC's tokens (act, words, slots, end) after the true context; one generated \
    line for each opening of the test part, in its voice and in the example world; BLEU, chrF2 and \
    ROUGE-L of those against the one line that a writer gave there";

/// Evaluates `model` on the held-out dialogues of `corpus`. Lines are generated for the openings of held-out
/// dialogues (at most `lines`), spoken by a persona of the dialogue's voice in `world`.
pub fn evaluate(
    model: &Arc<LoadedModel>,
    corpus: &Corpus,
    world: &World,
    lines: usize,
    seed: Seed,
) -> Result<Report> {
    let tokenizer = Arc::new(model.tokenizer.clone());
    let (train, held) = test_set(corpus, &tokenizer)?;
    let samples =
        |source: &DialogueSource| -> Vec<Sample> { (0..source.len()).map(|i| source.fixed(i)).collect() };
    let (train, held) = (samples(&train), samples(&held));
    let bytes = |sample: &Sample| -> f64 {
        let counted = sample.ids.iter().zip(&sample.loss).filter(|(_, w)| **w > 0.0).map(|(id, _)| *id);
        let spoken: Vec<u32> = counted.collect();
        tokenizer.decode(&spoken).len() as f64
    };
    let mut scratch = Scratch::default();
    let mut units = Vec::new();
    for sample in &held {
        units.push(UnitLoss { bytes: bytes(sample), ..model_loss(model, sample, &mut scratch)? });
    }
    let ngram = NGram::train(5, tokenizer.vocab_size(), train.iter().map(|sample| sample.ids.as_slice()));
    let baseline: Vec<UnitLoss> = held
        .iter()
        .map(|sample| {
            let counted = (1..sample.ids.len()).filter(|&i| sample.loss[i] > 0.0);
            let nll: Vec<f64> = counted.map(|i| ngram.nll(&sample.ids[..i], sample.ids[i])).collect();
            UnitLoss { nats: nll.iter().sum(), tokens: nll.len() as f64, bytes: bytes(sample) }
        })
        .collect();
    let mut report = Report {
        protocol: PROTOCOL.split_whitespace().collect::<Vec<_>>().join(" "),
        data_hash: corpus.hash(),
        n: units.len(),
        figures: language_figures(&units),
        ..Report::default()
    };
    report.baselines.insert("5-gram (Witten-Bell)".into(), language_figures(&baseline));
    report.ci95 = bootstrap(&units, seed, language_figures);
    generate_figures(&mut report, model, corpus, world, lines, seed)?;
    Ok(report)
}

fn model_loss(model: &LoadedModel, sample: &Sample, scratch: &mut Scratch) -> Result<UnitLoss> {
    let vocab = model.decoder.vocab_size();
    let length = sample.ids.len().min(model.decoder.context());
    let (mut cache, mut logits) = (model.decoder.cache(), Vec::new());
    let row = Row { cache: &mut cache, tokens: &sample.ids[..length], logits: &mut logits, all: true };
    model.decoder.forward(&mut [row], scratch)?;
    let mut unit = UnitLoss::default();
    for i in (1..length).filter(|&i| sample.loss[i] > 0.0) {
        let logits = &logits[(i - 1) * vocab..i * vocab];
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
        unit.nats += sum.ln() - f64::from(logits[sample.ids[i] as usize] - max);
        unit.tokens += 1.0;
    }
    Ok(unit)
}

/// A line made for an evaluation.
pub struct Generated {
    /// As shown.
    pub text: String,
    /// With slots.
    pub line: String,
    /// What a writer answered, with slots.
    pub reference: String,
    /// Whether it ended by itself, with every slot filled.
    pub whole: bool,
}

/// Lets the model answer the openings of held-out dialogues.
pub fn generate(
    model: &Arc<LoadedModel>,
    corpus: &Corpus,
    world: &World,
    lines: usize,
    seed: Seed,
) -> Result<Vec<Generated>> {
    let manner = Manner::of(model, Sampling::default());
    let mut scheduler = Scheduler::new(Arc::clone(model), SchedulerConfig::default());
    let mut speeches = std::collections::BTreeMap::new();
    for (n, dialogue) in corpus.part(Part::Test).take(lines).enumerate() {
        let Some(CorpusTurn::Player { says }) = dialogue.turns.first() else { continue };
        let said = says.first().map_or("", String::as_str);
        let persona = stand_in(&dialogue.voice, world, n);
        let said = in_world(said, &persona, world);
        let memory = Memory { lines: n as u64, ..Memory::default() };
        let turn = Turn::prepare(&persona, world, &memory, &said, seed.derive("evaluate"), &manner);
        let id = scheduler.submit(turn.request);
        let reference = dialogue.lines().next().map_or_else(String::new, |(_, line)| line.to_owned());
        speeches.insert(id, (turn.speech, reference));
    }
    let mut generated = Vec::new();
    while !scheduler.is_idle() {
        let mut outputs = Vec::new();
        scheduler.step(&mut outputs)?;
        for output in outputs {
            match output {
                Output::Delta { id, text } => {
                    if let Some((speech, _)) = speeches.get_mut(&id) {
                        speech.push(&text);
                    }
                }
                Output::Finished { id, finish, tokens, .. } => {
                    if let Some((speech, reference)) = speeches.remove(&id) {
                        let spoken = speech.finish(finish, tokens);
                        let open = spoken.text.contains(['{', '}', '<', '>']);
                        let whole = finish == crate::decode::Finish::Stop && !open;
                        let line = spoken.exchange.line;
                        generated.push(Generated { text: spoken.text, line, reference, whole });
                    }
                }
                Output::Failed { error, .. } => return Err(error),
            }
        }
    }
    Ok(generated)
}

fn generate_figures(
    report: &mut Report,
    model: &Arc<LoadedModel>,
    corpus: &Corpus,
    world: &World,
    lines: usize,
    seed: Seed,
) -> Result<()> {
    let generated = generate(model, corpus, world, lines, seed)?;
    let part = |part: Part| corpus.part(part).flat_map(|d| d.lines().map(|(_, line)| line));
    let training = TrainingText::new(part(Part::Training));
    let said: Vec<String> = generated.iter().map(|line| line.line.clone()).collect();
    let written: Vec<String> = part(Part::Test).map(str::to_owned).take(said.len()).collect();
    report.set("distinct_1", distinct(&said, 1));
    report.set("distinct_2", distinct(&said, 2));
    report.set("repetition", repetition(&said));
    report.set("copied_lines", training.copied(&said));
    report.set("overlap_8", training.overlap(&said));
    let pairs: Vec<Pair> = generated
        .iter()
        .map(|line| Pair { hypothesis: line.line.clone(), references: vec![line.reference.clone()] })
        .collect();
    if !pairs.is_empty() {
        report.set("bleu", Some(bleu(&pairs)));
        report.set("chrf2", Some(chrf2(&pairs)));
        let rouge: f64 = pairs.iter().map(|pair| rouge_l(pair).f1).sum();
        report.set("rouge_l", Some(rouge / pairs.len() as f64));
    }
    report.set("lines_generated", Some(said.len() as f64));
    // A slot is right when what the world put there is what the line shows; one the world cannot fill would
    // be left open.
    let with_slots: Vec<&Generated> =
        generated.iter().filter(|line| !slots_of(&line.line).is_empty()).collect();
    let right = with_slots.iter().filter(|line| line.whole).count();
    report.set("slot_accuracy", (!with_slots.is_empty()).then(|| right as f64 / with_slots.len() as f64));
    if written.len() == said.len() {
        let mut human = std::collections::BTreeMap::new();
        human.extend(distinct(&written, 1).map(|figure| ("distinct_1".to_owned(), figure)));
        human.extend(distinct(&written, 2).map(|figure| ("distinct_2".to_owned(), figure)));
        human.extend(repetition(&written).map(|figure| ("repetition".to_owned(), figure)));
        report.baselines.insert("held-out human lines".into(), human);
    }
    Ok(())
}

/// A persona of that voice, living in the world: its `n`th person.
fn stand_in(voice: &str, world: &World, n: usize) -> Persona {
    let person = (!world.people.is_empty()).then(|| &world.people[n % world.people.len()]);
    let goal = world.items.iter().find(|item| item.place.is_some());
    Persona {
        name: person.map_or_else(|| "Stranger".to_owned(), |person| person.name.clone()),
        role: person.map_or_else(|| "traveller".to_owned(), |person| person.role.clone()),
        voice: voice.to_owned(),
        wares: Some("odds and ends".into()),
        price: 4,
        facts: vec!["the road was shorter once".into()],
        secrets: vec!["none that is told".into()],
        relations: std::collections::BTreeMap::new(),
        mood: super::Mood::Calm,
        goals: goal
            .map(|item| super::Goal::Fetch { item: item.name.clone(), reward: 12 })
            .into_iter()
            .collect(),
        acts: None,
        fallbacks: vec!["Hm.".into()],
    }
}

/// A written line of the player with its slots filled from the world, as a player there would type it.
fn in_world(said: &str, persona: &Persona, world: &World) -> String {
    let linked = super::link::link("", world, &persona.name, None);
    let known = world.known_to(&persona.name);
    let memory = Memory::default();
    let ground = super::Ground::new(persona, &known, &memory, &linked, &mut Seed::new(0).stream());
    let said = said.replace("{unknown}", "the glass tower");
    super::lexicalise(&said, &ground).unwrap_or_else(|| "Good day.".into())
}
