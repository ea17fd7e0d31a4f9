//! What the crate is doing: a plain resource, and a plugin that writes it to Bevy's diagnostics.

use super::{ComputeWorker, FrameGovernor, SkaldSystems};
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
    /// Bytes of keys and values, what is kept for later included.
    pub kv_bytes: usize,
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
    /// Bytes of keys and values.
    pub const KV_BYTES: DiagnosticPath = DiagnosticPath::const_new("skald/dialogue/kv_bytes");
    /// How much the worker is held back, 0 to 1.
    pub const PRESSURE: DiagnosticPath = DiagnosticPath::const_new("skald/governor/pressure");
    /// How long a frame takes the game's thread without work beside it, in milliseconds.
    pub const USUAL_FRAME_MS: DiagnosticPath = DiagnosticPath::const_new("skald/governor/usual_frame_ms");
    /// Frames so far that work beside them made longer than the budget.
    pub const OVERRUNS: DiagnosticPath = DiagnosticPath::const_new("skald/governor/overruns");
}

impl Plugin for SkaldDiagnosticsPlugin {
    fn build(&self, app: &mut App) {
        for path in [
            Self::TOKENS_PER_SECOND,
            Self::OPEN_LINES,
            Self::FALLBACKS,
            Self::WAITING_JOBS,
            Self::KV_BYTES,
            Self::PRESSURE,
            Self::USUAL_FRAME_MS,
            Self::OVERRUNS,
        ] {
            app.register_diagnostic(Diagnostic::new(path));
        }
        app.add_systems(Last, measure.in_set(SkaldSystems::Measure));
    }
}

fn measure(
    mut diagnostics: Diagnostics,
    stats: Res<DialogueStats>,
    worker: Res<ComputeWorker>,
    governor: Res<FrameGovernor>,
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
    diagnostics.add_measurement(&SkaldDiagnosticsPlugin::KV_BYTES, || stats.kv_bytes as f64);
    diagnostics.add_measurement(&SkaldDiagnosticsPlugin::PRESSURE, || f64::from(governor.pressure()));
    diagnostics.add_measurement(&SkaldDiagnosticsPlugin::OVERRUNS, || governor.overruns() as f64);
    if let Some(usual) = governor.usual() {
        diagnostics.add_measurement(&SkaldDiagnosticsPlugin::USUAL_FRAME_MS, || usual.as_secs_f64() * 1000.0);
    }
}
