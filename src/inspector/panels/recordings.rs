//! What was recorded: sessions, their events, and whether the store is whole.

use super::super::look::{self, cell, draft, figure, keep, number};
use super::super::request::{Job, Request};
use super::super::snapshot::{Snapshot, StoreView};
use crate::dialogue::{LineOutcome, RecordedExchange};
use egui::Ui;

/// Sessions on a page.
pub(in super::super) const SESSIONS: usize = 20;
/// Events on a page.
pub(in super::super) const EVENTS: usize = 50;

/// The recordings.
pub fn recordings(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let Some(store) = &snapshot.store else {
        look::empty(
            ui,
            "No store is open",
            "Record play with RecordingPlugin, then open it: skald inspect --store play.db",
        );
        return requests;
    };
    ui.horizontal_wrapped(|ui| {
        if let Some(stats) = &store.stats {
            figure(ui, "events", stats.events.to_string(), "Rows the game recorded, all sessions together");
            figure(
                ui,
                "sessions",
                stats.sessions.to_string(),
                "From the start of a game to its end, of one player",
            );
            figure(
                ui,
                "players",
                stats.players.to_string(),
                "Different pseudonyms; who they are is not in the store",
            );
            figure(ui, "size", look::bytes(stats.bytes), "The file and its write-ahead log");
            let lost =
                "Events that were lost because the recorder's queue was full. More than 0: record less often";
            figure(ui, "lost", stats.dropped.to_string(), lost);
        }
    });
    ui.horizontal_wrapped(|ui| {
        if ui.button("Refresh").on_hover_text("Reads counts and pages again").clicked() {
            requests.push(Request::Refresh);
        }
        if !look::job(Job::Verify, "Checking", snapshot, ui, &mut requests) {
            let meaning =
                "Follows every session's hash chain and SQLite's own check: nothing was changed or lost";
            if ui.button("Verify the chain").on_hover_text(meaning).clicked() {
                requests.push(Request::Verify);
            }
            if let Some(verified) = store.verified {
                let text = format!("{} events in {} sessions are whole", verified.events, verified.sessions);
                ui.colored_label(look::good(ui), text);
            }
        }
    });
    ui.separator();
    sessions(store, ui, &mut requests);
    ui.separator();
    events(store, ui, &mut requests);
    requests
}

fn sessions(store: &StoreView, ui: &mut Ui, requests: &mut Vec<Request>) {
    ui.horizontal(|ui| {
        ui.strong("Sessions");
        let later = store.skipped.saturating_sub(SESSIONS as u64);
        if ui.add_enabled(store.skipped > 0, egui::Button::new("Later")).clicked() {
            requests.push(Request::Sessions { skipped: later });
        }
        if ui.add_enabled(store.sessions.len() == SESSIONS, egui::Button::new("Earlier")).clicked() {
            requests.push(Request::Sessions { skipped: store.skipped + SESSIONS as u64 });
        }
        if ui.button("CSV").on_hover_text("Writes this page as a table").clicked() {
            let columns = ["session", "player", "build", "started_ms", "events", "dropped"];
            let rows = store.sessions.iter().map(|s| {
                let of = [s.id.to_string(), s.player.clone(), s.build.clone(), s.started_ms.to_string()];
                of.into_iter().chain([s.events.to_string(), s.dropped.to_string()]).collect()
            });
            requests.push(Request::Export { name: "sessions".into(), csv: look::csv(&columns, rows) });
        }
    });
    if store.sessions.is_empty() {
        look::empty(ui, "No session here", "Grant consent and play: set_consent(player, Consent::Granted)");
        return;
    }
    look::table(ui, "sessions", &["began (UTC)", "player", "build", "events", ""], 150.0, |ui| {
        for session in &store.sessions {
            ui.label(look::moment(session.started_ms));
            cell(ui, &session.player, 10);
            cell(ui, &session.build, 12);
            number(ui, session.events.to_string());
            let shown = store.session == Some(session.id);
            if ui.selectable_label(shown, "Show").on_hover_text(format!("Session {}", session.id)).clicked() {
                requests.push(Request::Events { session: session.id, from: 0, kind: String::new() });
            }
            ui.end_row();
        }
    });
}

fn events(store: &StoreView, ui: &mut Ui, requests: &mut Vec<Request>) {
    let Some(session) = store.session else {
        ui.weak("Choose Show beside a session to read its events.");
        return;
    };
    let mut text: String = draft(ui, "events filter", String::new);
    let first = store.events.first().map_or(0, |event| event.seq);
    let last = store.events.last().map_or(0, |event| event.seq);
    ui.horizontal_wrapped(|ui| {
        ui.strong("Events");
        let label = ui.label("Kind").id;
        let field = ui.add(egui::TextEdit::singleline(&mut text).desired_width(120.0)).labelled_by(label);
        let asked = |from| Request::Events { session, from, kind: text.trim().to_owned() };
        if field.changed() {
            requests.push(asked(0));
        }
        if ui.add_enabled(first > 0, egui::Button::new("Back")).clicked() {
            requests.push(asked(first.saturating_sub(EVENTS as u64)));
        }
        if ui.add_enabled(store.events.len() == EVENTS, egui::Button::new("On")).clicked() {
            requests.push(asked(last + 1));
        }
    });
    keep(ui, "events filter", text);
    if store.events.is_empty() {
        look::empty(ui, "No event of this kind", "Clear the filter");
        return;
    }
    look::table(ui, "events", &["#", "time", "kind", "what"], 240.0, |ui| {
        for event in &store.events {
            number(ui, event.seq.to_string());
            number(ui, format!("{:.1} s", event.t_ms as f64 / 1000.0));
            cell(ui, &event.kind, 18);
            match heard(event) {
                Some((text, skipped)) => {
                    let outcome = if skipped { "skipped: " } else { "read: " };
                    cell(ui, &format!("{outcome}{text}"), 60);
                }
                None => cell(ui, &event.payload, 60),
            }
            ui.end_row();
        }
    });
}

/// A line of an NPC and whether it was clicked away.
fn heard(event: &crate::recording::Recorded) -> Option<(String, bool)> {
    (event.kind == RecordedExchange::KIND).then_some(())?;
    let exchange: RecordedExchange = event.parse().ok()?;
    Some((exchange.exchange.line, exchange.outcome == LineOutcome::Skipped))
}
