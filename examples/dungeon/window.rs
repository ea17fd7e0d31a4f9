//! A dungeon in a window, and a figure that walks its solution.

use crate::Options;
use bevy::prelude::*;
use bevy_skald::level::{LevelModel, Solution};
use bevy_skald::prelude::*;
use bevy_skald::runtime::ModelAsset;
use bevy_skald::seed::Seed;
use std::collections::BTreeMap;

/// The side of a tile on the screen.
const SIDE: f32 = 40.0;

/// What is shown and asked.
#[derive(Resource)]
struct Room {
    model: Handle<ModelAsset>,
    level: Entity,
    seed: u64,
    length: f64,
    /// The colours of the game's tiles, once the model is there.
    colours: Vec<Color>,
    asked: bool,
}

#[derive(Component)]
struct Drawn;

/// Walks the solution.
#[derive(Component)]
struct Walker {
    cells: Vec<(usize, usize)>,
    at: usize,
    clock: Timer,
}

pub fn play(options: &Options) -> Result<(), String> {
    let (seed, path) = (options.seed, format!("{}/skald.ron", options.model));
    let mut app = App::new();
    app.add_plugins(
        DefaultPlugins
            .set(WindowPlugin {
                primary_window: Some(Window {
                    title: "Dungeon: space another, up and down the length".into(),
                    resolution: (1000, 640).into(),
                    ..default()
                }),
                ..default()
            })
            .set(AssetPlugin { file_path: crate::assets(), ..default() }),
    )
    .add_plugins(SkaldPlugins::default())
    .add_systems(Startup, move |mut commands: Commands, assets: Res<AssetServer>| {
        commands.spawn(Camera2d);
        let level = commands.spawn_empty().id();
        let model = assets.load(path.clone());
        commands.insert_resource(Room {
            model,
            level,
            seed,
            length: 14.0,
            colours: Vec::new(),
            asked: false,
        });
    })
    .add_systems(Update, (learn_colours, turn_knobs, walk))
    .add_observer(draw)
    .add_observer(|failed: On<LevelFailed>| error!("{}", failed.error));
    match app.run() {
        AppExit::Success => Ok(()),
        AppExit::Error(code) => Err(format!("the window closed with {code}")),
    }
}

fn learn_colours(mut room: ResMut<Room>, models: Res<Assets<ModelAsset>>) {
    if room.colours.is_empty()
        && let Some(asset) = models.get(&room.model)
        && let Ok(model) = LevelModel::of(asset.model.clone())
    {
        let colour = |tile: &bevy_skald::level::Tile| {
            let (r, g, b) = tile.colour.unwrap_or((200, 200, 200));
            Color::srgb_u8(r, g, b)
        };
        room.colours = model.game().tiles.iter().map(colour).collect();
    }
}

fn turn_knobs(mut room: ResMut<Room>, keys: Res<ButtonInput<KeyCode>>, mut commands: Commands) {
    let step = f64::from(
        i8::from(keys.just_pressed(KeyCode::ArrowUp)) - i8::from(keys.just_pressed(KeyCode::ArrowDown)),
    );
    room.length = (room.length + 2.0 * step).clamp(6.0, 22.0);
    let first = !room.asked && !room.colours.is_empty();
    if first || step != 0.0 || keys.just_pressed(KeyCode::Space) {
        (room.asked, room.seed) = (true, room.seed + 1);
        let request = LevelRequest {
            controls: BTreeMap::from([("length".to_owned(), room.length)]),
            seed: Seed::new(room.seed),
            ..LevelRequest::default()
        };
        commands.trigger(GenerateLevel { entity: room.level, model: room.model.clone(), request });
    }
}

/// Tiles as sprites, and the figure at the start.
fn draw(
    finished: On<LevelFinished>,
    room: Res<Room>,
    levels: Query<(&TileGrid, &LevelSolution)>,
    drawn: Query<Entity, With<Drawn>>,
    mut commands: Commands,
) {
    let Ok((TileGrid(grid), LevelSolution(solution))) = levels.get(finished.entity) else { return };
    drawn.iter().for_each(|entity| commands.entity(entity).despawn());
    let at = place(grid.width(), grid.height());
    for (x, y, tile) in grid.cells() {
        let colour = room.colours.get(usize::from(tile)).copied().unwrap_or(Color::WHITE);
        let sprite = Sprite::from_color(colour, Vec2::splat(SIDE - 1.0));
        commands.spawn((Drawn, sprite, Transform::from_translation(at(x, y).extend(0.0))));
    }
    if let Solution::Cells(cells) = solution {
        let sprite = Sprite::from_color(Color::srgb(1.0, 0.25, 0.25), Vec2::splat(SIDE * 0.5));
        let walker =
            Walker { cells: cells.clone(), at: 0, clock: Timer::from_seconds(0.15, TimerMode::Repeating) };
        let start = cells.first().map_or(Vec2::ZERO, |(x, y)| at(*x, *y));
        commands.spawn((Drawn, walker, sprite, Transform::from_translation(start.extend(1.0))));
    }
    info!(
        "asked {:?}, got {:?} in {:.1} ms",
        finished.report.asked, finished.report.knobs, finished.report.ms
    );
}

fn place(width: usize, height: usize) -> impl Fn(usize, usize) -> Vec2 {
    let middle = Vec2::new(width as f32 - 1.0, height as f32 - 1.0) / 2.0;
    move |x, y| (Vec2::new(x as f32, y as f32) - middle) * Vec2::new(SIDE, -SIDE)
}

fn walk(
    time: Res<Time>,
    room: Res<Room>,
    levels: Query<&TileGrid>,
    mut walkers: Query<(&mut Walker, &mut Transform)>,
) {
    let Ok(TileGrid(grid)) = levels.get(room.level) else { return };
    let at = place(grid.width(), grid.height());
    for (mut walker, mut transform) in &mut walkers {
        if walker.clock.tick(time.delta()).just_finished() && !walker.cells.is_empty() {
            walker.at = (walker.at + 1) % walker.cells.len();
            let (x, y) = walker.cells[walker.at];
            transform.translation = at(x, y).extend(1.0);
        }
    }
}
