//! The village as Bevy draws it: sprites for the window, and a picture drawn off-screen for the visit.

use crate::art::{self, MAP, TILE};
use crate::people::{At, settle};
use bevy::app::ScheduleRunnerPlugin;
use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::render::render_resource::TextureFormat;
use bevy::render::view::screenshot::{Screenshot, save_to_disk};
use bevy::winit::WinitPlugin;
use bevy_skald::prelude::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The option with which the example calls itself to draw.
const DRAW: &str = "VILLAGE_DRAW_TO";
const SPEAKER: &str = "VILLAGE_DRAW_SPEAKER";
const LINE: &str = "VILLAGE_DRAW_LINE";

/// Where a spot (tiles) is on the screen's plane (pixels, the map's middle at the origin).
pub fn on_screen(at: Vec2) -> Vec2 {
    (at - Vec2::new(MAP.0 as f32, MAP.1 as f32) / 2.0) * TILE as f32
}

/// Gives everything its sprite.
pub fn dress(
    new: Query<(Entity, &Name, Option<&Npc>, Option<&Player>, Option<&Item>, Option<&Creature>), Added<At>>,
    mut images: ResMut<Assets<Image>>,
    mut commands: Commands,
) {
    for (entity, name, npc, player, item, creature) in &new {
        // The same look for the same name, whatever the order of spawning.
        let n = name.bytes().fold(7usize, |n, b| (n * 31 + b as usize) % 9973);
        let canvas = if player.is_some() {
            art::villager(1)
        } else if npc.is_some() {
            art::villager(n)
        } else if item.is_some() {
            art::thing(n)
        } else if creature.is_some() {
            art::creature(n)
        } else {
            // A child, as its place puts the entity itself where it stands.
            let sign = label(name, 15.0, Color::srgb(0.99, 0.96, 0.86), Vec2::new(0.0, -15.0));
            let sign = commands.spawn(sign).id();
            commands.entity(entity).insert((Transform::default(), Visibility::default())).add_child(sign);
            continue;
        };
        commands.entity(entity).insert(Sprite::from_image(images.add(canvas.image())));
        if npc.is_some() || player.is_some() {
            let tag = commands.spawn(label(name, 13.0, Color::WHITE, Vec2::new(0.0, 17.0))).id();
            commands.entity(entity).add_child(tag);
        }
    }
}

/// Names are drawn large and scaled down, so that they stay sharp when the camera is near.
fn label(name: &str, size: f32, colour: Color, offset: Vec2) -> impl Bundle {
    (
        Text2d::new(name.to_owned()),
        TextFont { font_size: bevy::text::FontSize::Px(size * 2.0), ..default() },
        TextColor(colour),
        bevy::sprite::Text2dShadow { offset: Vec2::new(2.0, -2.0), color: Color::srgba(0.1, 0.08, 0.1, 0.9) },
        Transform::from_translation(offset.extend(500.0)).with_scale(Vec3::splat(0.25)),
    )
}

/// Puts sprites where their things are; what was taken is not seen.
pub fn place_sprites(
    mut things: Query<(
        &At,
        &mut Transform,
        &mut Visibility,
        Option<&LocatedIn>,
        Option<&Item>,
        Option<&Place>,
    )>,
) {
    for (at, mut transform, mut visibility, located, item, place) in &mut things {
        let lift = if place.is_some() { Vec2::new(0.0, -21.0) } else { Vec2::ZERO };
        let spot = on_screen(at.0) + lift;
        // What stands further south is in front.
        let depth = if place.is_some() { 400.0 } else { 100.0 - at.0.y };
        let shown = item.is_none() || located.is_some();
        transform.translation = spot.extend(depth);
        *visibility = if shown { Visibility::Inherited } else { Visibility::Hidden };
    }
}

/// The ground.
pub fn lay_ground(mut commands: Commands, mut images: ResMut<Assets<Image>>) {
    commands.spawn(Sprite::from_image(images.add(art::village().image())));
}

/// Draws the village off-screen, in a process of its own: a driver that fails takes only that one with it.
pub fn draw(path: &Path, last: Option<(String, String)>) -> Result<(), String> {
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    let _ = std::fs::remove_file(&path);
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let (speaker, line) = last.unwrap_or_default();
    let mut child = Command::new(exe)
        .env(DRAW, &path)
        .env(SPEAKER, speaker)
        .env(LINE, line)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() && path.exists() => return Ok(()),
            Ok(Some(_)) => {
                return Err("there is no usable Vulkan or GL driver (try mesa-vulkan-drivers)".into());
            }
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = child.kill();
                return Err("the graphics driver did not answer within 40 s".into());
            }
        }
    }
}

/// In the process that draws: draws, and says with its exit code whether it did.
pub fn draw_if_asked() -> bool {
    let Some(path) = std::env::var_os(DRAW).map(PathBuf::from) else { return false };
    let mut app = App::new();
    let plugins = DefaultPlugins
        .set(WindowPlugin {
            primary_window: None,
            exit_condition: bevy::window::ExitCondition::DontExit,
            ..default()
        })
        .set(AssetPlugin { file_path: crate::visit::assets(), ..default() })
        .set(bevy::render::RenderPlugin { synchronous_pipeline_compilation: true, ..default() })
        .disable::<WinitPlugin>()
        .disable::<bevy::render::pipelined_rendering::PipelinedRenderingPlugin>();
    app.add_plugins(plugins)
        .add_plugins(ScheduleRunnerPlugin::run_loop(Duration::from_millis(10)))
        .add_plugins(SkaldPlugins { speaker: Speaker::Fallbacks, ..SkaldPlugins::default() })
        .insert_resource(ClearColor(Color::BLACK))
        .add_systems(Startup, (settle, lay_ground, set_camera))
        .add_systems(Update, (dress, place_sprites, speak, shoot).chain());
    app.insert_resource(Shot { path: path.clone(), frames: 0 });
    app.run();
    true
}

#[derive(Resource)]
struct Shot {
    path: PathBuf,
    frames: u32,
}

#[derive(Resource)]
struct Target(Handle<Image>);

fn set_camera(mut commands: Commands, mut images: ResMut<Assets<Image>>) {
    let target = images.add(Image::new_target_texture(1280, 832, TextureFormat::Rgba8UnormSrgb, None));
    commands.spawn((
        Camera2d,
        RenderTarget::Image(target.clone().into()),
        Projection::Orthographic(OrthographicProjection {
            scale: 0.5,
            ..OrthographicProjection::default_2d()
        }),
    ));
    commands.insert_resource(Target(target));
}

/// The last line of the visit in a bubble over its speaker.
fn speak(people: Query<(&Name, &At), Added<At>>, mut commands: Commands) {
    let (speaker, line) =
        (std::env::var(SPEAKER).unwrap_or_default(), std::env::var(LINE).unwrap_or_default());
    for (_, at) in people.iter().filter(|(name, _)| name.as_str() == speaker && !line.is_empty()) {
        let limit = Vec2::new(MAP.0 as f32, MAP.1 as f32) * TILE as f32 / 2.0 - Vec2::new(108.0, 50.0);
        let spot = (on_screen(at.0) + Vec2::new(0.0, 54.0)).clamp(-limit, limit);
        bubble(&mut commands, &line, spot);
    }
}

/// A speech bubble with `text`, in the middle of `spot`.
pub fn bubble(commands: &mut Commands, text: &str, spot: Vec2) -> Entity {
    let rows = wrapped_rows(text, 31) as f32;
    commands
        .spawn((
            Sprite::from_color(Color::srgb(0.20, 0.16, 0.19), Vec2::new(204.0, 12.0 + rows * 12.0)),
            Transform::from_translation(spot.extend(600.0)),
            children![
                (
                    Sprite::from_color(Color::srgb(0.99, 0.97, 0.91), Vec2::new(200.0, 8.0 + rows * 12.0)),
                    Transform::from_xyz(0.0, 0.0, 1.0),
                ),
                (
                    Text2d::new(text.to_owned()),
                    TextFont { font_size: bevy::text::FontSize::Px(40.0), ..default() },
                    TextColor(Color::srgb(0.16, 0.12, 0.15)),
                    bevy::text::TextBounds::new_horizontal(760.0),
                    Transform::from_xyz(0.0, 0.0, 2.0).with_scale(Vec3::splat(0.25)),
                )
            ],
        ))
        .id()
}

/// How many rows a text takes when words are wrapped at `columns` letters (the font's are all as wide).
fn wrapped_rows(text: &str, columns: usize) -> usize {
    let (mut rows, mut used) = (1, 0);
    for word in text.split_whitespace() {
        let wide = word.chars().count();
        if used > 0 && used + 1 + wide > columns {
            (rows, used) = (rows + 1, wide);
        } else {
            used += wide + usize::from(used > 0);
        }
    }
    rows
}

fn shoot(
    mut shot: ResMut<Shot>,
    target: Res<Target>,
    mut commands: Commands,
    mut exit: MessageWriter<AppExit>,
) {
    shot.frames += 1;
    // Fonts and pipelines take some frames.
    if shot.frames == 30 {
        commands.spawn(Screenshot::image(target.0.clone())).observe(save_to_disk(shot.path.clone()));
    }
    if shot.frames > 31 && shot.path.exists() {
        exit.write(AppExit::Success);
    }
    if shot.frames > 2000 {
        exit.write(AppExit::error());
    }
}
