//! [`Snapshot`]: all that the panels show. The desk and the game fill it between frames; nothing in it grows with a store.

use super::layout::Panel;
use super::request::Job;
use crate::dialogue::PreferencePair;
use crate::evaluation::{Regression, Report};
use crate::level::{Grid, LevelReport, Range, TileGame};
use crate::player::PlayerProfile;
use crate::recording::{PlayerRow, Recorded, Session, SessionId, Stats, Verified};
use crate::training::Progress;
use crate::training::runs::{Point, Status};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// All that the panels show.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The store.
    pub store: Option<StoreView>,
    /// Past trainings, and the one under way.
    pub training: TrainingView,
    /// Models to choose from.
    pub models: Vec<ModelView>,
    /// Files of personas to choose from.
    pub personas: Vec<PathBuf>,
    /// The talk.
    pub talk: TalkView,
    /// The level under the hand.
    pub level: LevelView,
    /// The evaluation.
    pub evaluation: EvaluationView,
    /// The game that runs; nothing without one.
    pub live: Option<LiveView>,
    /// What went wrong, where, and with the remedy.
    pub errors: BTreeMap<Panel, String>,
    /// What went well and is worth a line.
    pub notes: BTreeMap<Panel, String>,
    /// What is under way, and how far (0 to 1; nothing: unknown).
    pub jobs: BTreeMap<Job, Option<f32>>,
}

/// A store, a page of it at a time.
#[derive(Clone, Debug, Default)]
pub struct StoreView {
    /// The file.
    pub path: PathBuf,
    /// Counts.
    pub stats: Option<Stats>,
    /// Sessions passed over before the page.
    pub skipped: u64,
    /// A page of sessions, the latest first.
    pub sessions: Vec<Session>,
    /// The session whose events are shown.
    pub session: Option<SessionId>,
    /// A page of its events.
    pub events: Vec<Recorded>,
    /// What the last check found.
    pub verified: Option<Verified>,
    /// The first players, by pseudonym.
    pub players: Vec<PlayerRow>,
}

/// A curve, thinned for the screen: step and nats a token.
pub type Curve = Vec<[f64; 2]>;

/// A past run.
#[derive(Clone, Debug)]
pub struct RunView {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// Where it stands.
    pub status: Status,
    /// What it is of.
    pub domain: String,
    /// Steps done.
    pub steps: u64,
    /// The best validation loss, in nats a token.
    pub best: Option<f64>,
    /// Parameters.
    pub parameters: Option<u64>,
    /// Losses of training and of validation.
    pub curves: [Curve; 2],
}

/// Trainings.
#[derive(Clone, Debug, Default)]
pub struct TrainingView {
    /// Past runs.
    pub runs: Vec<RunView>,
    /// The directory of the one under way.
    pub out: Option<PathBuf>,
    /// Its last word.
    pub progress: Option<Progress>,
    /// Its losses of training and of validation.
    pub curves: [Curve; 2],
    /// Whether it rests.
    pub paused: bool,
}

impl TrainingView {
    /// Takes a step in. A curve never holds more points than a screen shows.
    pub fn take(&mut self, progress: Progress) {
        let [train, validation] = &mut self.curves;
        for (curve, loss) in [(train, progress.train_loss.map(f64::from)), (validation, progress.val_loss)] {
            if let Some(loss) = loss.filter(|loss| loss.is_finite()) {
                curve.push([progress.step as f64, loss]);
                thin(curve);
            }
        }
        self.progress = Some(progress);
    }
}

/// The most points of a curve.
const POINTS: usize = 2_000;

/// Leaves out every second point when there are too many.
fn thin(curve: &mut Curve) {
    while curve.len() > POINTS {
        let mut n = 0;
        curve.retain(|_| {
            n += 1;
            n % 2 == 1
        });
    }
}

/// A run's points as curves.
pub(super) fn curves(points: &[Point]) -> [Curve; 2] {
    let of = |loss: fn(&Point) -> Option<f64>| {
        let point =
            |point: &Point| Some([point.step as f64, loss(point).filter(|loss: &f64| loss.is_finite())?]);
        let mut curve: Curve = points.iter().filter_map(point).collect();
        thin(&mut curve);
        curve
    };
    [of(|point| point.train_loss), of(|point| point.val_loss)]
}

/// A model to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelView {
    /// Its directory.
    pub path: PathBuf,
    /// What its card says it does.
    pub domain: String,
}

/// A token that was said.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenToken {
    /// As the tokenizer spells it.
    pub text: String,
    /// Its probability among what was allowed, before temperature; 1 where nothing else was possible.
    pub probability: f32,
    /// Which share of the vocabulary the grammar allowed.
    pub allowed: f32,
    /// The likeliest others.
    pub others: Vec<(String, f32)>,
}

/// One model's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// The model.
    pub model: PathBuf,
    /// What is on the screen.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<SeenToken>,
    /// Whether it is whole.
    pub done: bool,
    /// Milliseconds from the first prompt token to the last word.
    pub ms: f64,
}

/// The talk.
#[derive(Clone, Debug, Default)]
pub struct TalkView {
    /// What was asked.
    pub said: String,
    /// One answer, or two.
    pub answers: Vec<Answered>,
    /// The two answers as a pair, the first chosen, once both are whole and differ.
    pub pair: Option<PreferencePair>,
    /// Pairs kept in this sitting.
    pub kept: usize,
    /// Where they are kept.
    pub picks: PathBuf,
}

/// The level under the hand.
#[derive(Clone, Debug, Default)]
pub struct LevelView {
    /// The model that the knobs are of.
    pub model: Option<PathBuf>,
    /// Its knobs.
    pub knobs: Vec<Range>,
    /// The game, for names and colours.
    pub game: Option<Arc<TileGame>>,
    /// Tiles.
    pub grid: Option<Arc<Grid>>,
    /// A number that changes with the grid, so that its picture is made once.
    pub version: u64,
    /// Where the solution goes.
    pub path: Arc<[(usize, usize)]>,
    /// What there is to say of it.
    pub report: Option<LevelReport>,
}

/// An evaluation.
#[derive(Clone, Debug, Default)]
pub struct EvaluationView {
    /// Which model was measured.
    pub model: PathBuf,
    /// The figures.
    pub report: Option<Arc<Report>>,
    /// The one before, to compare with.
    pub before: Option<(PathBuf, Arc<Report>)>,
    /// Figures that got worse by more than the tolerance.
    pub regressions: Vec<Regression>,
}

/// The game that runs.
#[derive(Clone, Debug, Default)]
pub struct LiveView {
    /// The last frames, in milliseconds.
    pub frames: Vec<f32>,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// Lines being spoken.
    pub open: usize,
    /// Lines spoken.
    pub finished: u64,
    /// Lines that were authored ones.
    pub fallbacks: u64,
    /// Jobs that wait for the worker.
    pub waiting: usize,
    /// Bytes of keys and values.
    pub kv_bytes: usize,
    /// How much the governor holds work back, 0 to 1.
    pub pressure: f32,
    /// Frames that work made too long.
    pub overruns: u64,
    /// The last lines: who, what.
    pub lines: Vec<(String, String)>,
    /// Players and what is known of them.
    pub players: Vec<(String, PlayerProfile)>,
    /// Open quests: whose, what, why.
    pub quests: Vec<(String, String, String)>,
    /// The directory whose model speaks, where the inspector chose it.
    pub speaks: Option<PathBuf>,
    /// Whether there is one to go back to.
    pub can_roll_back: bool,
}
