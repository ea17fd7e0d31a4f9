//! Three dungeons without a window: printed, and drawn as PNGs.

use crate::Options;
use bevy::prelude::*;
use bevy_skald::level::{Solution, picture};
use bevy_skald::prelude::*;
use bevy_skald::runtime::ModelAsset;
use bevy_skald::seed::Seed;
use std::collections::BTreeMap;

/// The lengths that are asked for, one level each.
const LENGTHS: [f64; 3] = [8.0, 14.0, 20.0];
/// Frames after which a level is given up.
const PATIENCE: usize = 200_000;

pub fn play(options: &Options) -> Result<(), String> {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, AssetPlugin { file_path: crate::assets(), ..default() }));
    app.add_plugins(SkaldPlugins::default().with_execution(Execution::PerFrame(16)));
    app.finish();
    let path = format!("{}/skald.ron", options.model);
    let model: Handle<ModelAsset> = app.world().resource::<AssetServer>().load(path);
    for (n, length) in LENGTHS.into_iter().enumerate() {
        let entity = app.world_mut().spawn_empty().id();
        let request = LevelRequest {
            controls: BTreeMap::from([("length".to_owned(), length)]),
            seed: Seed::new(options.seed).derive_index(n as u64),
            ..LevelRequest::default()
        };
        app.world_mut().trigger(GenerateLevel { entity, model: model.clone(), request });
        let report = wait(&mut app, entity)?;
        let world = app.world();
        let (Some(grid), Some(solution)) =
            (world.get::<TileGrid>(entity), world.get::<LevelSolution>(entity))
        else {
            return Err("the level was finished but is not there".into());
        };
        let asset = world.resource::<Assets<ModelAsset>>().get(&model).ok_or("the model went away")?;
        let level_model =
            bevy_skald::level::LevelModel::of(asset.model.clone()).map_err(|e| e.to_string())?;
        let game = level_model.game();
        println!("{}", grid.0.to_text(game));
        let cells = match &solution.0 {
            Solution::Cells(cells) => {
                let place = |cell: Option<&(usize, usize)>| {
                    cell.map_or_else(|| "nowhere".to_owned(), |(x, y)| format!("column {x}, row {y}"))
                };
                format!("{} cells, from {} to {}", cells.len(), place(cells.first()), place(cells.last()))
            }
            Solution::Moves(moves) => moves.clone(),
        };
        println!("solved: {cells}; asked {length}, knobs {:?}, {:.1} ms\n", report.knobs, report.ms);
        let file = std::path::Path::new(&options.out).join(format!("dungeon-{n}.png"));
        let png = picture(game, &grid.0, Some(&solution.0)).map_err(|e| e.to_string())?;
        bevy_skald::files::write_atomic(&file, &png).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn wait(app: &mut App, entity: Entity) -> Result<bevy_skald::level::LevelReport, String> {
    for _ in 0..PATIENCE {
        app.update();
        let world = app.world_mut();
        let finished =
            world.resource_mut::<Messages<LevelFinished>>().drain().find(|level| level.entity == entity);
        if let Some(finished) = finished {
            return Ok(finished.report);
        }
        let failed =
            world.resource_mut::<Messages<LevelFailed>>().drain().find(|level| level.entity == entity);
        if let Some(failed) = failed {
            return Err(failed.error.to_string());
        }
        // The model comes from another thread.
        std::thread::yield_now();
    }
    Err("no level came".into())
}
