//! The level workshop: generate, write a part anew, mend, play the solution back.

use super::super::look::{self, draft, keep};
use super::super::request::{Job, Request};
use super::super::snapshot::{LevelView, Snapshot};
use crate::level::{Affordance, Grid, TileGame};
use egui::{Color32, ColorImage, Pos2, Rect, Sense, Slider, TextureHandle, TextureOptions, Ui, Vec2};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

type Marked = Option<[(usize, usize); 2]>;

#[derive(Clone, Default)]
struct Draft {
    model: PathBuf,
    knobs: BTreeMap<String, f64>,
    seed: u64,
    step: usize,
    marked: Marked,
    from: Option<(usize, usize)>,
    picture: Option<(u64, TextureHandle)>,
}

/// The workshop.
pub fn levels(snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
    let mut requests = Vec::new();
    let models = || snapshot.models.iter().filter(|model| model.domain == "level").map(|model| &model.path);
    let Some(first) = models().next() else {
        look::empty(
            ui,
            "No level model is open",
            "skald inspect --model assets/models/platformer, or train one of levels",
        );
        return requests;
    };
    let view = &snapshot.level;
    let mut form: Draft = draft(ui, "levels", || Draft { model: first.clone(), ..Draft::default() });
    ui.horizontal_wrapped(|ui| {
        look::choose(ui, "Model", &mut form.model, models());
        ui.label("Seed");
        ui.add(egui::DragValue::new(&mut form.seed));
    });
    if view.model.as_ref() == Some(&form.model) && !view.knobs.is_empty() {
        ui.collapsing("Knobs", |ui| knobs(view, &mut form.knobs, ui));
    }
    if !look::job(Job::Level, "Writing", snapshot, ui, &mut requests) {
        buttons(view, &mut form, ui, &mut requests);
    }
    ui.separator();
    match (&view.grid, &view.game) {
        (Some(grid), Some(game)) => shown(view, grid, game, &mut form, ui),
        _ => look::empty(ui, "No level yet", "Choose Generate: every level comes with its solution"),
    }
    keep(ui, "levels", form);
    requests
}

fn knobs(view: &LevelView, asked: &mut BTreeMap<String, f64>, ui: &mut Ui) {
    for knob in &view.knobs {
        let (Some(low), Some(high)) = (knob.quantiles.first(), knob.quantiles.last()) else {
            continue;
        };
        ui.horizontal(|ui| {
            let mut on = asked.contains_key(&knob.name);
            if ui.checkbox(&mut on, &knob.name).on_hover_text("Unticked: as the model likes").changed() {
                if on {
                    asked.insert(knob.name.clone(), f64::midpoint(*low, *high));
                } else {
                    asked.remove(&knob.name);
                }
            }
            if let Some(value) = asked.get_mut(&knob.name) {
                ui.add(Slider::new(value, *low..=*high))
                    .on_hover_text("The range is that of the levels it learned from");
            }
        });
    }
}

fn buttons(view: &LevelView, form: &mut Draft, ui: &mut Ui, requests: &mut Vec<Request>) {
    ui.horizontal_wrapped(|ui| {
        let mut asked = |form: &mut Draft, open| {
            let (model, controls, seed) = (form.model.clone(), form.knobs.clone(), form.seed);
            requests.push(Request::Generate { model, controls, size: None, seed, open });
            (form.seed, form.step, form.marked) = (form.seed + 1, 0, None);
        };
        if ui
            .button("Generate")
            .on_hover_text("A new level, checked by the solver before it is shown")
            .clicked()
        {
            asked(form, None);
        }
        if let (Some([from, to]), Some(grid)) = (form.marked, &view.grid) {
            let inside = |x: usize, y: usize| (from.0..=to.0).contains(&x) && (from.1..=to.1).contains(&y);
            let cells = |within: bool| -> BTreeSet<(usize, usize)> {
                let all = grid.cells().map(|(x, y, _)| (x, y));
                all.filter(|(x, y)| inside(*x, *y) == within).collect()
            };
            if ui
                .button("Infill the marked part")
                .on_hover_text("Writes it anew and keeps the rest")
                .clicked()
            {
                asked(form, Some(cells(true)));
            }
            if ui.button("Lock the marked part").on_hover_text("Keeps it and writes the rest anew").clicked()
            {
                asked(form, Some(cells(false)));
            }
        }
        if view.grid.is_some() {
            let meaning = "Changes as few tiles as it finds so that the level can be finished";
            if ui.button("Repair").on_hover_text(meaning).clicked() {
                requests.push(Request::Repair);
            }
            if ui.button("CSV").on_hover_text("Writes the level's rows").clicked()
                && let (Some(grid), Some(game)) = (&view.grid, &view.game)
            {
                requests.push(Request::Export { name: "level".into(), csv: grid.to_text(game) });
            }
        }
    });
}

fn shown(view: &LevelView, grid: &Grid, game: &TileGame, form: &mut Draft, ui: &mut Ui) {
    if let Some(report) = &view.report {
        ui.horizontal_wrapped(|ui| {
            let (word, colour) = if report.solvable {
                ("can be finished", look::good(ui))
            } else {
                ("cannot be finished", ui.visuals().error_fg_color)
            };
            ui.colored_label(colour, word).on_hover_text("The solver's verdict; the solution is drawn below");
            ui.weak(format!("{} x {}, {:.0} ms", grid.width(), grid.height(), report.ms));
            for (name, value) in &report.knobs {
                ui.weak(format!("{name} {value:.2}"));
            }
        });
    }
    let steps = view.path.len().saturating_sub(1);
    if steps > 0 {
        ui.horizontal(|ui| {
            form.step = form.step.min(steps);
            if ui.button("|<").on_hover_text("To the start").clicked() {
                form.step = 0;
            }
            if ui.button("Step").on_hover_text("One step of the solution").clicked() {
                form.step = (form.step + 1).min(steps);
            }
            ui.add(Slider::new(&mut form.step, 0..=steps).text("solution"));
        });
    }
    ui.weak("Drag over the level to mark a part of it.");
    if form.picture.as_ref().is_none_or(|(version, _)| *version != view.version) {
        let image = picture(game, grid);
        let name = format!("level {}", view.version);
        form.picture = Some((view.version, ui.ctx().load_texture(name, image, TextureOptions::NEAREST)));
    }
    let side = (ui.available_width() / grid.width() as f32).clamp(1.0, 24.0);
    let size = Vec2::new(grid.width() as f32 * side, grid.height() as f32 * side);
    let (place, response) = ui.allocate_exact_size(size, Sense::drag());
    let painter = ui.painter_at(place);
    if let Some((_, texture)) = &form.picture {
        painter.image(
            texture.id(),
            place,
            Rect::from_min_max(Pos2::ZERO, Pos2::new(1.0, 1.0)),
            Color32::WHITE,
        );
    }
    let centre =
        |(x, y): (usize, usize)| place.min + Vec2::new((x as f32 + 0.5) * side, (y as f32 + 0.5) * side);
    for pair in view.path.windows(2).take(form.step) {
        painter.line_segment(
            [centre(pair[0]), centre(pair[1])],
            (side.min(6.0) / 3.0, Color32::from_rgb(230, 60, 150)),
        );
    }
    if let Some(at) = view.path.get(form.step) {
        painter.circle_filled(centre(*at), side * 0.4, Color32::from_rgb(230, 60, 150));
    }
    mark(grid, side, place, &response, form);
    if let Some([from, to]) = form.marked {
        let corner = |(x, y): (usize, usize), more: f32| {
            place.min + Vec2::new(x as f32 + more, y as f32 + more) * side
        };
        let marked = Rect::from_min_max(corner(from, 0.0), corner(to, 1.0));
        painter.rect_stroke(marked, 0.0, (2.0, Color32::YELLOW), egui::StrokeKind::Inside);
    }
}

/// Follows a drag over the level.
fn mark(grid: &Grid, side: f32, place: Rect, response: &egui::Response, form: &mut Draft) {
    let Some(at) = response.interact_pointer_pos() else {
        return;
    };
    let cell = |along: f32, count: usize| ((along / side).max(0.0) as usize).min(count - 1);
    let now = (cell(at.x - place.min.x, grid.width()), cell(at.y - place.min.y, grid.height()));
    if response.drag_started() {
        form.from = Some(now);
    }
    if let Some(from) = form.from {
        form.marked = Some([(from.0.min(now.0), from.1.min(now.1)), (from.0.max(now.0), from.1.max(now.1))]);
    }
}

/// One pixel a tile: a level of 1,000 x 1,000 is one texture, made once.
fn picture(game: &TileGame, grid: &Grid) -> ColorImage {
    let colours: Vec<Color32> = game
        .tiles
        .iter()
        .map(|tile| match tile.colour {
            Some((r, g, b)) => Color32::from_rgb(r, g, b),
            None => guessed(&tile.affordances),
        })
        .collect();
    // Larger sides than a texture may have are shown thinned.
    let every = grid.width().max(grid.height()).div_ceil(2_048).max(1);
    let (width, height) = (grid.width().div_ceil(every), grid.height().div_ceil(every));
    let pixel = |n: usize| grid.at(n % width * every, n / width * every);
    let pixels =
        (0..width * height).map(|n| colours.get(usize::from(pixel(n))).copied().unwrap_or(Color32::BLACK));
    ColorImage::new([width, height], pixels.collect())
}

/// A colour for a tile without one.
fn guessed(affordances: &[Affordance]) -> Color32 {
    let colour = |affordance: &Affordance| match affordance {
        Affordance::Solid => Some((92, 74, 60)),
        Affordance::Hazard => Some((200, 60, 40)),
        Affordance::Enemy => Some((170, 40, 90)),
        Affordance::Ladder | Affordance::Rope => Some((160, 120, 60)),
        Affordance::Start => Some((60, 160, 90)),
        Affordance::Goal | Affordance::Exit | Affordance::Target => Some((240, 200, 60)),
        Affordance::Collectible | Affordance::Required | Affordance::Key(_) => Some((250, 220, 90)),
        Affordance::Door(_) => Some((120, 80, 40)),
        Affordance::Box => Some((180, 130, 70)),
        _ => None,
    };
    let (r, g, b) = affordances.iter().find_map(colour).unwrap_or((176, 206, 230));
    Color32::from_rgb(r, g, b)
}
