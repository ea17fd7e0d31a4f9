//! What is on the panels, what a click asks for, and that nothing breaks them.

use super::{full, long_name, picture};
use crate::inspector::{Layout, Panel, Request, Snapshot, show};
use crate::level::{Grid, TileGame};
use egui::{Theme, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use std::path::Path;
use std::sync::Arc;

/// A panel on its own, and what it asks for.
fn panel(panel: Panel, snapshot: Snapshot, size: [f32; 2]) -> Harness<'static, Vec<Request>> {
    let mut harness = Harness::builder().with_size(Vec2::from(size)).with_max_steps(20).build_ui_state(
        move |ui, asked: &mut Vec<Request>| asked.extend(panel.show(&snapshot, ui)),
        Vec::new(),
    );
    harness.run_steps(3);
    harness
}

#[test]
fn every_panel_says_what_to_do_when_there_is_nothing() {
    for each in Panel::ALL {
        let harness = panel(each, Snapshot::default(), [700.0, 600.0]);
        assert!(harness.state().is_empty(), "{each:?} asks for something by itself");
        let says = |part: &str| harness.query_all_by_label_contains(part).next().is_some();
        assert!(
            says("skald inspect")
                || says("Train above")
                || says("F12")
                || says("open a store")
                || says("Open a store"),
            "{each:?}"
        );
    }
}

#[test]
fn every_panel_draws_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = full(&dir.path().join("play.db"));
    for each in Panel::ALL {
        let mut harness = panel(each, snapshot.clone(), [800.0, 700.0]);
        let first = format!("{:?}", harness.output().shapes);
        harness.step();
        assert_eq!(first, format!("{:?}", harness.output().shapes), "{each:?}");
        assert!(harness.state().is_empty(), "{each:?} asks for something by itself");
    }
}

#[test]
fn an_erasure_is_asked_for_twice() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = full(&dir.path().join("play.db"));
    let player = snapshot.store.as_ref().unwrap().players[0].player.clone();
    let mut harness = panel(Panel::Privacy, snapshot, [900.0, 600.0]);
    harness.get_all_by_label("Erase").next().unwrap().click();
    harness.run_steps(3);
    assert!(harness.state().is_empty());
    harness.get_by_label("Really erase").click();
    harness.run_steps(3);
    let erase = crate::inspector::Erase::Player(player);
    assert_eq!(harness.state()[..], [Request::Erase(erase)]);
}

#[test]
fn what_is_typed_and_clicked_becomes_a_question() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = panel(Panel::Dialogue, full(&dir.path().join("play.db")), [900.0, 600.0]);
    harness.get_by_label("A/B").click();
    harness.run_steps(3);
    harness.get_by_label("Ask").click();
    harness.run_steps(3);
    let [Request::Ask { said, models, .. }] = &harness.state()[..] else { panic!("{:?}", harness.state()) };
    assert_eq!((said.as_str(), models.len()), ("Any work for me?", 2));
}

#[test]
fn the_keyboard_alone_starts_a_training() {
    let mut harness = panel(Panel::Training, Snapshot::default(), [800.0, 600.0]);
    harness.get_by_label("Train").focus();
    harness.run_steps(2);
    harness.key_press(egui::Key::Enter);
    harness.run_steps(2);
    assert!(matches!(&harness.state()[..], [Request::Train { resume: false, .. }]), "{:?}", harness.state());
}

#[test]
fn an_error_is_shown_where_it_happened_until_it_is_dismissed() {
    let mut snapshot = Snapshot::default();
    snapshot.errors.insert(Panel::Levels, "the level is too wide, level.txt, make it narrower".into());
    let mut harness = panel(Panel::Levels, snapshot, [600.0, 400.0]);
    harness.get_by_label_contains("make it narrower");
    harness.get_by_label("Dismiss").click();
    harness.run_steps(3);
    assert_eq!(harness.state()[..], [Request::Dismiss(Panel::Levels)]);
}

fn whole(
    snapshot: Snapshot,
    size: [f32; 2],
    scale: f32,
    theme: Theme,
    front: &[Panel],
    painter: &picture::Shared,
) -> Harness<'static> {
    let mut layout = Layout::default();
    front.iter().for_each(|panel| layout.open(*panel));
    Harness::builder()
        .with_size(Vec2::from(size))
        .with_pixels_per_point(scale)
        .with_theme(theme)
        .renderer(painter.clone())
        .build_ui(move |ui| {
            show(&snapshot, &mut layout, ui);
        })
}

#[test]
fn no_window_is_too_small_or_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = full(&dir.path().join("play.db"));
    for (size, scale) in [([300.0, 200.0], 1.0), ([1920.0, 1080.0], 2.0), ([1.0, 1.0], 1.0)] {
        for each in Panel::ALL {
            let mut harness =
                whole(snapshot.clone(), size, scale, Theme::Dark, &[each], &picture::Shared::default());
            harness.run_steps(3);
            let shapes = harness.output().shapes.clone();
            assert!(harness.ctx.tessellate(shapes, scale).len() < 10_000);
        }
    }
}

/// A level of 1,000 x 1,000 on the panel.
fn huge(mut snapshot: Snapshot) -> Snapshot {
    let game = TileGame::read(Path::new("assets/games/platformer.game.ron")).unwrap();
    snapshot.level.grid = Some(Arc::new(Grid::new(1_000, 1_000, 0).unwrap()));
    snapshot.level.game = Some(Arc::new(game));
    snapshot.level.path = (0..1_000).map(|x| (x, 999)).collect();
    snapshot
}

#[test]
fn a_level_of_a_thousand_by_a_thousand_is_one_texture_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let painter = picture::Shared::default();
    let snapshot = huge(full(&dir.path().join("play.db")));
    let mut harness = whole(snapshot, [1280.0, 720.0], 1.0, Theme::Dark, &[Panel::Levels], &painter);
    harness.run_steps(5);
    let made = painter.0.borrow().made.iter().filter(|width| **width == 1_000).count();
    assert_eq!(made, 1);
    let shapes = harness.output().shapes.len();
    assert!(shapes < 3_000, "{shapes} shapes");
}

#[test]
fn a_broken_layout_file_gives_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layout.json");
    let mut moved = Layout::default();
    moved.open(Panel::Levels);
    moved.write(&path).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Layout::read(&path), moved);
    assert_ne!(moved, Layout::default());
    for broken in
        ["", "{", "null", "[]", &whole.replace("\"Levels\"", "\"Training\""), &whole[..whole.len() / 2]]
    {
        std::fs::write(&path, broken).unwrap();
        assert_eq!(Layout::read(&path), Layout::default());
    }
}

/// Pictures of all panels in both themes, where `SKALD_PICTURES` names a folder; their pixels are checked in any case.
#[test]
fn both_themes_draw_every_panel() {
    let dir = tempfile::tempdir().unwrap();
    let mut snapshot = full(&dir.path().join("play.db"));
    super::desk::fill(&mut snapshot, dir.path());
    let folder = std::env::var_os("SKALD_PICTURES");
    for theme in [Theme::Dark, Theme::Light] {
        for front in [
            [Panel::Recordings, Panel::Training],
            [Panel::Players, Panel::Dialogue],
            [Panel::Privacy, Panel::Levels],
            [Panel::Performance, Panel::Evaluation],
        ] {
            let painter = picture::Shared::default();
            let mut harness = whole(snapshot.clone(), [1280.0, 720.0], 1.0, theme, &front, &painter);
            harness.run_steps(4);
            let back = harness.ctx.global_style().visuals.panel_fill;
            let image = painter.0.borrow().draw(&harness.ctx, harness.output(), back);
            let painted = image.2.iter().filter(|pixel| **pixel != back).count();
            assert!(painted > 20_000, "{front:?} shows next to nothing: {painted} pixels");
            if let Some(folder) = &folder {
                let name = format!("{}_{}_{theme:?}.png", front[0].title(), front[1].title()).to_lowercase();
                picture::write(&Path::new(folder).join(name), &image);
            }
        }
    }
    assert!(long_name().chars().count() == 200);
}
