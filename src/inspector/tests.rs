//! The panels through egui's accessibility tree, and the desk against real stores and models.
//!
//! With `SKALD_PICTURES=FOLDER` the panels are also drawn to PNG files, by the plain rasteriser in `picture`: no GPU, no
//! window, the same picture everywhere.

mod desk;
mod panels;
mod picture;

use super::snapshot::{ModelView, Snapshot, StoreView};
use crate::recording::{Consent, PlayerRow, Recorder, RecorderConfig, Store};
use std::path::{Path, PathBuf};

/// A name of 200 characters that no layout was made for.
fn long_name() -> String {
    "محمد🐉".chars().cycle().take(200).collect()
}

fn recorded(path: &Path) {
    let config = RecorderConfig { build: "0.3.1".into(), ..RecorderConfig::default() };
    let recorder = Recorder::open(path, config).unwrap();
    for player in ["ann".to_owned(), "bob".into(), long_name()] {
        recorder.set_consent(&player, Consent::Granted);
        let session = recorder.begin_session(&player);
        for n in 0..120 {
            let kind = ["Moved", "Died", "Talked"][n as usize % 3];
            recorder.record(session, n * 250, kind, &serde_json::json!({ "x": n, "by": "spikes" }));
        }
        recorder.end_session(session);
    }
    recorder.close().unwrap();
}

/// A snapshot with a store, models and personas.
fn full(store: &Path) -> Snapshot {
    recorded(store);
    let open = Store::open_read(store).unwrap();
    let sessions = open.sessions_page("", 0, 20).unwrap();
    let mut players = open.players_page(0, 200).unwrap();
    players.push(PlayerRow {
        player: long_name(),
        sessions: 1,
        events: 9,
        first_ms: 0,
        last_ms: 1_700_000_000_000,
    });
    let model = |name: &str, domain: &str| ModelView {
        path: PathBuf::from("assets/models").join(name),
        domain: domain.into(),
    };
    Snapshot {
        store: Some(StoreView {
            path: store.to_owned(),
            stats: Some(open.stats().unwrap()),
            session: Some(sessions[0].id),
            events: open.events_page(sessions[0].id, None, 0, 50).unwrap(),
            sessions,
            players,
            ..StoreView::default()
        }),
        models: vec![model("village", "dialogue"), model("platformer", "level")],
        personas: vec!["assets/personas/mira.persona.ron".into()],
        ..Snapshot::default()
    }
}
