//! Levels: written, filled, mended.

use super::{Clerk, Held, Teller};
use crate::error::Error;
use crate::inspector::layout::Panel;
use crate::inspector::request::Job;
use crate::job::Job as _;
use crate::level::{
    Generate, GeneratedLevel, LevelModel, LevelReport, LevelRequest, Limits, TileGame, measured, repair,
};
use crate::seed::Seed;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

/// What level is wanted.
pub(super) struct Wanted {
    pub model: PathBuf,
    pub controls: BTreeMap<String, f64>,
    pub size: Option<(usize, usize)>,
    pub seed: u64,
    pub open: Option<BTreeSet<(usize, usize)>>,
}

impl Clerk {
    pub(super) fn generate(&mut self, wanted: Wanted) {
        let held = Arc::clone(&self.level);
        self.spawn(Job::Level, Panel::Levels, move |teller, cancel| {
            let model = Arc::new(LevelModel::load(&wanted.model)?);
            let knobs = model.ranges().to_vec();
            let path = wanted.model.clone();
            teller.tell(move |snapshot| (snapshot.level.model, snapshot.level.knobs) = (Some(path), knobs));
            let mut request = LevelRequest {
                controls: wanted.controls,
                size: wanted.size,
                seed: Seed::new(wanted.seed),
                ..LevelRequest::default()
            };
            if let Some(open) = wanted.open {
                let held = held.lock().unwrap_or_else(PoisonError::into_inner);
                let (game, grid) =
                    held.as_ref().ok_or_else(|| missing("a part can be written anew of a level only"))?;
                if **game != *model.game() {
                    return Err(missing("the level shown is of another game than the model"));
                }
                request.controls.clear();
                (request.from, request.open) = (Some((**grid).clone()), open);
            }
            let mut generate = Generate::new(Arc::clone(&model), request)?;
            let usual = model.usual_size().0.max(1);
            while !cancel.load(Ordering::Relaxed) {
                match generate.step()? {
                    ControlFlow::Continue(crate::level::LevelUpdate::Slices { count, .. })
                        if count % 4 == 0 =>
                    {
                        let share = (count as f32 / usual as f32).min(1.0);
                        teller.tell(move |snapshot| {
                            snapshot.jobs.insert(Job::Level, Some(share));
                        });
                    }
                    ControlFlow::Continue(_) => {}
                    ControlFlow::Break(level) => {
                        show(level, Arc::new(model.game().clone()), &held, teller);
                        break;
                    }
                }
            }
            Ok(())
        });
    }

    pub(super) fn repair(&mut self) {
        let held = Arc::clone(&self.level);
        self.spawn(Job::Level, Panel::Levels, move |teller, _: &AtomicBool| {
            let level = held.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (game, grid) = level.ok_or_else(|| missing("there is no level to mend"))?;
            let begun = std::time::Instant::now();
            let mended = repair(&game, &grid, &BTreeSet::new(), Limits::default(), Seed::new(0))?;
            let report = LevelReport {
                solvable: true,
                knobs: measured(&game, &mended.grid, &mended.solution),
                solution: mended.solution,
                asked: BTreeMap::new(),
                ms: begun.elapsed().as_secs_f64() * 1000.0,
                candidates: 1,
                back_outs: 0,
                mended: mended.changes,
            };
            let changes = mended.changes;
            show(GeneratedLevel { grid: mended.grid, report }, game, &held, teller);
            teller.tell(move |snapshot| {
                let text = match changes {
                    0 => "the level could be finished as it was; nothing was changed".into(),
                    n => format!("{n} tiles were changed, and the level can be finished"),
                };
                snapshot.notes.insert(Panel::Levels, text);
            });
            Ok(())
        });
    }
}

fn missing(reason: &str) -> Error {
    Error::config("the level workshop", "level", reason, "choose Generate first")
}

fn show(level: GeneratedLevel, game: Arc<TileGame>, held: &Held, teller: &Teller) {
    let path: Arc<[(usize, usize)]> = level.report.solution.cells(&game, &level.grid).into();
    let grid = Arc::new(level.grid);
    *held.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&game), Arc::clone(&grid)));
    teller.tell(move |snapshot| {
        let view = &mut snapshot.level;
        (view.game, view.grid, view.path, view.report) = (Some(game), Some(grid), path, Some(level.report));
        view.version += 1;
    });
}
