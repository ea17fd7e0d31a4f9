//! What the crate is doing: a plain resource, and a plugin that writes it to Bevy's diagnostics.

use super::{ComputeWorker, SkaldSystems};
use bevy::diagnostic::{Diagnostic, DiagnosticPath, Diagnostics, RegisterDiagnostic};
use bevy::prelude::*;

/// What dialogue has done so far.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct DialogueStats {
    /// Lines finished by the model.
    pub finished: u64,
    /// Lines for which an authored fallback was shown.
    pub fallbacks: u64,
    /// Lines cancelled because their NPC was gone.
    pub cancelled: u64,
    /// Tokens generated.
    pub tokens: u64,
    /// Lines being spoken or waiting.
    pub open: usize,
}

/// Writes [`DialogueStats`] and the worker's queue to Bevy's `DiagnosticsStore`.
pub struct SkaldDiagnosticsPlugin;

impl SkaldDiagnosticsPlugin {
    /// Tokens generated per second.
    pub const TOKENS_PER_SECOND: DiagnosticPath =
        DiagnosticPath::const_new("skald/dialogue/tokens_per_second");
    /// Lines being spoken or waiting.
    pub const OPEN_LINES: DiagnosticPath = DiagnosticPath::const_new("skald/dialogue/open_lines");
    /// Authored fallbacks shown so far.
    pub const FALLBACKS: DiagnosticPath = DiagnosticPath::const_new("skald/dialogue/fallbacks");
    /// Jobs waiting for a step.
    pub const WAITING_JOBS: DiagnosticPath = DiagnosticPath::const_new("skald/work/waiting_jobs");
}

impl Plugin for SkaldDiagnosticsPlugin {
    fn build(&self, app: &mut App) {
        for path in [Self::TOKENS_PER_SECOND, Self::OPEN_LINES, Self::FALLBACKS, Self::WAITING_JOBS] {
            app.register_diagnostic(Diagnostic::new(path));
        }
        app.add_systems(Last, measure.in_set(SkaldSystems::Measure));
    }
}

fn measure(
    mut diagnostics: Diagnostics,
    stats: Res<DialogueStats>,
    worker: Res<ComputeWorker>,
    time: Res<Time<Real>>,
    mut before: Local<u64>,
) {
    let new = stats.tokens - *before;
    *before = stats.tokens;
    let seconds = time.delta_secs_f64();
    if seconds > 0.0 {
        diagnostics.add_measurement(&SkaldDiagnosticsPlugin::TOKENS_PER_SECOND, || new as f64 / seconds);
    }
    diagnostics.add_measurement(&SkaldDiagnosticsPlugin::OPEN_LINES, || stats.open as f64);
    diagnostics.add_measurement(&SkaldDiagnosticsPlugin::FALLBACKS, || stats.fallbacks as f64);
    diagnostics.add_measurement(&SkaldDiagnosticsPlugin::WAITING_JOBS, || worker.waiting() as f64);
}
