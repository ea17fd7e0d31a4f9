//! Where the panels stand, and how that is remembered.

use super::request::Request;
use super::snapshot::Snapshot;
use super::{look, panels};
use crate::error::{Error, Result};
use crate::files::{read_text, write_atomic};
use egui::{ScrollArea, Ui, WidgetText};
use egui_tiles::{Behavior, SimplificationOptions, Tile, TileId, Tree, UiResponse};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// A panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Panel {
    /// What was recorded.
    Recordings,
    /// Trainings and runs.
    Training,
    /// Talk with an NPC.
    Dialogue,
    /// Levels.
    Levels,
    /// Who plays.
    Players,
    /// Held-out figures.
    Evaluation,
    /// Consent, erasure, retention.
    Privacy,
    /// What it costs.
    Performance,
}

impl Panel {
    /// All of them, in the order of work.
    pub const ALL: [Self; 8] = [
        Self::Recordings,
        Self::Training,
        Self::Dialogue,
        Self::Levels,
        Self::Players,
        Self::Evaluation,
        Self::Privacy,
        Self::Performance,
    ];

    /// The word on its tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Recordings => "Recordings",
            Self::Training => "Training",
            Self::Dialogue => "Dialogue",
            Self::Levels => "Levels",
            Self::Players => "Players",
            Self::Evaluation => "Evaluation",
            Self::Privacy => "Privacy",
            Self::Performance => "Performance",
        }
    }

    /// Draws it.
    pub fn show(self, snapshot: &Snapshot, ui: &mut Ui) -> Vec<Request> {
        let mut requests = Vec::new();
        look::messages(self, snapshot, ui, &mut requests);
        requests.extend(match self {
            Self::Recordings => panels::recordings(snapshot, ui),
            Self::Training => panels::training(snapshot, ui),
            Self::Dialogue => panels::dialogue(snapshot, ui),
            Self::Levels => panels::levels(snapshot, ui),
            Self::Players => panels::players(snapshot, ui),
            Self::Evaluation => panels::evaluation(snapshot, ui),
            Self::Privacy => panels::privacy(snapshot, ui),
            Self::Performance => panels::performance(snapshot, ui),
        });
        requests
    }
}

/// Where the panels stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    tree: Tree<Panel>,
}

impl Default for Layout {
    fn default() -> Self {
        let mut tiles = egui_tiles::Tiles::default();
        let mut tabs = |panels: &[Panel]| {
            let children = panels.iter().map(|panel| tiles.insert_pane(*panel)).collect();
            tiles.insert_tab_tile(children)
        };
        use Panel as P;
        let left = tabs(&[P::Recordings, P::Players, P::Privacy, P::Performance]);
        let right = tabs(&[P::Training, P::Dialogue, P::Levels, P::Evaluation]);
        let root = tiles.insert_horizontal_tile(vec![left, right]);
        Self { tree: Tree::new("skald panels", root, tiles) }
    }
}

impl Layout {
    /// Reads a layout. Whatever is not a layout with every panel once gives the default: a broken file is no reason not
    /// to open.
    pub fn read(path: &Path) -> Self {
        let text = read_text(path, 1 << 20, "read the layout").unwrap_or_default();
        serde_json::from_str(&text).ok().filter(Self::is_whole).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        let tiles = &self.tree.tiles;
        let panels: Vec<Panel> = tiles
            .tiles()
            .filter_map(|tile| match tile {
                Tile::Pane(panel) => Some(*panel),
                Tile::Container(_) => None,
            })
            .collect();
        let known: BTreeSet<Panel> = panels.iter().copied().collect();
        panels.len() == Panel::ALL.len()
            && known.len() == panels.len()
            && self.tree.root.is_some_and(|root| self.reaches(root, &mut BTreeSet::new()))
    }

    /// Whether every tile is under `tile`, once.
    fn reaches(&self, tile: TileId, seen: &mut BTreeSet<u64>) -> bool {
        let mut open = vec![tile];
        while let Some(next) = open.pop() {
            let Some(tile) = self.tree.tiles.get(next).filter(|_| seen.insert(next.0)) else {
                return false;
            };
            if let Tile::Container(container) = tile {
                open.extend(container.children().copied());
            }
        }
        seen.len() == self.tree.tiles.len()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::backend("writing the layout", e))?;
        write_atomic(path, &text)
    }

    /// Brings a panel's tab to the front.
    pub fn open(&mut self, panel: Panel) {
        self.tree.make_active(|_, tile| matches!(tile, Tile::Pane(pane) if *pane == panel));
    }

    /// Draws the panels. Also says whether somebody moved one.
    pub(super) fn show(&mut self, snapshot: &Snapshot, ui: &mut Ui) -> (Vec<Request>, bool) {
        let mut hand = Hand { snapshot, requests: Vec::new(), moved: false };
        self.tree.ui(&mut hand, ui);
        (hand.requests, hand.moved)
    }
}

struct Hand<'a> {
    snapshot: &'a Snapshot,
    requests: Vec<Request>,
    moved: bool,
}

impl Behavior<Panel> for Hand<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _: TileId, panel: &mut Panel) -> UiResponse {
        egui::Frame::new().inner_margin(8).show(ui, |ui| {
            ScrollArea::both().id_salt(panel.title()).auto_shrink(false).show(ui, |ui| {
                self.requests.extend(panel.show(self.snapshot, ui));
            });
        });
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, panel: &Panel) -> WidgetText {
        let mark = if self.snapshot.errors.contains_key(panel) { " (!)" } else { "" };
        format!("{}{mark}", panel.title()).into()
    }

    fn simplification_options(&self) -> SimplificationOptions {
        // A single panel keeps its tab: it names it.
        SimplificationOptions { all_panes_must_have_tabs: true, ..SimplificationOptions::default() }
    }

    fn on_edit(&mut self, _: egui_tiles::EditAction) {
        self.moved = true;
    }
}
