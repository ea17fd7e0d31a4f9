//! [`InspectorPlugin`]: the panels in a Bevy app, over the game or in a window of their own.
//!
//! What is shown is gathered in `Update`, drawn in the pass of egui, and what was clicked is done in `Last`: the pass may
//! run more than once a frame, and so starts nothing.

use super::desk::{Desk, Places};
use super::layout::Layout;
use super::request::Request;
use super::snapshot::{LiveView, Snapshot};
use super::{Panel, show};
use crate::dialogue::{DialogueModel, LineFinished, SpeakWith};
use crate::player::PlayerProfile;
use crate::quest::plugin::QuestLog;
use crate::runtime::{ComputeWorker, DialogueStats, FrameGovernor, ModelAsset};
use bevy::prelude::*;
use bevy::tasks::IoTaskPool;
use bevy::time::Real;
use bevy_egui::{EguiContexts, EguiGlobalSettings, EguiPlugin, EguiPrimaryContextPass, egui};
use std::collections::VecDeque;
use std::path::PathBuf;

/// How many frames the plot of frame times shows.
const FRAMES: usize = 600;
/// How many of the last lines are shown.
const LINES: usize = 12;

/// The inspector. F12 opens and closes it in a game; while it is open, what is typed and clicked into it does not reach the
/// game. Needs a camera; adds bevy's egui if the game has none.
#[derive(Clone, Debug, Default)]
pub struct InspectorPlugin {
    /// Where stores, models and runs lie.
    pub places: Places,
    /// Whether it is a window of its own, always open and without a game.
    pub alone: bool,
    /// Whether a game's is open from the start.
    pub open: bool,
    /// Where the layout is remembered; nothing: in the user's folder of settings.
    pub layout: Option<PathBuf>,
}

impl InspectorPlugin {
    /// With these places.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self { places, ..Self::default() }
    }
}

/// The user's folder of settings.
fn settings() -> Option<PathBuf> {
    let of = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder =
        of("XDG_CONFIG_HOME").or_else(|| of("APPDATA")).or_else(|| Some(of("HOME")?.join(".config")));
    Some(folder?.join("bevy_skald").join("inspector.json"))
}

#[derive(Resource)]
struct Inspector {
    desk: Option<Desk>,
    snapshot: Snapshot,
    layout: Layout,
    file: Option<PathBuf>,
    alone: bool,
    open: bool,
    asked: Vec<Request>,
    moved: bool,
    frames: VecDeque<f32>,
    lines: VecDeque<(String, String)>,
    /// Tokens and seconds of the last reckoning, and what came of it.
    tokens: (u64, f64, f64),
    /// Who spoke before the promotion, and what was promoted.
    before: Option<(Option<Handle<ModelAsset>>, PathBuf)>,
}

impl Plugin for InspectorPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<EguiPlugin>() {
            app.add_plugins(EguiPlugin::default());
        }
        let mut snapshot = Snapshot::default();
        let desk = match Desk::open(self.places.clone()) {
            Ok(desk) => Some(desk),
            Err(error) => {
                snapshot.errors.insert(Panel::Recordings, error.to_string());
                None
            }
        };
        let file = self.layout.clone().or_else(settings);
        app.insert_resource(Inspector {
            desk,
            snapshot,
            layout: file.as_deref().map(Layout::read).unwrap_or_default(),
            file,
            alone: self.alone,
            open: self.open || self.alone,
            asked: Vec::new(),
            moved: false,
            frames: VecDeque::with_capacity(FRAMES),
            lines: VecDeque::new(),
            tokens: (0, 0.0, 0.0),
            before: None,
        })
        .add_message::<LineFinished>()
        .add_systems(Update, (toggle, listen, gather).chain())
        .add_systems(EguiPrimaryContextPass, draw)
        .add_systems(Last, act);
    }
}

fn toggle(
    keys: Option<Res<ButtonInput<KeyCode>>>,
    mut inspector: ResMut<Inspector>,
    settings: Option<ResMut<EguiGlobalSettings>>,
) {
    if !inspector.alone && keys.is_some_and(|keys| keys.just_pressed(KeyCode::F12)) {
        inspector.open = !inspector.open;
    }
    if let Some(mut settings) = settings
        && settings.enable_absorb_bevy_input_system != inspector.open
    {
        settings.enable_absorb_bevy_input_system = inspector.open;
    }
}

/// Keeps what would be gone when the inspector is opened later: frame times and lines.
fn listen(
    mut inspector: ResMut<Inspector>,
    time: Res<Time<Real>>,
    mut finished: MessageReader<LineFinished>,
    names: Query<&Name>,
) {
    let inspector = &mut *inspector;
    if inspector.frames.len() == FRAMES {
        inspector.frames.pop_front();
    }
    inspector.frames.push_back(time.delta_secs() * 1000.0);
    for line in finished.read() {
        if inspector.lines.len() == LINES {
            inspector.lines.pop_back();
        }
        let who = names.get(line.npc).map_or_else(|_| line.npc.to_string(), ToString::to_string);
        inspector.lines.push_front((who, line.text.clone()));
    }
}

/// What the running game says of itself.
#[derive(bevy::ecs::system::SystemParam)]
struct Game<'w, 's> {
    time: Res<'w, Time<Real>>,
    stats: Option<Res<'w, DialogueStats>>,
    worker: Option<Res<'w, ComputeWorker>>,
    governor: Option<Res<'w, FrameGovernor>>,
    speaks: Option<Res<'w, DialogueModel>>,
    players: Query<'w, 's, (Entity, Option<&'static Name>, &'static PlayerProfile)>,
    logs: Query<'w, 's, (Entity, Option<&'static Name>, &'static QuestLog)>,
}

fn gather(mut inspector: ResMut<Inspector>, game: Game) {
    let inspector = &mut *inspector;
    // The mailbox is bounded: it is emptied also while nobody looks.
    if let Some(desk) = &inspector.desk {
        desk.receive(&mut inspector.snapshot);
    }
    let Some(stats) = game.stats.filter(|_| inspector.open) else {
        return;
    };
    let now = game.time.elapsed_secs_f64();
    let (tokens, then, _) = inspector.tokens;
    if now - then >= 1.0 {
        let rate = stats.tokens.saturating_sub(tokens) as f64 / (now - then);
        inspector.tokens = (stats.tokens, now, rate);
    }
    let name =
        |entity: Entity, name: Option<&Name>| name.map_or_else(|| entity.to_string(), ToString::to_string);
    let speaks = game.speaks.as_ref().map(|speaks| &speaks.0);
    let promoted = inspector.before.as_ref().filter(|(before, _)| speaks.is_some_and(|now| now != before));
    inspector.snapshot.live = Some(LiveView {
        frames: inspector.frames.iter().copied().collect(),
        tokens_per_s: inspector.tokens.2,
        open: stats.open,
        finished: stats.finished,
        fallbacks: stats.fallbacks,
        kv_bytes: stats.kv_bytes,
        waiting: game.worker.map_or(0, |worker| worker.waiting()),
        pressure: game.governor.as_ref().map_or(0.0, |governor| governor.pressure()),
        overruns: game.governor.as_ref().map_or(0, |governor| governor.overruns()),
        lines: inspector.lines.iter().cloned().collect(),
        players: game.players.iter().take(20).map(|(e, n, profile)| (name(e, n), profile.clone())).collect(),
        quests: game
            .logs
            .iter()
            .flat_map(|(e, n, log)| {
                let who = name(e, n);
                log.0
                    .open
                    .iter()
                    .map(move |open| (who.clone(), open.quest.text.clone(), open.quest.because.clone()))
            })
            .take(40)
            .collect(),
        speaks: promoted.map(|(_, path)| path.clone()),
        can_roll_back: promoted.is_some(),
    });
}

fn draw(mut contexts: EguiContexts, mut inspector: ResMut<Inspector>) {
    if !inspector.open {
        return;
    }
    // No camera, no context: there is nothing to draw on yet.
    let Ok(ctx) = contexts.ctx_mut() else {
        return;
    };
    let ctx = ctx.clone();
    let Inspector { snapshot, layout, alone, .. } = &mut *inspector;
    let (mut asked, mut moved) = (Vec::new(), false);
    if *alone {
        let builder =
            egui::UiBuilder::new().layer_id(egui::LayerId::background()).max_rect(ctx.viewport_rect());
        let mut root = egui::Ui::new(ctx.clone(), "skald inspector".into(), builder);
        egui::CentralPanel::default().show(&mut root, |ui| (asked, moved) = show(snapshot, layout, ui));
    } else {
        let size = ctx.viewport_rect().size() * 0.9;
        egui::Window::new("skald inspector").default_size(size).constrain(true).show(&ctx, |ui| {
            (asked, moved) = show(snapshot, layout, ui);
        });
    }
    inspector.asked.extend(asked);
    // The pass may have run twice over the same click.
    inspector.asked.dedup();
    inspector.moved |= moved;
}

fn act(mut inspector: ResMut<Inspector>, speaks: Option<ResMut<DialogueModel>>, mut commands: Commands) {
    let asked = std::mem::take(&mut inspector.asked);
    let mut speaks = speaks;
    for request in asked {
        match request {
            Request::Promote(directory) => {
                if let Some(speaks) = &speaks {
                    inspector.before = Some((speaks.0.clone(), directory.clone()));
                    commands.trigger(SpeakWith { directory });
                }
            }
            Request::RollBack => {
                if let (Some(speaks), Some((before, _))) = (&mut speaks, inspector.before.take()) {
                    speaks.0 = before;
                }
            }
            request => {
                if let Some(desk) = &inspector.desk {
                    desk.ask(request);
                }
            }
        }
    }
    if std::mem::take(&mut inspector.moved)
        && let Some(file) = inspector.file.clone()
    {
        let layout = inspector.layout.clone();
        let keep = async move {
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            let kept = folder.map_err(|e| crate::Error::io("keep the layout", &file, e));
            if let Err(error) = kept.and_then(|()| layout.write(&file)) {
                warn!("{error}");
            }
        };
        IoTaskPool::get().spawn(keep).detach();
    }
}
