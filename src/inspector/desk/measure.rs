//! Evaluations.

use super::Clerk;
use super::talk::world;
use crate::decode::LoadedModel;
use crate::dialogue::{evaluate, read_talks};
use crate::evaluation::LANGUAGE_GATE;
use crate::inspector::layout::Panel;
use crate::inspector::request::Job;
use crate::model::Checkpoint;
use crate::seed::Seed;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Lines that are generated: enough to see, few enough to wait for.
const LINES: usize = 40;
/// How much worse a gated figure may be.
const TOLERANCE: f64 = 0.02;

impl Clerk {
    pub(super) fn evaluate(&mut self, model: PathBuf, data: PathBuf) {
        let place = self.places.world.clone();
        self.spawn(Job::Evaluation, Panel::Evaluation, move |teller, cancel| {
            let (corpus, _) = read_talks(std::slice::from_ref(&data))?;
            let world = world(place.as_deref())?;
            let loaded = Arc::new(LoadedModel::new(&Checkpoint::load(&model)?)?);
            let report = Arc::new(evaluate::evaluate(&loaded, &corpus, &world, LINES, Seed::new(0))?.report);
            // An evaluation is one step; one that was cancelled is not shown.
            if cancel.load(Ordering::Relaxed) {
                return Ok(());
            }
            teller.tell(move |snapshot| {
                let view = &mut snapshot.evaluation;
                let before = view.report.take().map(|report| (view.model.clone(), report));
                let compared = before.and_then(|(path, before)| {
                    let name = path.display().to_string();
                    // Measured on other data: there is nothing to compare.
                    let worse = report.regressions(&before, &name, TOLERANCE, LANGUAGE_GATE).ok()?;
                    Some((path, before, worse))
                });
                (view.before, view.regressions) = match compared {
                    Some((path, before, worse)) => (Some((path, before)), worse),
                    None => (None, Vec::new()),
                };
                (view.model, view.report) = (model, Some(report));
            });
            Ok(())
        });
    }
}
