//! The desk against real stores and models.

use super::{full, recorded};
use crate::decode::Sampling;
use crate::dialogue::read_picks;
use crate::inspector::{Desk, Erase, Job, Panel, Places, Recipe, Request, Snapshot};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn places(dir: &Path) -> Places {
    Places {
        store: Some(dir.join("play.db")),
        models: vec!["assets/models".into()],
        runs: Some(dir.join("runs")),
        personas: Some("assets/personas".into()),
        ..Places::default()
    }
}

/// Waits until the snapshot is as wanted. A limit for a hanging test, no measurement.
fn until(desk: &Desk, snapshot: &mut Snapshot, wanted: impl Fn(&Snapshot) -> bool) {
    let begun = Instant::now();
    while !wanted(snapshot) {
        assert!(
            begun.elapsed() < Duration::from_secs(240),
            "it never came: {:?} {:?}",
            snapshot.errors,
            snapshot.jobs
        );
        desk.receive(snapshot);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn opened(dir: &Path) -> (Desk, Snapshot) {
    recorded(&dir.join("play.db"));
    let (desk, mut snapshot) = (Desk::open(places(dir)).unwrap(), Snapshot::default());
    let counted = |snapshot: &Snapshot| snapshot.store.as_ref().is_some_and(|store| store.stats.is_some());
    until(&desk, &mut snapshot, counted);
    (desk, snapshot)
}

/// Fills a snapshot with answers of the shipped models, for the pictures.
pub fn fill(snapshot: &mut Snapshot, dir: &Path) {
    let desk = Desk::open(Places { store: None, ..places(dir) }).unwrap();
    until(&desk, snapshot, |snapshot| snapshot.models.len() > 3);
    ask(&desk, "Any work for me?", 1);
    until(&desk, snapshot, |snapshot| snapshot.talk.answers.len() == 2 && snapshot.talk.answers[1].done);
    generate(&desk, None);
    until(&desk, snapshot, |snapshot| snapshot.level.version == 1);
    until(&desk, snapshot, |snapshot| snapshot.jobs.is_empty());
    let frames = (0..600)
        .map(|n: u32| 6.0 + (n * 7919 % 101) as f32 / 60.0 + f32::from(u8::from(n.is_multiple_of(97))) * 4.0);
    snapshot.live = Some(crate::inspector::LiveView {
        frames: frames.collect(),
        tokens_per_s: 1539.0,
        kv_bytes: 5 << 20,
        finished: 12,
        lines: vec![("Mira".into(), "Good day to you.".into())],
        ..Default::default()
    });
    let steps = |name: &str, fall: f64| crate::inspector::RunView {
        name: name.into(),
        path: dir.join("runs").join(name),
        status: crate::training::runs::Status::Done,
        domain: "dialogue".into(),
        steps: 400,
        best: Some(1.3 + fall),
        parameters: Some(1_234_567),
        curves: [20.0, 40.0].map(|every| {
            (0..(400.0 / every) as u32)
                .map(|n| [f64::from(n) * every, 1.2 + 4.0 / (1.0 + fall * f64::from(n))])
                .collect()
        }),
    };
    snapshot.training.runs = vec![steps("first", 0.5), steps("wider", 0.8)];
    snapshot.training.out = Some(dir.join("runs/first"));
    snapshot.training.curves = snapshot.training.runs[0].curves.clone();
}

fn ask(desk: &Desk, said: &str, seed: u64) {
    desk.ask(Request::Ask {
        persona: "assets/personas/mira.persona.ron".into(),
        said: said.into(),
        sampling: Sampling { temperature: 1.5, ..Sampling::default() },
        seed,
        models: vec![PathBuf::from("assets/models/village"); 2],
    });
}

fn generate(desk: &Desk, open: Option<std::collections::BTreeSet<(usize, usize)>>) {
    desk.ask(Request::Generate {
        model: "assets/models/platformer".into(),
        controls: Default::default(),
        size: None,
        seed: 3,
        open,
    });
}

#[test]
fn the_store_is_paged_checked_and_erased() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, mut snapshot) = opened(dir.path());
    let session = snapshot.store.as_ref().unwrap().sessions[0].id;
    desk.ask(Request::Events { session, from: 100, kind: String::new() });
    until(&desk, &mut snapshot, |snapshot| snapshot.store.as_ref().unwrap().events.len() == 20);
    desk.ask(Request::Events { session, from: 0, kind: "Died".into() });
    until(&desk, &mut snapshot, |snapshot| snapshot.store.as_ref().unwrap().events.len() == 40);
    desk.ask(Request::Verify);
    until(&desk, &mut snapshot, |snapshot| snapshot.store.as_ref().unwrap().verified.is_some());
    let player = snapshot.store.as_ref().unwrap().players[0].player.clone();
    desk.ask(Request::Erase(Erase::Player(player.clone())));
    until(&desk, &mut snapshot, |snapshot| {
        snapshot.store.as_ref().unwrap().stats.as_ref().is_some_and(|stats| stats.players == 2)
    });
    let store = snapshot.store.as_ref().unwrap();
    assert!(store.players.iter().all(|row| row.player != player) && store.events.is_empty());
    assert!(snapshot.notes[&Panel::Privacy].contains("120 events of 1 sessions"), "{:?}", snapshot.notes);
}

#[test]
fn a_store_that_vanishes_is_one_error_and_its_return_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, mut snapshot) = opened(dir.path());
    let (path, away) = (dir.path().join("play.db"), dir.path().join("away.db"));
    std::fs::rename(&path, &away).unwrap();
    desk.ask(Request::Sessions { skipped: 0 });
    until(&desk, &mut snapshot, |snapshot| snapshot.errors.contains_key(&Panel::Recordings));
    assert!(snapshot.errors[&Panel::Recordings].contains("not there"), "{:?}", snapshot.errors);
    std::fs::rename(&away, &path).unwrap();
    desk.ask(Request::Refresh);
    until(&desk, &mut snapshot, |snapshot| snapshot.errors.is_empty());
}

#[test]
fn two_answers_become_a_pick_that_preference_training_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, mut snapshot) = opened(dir.path());
    // Two seeds may say the same; then there is nothing to pick.
    for seed in 0..20 {
        let said = format!("Any news {seed}?");
        ask(&desk, &said, seed * 2);
        until(&desk, &mut snapshot, |snapshot| snapshot.talk.said == said && snapshot.jobs.is_empty());
        if snapshot.talk.pair.is_some() {
            break;
        }
        assert!(snapshot.notes[&Panel::Dialogue].contains("the same"), "{:?}", snapshot.errors);
    }
    for answer in &snapshot.talk.answers {
        assert!(answer.done && !answer.text.is_empty() && answer.tokens.len() > 3);
        assert!(
            answer.tokens.iter().all(|t| t.probability > 0.0 && t.probability <= 1.0001 && t.allowed <= 1.0)
        );
        assert!(
            answer.tokens.iter().any(|token| token.allowed < 0.1),
            "the grammar allowed nearly everything"
        );
    }
    let pair = snapshot.talk.pair.clone().unwrap();
    desk.ask(Request::Prefer { chosen: 1 });
    desk.ask(Request::Prefer { chosen: 0 });
    until(&desk, &mut snapshot, |snapshot| snapshot.talk.kept == 1 && snapshot.talk.pair.is_none());
    let picks = read_picks(&dir.path().join("picks.jsonl")).unwrap();
    assert_eq!(picks.len(), 1, "one pick is kept once");
    assert_eq!((&picks[0].chosen, &picks[0].rejected), (&pair.rejected, &pair.chosen));
}

#[test]
fn a_model_that_is_gone_is_an_error_at_the_talk() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, mut snapshot) = opened(dir.path());
    desk.ask(Request::Ask {
        persona: "assets/personas/mira.persona.ron".into(),
        said: "Hello".into(),
        sampling: Sampling::default(),
        seed: 0,
        models: vec![dir.path().join("no model")],
    });
    until(&desk, &mut snapshot, |snapshot| snapshot.errors.contains_key(&Panel::Dialogue));
    assert!(snapshot.errors[&Panel::Dialogue].contains("no model") && snapshot.jobs.is_empty());
}

#[test]
fn a_level_is_written_infilled_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, mut snapshot) = opened(dir.path());
    generate(&desk, None);
    until(&desk, &mut snapshot, |snapshot| snapshot.level.version == 1 && snapshot.jobs.is_empty());
    let first = snapshot.level.grid.clone().unwrap();
    assert!(snapshot.level.report.as_ref().unwrap().solvable && snapshot.level.path.len() > 1);
    let open: std::collections::BTreeSet<_> =
        first.cells().filter(|(x, ..)| (6..12).contains(x)).map(|(x, y, _)| (x, y)).collect();
    generate(&desk, Some(open.clone()));
    until(&desk, &mut snapshot, |snapshot| snapshot.jobs.is_empty() && snapshot.level.version == 2);
    let second = snapshot.level.grid.clone().unwrap();
    let kept = first.cells().filter(|(x, y, _)| !open.contains(&(*x, *y)));
    assert!(kept.into_iter().all(|(x, y, tile)| second.at(x, y) == tile), "a locked tile was changed");
    desk.ask(Request::Repair);
    until(&desk, &mut snapshot, |snapshot| snapshot.notes.contains_key(&Panel::Levels));
}

#[test]
fn a_training_that_cannot_begin_says_why_and_the_next_may_begin() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, mut snapshot) = opened(dir.path());
    let train = |config: &str| Request::Train {
        recipe: Recipe::Dialogue,
        config: config.into(),
        data: vec!["assets/dialogue".into()],
        out: dir.path().join("runs/one"),
        resume: false,
    };
    desk.ask(train("no/such.ron"));
    until(&desk, &mut snapshot, |snapshot| snapshot.errors.contains_key(&Panel::Training));
    assert!(snapshot.training.out.is_none() && snapshot.errors[&Panel::Training].contains("no/such.ron"));
    desk.ask(train("assets/training/dialogue.ron"));
    until(&desk, &mut snapshot, |snapshot| snapshot.training.progress.is_some());
    desk.ask(Request::Pause);
    until(&desk, &mut snapshot, |snapshot| snapshot.training.paused);
    desk.ask(Request::Stop);
    until(&desk, &mut snapshot, |snapshot| snapshot.notes.contains_key(&Panel::Training));
    assert!(snapshot.notes[&Panel::Training].contains("saved"), "{:?}", snapshot.notes);
}

#[test]
fn a_job_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let mut snapshot = full(&dir.path().join("other.db"));
    let (desk, _) = opened(dir.path());
    generate(&desk, None);
    until(&desk, &mut snapshot, |snapshot| snapshot.jobs.contains_key(&Job::Level));
    desk.ask(Request::Cancel(Job::Level));
    until(&desk, &mut snapshot, |snapshot| snapshot.jobs.is_empty());
    assert!(!snapshot.errors.contains_key(&Panel::Levels));
}
