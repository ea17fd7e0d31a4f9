//! A talk with an NPC: one model, or two side by side with a pick that is kept for preference training.

use super::super::look::{self, cell, draft, keep, number};
use super::super::request::{Job, Request};
use super::super::snapshot::{Answered, Snapshot};
use crate::decode::Sampling;
use egui::{RichText, Slider, Ui};
use std::path::PathBuf;

#[derive(Clone)]
struct Draft {
    persona: PathBuf,
    models: [PathBuf; 2],
    two: bool,
    said: String,
    sampling: Sampling,
    seed: u64,
}

/// The playground.
pub fn dialogue(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let models =
        || snapshot.models.iter().filter(|model| model.domain == "dialogue").map(|model| &model.path);
    let (Some(persona), Some(model)) = (snapshot.personas.first(), models().next()) else {
        look::empty(
            ui,
            "Nobody to talk with",
            "Open a dialogue model and personas: skald inspect --model assets/models/village --personas assets/personas",
        );
        return requests;
    };
    let mut form: Draft = draft(ui, "dialogue", || Draft {
        persona: persona.clone(),
        models: [model.clone(), models().nth(1).unwrap_or(model).clone()],
        two: false,
        said: "Any work for me?".into(),
        sampling: Sampling::default(),
        seed: 0,
    });
    ui.horizontal_wrapped(|ui| {
        look::choose(ui, "NPC", &mut form.persona, snapshot.personas.iter());
        look::choose(ui, "Model", &mut form.models[0], models());
        ui.checkbox(&mut form.two, "A/B").on_hover_text("Two answers side by side; pick the better one");
        if form.two {
            look::choose(ui, "and", &mut form.models[1], models());
        }
    });
    ui.collapsing("Sampling", |ui| sliders(&mut form.sampling, ui));
    let mut ask = false;
    ui.horizontal(|ui| {
        let label = ui.label("You say").id;
        let width = (ui.available_width() - 70.0).max(80.0);
        let field =
            ui.add(egui::TextEdit::singleline(&mut form.said).desired_width(width)).labelled_by(label);
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        ask = ui.button("Ask").clicked() || entered;
    });
    if !look::job(Job::Talk, "Speaking", snapshot, ui, &mut requests) && ask {
        let count = if form.two { 2 } else { 1 };
        requests.push(Request::Ask {
            persona: form.persona.clone(),
            said: form.said.clone(),
            sampling: form.sampling.clone(),
            seed: form.seed,
            models: form.models[..count].to_vec(),
        });
        form.seed += 2;
    }
    keep(ui, "dialogue", form);
    ui.separator();
    answers(snapshot, ui, &mut requests);
    requests
}

fn sliders(sampling: &mut Sampling, ui: &mut Ui) {
    let meanings = [
        ("Temperature", &mut sampling.temperature, 0.0..=2.0, "0 takes the likeliest word; higher is wilder"),
        (
            "Top-p",
            &mut sampling.top_p,
            0.05..=1.0,
            "Draws only among the likeliest words that reach this probability",
        ),
        (
            "Min-p",
            &mut sampling.min_p,
            0.0..=0.5,
            "Leaves out words less likely than this, relative to the likeliest",
        ),
        (
            "Repetition",
            &mut sampling.repetition_penalty,
            1.0..=2.0,
            "Holds back words that were said; 1 leaves them",
        ),
    ];
    for (name, value, range, meaning) in meanings {
        ui.add(Slider::new(value, range).text(name)).on_hover_text(meaning);
    }
    ui.add(Slider::new(&mut sampling.top_k, 0..=200).text("Top-k"))
        .on_hover_text("Keeps the k likeliest; 0 keeps all");
}

fn answers(snapshot: &Snapshot, ui: &mut Ui, requests: &mut Vec<Request>) {
    let talk = &snapshot.talk;
    if talk.answers.is_empty() {
        look::empty(ui, "Nothing said yet", "Type what a player might say and choose Ask");
        return;
    }
    ui.label(RichText::new(format!("You: {}", talk.said)).weak());
    ui.columns(talk.answers.len(), |columns| {
        for (n, (answer, ui)) in talk.answers.iter().zip(columns).enumerate() {
            answer_of(n, answer, talk.pair.is_some(), ui, requests);
        }
    });
    if talk.kept > 0 {
        ui.weak(format!("{} pairs kept in {}", talk.kept, talk.picks.display()));
    }
}

fn answer_of(n: usize, answer: &Answered, pick: bool, ui: &mut Ui, requests: &mut Vec<Request>) {
    ui.strong(format!("{}: {}", ["A", "B"][n.min(1)], look::name_of(&answer.model)));
    ui.label(if answer.text.is_empty() { "..".into() } else { RichText::new(&answer.text).size(15.0) });
    if answer.done {
        let likelihood: f32 = answer.tokens.iter().map(|token| token.probability.max(1e-9).ln()).sum();
        let tokens = answer.tokens.len().max(1) as f32;
        ui.weak(format!(
            "{} tokens, {:.0} ms, {:.2} nats a token",
            answer.tokens.len(),
            answer.ms,
            -likelihood / tokens
        ))
        .on_hover_text("How unsure the model was, among what the grammar allowed: 0 had no choice");
    }
    if pick {
        let meaning = "Keeps the pair for `skald train preference`: this answer before the other";
        if ui.button(format!("{} is better", ["A", "B"][n.min(1)])).on_hover_text(meaning).clicked() {
            requests.push(Request::Prefer { chosen: n });
        }
    }
    if answer.tokens.is_empty() {
        return;
    }
    look::table(ui, &format!("tokens {n}"), &["token", "chance", "allowed", "instead"], 220.0, |ui| {
        for token in &answer.tokens {
            cell(ui, &format!("\u{201c}{}\u{201d}", token.text), 16);
            number(ui, format!("{:.1} %", token.probability * 100.0));
            ui.label(format!("{:.1} %", token.allowed * 100.0))
                .on_hover_text("Which share of the vocabulary the grammar of the world allowed here");
            let others: Vec<String> =
                token.others.iter().map(|(text, p)| format!("{text} {:.0} %", p * 100.0)).collect();
            cell(ui, &others.join(", "), 40);
            ui.end_row();
        }
    });
}
