//! Player models in an app, through the public door only.

use bevy::prelude::*;
use bevy_skald::job;
use bevy_skald::nn::Compute;
use bevy_skald::player::plugin::{PlayerDid, ProfileUpdated};
use bevy_skald::player::{PlayerModel, PlayerProfile, PlayerTraining};
use bevy_skald::recording::{Mapping, import};
use bevy_skald::training::Fit;
use bevy_skald::{prelude::*, runtime::harness};

const CONFIG: &str = "(
    training: (model: (architecture: Gru, hidden_size: 16, layers: 1, context: 16), objective: Sampled(negatives: 8),
        steps: 150, sequence: 16, rows: 8, learning_rate: 0.01, validate_every: 50, checkpoint_every: 100, stored_as: F32),
    task: Next(),
)";

fn model() -> PlayerModel {
    let dir = tempfile::tempdir().unwrap();
    let (rows, store, out) =
        (dir.path().join("rows"), dir.path().join("play.sqlite"), dir.path().join("model"));
    let line = |player: usize, step: usize| format!("p{player} i{}\n", (player + step) % 5);
    let text: String = (0..40).flat_map(|player| (0..8).map(move |step| line(player, step))).collect();
    std::fs::write(&rows, text).unwrap();
    let mapping =
        r#"(format: Spaces, consent: Stated("a test"), player: 0, kind: Always("Took"), subject: 1)"#;
    import(&Mapping::from_ron(mapping, "m").unwrap(), &[rows], &store).unwrap();
    let setup = PlayerTraining::from_ron(CONFIG, "c").unwrap().prepare(&[store]).unwrap();
    job::run(Fit::new(setup, &out, &Compute::cpu(1)).unwrap(), |_| ()).unwrap();
    PlayerModel::load(&out).unwrap()
}

#[test]
fn a_profile_is_kept_up_to_date_event_by_event() {
    let mut app = harness::app();
    app.add_plugins(SkaldPlugins::default().scripted("Good day."));
    app.finish();
    let player = app.world_mut().spawn((Player, model())).id();
    app.update();
    assert_eq!(app.world().get::<PlayerProfile>(player).unwrap().events, 0);
    for item in ["i1", "i2", "never seen", "i3"] {
        app.world_mut().trigger(PlayerDid::new(player, "Took", item));
    }
    app.update();
    let profile = app.world().get::<PlayerProfile>(player).unwrap();
    assert_eq!((profile.events, profile.next[0].0.as_str()), (4, "i4"));
    assert_eq!(app.world().resource::<Messages<ProfileUpdated>>().len(), 4);
    // Nobody in particular: said, not a panic.
    let stranger = app.world_mut().spawn_empty().id();
    app.world_mut().trigger(PlayerDid::new(stranger, "Took", "i1"));
}
