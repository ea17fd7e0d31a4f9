//! Erasure from outside: what is gone, what still holds, what is refused.

use bevy_skald::recording::{Consent, Recorder, RecorderConfig, Secret, Store, erase_player, retain};
use rusqlite::Connection;
use serde_json::json;
use std::fs;
use std::path::Path;

fn recorder(path: &Path) -> Recorder {
    let ack_log = Some(path.with_extension("acks"));
    Recorder::open(
        path,
        RecorderConfig { consent: Consent::Granted, build: "test".into(), ack_log, ..Default::default() },
    )
    .unwrap()
}

/// Three players; what the second types is nowhere else.
fn recorded(path: &Path) {
    let recorder = recorder(path);
    for player in ["ada", "bob", "cleo"] {
        let session = recorder.begin_session(player);
        for n in 0..400 {
            recorder.record(session, n, "Said", &json!({ "text": format!("the secret of {player} is {n}") }));
        }
        recorder.end_session(session);
    }
    recorder.close().unwrap();
}

fn bytes(folder: &Path) -> Vec<u8> {
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    files.flatten().collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn an_erased_player_leaves_no_byte_and_the_rest_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    recorded(&path);
    let pseudonym =
        Secret::from_bytes(fs::read(dir.path().join("play.sqlite.key")).unwrap().try_into().unwrap())
            .pseudonym("bob");
    assert!(contains(&bytes(dir.path()), "the secret of bob") && contains(&bytes(dir.path()), &pseudonym));
    let erased = erase_player(&path, "bob").unwrap();
    assert_eq!((erased.sessions, erased.events), (1, 400));
    let left = bytes(dir.path());
    assert!(!contains(&left, "the secret of bob") && !contains(&left, &pseudonym));
    assert!(contains(&left, "the secret of ada"));
    let acks = path.with_extension("acks");
    let verified = Store::open_read(&path).unwrap().verify(Some(&acks)).unwrap();
    assert_eq!((verified.sessions, verified.events, verified.erased), (2, 800, 1));
    let error = erase_player(&path, "bob").unwrap_err().to_string();
    assert!(error.contains("no player `bob`"), "{error}");
}

#[test]
fn a_tombstone_that_was_changed_or_removed_is_found() {
    for damage in [
        "DELETE FROM erased WHERE session = (SELECT max(session) FROM erased)",
        "DELETE FROM erased",
        "DROP TRIGGER erased_stays_erased; DROP TABLE erased",
        "UPDATE erased SET erased_ms = erased_ms + 1 WHERE session = (SELECT min(session) FROM erased)",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        recorded(&path);
        erase_player(&path, "bob").unwrap();
        erase_player(&path, "ada").unwrap();
        assert_eq!(Store::open_read(&path).unwrap().verify(None).unwrap().erased, 2);
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        assert!(Store::open_read(&path).unwrap().verify(None).is_err(), "{damage}");
    }
}

#[test]
fn a_session_that_is_being_recorded_stays_erased() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let recorder = recorder(&path);
    let (bob, ada) = (recorder.begin_session("bob"), recorder.begin_session("ada"));
    for (n, session) in [(0, bob), (1, ada)] {
        recorder.record(session, n, "Said", &json!("before"));
    }
    recorder.flush().unwrap();
    erase_player(&path, "bob").unwrap();
    for (n, session) in [(2, bob), (3, ada)] {
        recorder.record(session, n, "Said", &json!("after"));
    }
    recorder.close().unwrap();
    let store = Store::open_read(&path).unwrap();
    assert_eq!(store.events(None).count(), 2);
    store.verify(Some(&path.with_extension("acks"))).unwrap();
}

#[test]
fn what_is_older_than_the_retention_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    recorded(&path);
    assert_eq!(retain(&path, 1).unwrap().sessions, 0);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(retain(&path, 0).unwrap().sessions, 3);
    assert_eq!(Store::open_read(&path).unwrap().verify(None).unwrap().erased, 3);
}

#[test]
fn pages_hold_what_the_whole_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    recorded(&path);
    let store = Store::open_read(&path).unwrap();
    assert_eq!(store.count_sessions("").unwrap(), 3);
    let all: Vec<_> = (0..3).flat_map(|skip| store.sessions_page("", skip, 1).unwrap()).collect();
    assert_eq!(all, store.sessions_page("", 0, 10).unwrap());
    let player = &all[0].player;
    assert_eq!(store.sessions_page(&player[..8], 0, 10).unwrap().len(), 1);
    let events = store.events_page(all[0].id, Some("Said"), 390, 100).unwrap();
    assert_eq!((events.len(), events[0].seq), (10, 390));
    assert_eq!(store.players_page(0, 10).unwrap().len(), 3);
    assert_eq!(store.events_page(all[0].id, Some("Died"), 0, 100).unwrap(), []);
}
