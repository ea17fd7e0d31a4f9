//! What the crate costs the running game.

use super::super::look::{self, figure};
use super::super::request::Request;
use super::super::snapshot::Snapshot;
use egui::Ui;
use egui_plot::{HLine, Line, Plot, PlotPoints};

/// Performance.
pub fn performance(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let Some(live) = &snapshot.live else {
        look::empty(ui, "No game runs here", "Add InspectorPlugin to the game and press F12 in it");
        return requests;
    };
    let mut sorted = live.frames.clone();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f32| {
        sorted.get(((sorted.len().max(1) - 1) as f32 * share) as usize).copied().unwrap_or_default()
    };
    ui.horizontal_wrapped(|ui| {
        figure(
            ui,
            "frame p50",
            format!("{:.2} ms", at(0.5)),
            "Half of the last 600 frames were shorter than this",
        );
        figure(
            ui,
            "frame p99",
            format!("{:.2} ms", at(0.99)),
            "One frame in a hundred of the last 600 was longer",
        );
        figure(
            ui,
            "tokens/s",
            format!("{:.0}", live.tokens_per_s),
            "Tokens that all NPCs said in the last second",
        );
        figure(ui, "speaking", live.open.to_string(), "Lines being spoken now");
        figure(ui, "queue", live.waiting.to_string(), "Jobs that wait for the compute worker");
        figure(
            ui,
            "KV cache",
            look::bytes(live.kv_bytes as u64),
            "Keys and values that models keep in memory",
        );
        let held = "How much the governor holds work back so that frames stay short: 0 % not at all";
        figure(ui, "governor", format!("{:.0} %", live.pressure * 100.0), held);
        figure(ui, "overruns", live.overruns.to_string(), "Frames that work of the crate made too long");
        figure(ui, "lines", live.finished.to_string(), "Lines spoken since the game began");
        let authored = "Lines that were authored ones, because no model was there in time";
        figure(ui, "authored", live.fallbacks.to_string(), authored);
    });
    let points: Vec<[f64; 2]> = live
        .frames
        .iter()
        .enumerate()
        .map(|(n, ms)| [n as f64 - live.frames.len() as f64, f64::from(*ms)])
        .collect();
    Plot::new("frames")
        .height(180.0)
        .include_y(0.0)
        .allow_scroll(false)
        .x_axis_label("frames ago")
        .y_axis_label("ms")
        .show(ui, |plot| {
            plot.line(Line::new("frame", PlotPoints::from(points)));
            plot.hline(HLine::new("60 a second", 16.67));
        });
    if ui.button("CSV").on_hover_text("Writes the frame times").clicked() {
        let rows = live.frames.iter().map(|ms| vec![ms.to_string()]);
        requests.push(Request::Export { name: "frames".into(), csv: look::csv(&["ms"], rows) });
    }
    ui.separator();
    ui.strong("Last lines");
    if live.lines.is_empty() {
        ui.weak("Nobody has spoken yet.");
    }
    for (who, line) in &live.lines {
        ui.horizontal_wrapped(|ui| {
            ui.strong(who.chars().take(40).collect::<String>());
            ui.label(line);
        });
    }
    requests
}
