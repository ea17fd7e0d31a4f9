//! Consent, erasure and retention.

use super::super::look::{self, cell, draft, keep, number};
use super::super::request::{Erase, Request};
use super::super::snapshot::Snapshot;
use egui::{RichText, Ui};

/// Whoever asks for an erasure is asked once more: this player, or everybody older than so many days.
#[derive(Clone, Default, PartialEq)]
struct Draft {
    player: Option<String>,
    days: u32,
    old: bool,
}

/// Privacy.
pub fn privacy(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let Some(store) = &snapshot.store else {
        look::empty(
            ui,
            "No store is open",
            "Nothing is recorded without consent; open a store to see whose is in it",
        );
        return requests;
    };
    ui.label("Only players who granted consent are in a store, under a pseudonym. A withdrawal stops recording at once; erasing takes out what is there.");
    ui.add_space(4.0);
    let mut form: Draft = draft(ui, "privacy", || Draft { days: 90, ..Draft::default() });
    ui.horizontal_wrapped(|ui| {
        ui.label("Keep for");
        ui.add(egui::DragValue::new(&mut form.days).range(1..=3650).suffix(" days"));
        if form.old {
            if ui
                .button(RichText::new("Really erase what is older").color(ui.visuals().error_fg_color))
                .clicked()
            {
                requests.push(Request::Erase(Erase::OlderThan(form.days)));
                form.old = false;
            }
            if ui.button("Keep it").clicked() {
                form.old = false;
            }
        } else if ui
            .button("Erase what is older")
            .on_hover_text("Retention: sessions that began before")
            .clicked()
        {
            form.old = true;
        }
    });
    ui.separator();
    if store.players.is_empty() {
        look::empty(ui, "Nobody is in this store", "Consent first: set_consent(player, Consent::Granted)");
        keep(ui, "privacy", form);
        return requests;
    }
    look::table(
        ui,
        "consents",
        &["player", "consent", "sessions", "events", "last (UTC)", ""],
        300.0,
        |ui| {
            for row in &store.players {
                cell(ui, &row.player, 12);
                ui.label("granted").on_hover_text("No row is written without it");
                number(ui, row.sessions.to_string());
                number(ui, row.events.to_string());
                ui.label(look::moment(row.last_ms));
                ui.horizontal(|ui| {
                    if form.player.as_deref() == Some(&row.player) {
                        let really = RichText::new("Really erase").color(ui.visuals().error_fg_color);
                        if ui.button(really).clicked() {
                            requests.push(Request::Erase(Erase::Player(row.player.clone())));
                            form.player = None;
                        }
                        if ui.button("Keep").clicked() {
                            form.player = None;
                        }
                    } else if ui
                        .button("Erase")
                        .on_hover_text(
                            "Takes out every row of this player; only counts stay. It cannot be undone",
                        )
                        .clicked()
                    {
                        form.player = Some(row.player.clone());
                    }
                });
                ui.end_row();
            }
        },
    );
    keep(ui, "privacy", form);
    requests
}
