//! How many events a second does the recorder take, to the disk and acknowledged?
//!
//! The figure includes serialising, the queue, the hash chain, the commits and the final flush. Pin it to one
//! core (`taskset -c 0 cargo bench --bench recorder`) to have the producer and the writer share it.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use bevy_skald::recording::{Consent, Outcome, Recorder, RecorderConfig, SessionId};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Serialize;

const EVENTS: u64 = 400_000;

/// About 60 bytes of JSON, as a jump or a hit has.
#[derive(Serialize)]
struct Moved {
    x: f32,
    y: f32,
    tile: &'static str,
    health: u32,
}

fn record_all(sessions: u64) {
    let dir = tempfile::tempdir().expect("a folder for the store");
    let config = RecorderConfig { consent: Consent::Granted, ..RecorderConfig::default() };
    let recorder = Recorder::open(dir.path().join("play.sqlite"), config).expect("a store");
    let ids: Vec<SessionId> = (0..sessions).map(|i| recorder.begin_session(&format!("bot {i}"))).collect();
    for i in 0..EVENTS {
        let moved = Moved { x: i as f32 * 0.25, y: 3.5, tile: "stone", health: (i % 100) as u32 };
        let session = ids[(i % sessions) as usize];
        // A game would lose the event; here the question is how much the writer takes.
        while recorder.queued() > 60_000 {
            std::thread::yield_now();
        }
        assert_eq!(recorder.record(session, i / 60, "Moved", &moved), Outcome::Queued);
    }
    recorder.close().expect("everything written");
    assert_eq!((recorder.acknowledged(), recorder.dropped()), (EVENTS, 0));
}

fn sustained(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recorder");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS));
    for sessions in [1, 8] {
        let name = BenchmarkId::new("sessions", sessions);
        group.bench_with_input(name, &sessions, |bench, sessions| bench.iter(|| record_all(*sessions)));
    }
    group.finish();
}

fn queueing(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the store");
    let config = RecorderConfig { consent: Consent::Granted, ..RecorderConfig::default() };
    let recorder = Recorder::open(dir.path().join("play.sqlite"), config).expect("a store");
    let session = recorder.begin_session("bot");
    let moved = Moved { x: 1.25, y: 3.5, tile: "stone", health: 7 };
    // What the frame pays, whether the queue has room or not.
    criterion.bench_function("recorder/one event in the frame", |bench| {
        bench.iter(|| recorder.record(session, 1, "Moved", &moved));
    });
}

criterion_group!(benches, sustained, queueing);
criterion_main!(benches);
