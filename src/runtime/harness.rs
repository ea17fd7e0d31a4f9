//! The headless test harness, the same that the crate's own tests use.
//!
//! ```
//! use bevy_skald::{prelude::*, runtime::harness};
//! # use bevy::prelude::*;
//! let mut app = harness::app();
//! app.add_plugins(SkaldPlugins::default().scripted("Good morning."));
//! app.finish();
//! harness::update_until(&mut app, 10, |_| true);
//! ```

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use std::time::Duration;

/// How far [`app`]'s clock goes at each update: a sixtieth of a second.
pub const FRAME: Duration = Duration::from_nanos(16_666_667);

/// An app without window, sound or display: the minimal plugins, assets, and a clock that goes one
/// [`FRAME`] at each update. Add the plugins under test, then call `app.finish()`.
pub fn app() -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, AssetPlugin::default()))
        .insert_resource(TimeUpdateStrategy::ManualDuration(FRAME));
    app
}

/// Updates until `done` says so; returns the number of updates.
///
/// # Panics
/// When `done` does not hold after `limit` updates.
pub fn update_until(app: &mut App, limit: usize, mut done: impl FnMut(&mut World) -> bool) -> usize {
    for n in 1..=limit {
        app.update();
        if done(app.world_mut()) {
            return n;
        }
        // Assets come from another thread: let it have the core.
        std::thread::yield_now();
    }
    panic!("what was waited for did not come within {limit} updates");
}
