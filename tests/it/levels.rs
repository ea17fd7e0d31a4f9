//! Levels in an app, through the public door only, with the shipped dungeon model.

use bevy::prelude::*;
use bevy_skald::level::{LevelModel, replay};
use bevy_skald::prelude::*;
use bevy_skald::runtime::{ModelAsset, harness};
use bevy_skald::seed::Seed;
use std::collections::BTreeMap;

/// What was heard.
#[derive(Resource, Default)]
struct Heard {
    finished: usize,
    failed: Vec<String>,
    grew: usize,
}

fn app() -> (App, Handle<ModelAsset>) {
    let mut app = harness::app();
    app.add_plugins(SkaldPlugins::default().scripted("hm"))
        .init_resource::<Heard>()
        .add_observer(|_: On<LevelFinished>, mut heard: ResMut<Heard>| heard.finished += 1)
        .add_observer(|_: On<LevelGrew>, mut heard: ResMut<Heard>| heard.grew += 1)
        .add_observer(|failed: On<LevelFailed>, mut heard: ResMut<Heard>| {
            heard.failed.push(failed.error.to_string());
        });
    app.finish();
    app.cleanup();
    let model = app.world().resource::<AssetServer>().load("models/dungeon/skald.ron");
    (app, model)
}

fn ask(app: &mut App, model: &Handle<ModelAsset>, request: LevelRequest) -> Entity {
    let entity = app.world_mut().spawn_empty().id();
    app.world_mut().trigger(GenerateLevel { entity, model: model.clone(), request });
    entity
}

#[test]
fn asking_gives_one_finished_level_that_its_solution_finishes() {
    let (mut app, model) = app();
    let entity = ask(&mut app, &model, LevelRequest { seed: Seed::new(3), ..LevelRequest::default() });
    harness::update_until(&mut app, 100_000, |world| world.resource::<Heard>().finished > 0);
    let world = app.world();
    let loaded = world.resource::<Assets<ModelAsset>>().get(&model).unwrap().model.clone();
    let grid = &world.get::<TileGrid>(entity).unwrap().0;
    let solution = &world.get::<LevelSolution>(entity).unwrap().0;
    assert!(replay(LevelModel::of(loaded).unwrap().game(), grid, solution));
    for _ in 0..50 {
        app.update();
    }
    let heard = app.world().resource::<Heard>();
    assert_eq!((heard.finished, heard.failed.len()), (1, 0));
    assert!(heard.grew > 0);
}

#[test]
fn what_cannot_be_served_fails_once_and_despawning_cancels() {
    let (mut app, model) = app();
    let controls = BTreeMap::from([("mood".to_owned(), 1.0)]);
    ask(&mut app, &model, LevelRequest { controls, ..LevelRequest::default() });
    let gone = ask(&mut app, &model, LevelRequest::default());
    app.world_mut().despawn(gone);
    harness::update_until(&mut app, 100_000, |world| !world.resource::<Heard>().failed.is_empty());
    for _ in 0..50 {
        app.update();
    }
    let heard = app.world().resource::<Heard>();
    assert_eq!((heard.finished, heard.failed.len()), (0, 1));
    assert!(heard.failed[0].contains("mood"), "{}", heard.failed[0]);
}

#[test]
fn an_endless_level_comes_column_by_column_and_goes_with_its_entity() {
    #[derive(Resource, Default)]
    struct Columns(Vec<(Entity, Vec<Vec<u8>>)>);
    let (mut app, dungeon) = app();
    app.init_resource::<Columns>().add_observer(|came: On<ColumnsCame>, mut columns: ResMut<Columns>| {
        columns.0.push((came.entity, came.columns.clone()));
    });
    let model: Handle<ModelAsset> = app.world().resource::<AssetServer>().load("models/platformer/skald.ron");
    let [runner, again] = [(); 2].map(|()| app.world_mut().spawn_empty().id());
    let more = |app: &mut App, entity, model: &Handle<ModelAsset>, count| {
        let request = LevelRequest { seed: Seed::new(5), ..LevelRequest::default() };
        app.world_mut().trigger(MoreColumns { entity, model: model.clone(), request, count });
    };
    for turn in 1..=3 {
        more(&mut app, runner, &model, 4);
        harness::update_until(&mut app, 100_000, |world| world.resource::<Columns>().0.len() == turn);
    }
    more(&mut app, again, &model, 5);
    more(&mut app, again, &model, 7);
    harness::update_until(&mut app, 100_000, |world| world.resource::<Columns>().0.len() == 4);
    let came = app.world().resource::<Columns>().0.clone();
    let first: Vec<Vec<u8>> = came[..3].iter().flat_map(|(_, columns)| columns.clone()).collect();
    assert_eq!(first, came[3].1, "the same seed, in other parts");
    assert!(came[..3].iter().all(|(entity, columns)| *entity == runner && columns.len() == 4));
    // A game that does not scroll has no columns to come; a level that is gone asks for none.
    let gone = app.world_mut().spawn_empty().id();
    more(&mut app, gone, &model, 4);
    app.world_mut().despawn(gone);
    let wrong = app.world_mut().spawn_empty().id();
    more(&mut app, wrong, &dungeon, 4);
    harness::update_until(&mut app, 100_000, |world| !world.resource::<Heard>().failed.is_empty());
    assert!(app.world().resource::<Heard>().failed[0].contains("not scanned by columns"));
    assert_eq!(app.world().resource::<Columns>().0.len(), 4);
}
