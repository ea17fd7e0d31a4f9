//! Trainings: start one, watch it, compare with those before, ship the best.

use super::super::look::{self, cell, draft, figure, keep, number};
use super::super::request::{Recipe, Request};
use super::super::snapshot::{Curve, Snapshot, TrainingView};
use egui::Ui;
use egui_plot::{Legend, Line, Plot, PlotPoints};
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(Clone, Default)]
struct Draft {
    recipe: Recipe,
    config: String,
    data: String,
    out: String,
    shown: BTreeSet<PathBuf>,
}

impl Draft {
    fn new(recipe: Recipe) -> Self {
        let (config, data, out) = match recipe {
            Recipe::Dialogue => ("assets/training/dialogue.ron", "assets/dialogue", "out/dialogue"),
            Recipe::Level => ("assets/training/platformer.ron", "assets/levels/platformer", "out/levels"),
        };
        Self { recipe, config: config.into(), data: data.into(), out: out.into(), shown: BTreeSet::new() }
    }
}

/// The trainings.
pub fn training(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let view = &snapshot.training;
    let mut form: Draft = draft(ui, "training", || Draft::new(Recipe::Dialogue));
    match &view.out {
        Some(out) => under_way(view, out, ui, &mut requests),
        None => start(&mut form, ui, &mut requests),
    }
    ui.separator();
    plot(view, &form.shown, ui);
    ui.separator();
    runs(snapshot, &mut form, ui, &mut requests);
    keep(ui, "training", form);
    requests
}

fn start(form: &mut Draft, ui: &mut Ui, requests: &mut Vec<Request>) {
    ui.horizontal(|ui| {
        ui.strong("New training");
        for (recipe, word) in [(Recipe::Dialogue, "of dialogue"), (Recipe::Level, "of levels")] {
            if ui.radio(form.recipe == recipe, word).clicked() {
                *form = Draft { shown: std::mem::take(&mut form.shown), ..Draft::new(recipe) };
            }
        }
    });
    let fields = [
        ("Config", &mut form.config, "A RON file: shape, steps, learning rate (assets/training)"),
        ("Data", &mut form.data, "Corpora, level folders or stores, with spaces between"),
        ("Out", &mut form.out, "The run's directory: curves and the model come there"),
    ];
    egui::Grid::new("new training").num_columns(2).spacing([8.0, 4.0]).show(ui, |ui| {
        for (name, text, meaning) in fields {
            let label = ui.label(name).id;
            ui.add(egui::TextEdit::singleline(text).desired_width(300.0))
                .labelled_by(label)
                .on_hover_text(meaning);
            ui.end_row();
        }
    });
    let asked = |resume| Request::Train {
        recipe: form.recipe,
        config: form.config.trim().into(),
        data: form.data.split_whitespace().map(PathBuf::from).collect(),
        out: form.out.trim().into(),
        resume,
    };
    ui.horizontal(|ui| {
        if ui
            .button("Train")
            .on_hover_text("Begins in the background, on one thread of low priority")
            .clicked()
        {
            requests.push(asked(false));
        }
        let meaning = "Goes on with the run in that directory, to the same result to the last bit";
        if ui.button("Resume").on_hover_text(meaning).clicked() {
            requests.push(asked(true));
        }
    });
}

fn under_way(view: &TrainingView, out: &std::path::Path, ui: &mut Ui, requests: &mut Vec<Request>) {
    ui.horizontal(|ui| {
        ui.strong("Training");
        cell(ui, &out.display().to_string(), 40);
        if view.paused {
            if ui.button("Continue").clicked() {
                requests.push(Request::Continue);
            }
        } else if ui.button("Pause").on_hover_text("Saves and rests").clicked() {
            requests.push(Request::Pause);
        }
        if ui.button("Stop").on_hover_text("Saves and ends; Resume goes on with it").clicked() {
            requests.push(Request::Stop);
        }
    });
    let Some(progress) = &view.progress else {
        ui.weak("Reading the data ..");
        return;
    };
    let share = progress.step as f32 / progress.steps.max(1) as f32;
    let words =
        format!("step {} of {}{}", progress.step, progress.steps, if view.paused { ", paused" } else { "" });
    let width = ui.available_width().clamp(60.0, 360.0);
    ui.add(egui::ProgressBar::new(share).desired_width(width).text(words));
    ui.horizontal_wrapped(|ui| {
        let nats = |loss: Option<f64>| loss.map_or_else(|| "-".into(), |loss| format!("{loss:.3}"));
        let train = progress.train_loss.map(f64::from);
        figure(ui, "loss", nats(train), "Nats a token on what it learns from, this step. Lower is better");
        let held = view.curves[1].last().map(|point| point[1]);
        figure(ui, "held out", nats(held), "Nats a token on talks it never learns from. When it rises, stop");
        figure(ui, "tokens/s", format!("{:.0}", progress.tokens_per_s), "Tokens learned from a second");
        if let Some(epsilon) = progress.epsilon {
            figure(
                ui,
                "epsilon",
                format!("{epsilon:.2}"),
                "What hiding the players has cost (DP-SGD); lower hides more",
            );
        }
    });
}

fn plot(view: &TrainingView, shown: &BTreeSet<PathBuf>, ui: &mut Ui) {
    let live = view.out.iter().map(|out| (look::name_of(out), &view.curves));
    let past =
        view.runs.iter().filter(|run| shown.contains(&run.path) && view.out.as_ref() != Some(&run.path));
    let curves: Vec<(String, &[Curve; 2])> =
        live.chain(past.map(|run| (run.name.clone(), &run.curves))).collect();
    if curves.is_empty() {
        ui.weak("Curves appear here: start a training, or tick runs below to compare them.");
        return;
    }
    Plot::new("losses")
        .legend(Legend::default())
        .height(200.0)
        .x_axis_label("step")
        .y_axis_label("nats a token")
        .allow_scroll(false)
        .show(ui, |plot| {
            for (name, [train, held]) in curves {
                plot.line(Line::new(format!("{name} train"), PlotPoints::from(train.clone())).width(1.0));
                plot.line(Line::new(format!("{name} held out"), PlotPoints::from(held.clone())).width(2.5));
            }
        });
}

fn runs(snapshot: &Snapshot, form: &mut Draft, ui: &mut Ui, requests: &mut Vec<Request>) {
    let runs = &snapshot.training.runs;
    ui.horizontal(|ui| {
        ui.strong("Runs");
        if ui.button("Search again").clicked() {
            requests.push(Request::Refresh);
        }
        if !runs.is_empty() && ui.button("CSV").on_hover_text("Writes this table").clicked() {
            let columns = ["run", "status", "domain", "steps", "best_val_loss", "parameters"];
            let rows = runs.iter().map(|run| {
                let best = run.best.map_or_else(String::new, |best| best.to_string());
                let parameters = run.parameters.map_or_else(String::new, |count| count.to_string());
                let named = [run.name.clone(), run.status.name().into(), run.domain.clone()];
                named.into_iter().chain([run.steps.to_string(), best, parameters]).collect()
            });
            requests.push(Request::Export { name: "runs".into(), csv: look::csv(&columns, rows) });
        }
        let live = snapshot.live.as_ref();
        if live.is_some_and(|live| live.can_roll_back)
            && ui.button("Roll back").on_hover_text("Lets the model before speak again").clicked()
        {
            requests.push(Request::RollBack);
        }
    });
    if runs.is_empty() {
        look::empty(ui, "No run yet", "Train above, or open a folder of runs: skald inspect --runs out");
        return;
    }
    look::table(
        ui,
        "runs",
        &["", "run", "status", "steps", "best held out", "parameters", ""],
        200.0,
        |ui| {
            for run in runs {
                let mut ticked = form.shown.contains(&run.path);
                if ui.checkbox(&mut ticked, "").on_hover_text("Shows its curves").changed() {
                    if ticked {
                        form.shown.insert(run.path.clone());
                    } else {
                        form.shown.remove(&run.path);
                    }
                }
                cell(ui, &run.name, 24);
                ui.label(run.status.name());
                number(ui, run.steps.to_string());
                number(ui, run.best.map_or_else(|| "-".into(), |best| format!("{best:.4}")));
                number(ui, run.parameters.map_or_else(|| "-".into(), |count| count.to_string()));
                let speaks =
                    snapshot.live.as_ref().is_some_and(|live| live.speaks.as_ref() == Some(&run.path));
                if speaks {
                    ui.colored_label(look::good(ui), "speaks");
                } else if run.domain == "dialogue" && snapshot.live.is_some() {
                    let meaning = "Lets this model speak in the running game from the next line on";
                    if ui.button("Promote").on_hover_text(meaning).clicked() {
                        requests.push(Request::Promote(run.path.clone()));
                    }
                } else {
                    ui.label("");
                }
                ui.end_row();
            }
        },
    );
}
