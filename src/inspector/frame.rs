//! The whole inspector: a bar, and the panels under it.

use super::layout::{Layout, Panel};
use super::request::Request;
use super::snapshot::Snapshot;
use egui::{RichText, Ui};

/// Draws everything. Also says whether the layout changed and should be kept.
pub fn show(snapshot: &Snapshot, layout: &mut Layout, ui: &mut Ui) -> (Vec<Request>, bool) {
    let (mut requests, mut moved) = (Vec::new(), false);
    ui.horizontal_wrapped(|ui| {
        ui.add_space(8.0);
        ui.label(RichText::new("skald").strong());
        ui.separator();
        for panel in Panel::ALL {
            if ui.small_button(panel.title()).on_hover_text("Brings this panel to the front").clicked() {
                layout.open(panel);
                moved = true;
            }
        }
        ui.separator();
        egui::widgets::global_theme_preference_switch(ui);
        if ui
            .small_button("Reset layout")
            .on_hover_text("Puts every panel back where it stood at first")
            .clicked()
        {
            *layout = Layout::default();
            moved = true;
        }
    });
    ui.separator();
    let (more, edited) = layout.show(snapshot, ui);
    requests.extend(more);
    (requests, moved || edited)
}
