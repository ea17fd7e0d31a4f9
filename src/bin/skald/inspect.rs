//! `skald inspect`: the inspector in a window of its own.

use bevy::prelude::*;
use bevy::window::WindowResolution;
use bevy::winit::{UpdateMode, WinitSettings};
use bevy_skald::inspector::{InspectorPlugin, Places};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Its options.
#[derive(Args)]
pub struct InspectArgs {
    /// A playtest store.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Models: checkpoint directories, or folders of such.
    #[arg(long, value_name = "DIR", num_args = 1.., default_value = "assets/models")]
    model: Vec<PathBuf>,
    /// A folder of training runs.
    #[arg(long, value_name = "DIR", default_value = "out")]
    runs: PathBuf,
    /// A folder of personas to talk with.
    #[arg(long, value_name = "DIR", default_value = "assets/personas")]
    personas: PathBuf,
    /// The world they speak of (default: that of the village example).
    #[arg(long, value_name = "F.ron")]
    world: Option<PathBuf>,
    /// Where picks and tables are written (default: beside the store).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the layout is remembered (default: the user's settings).
    #[arg(long, value_name = "F.json")]
    layout: Option<PathBuf>,
}

/// How often it looks for news while nobody touches it.
const NEWS: Duration = Duration::from_millis(100);

pub fn run(args: InspectArgs) -> bevy_skald::Result<()> {
    let window = Window {
        title: "skald inspector".into(),
        resolution: WindowResolution::new(1280, 720),
        ..Window::default()
    };
    let places = Places {
        store: args.store,
        models: args.model,
        runs: Some(args.runs),
        personas: Some(args.personas),
        world: args.world,
        out: args.out,
    };
    let news = UpdateMode::reactive(NEWS);
    App::new()
        .add_plugins(
            DefaultPlugins.set(WindowPlugin { primary_window: Some(window), ..WindowPlugin::default() }),
        )
        .insert_resource(WinitSettings { focused_mode: news, unfocused_mode: news })
        .add_plugins(InspectorPlugin { alone: true, layout: args.layout, ..InspectorPlugin::new(places) })
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn(Camera2d);
        })
        .run();
    Ok(())
}
