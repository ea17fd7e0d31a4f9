//! What the panels have in common: spacing, messages, empty states, tables.

use super::layout::Panel;
use super::request::{Job, Request};
use super::snapshot::Snapshot;
use egui::{Align, Color32, Grid, Layout, RichText, ScrollArea, Ui, Vec2};

/// Green, for what is well.
pub(super) fn good(ui: &Ui) -> Color32 {
    if ui.visuals().dark_mode { Color32::from_rgb(120, 200, 140) } else { Color32::from_rgb(20, 120, 60) }
}

/// The message of a panel, where it happened, until it is dismissed.
pub(super) fn messages(panel: Panel, snapshot: &Snapshot, ui: &mut Ui, requests: &mut Vec<Request>) {
    let error = snapshot.errors.get(&panel).map(|text| (text, ui.visuals().error_fg_color, "Error"));
    let note = snapshot.notes.get(&panel).map(|text| (text, good(ui), "Done"));
    for (text, colour, word) in error.into_iter().chain(note) {
        egui::Frame::new().stroke((1.0, colour)).corner_radius(4).inner_margin(6).show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(word).color(colour).strong());
                ui.label(text);
                if ui.small_button("Dismiss").clicked() {
                    requests.push(Request::Dismiss(panel));
                }
            });
        });
        ui.add_space(4.0);
    }
}

/// Nothing is here yet: what to do next.
pub(super) fn empty(ui: &mut Ui, what: &str, next: &str) {
    ui.add_space(12.0);
    ui.vertical_centered(|ui| {
        ui.label(RichText::new(what).strong());
        ui.add_space(2.0);
        ui.label(RichText::new(next).weak());
    });
    ui.add_space(12.0);
}

/// A job's bar and its way out. Says whether it is under way.
pub(super) fn job(
    job: Job,
    words: &str,
    snapshot: &Snapshot,
    ui: &mut Ui,
    requests: &mut Vec<Request>,
) -> bool {
    let Some(done) = snapshot.jobs.get(&job) else {
        return false;
    };
    ui.horizontal(|ui| {
        match done {
            Some(done) => {
                let width = (ui.available_width() - 80.0).clamp(40.0, 220.0);
                ui.add(egui::ProgressBar::new(*done).desired_width(width).text(words));
            }
            None => {
                // Not a spinner: it would draw the game's window anew without end.
                ui.label(format!("{words} .."));
            }
        }
        if ui.button("Cancel").clicked() {
            requests.push(Request::Cancel(job));
        }
    });
    true
}

/// A figure with its name, and what it means in the tooltip.
pub(super) fn figure(ui: &mut Ui, name: &str, value: impl Into<String>, meaning: &str) {
    ui.vertical(|ui| {
        ui.label(RichText::new(name).small().weak());
        ui.label(RichText::new(value).strong().size(16.0));
    })
    .response
    .on_hover_text(meaning);
    ui.add_space(14.0);
}

/// A cell of a table: one line, the whole of it in the tooltip, never wider than `most` characters.
pub(super) fn cell(ui: &mut Ui, text: &str, most: usize) {
    let line: String = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cut = text.chars().nth(most).is_some();
    let shown = ui.label(if cut { format!("{line}..") } else { line });
    if cut {
        let tip: String = text.chars().take(2_000).collect();
        shown.on_hover_text(tip);
    }
}

/// A number, to the right of its column.
pub(super) fn number(ui: &mut Ui, text: impl Into<String>) {
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| ui.label(RichText::new(text).monospace()));
}

/// A table that scrolls on its own.
pub(super) fn table(ui: &mut Ui, name: &str, columns: &[&str], height: f32, rows: impl FnOnce(&mut Ui)) {
    ScrollArea::both().id_salt((name, "scroll")).max_height(height).auto_shrink([false, true]).show(
        ui,
        |ui| {
            Grid::new(name).striped(true).num_columns(columns.len()).spacing(Vec2::new(14.0, 4.0)).show(
                ui,
                |ui| {
                    for column in columns {
                        ui.label(RichText::new(*column).small().weak());
                    }
                    ui.end_row();
                    rows(ui);
                },
            );
        },
    );
}

/// Rows as CSV, quoted where it must be.
pub(super) fn csv(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory does not fail.
    let _ = writer.write_record(columns);
    for row in rows {
        let _ = writer.write_record(&row);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// What a panel's fields hold between two frames, kept by egui.
pub(super) fn draft<T: Clone + Send + Sync + 'static>(ui: &Ui, name: &str, first: impl FnOnce() -> T) -> T {
    let id = egui::Id::new(("skald", name));
    ui.data_mut(|data| data.get_temp_mut_or_insert_with(id, first).clone())
}

/// Keeps it.
pub(super) fn keep<T: Clone + Send + Sync + 'static>(ui: &Ui, name: &str, value: T) {
    ui.data_mut(|data| data.insert_temp(egui::Id::new(("skald", name)), value));
}

/// A file's or directory's last name.
pub(super) fn name_of(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Chooses one of some paths.
pub(super) fn choose<'a>(
    ui: &mut Ui,
    label: &str,
    chosen: &mut std::path::PathBuf,
    paths: impl Iterator<Item = &'a std::path::PathBuf>,
) {
    ui.label(label);
    egui::ComboBox::from_id_salt(label).selected_text(name_of(chosen)).width(150.0).show_ui(ui, |ui| {
        for path in paths {
            ui.selectable_value(chosen, path.clone(), name_of(path))
                .on_hover_text(path.display().to_string());
        }
    });
}

/// Bytes for people.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)),
    }
}

/// A moment for people: UTC, to the minute.
pub(super) fn moment(ms: i64) -> String {
    let since = std::time::Duration::from_millis(ms.max(0).unsigned_abs());
    let text = std::time::UNIX_EPOCH
        .checked_add(since)
        .map(|then| humantime::format_rfc3339_seconds(then).to_string());
    text.map_or_else(|| "-".into(), |text| text.get(..16).unwrap_or(&text).replace('T', " "))
}
