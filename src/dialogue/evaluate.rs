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
    Measured, NGram, Pair, Report, SampleLine, TrainingText, UnitLoss, bootstrap, language_figures,
    misplaced, overlap_figures, overlap_measured, repeats, variety_figures,
};
use crate::model::{Row, Scratch};
use crate::seed::Seed;
use crate::training::{Sample, SampleSource};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the protocol.
pub const PROTOCOL: &str = "written dialogues of the test part (one in twenty, grouped so that none shares an NPC \
    line with the training or validation part; training never reads it); loss over the NPC's tokens (act, words, \
    slots, end) after the true context; one generated line for each opening of the test part, in its voice and in the \
    example world; BLEU, chrF2 and ROUGE (F1) of those against the one line that a writer gave there, with slots; self-BLEU as Texygen, each line \
    against all others; novelty: 1 - the longest run of words shared with a training line / words, mean over lines; \
    intervals bootstrapped over dialogues and lines, of distinct-n by the jackknife";

/// What an evaluation found.
pub struct Evaluation {
    /// The figures.
    pub report: Report,
    /// The generated lines as shown, beside what was written with slots.
    pub samples: Vec<SampleLine>,
}

/// Evaluates `model` on the held-out dialogues of `corpus`. Lines are generated for the openings of held-out
/// dialogues (at most `lines`), spoken by a persona of the dialogue's voice in `world`.
pub fn evaluate(
    model: &Arc<LoadedModel>,
    corpus: &Corpus,
    world: &World,
    lines: usize,
    seed: Seed,
) -> Result<Evaluation> {
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
    let generated = generate(model, corpus, world, lines, seed)?;
    let lines = corpus.part(Part::Training).flat_map(|d| d.lines().map(|(_, line)| line));
    let samples = generate_figures(&mut report, &generated, &TrainingText::new(lines), seed);
    Ok(Evaluation { report, samples })
}

fn model_loss(model: &LoadedModel, sample: &Sample, scratch: &mut Scratch) -> Result<UnitLoss> {
    let vocab = model.decoder.vocab_size();
    let length = sample.ids.len().min(model.decoder.context());
    let (mut cache, mut logits) = (model.decoder.cache(), Vec::new());
    let row = Row {
        cache: &mut cache,
        tokens: &sample.ids[..length],
        logits: &mut logits,
        all: true,
        adapter: None,
    };
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
    /// What the player said.
    pub opening: String,
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
    let mut speeches = BTreeMap::new();
    for (n, dialogue) in corpus.part(Part::Test).take(lines).enumerate() {
        let Some(CorpusTurn::Player { says }) = dialogue.turns.first() else { continue };
        let said = says.first().map_or("", String::as_str);
        let persona = stand_in(&dialogue.voice, world, n);
        let said = in_world(said, &persona, world);
        let memory = Memory { lines: n as u64, ..Memory::default() };
        let turn = Turn::prepare(&persona, world, &memory, &said, seed.derive("evaluate"), &manner);
        let (request, speech) = turn.into_request(model)?;
        let id = scheduler.submit(request);
        let reference = dialogue.lines().next().map_or_else(String::new, |(_, line)| line.to_owned());
        speeches.insert(id, (speech, said, reference));
    }
    let mut generated = Vec::new();
    while !scheduler.is_idle() {
        let mut outputs = Vec::new();
        scheduler.step(&mut outputs)?;
        for output in outputs {
            match output {
                Output::Delta { id, text } => {
                    if let Some((speech, ..)) = speeches.get_mut(&id) {
                        speech.push(&text);
                    }
                }
                Output::Finished { id, finish, tokens, .. } => {
                    if let Some((speech, opening, reference)) = speeches.remove(&id) {
                        let spoken = speech.finish(finish, tokens);
                        let open = spoken.text.contains(['{', '}', '<', '>']);
                        let whole = finish == crate::decode::Finish::Stop && !open;
                        let line = spoken.exchange.line;
                        generated.push(Generated { opening, text: spoken.text, line, reference, whole });
                    }
                }
                Output::Failed { error, .. } => return Err(error),
            }
        }
    }
    Ok(generated)
}

/// Sets the figures of generated lines, beside those of the lines written in their places.
fn generate_figures(
    report: &mut Report,
    generated: &[Generated],
    training: &TrainingText,
    seed: Seed,
) -> Vec<SampleLine> {
    let said: Vec<String> = generated.iter().map(|line| line.line.clone()).collect();
    let written: Vec<String> = generated.iter().map(|line| line.reference.clone()).collect();
    report.take(variety_figures(&said, seed.derive("variety")));
    let mut columns = lexical_columns(&said, training);
    // A slot is right when what the world put there is what the line shows; one the world cannot fill would
    // be left open.
    let slots = |line: &Generated| {
        if slots_of(&line.line).is_empty() { f64::NAN } else { f64::from(u8::from(line.whole)) }
    };
    columns.insert("slot_accuracy".into(), generated.iter().map(slots).collect());
    report.take(Measured::means(&columns, seed.derive("lines")));
    let pair =
        |line: &Generated| Pair { hypothesis: line.line.clone(), references: vec![line.reference.clone()] };
    let pairs: Vec<Pair> = generated.iter().map(pair).collect();
    let mut overlap = overlap_measured(&pairs, seed.derive("overlap"));
    overlap.figures.extend(overlap.figures.get("rougeL").copied().map(|rouge| ("rouge_l".to_owned(), rouge)));
    overlap.ci95.extend(overlap.ci95.get("rougeL").copied().map(|ends| ("rouge_l".to_owned(), ends)));
    report.take(overlap);
    report.set("lines_generated", Some(said.len() as f64));
    if !written.is_empty() {
        let mut human = variety_figures(&written, seed).figures;
        human.extend(Measured::means(&lexical_columns(&written, training), seed).figures);
        report.baselines.insert("held-out human lines".into(), human);
    }
    let floor = overlap_figures(&misplaced(&pairs));
    if !floor.is_empty() {
        report.baselines.insert("another opening's reference".into(), floor);
    }
    let repeated = repeats(&said);
    let sample = |(line, repeated): (&Generated, bool)| SampleLine {
        opening: Some(line.opening.clone()),
        line: line.text.clone(),
        reference: line.reference.clone(),
        flags: [("copied", training.holds(&line.line)), ("repeated", repeated), ("unfinished", !line.whole)]
            .into_iter()
            .filter_map(|(flag, holds)| holds.then_some(flag))
            .collect(),
    };
    generated.iter().zip(repeated).map(sample).collect()
}

/// What each line is worth for `repetition`, `copied_lines`, `overlap_8`, `novelty`, `words_per_line` and `exclaiming` (it has
/// a `!`); NaN where it is too short.
fn lexical_columns(lines: &[String], training: &TrainingText) -> BTreeMap<String, Vec<f64>> {
    let truth = |holds: bool| f64::from(u8::from(holds));
    let overlap = |line: &String| training.overlaps(line).map_or(f64::NAN, truth);
    BTreeMap::from([
        ("repetition".to_owned(), repeats(lines).into_iter().map(truth).collect()),
        ("copied_lines".to_owned(), lines.iter().map(|line| truth(training.holds(line))).collect()),
        (
            "words_per_line".to_owned(),
            lines.iter().map(|line| line.split_whitespace().count() as f64).collect(),
        ),
        ("exclaiming".to_owned(), lines.iter().map(|line| truth(line.contains('!'))).collect()),
        ("overlap_8".to_owned(), lines.iter().map(overlap).collect()),
        ("novelty".to_owned(), lines.iter().map(|line| training.novelty(line).unwrap_or(f64::NAN)).collect()),
    ])
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
        relations: BTreeMap::new(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(line: &str, reference: &str, whole: bool) -> Generated {
        let [opening, text, line, reference] = ["Hello.", line, line, reference].map(str::to_owned);
        Generated { opening, text, line, reference, whole }
    }

    #[test]
    fn copies_repetitions_and_open_slots_are_counted_beside_human_lines() {
        let training = TrainingText::new(["The road is long.", "Mind the step."].into_iter());
        let lines = [
            generated("The road is long.", "Long is the road.", true),
            generated("the road is long", "Mind your head.", true),
            generated("Ask {person} of it.", "Ask {person}.", true),
            generated("Ask {place} about bread.", "No.", false),
        ];
        let mut report = Report::default();
        let samples = generate_figures(&mut report, &lines, &training, Seed::new(1));
        let figure = |name: &str| report.figures[name];
        assert_eq!((figure("copied_lines"), figure("repetition"), figure("slot_accuracy")), (0.5, 0.25, 0.5));
        assert_eq!((figure("novelty"), figure("lines_generated")), (0.5, 4.0));
        assert_eq!(figure("rouge_l"), figure("rougeL"));
        assert!(!report.figures.contains_key("overlap_8"), "no line has eight words");
        let human = &report.baselines["held-out human lines"];
        assert_eq!((human["copied_lines"], human["repetition"]), (0.0, 0.0));
        assert!(human["self_bleu_4"] < figure("self_bleu_4") && human["novelty"] > figure("novelty"));
        for name in ["bleu", "rouge1", "rouge2", "distinct_2", "self_bleu_4", "novelty", "slot_accuracy"] {
            assert!(report.ci95.contains_key(name), "{name}");
        }
        assert!(report.figures["rouge1"] > report.baselines["another opening's reference"]["rouge1"]);
        let flags: Vec<&[&str]> = samples.iter().map(|sample| &sample.flags[..]).collect();
        assert_eq!(flags, [&["copied"][..], &["copied", "repeated"], &[], &["unfinished"]]);
    }

    #[test]
    fn without_a_line_there_are_no_figures_of_lines() {
        let mut report = Report::default();
        let training = TrainingText::new(std::iter::empty());
        assert!(generate_figures(&mut report, &[], &training, Seed::new(1)).is_empty());
        assert!(report.figures.keys().eq(["lines_generated"]) && report.baselines.is_empty());
    }
}
