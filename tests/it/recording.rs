//! The recorder from outside: what survives a kill, what never reaches the file, what is found.

use bevy_skald::recording::{Consent, Outcome, Recorder, RecorderConfig, Secret, SessionId, Store};
use rusqlite::Connection;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "SKALD_TEST_CHILD_STORE";

fn granted() -> RecorderConfig {
    RecorderConfig { consent: Consent::Granted, build: "test".into(), ..RecorderConfig::default() }
}

/// A store of `sessions` sessions with 100 events each.
fn recorded(path: &Path, sessions: usize) -> Vec<SessionId> {
    let recorder = Recorder::open(path, granted()).unwrap();
    let ids: Vec<_> = (0..sessions).map(|i| recorder.begin_session(&format!("player {i}"))).collect();
    for n in 0..100 {
        for id in &ids {
            let kind = if n % 10 == 0 { "Died" } else { "Moved" };
            assert_eq!(recorder.record(*id, n * 16, kind, &json!({ "n": n })), Outcome::Queued);
        }
    }
    recorder.close().unwrap();
    ids
}

fn payloads(path: &Path) -> Vec<String> {
    Store::open_read(path).unwrap().events(None).map(|event| event.unwrap().payload).collect()
}

/// The writer that `nothing_acknowledged_is_lost_to_kill_9` kills. Not a test by itself.
#[test]
#[ignore = "runs only as the child of another test"]
fn the_child_that_is_killed() {
    let Ok(store) = std::env::var(CHILD) else { return };
    let config = RecorderConfig {
        ack_log: Some(format!("{store}.acks").into()),
        flush_every: Duration::from_millis(2),
        ..granted()
    };
    let recorder = Recorder::open(&store, config).unwrap();
    let mut sessions: Vec<_> = (0..4).map(|i| recorder.begin_session(&format!("bot {i}"))).collect();
    // Ends by itself if nobody kills it.
    let since = Instant::now();
    let mut n = 0_usize;
    while since.elapsed() < Duration::from_secs(20) {
        recorder.record(sessions[n % 4], n as u64, "Moved", &json!({ "n": n, "where": "the old mill" }));
        n += 1;
        if n.is_multiple_of(5_000) {
            let slot = n / 5_000 % 4;
            recorder.end_session(sessions[slot]);
            sessions[slot] = recorder.begin_session(&format!("bot {slot}"));
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("play.sqlite");
    let acks = dir.path().join("play.sqlite.acks");
    let mut moments = bevy_skald::seed::Seed::new(20).stream();
    let mut acknowledged = 0;
    // All runs write into the same store, so each also recovers what the one before left.
    for round in 0..20 {
        let before = fs::metadata(&acks).map_or(0, |log| log.len());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["recording::the_child_that_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, &store)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while fs::metadata(&acks).map_or(0, |log| log.len()) == before {
            assert!(since.elapsed() < Duration::from_secs(15), "round {round}: nothing was acknowledged");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(moments.below(80_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = Store::open_read(&store).unwrap().verify(Some(&acks)).unwrap();
        assert!(found.acknowledged > acknowledged, "round {round}: {found:?}");
        assert!(found.events >= found.acknowledged, "round {round}: {found:?}");
        acknowledged = found.acknowledged;
    }
}

#[test]
fn nothing_is_written_without_consent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let recorder = Recorder::open(&path, RecorderConfig::default()).unwrap();
    let session = recorder.begin_session("ada");
    assert_eq!(recorder.record(session, 0, "Died", &1), Outcome::NoConsent);
    recorder.end_session(session);
    recorder.close().unwrap();
    let stats = Store::open_read(&path).unwrap().stats().unwrap();
    assert_eq!((stats.events, stats.sessions, stats.players, stats.dropped), (0, 0, 0, 0));
}

#[test]
fn a_withdrawal_also_stops_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    // The writer sleeps long enough for the withdrawal to come before it.
    let config = RecorderConfig { flush_every: Duration::from_secs(60), ..granted() };
    let recorder = Recorder::open(&path, config).unwrap();
    let (ada, bob) = (recorder.begin_session("ada"), recorder.begin_session("bob"));
    recorder.record(ada, 0, "Said", &"before");
    recorder.record(bob, 0, "Said", &"bob before");
    recorder.flush().unwrap();
    recorder.record(ada, 1, "Said", &"queued");
    recorder.record(bob, 1, "Said", &"bob queued");
    recorder.set_consent("ada", Consent::Denied);
    assert_eq!(recorder.record(ada, 2, "Said", &"after"), Outcome::NoConsent);
    recorder.set_consent("ada", Consent::Granted);
    recorder.record(ada, 3, "Said", &"again");
    recorder.close().unwrap();
    let mut said = payloads(&path);
    said.sort();
    assert_eq!(said, ["\"again\"", "\"before\"", "\"bob before\"", "\"bob queued\""]);
    assert_eq!(recorder.acknowledged(), 4);
    Store::open_read(&path).unwrap().verify(None).unwrap();
}

#[test]
fn a_player_keeps_their_pseudonym_and_their_id_stays_out_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let id = "ada.lovelace@example.org";
    for _ in 0..2 {
        let recorder = Recorder::open(&path, granted()).unwrap();
        for player in [id, "bob"] {
            let session = recorder.begin_session(player);
            recorder.record(session, 0, "Jumped", &json!({ "height": 2 }));
        }
        recorder.flush().unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(12).any(|window| window == &id.as_bytes()[..12]));
        }
    }
    let store = Store::open_read(&path).unwrap();
    let players: Vec<_> = store.sessions().map(|session| session.unwrap().player).collect();
    assert_eq!(players.len(), 4);
    assert_eq!((&players[0], &players[1]), (&players[2], &players[3]));
    assert_eq!(store.stats().unwrap().players, 2);
}

#[test]
fn a_full_queue_drops_counts_and_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let recorder = Recorder::open(&path, RecorderConfig { capacity: 100, ..granted() }).unwrap();
    let session = recorder.begin_session("ada");
    recorder.flush().unwrap();
    // The writer waits for this lock, so the queue cannot drain.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let since = Instant::now();
    let outcomes: Vec<_> = (0..1_000).map(|n| recorder.record(session, n, "Moved", &n)).collect();
    assert!(since.elapsed() < Duration::from_secs(1));
    let dropped = outcomes.iter().filter(|outcome| **outcome == Outcome::Dropped).count() as u64;
    assert!(dropped >= 800, "{dropped}");
    assert_eq!(recorder.dropped(), dropped);
    other.execute_batch("ROLLBACK").unwrap();
    recorder.close().unwrap();
    let store = Store::open_read(&path).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.events, stats.dropped), (1_000 - dropped, dropped));
    assert_eq!(recorder.acknowledged(), 1_000 - dropped);
    store.verify(None).unwrap();
}

#[test]
fn the_queue_is_also_bounded_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let config = RecorderConfig { capacity_bytes: 10_000, flush_every: Duration::from_secs(60), ..granted() };
    let recorder = Recorder::open(dir.path().join("play.sqlite"), config).unwrap();
    let session = recorder.begin_session("ada");
    let text = "x".repeat(3_000);
    let queued = (0..10).filter(|_| recorder.record(session, 0, "Said", &text) == Outcome::Queued).count();
    assert!((1..=3).contains(&queued), "{queued}");
    let huge = "x".repeat(Recorder::MAX_PAYLOAD);
    assert_eq!(recorder.record(session, 0, "Said", &huge), Outcome::Refused);
}

#[test]
fn the_games_mistakes_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path().join("play.sqlite"), granted()).unwrap();
    let session = recorder.begin_session("ada");
    assert_eq!(recorder.record(SessionId::new(7), 0, "Died", &1), Outcome::Refused);
    let not_json = std::collections::BTreeMap::from([(vec![1], 2)]);
    assert_eq!(recorder.record(session, 0, "Died", &not_json), Outcome::Refused);
    recorder.end_session(session);
    assert_eq!(recorder.record(session, 0, "Died", &1), Outcome::Refused);
    let open = recorder.begin_session("ada");
    recorder.close().unwrap();
    assert_eq!(recorder.record(open, 0, "Died", &1), Outcome::Refused);
    assert_eq!(recorder.refused(), 4);
    assert!(Recorder::open(dir.path().join("b.sqlite"), RecorderConfig { batch: 0, ..granted() }).is_err());
}

#[test]
fn a_full_disk_is_a_state_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let config = RecorderConfig { max_store_bytes: Some(256 << 10), ..granted() };
    let recorder = Recorder::open(&path, config).unwrap();
    let session = recorder.begin_session("ada");
    let text = "x".repeat(1_000);
    let since = Instant::now();
    while recorder.failure().is_none() {
        recorder.record(session, 0, "Said", &text);
        recorder.flush().ok();
        assert!(since.elapsed() < Duration::from_secs(20));
    }
    let failure = recorder.failure().unwrap().to_string();
    assert!(failure.contains("full") && failure.contains("play.sqlite"), "{failure}");
    assert_eq!(recorder.record(session, 0, "Said", &text), Outcome::Dropped);
    assert!(recorder.dropped() > 0);
    assert!(recorder.close().is_err());
    let found = Store::open_read(&path).unwrap().verify(None).unwrap();
    assert_eq!(found.events, recorder.acknowledged());
}

#[test]
fn a_store_is_read_while_a_game_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let recorder = Recorder::open(&path, granted()).unwrap();
    let session = recorder.begin_seeded_session("ada", u64::MAX);
    for n in 0..2_000 {
        recorder.record(session, n, if n % 2 == 0 { "Even" } else { "Odd" }, &n);
    }
    recorder.flush().unwrap();
    let store = Store::open_read(&path).unwrap();
    let mut odd = store.events(Some("Odd"));
    let first = odd.next().unwrap().unwrap();
    assert_eq!((first.session, first.seq, first.t_ms, first.parse::<u64>().unwrap()), (session, 1, 1, 1));
    recorder.record(session, 2_001, "Odd", &2_001);
    recorder.flush().unwrap();
    assert_eq!(odd.map(Result::unwrap).count(), 1_000);
    assert_eq!(store.session_events(session).count(), 2_001);
    let seen = store.sessions().next().unwrap().unwrap();
    assert_eq!((seen.seed, seen.events, seen.ended_ms, &*seen.build), (Some(u64::MAX), 2_001, None, "test"));
    store.verify(None).unwrap();
}

#[test]
fn every_change_to_what_was_recorded_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let ids = recorded(&path, 3);
    let whole = fs::read(&path).unwrap();
    let found = Store::open_read(&path).unwrap().verify(None).unwrap();
    assert_eq!((found.sessions, found.events, found.acknowledged), (3, 300, 0));
    let id = ids[1];
    for (change, complaint) in [
        ("UPDATE events SET payload = '{\"n\":51}' WHERE session = ID AND seq = 50", "event 50 of session"),
        ("UPDATE events SET t_ms = t_ms + 1 WHERE session = ID AND seq = 7", "event 7 of session"),
        ("UPDATE events SET kind = 'Won' WHERE session = ID AND seq = 0", "event 0 of session"),
        ("UPDATE events SET digest = zeroblob(32) WHERE session = ID AND seq = 9", "event 9 of session"),
        ("DELETE FROM events WHERE session = ID AND seq = 20", "lacks event 20"),
        ("DELETE FROM events WHERE session = ID AND seq > 90", "91 events instead of 100"),
        ("DELETE FROM sessions WHERE id = ID", "lost their session"),
        ("UPDATE sessions SET player = 'x' WHERE id = ID", "event 0 of session"),
        (
            "UPDATE events SET seq = 1000 WHERE session = ID AND seq = 3;
             UPDATE events SET seq = 3 WHERE session = ID AND seq = 4;
             UPDATE events SET seq = 4 WHERE session = ID AND seq = 1000",
            "event 3 of session",
        ),
    ] {
        fs::write(&path, &whole).unwrap();
        let change = format!("PRAGMA foreign_keys = OFF; {}", change.replace("ID", &id.to_string()));
        Connection::open(&path).unwrap().execute_batch(&change).unwrap();
        let error = Store::open_read(&path).unwrap().verify(None).unwrap_err().to_string();
        assert!(error.contains(complaint) && error.contains("play.sqlite"), "{change}: {error}");
    }
}

#[test]
fn flipped_bytes_anywhere_in_the_file_never_pass_as_another_recording() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    recorded(&path, 2);
    let whole = fs::read(&path).unwrap();
    let read = || -> bevy_skald::Result<Vec<String>> {
        let store = Store::open_read(&path)?;
        store.verify(None)?;
        store.events(None).map(|event| event.map(|e| format!("{} {} {}", e.seq, e.kind, e.payload))).collect()
    };
    let original = read().unwrap();
    let mut places = bevy_skald::seed::Seed::new(3).stream();
    let mut found = 0;
    for _ in 0..150 {
        let mut bytes = whole.clone();
        bytes[places.below(whole.len())] ^= 1 << places.below(8);
        fs::write(&path, &bytes).unwrap();
        match read() {
            // Free space, or the wall clock of a session's end.
            Ok(events) => assert_eq!(events, original),
            Err(_) => found += 1,
        }
    }
    assert!(found > 50, "{found}");
}

#[test]
fn a_missing_acknowledged_event_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (path, acks) = (dir.path().join("play.sqlite"), dir.path().join("acks"));
    let recorder =
        Recorder::open(&path, RecorderConfig { ack_log: Some(acks.clone()), ..granted() }).unwrap();
    let session = recorder.begin_session("ada");
    for n in 0..10 {
        recorder.record(session, n, "Moved", &n);
    }
    recorder.close().unwrap();
    assert_eq!(Store::open_read(&path).unwrap().verify(Some(&acks)).unwrap().acknowledged, 10);
    let mut log = fs::read_to_string(&acks).unwrap();
    log.push_str(&format!("{session} 10\n"));
    fs::write(&acks, &log).unwrap();
    let error = Store::open_read(&path).unwrap().verify(Some(&acks)).unwrap_err().to_string();
    assert!(error.contains("11 events") && error.contains("10 are there"), "{error}");
    fs::write(&acks, "12345 0\n").unwrap();
    assert!(Store::open_read(&path).unwrap().verify(Some(&acks)).is_err());
}

#[test]
fn a_damaged_newer_or_foreign_store_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    recorded(&path, 5);
    let whole = fs::read(&path).unwrap();
    let refusal = || {
        let error = Recorder::open(&path, granted()).unwrap_err().to_string();
        assert!(error.contains("play.sqlite"), "{error}");
        assert!(Store::open_read(&path).and_then(|store| store.verify(None)).is_err());
        error
    };
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(refusal().contains("truncated"));
    fs::write(&path, "not a database, just a long enough text ".repeat(10)).unwrap();
    assert!(refusal().contains("not an SQLite database"));
    fs::write(&path, &whole).unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(refusal().contains("schema 99"));
}

#[test]
fn a_secret_kept_elsewhere_needs_no_key_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let config = RecorderConfig { secret: Some(Secret::from_bytes([9; 32])), ..granted() };
    let recorder = Recorder::open(&path, config).unwrap();
    assert_eq!(recorder.pseudonym("ada"), Secret::from_bytes([9; 32]).pseudonym("ada"));
    recorder.close().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(Recorder::open(&path, granted()).is_err());
}

#[test]
fn dropping_the_last_handle_writes_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("play.sqlite");
    let recorder =
        Recorder::open(&path, RecorderConfig { flush_every: Duration::from_secs(60), ..granted() });
    let recorder = recorder.unwrap();
    let session = recorder.begin_session("ada");
    let clone = recorder.clone();
    drop(recorder);
    clone.record(session, 0, "Died", &1);
    drop(clone);
    assert_eq!(payloads(&path), ["1"]);
    assert!(Store::open_read(&path).unwrap().sessions().next().unwrap().unwrap().ended_ms.is_some());
}

#[cfg(feature = "cli")]
mod cli {
    use super::*;

    fn skald(arguments: &[&str]) -> (Option<i32>, String, String) {
        let done =
            Command::new(env!("CARGO_BIN_EXE_skald")).arg("recordings").args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }

    #[test]
    fn stats_count_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        recorded(&path, 3);
        let (code, stdout, _) = skald(&["stats", "--json", "--store", path.to_str().unwrap()]);
        let stats: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let bytes = fs::metadata(&path).unwrap().len();
        let kinds = json!({ "Died": 30, "Moved": 270 });
        assert_eq!(code, Some(0));
        assert_eq!(
            stats,
            json!({ "events": 300, "sessions": 3, "players": 3, "bytes": bytes, "kinds": kinds, "dropped": 0 })
        );
    }

    #[test]
    fn verify_says_in_one_line_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("play.sqlite");
        recorded(&path, 1);
        let store = path.to_str().unwrap();
        let (code, stdout, _) = skald(&["verify", "--json", "--store", store]);
        assert_eq!(
            (code, &*stdout),
            (Some(0), "{\"sessions\":1,\"events\":100,\"acknowledged\":0,\"erased\":0}\n")
        );
        Connection::open(&path)
            .unwrap()
            .execute("UPDATE events SET payload = '{}' WHERE seq = 5", [])
            .unwrap();
        let (code, stdout, stderr) = skald(&["verify", "--json", "--store", store]);
        assert_eq!((code, &*stdout), (Some(1), ""));
        assert!(stderr.starts_with("error: event 5") && stderr.lines().count() == 1, "{stderr}");
        let (code, _, stderr) = skald(&["stats", "--store", "/no/such/store"]);
        assert!(code == Some(1) && stderr.lines().count() == 1, "{stderr}");
    }
}
