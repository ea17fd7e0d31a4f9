//! Who plays: profiles, what they will do next, and why a quest is theirs.

use super::super::look::{self, cell, figure, number};
use super::super::request::Request;
use super::super::snapshot::Snapshot;
use egui::Ui;
use egui_plot::{Plot, PlotPoints, Points};

/// The players.
pub fn players(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let live = snapshot.live.as_ref().map_or(&[][..], |live| &live.players);
    let rows = snapshot.store.as_ref().map_or(&[][..], |store| &store.players);
    if live.is_empty() && rows.is_empty() {
        look::empty(
            ui,
            "No player is known",
            "Open a store, or give players PlayerModel in the game: profiles follow event by event",
        );
        return requests;
    }
    for (name, profile) in live {
        ui.strong(name.chars().take(60).collect::<String>());
        ui.horizontal_wrapped(|ui| {
            figure(ui, "events", profile.events.to_string(), "What the player model has seen of this player");
            figure(
                ui,
                "unsure",
                format!("{:.2}", profile.uncertainty),
                "0: the model knows what comes next; 1: it guesses",
            );
            let risk = profile.churn_risk.map_or_else(|| "-".into(), |risk| format!("{:.0} %", risk * 100.0));
            figure(ui, "may leave", risk, "How likely this player does not come back (churn model)");
        });
        for (event, chance) in &profile.next {
            ui.horizontal(|ui| {
                ui.add(
                    egui::ProgressBar::new(*chance)
                        .desired_width(120.0)
                        .text(format!("{:.0} %", chance * 100.0)),
                );
                cell(ui, event, 40);
            });
        }
    }
    for (who, quest, why) in snapshot.live.as_ref().map_or(&[][..], |live| &live.quests) {
        ui.horizontal_wrapped(|ui| {
            cell(ui, who, 20);
            ui.label(quest);
            ui.weak(why).on_hover_text("Why the chooser offered it (Thompson sampling)");
        });
    }
    if rows.is_empty() {
        return requests;
    }
    ui.separator();
    ui.horizontal(|ui| {
        ui.strong("Players in the store");
        if ui.button("CSV").on_hover_text("Writes this table").clicked() {
            let table = rows
                .iter()
                .map(|row| vec![row.player.clone(), row.sessions.to_string(), row.events.to_string()]);
            let csv = look::csv(&["player", "sessions", "events"], table);
            requests.push(Request::Export { name: "players".into(), csv });
        }
    });
    let points: Vec<[f64; 2]> = rows
        .iter()
        .map(|row| [row.sessions as f64, row.events as f64 / row.sessions.max(1) as f64])
        .collect();
    Plot::new("players")
        .height(160.0)
        .allow_scroll(false)
        .x_axis_label("sessions")
        .y_axis_label("events a session")
        .show(ui, |plot| {
            plot.points(Points::new("players", PlotPoints::from(points)).radius(3.0));
        });
    look::table(ui, "players", &["player", "sessions", "events", "last (UTC)"], 200.0, |ui| {
        for row in rows {
            cell(ui, &row.player, 24);
            number(ui, row.sessions.to_string());
            number(ui, row.events.to_string());
            ui.label(look::moment(row.last_ms));
            ui.end_row();
        }
    });
    requests
}
