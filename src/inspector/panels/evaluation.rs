//! Held-out figures, the baseline beside, and the gate.

use super::super::look::{self, cell, draft, keep, number};
use super::super::request::{Job, Request};
use super::super::snapshot::Snapshot;
use egui::{RichText, Ui};
use egui_plot::{Bar, BarChart, Legend, Plot};
use std::path::PathBuf;

/// The evaluation.
pub fn evaluation(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let models =
        || snapshot.models.iter().filter(|model| model.domain == "dialogue").map(|model| &model.path);
    let Some(first) = models().next() else {
        look::empty(
            ui,
            "No dialogue model is open",
            "skald inspect --model assets/models/village, or train one",
        );
        return requests;
    };
    let mut form: (PathBuf, String) = draft(ui, "evaluation", || (first.clone(), "assets/dialogue".into()));
    ui.horizontal_wrapped(|ui| {
        look::choose(ui, "Model", &mut form.0, models());
        let label = ui.label("Corpus").id;
        ui.add(egui::TextEdit::singleline(&mut form.1).desired_width(160.0)).labelled_by(label);
        if !look::job(Job::Evaluation, "Measuring", snapshot, ui, &mut requests)
            && ui.button("Evaluate").on_hover_text("Measures on talks that no training reads").clicked()
        {
            requests.push(Request::Evaluate { model: form.0.clone(), data: form.1.trim().into() });
        }
    });
    keep(ui, "evaluation", form);
    ui.separator();
    let view = &snapshot.evaluation;
    let Some(report) = &view.report else {
        look::empty(
            ui,
            "Nothing measured yet",
            "Choose Evaluate: it takes some seconds, and the game goes on",
        );
        return requests;
    };
    ui.horizontal_wrapped(|ui| {
        ui.strong(look::name_of(&view.model));
        if let Some((before, _)) = &view.before {
            let (colour, word) = match view.regressions.len() {
                0 => (look::good(ui), "gate: green".to_owned()),
                n => (ui.visuals().error_fg_color, format!("gate: red, {n} worse")),
            };
            ui.label(RichText::new(word).color(colour).strong()).on_hover_text(format!(
                "Red when a gated figure is worse by more than 2 % than that of {}",
                before.display()
            ));
        }
        if ui.button("CSV").on_hover_text("Writes this table").clicked() {
            let rows =
                report.in_order().into_iter().map(|(name, value)| vec![name.to_owned(), value.to_string()]);
            requests.push(Request::Export {
                name: "evaluation".into(),
                csv: look::csv(&["figure", "value"], rows),
            });
        }
    });
    let baselines: Vec<&str> = report.baselines.keys().map(String::as_str).collect();
    let mut columns = vec!["figure", "model", "95 % interval"];
    columns.extend(&baselines);
    if view.before.is_some() {
        columns.push("before");
    }
    look::table(ui, "figures", &columns, 260.0, |ui| {
        for (name, value) in report.in_order() {
            let worse = view.regressions.iter().any(|regression| regression.figure == name);
            let text = RichText::new(name);
            let text = if worse { text.color(ui.visuals().error_fg_color) } else { text };
            ui.label(text).on_hover_text(&report.protocol);
            number(ui, format!("{value:.4}"));
            let interval = report
                .ci95
                .get(name)
                .map_or_else(String::new, |[low, high]| format!("{low:.3} to {high:.3}"));
            cell(ui, &interval, 30);
            for baseline in &baselines {
                let value = report.baselines[*baseline].get(name);
                number(ui, value.map_or_else(|| "-".into(), |value| format!("{value:.4}")));
            }
            if let Some((_, before)) = &view.before {
                number(
                    ui,
                    before.figures.get(name).map_or_else(|| "-".into(), |value| format!("{value:.4}")),
                );
            }
            ui.end_row();
        }
    });
    let bits = |figures: &std::collections::BTreeMap<String, f64>| figures.get("bits_per_byte").copied();
    let others = report.baselines.iter().filter_map(|(name, figures)| Some((name.clone(), bits(figures)?)));
    let bars: Vec<(String, f64)> =
        bits(&report.figures).map(|own| ("model".to_owned(), own)).into_iter().chain(others).collect();
    if bars.len() > 1 {
        Plot::new("bits")
            .height(140.0)
            .legend(Legend::default())
            .show_x(false)
            .allow_scroll(false)
            .y_axis_label("bits per byte")
            .show(ui, |plot| {
                for (at, (name, value)) in bars.into_iter().enumerate() {
                    plot.bar_chart(BarChart::new(name, vec![Bar::new(at as f64, value).width(0.6)]));
                }
            });
    }
    requests
}
