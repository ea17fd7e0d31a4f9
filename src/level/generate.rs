//! [`Generate`]: a level as a job. The model writes, a solver checks, and what leaves has its solution.

use super::ends::{Cell, ends};
use super::game::{Movement, TileGame};
use super::grid::{Grid, check_size};
use super::model::LevelModel;
use super::repair::repair;
use super::slices::{Slice, grid_of, image_hash, place, shape, slices_of};
use super::solve::{FINISHABLE, Limits, Solution, Verdict, solve};
use super::writer::{Plan, Writer, Wrote};
use super::{check, shaping};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::seed::Seed;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A level that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelRequest {
    /// Columns and rows (default: as usual in the levels the model learned from).
    pub size: Option<(usize, usize)>,
    /// What is asked of knobs.
    pub controls: BTreeMap<String, f64>,
    /// One of the model's themes.
    pub theme: Option<String>,
    /// A level to begin with: what is not in `open` stays as it is. Its size is then the level's.
    pub from: Option<Grid>,
    /// The cells that are written anew, of [`Self::from`].
    pub open: BTreeSet<Cell>,
    /// Whether it is to be a mirror image of itself, left and right; what the game allows a fixed number of may stand anywhere.
    pub symmetric: bool,
    /// A player's style, axes 0 to 1 ([`super::Taste`]s of the game turn its knobs). Knobs that are asked for stay as asked.
    pub style: BTreeMap<String, f64>,
    /// Divides the logits: below 1 more usual, above 1 stranger.
    pub temperature: f32,
    /// The stream it draws from. The same model, request and seed give the same level.
    pub seed: Seed,
    /// What each solving may spend.
    pub limits: Limits,
}

impl Default for LevelRequest {
    fn default() -> Self {
        Self {
            size: None,
            controls: BTreeMap::new(),
            theme: None,
            from: None,
            open: BTreeSet::new(),
            symmetric: false,
            style: BTreeMap::new(),
            temperature: 1.0,
            seed: Seed::new(0),
            limits: Limits { nodes: 200_000 },
        }
    }
}

/// A finished level.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedLevel {
    /// Its tiles.
    pub grid: Grid,
    /// What there is to say of it.
    pub report: LevelReport,
}

/// What there is to say of a level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelReport {
    /// Always true: a level that is not never leaves.
    pub solvable: bool,
    /// How it is finished.
    pub solution: Solution,
    /// What its knobs measure.
    pub knobs: BTreeMap<String, f64>,
    /// What was asked of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<String, f64>,
    /// Milliseconds of work, checks included.
    pub ms: f64,
    /// Levels that were written for it.
    pub candidates: usize,
    /// How often the writer went back.
    pub back_outs: usize,
    /// Tiles that were mended after it was written.
    pub mended: usize,
}

/// What a job tells on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum LevelUpdate {
    /// So many slices stand, and the tiles of the last. Fewer than before: the writer went back.
    Slices {
        /// How many.
        count: usize,
        /// The last one's tiles.
        last: Vec<u8>,
    },
    /// A level is being checked, mended or steered.
    Checking,
}

/// How much more the temperature is for each level that did not do.
const FREER: f32 = 0.1;
/// Levels that are written before one is mended.
const UNMENDED: usize = 4;
/// Levels that are written for a request with controls, at most.
const MOST_CANDIDATES: usize = 20;

/// Writes one level.
pub struct Generate {
    model: Arc<LevelModel>,
    request: LevelRequest,
    plan: Plan,
    /// Of the level that is filled, the slices that are written.
    written: Option<(usize, usize)>,
    writer: Option<Writer>,
    best: Option<(f64, GeneratedLevel)>,
    candidates: usize,
    back_outs: usize,
    spent: Duration,
    last_rule: String,
}

impl Generate {
    /// A job that has not begun.
    ///
    /// # Errors
    /// [`Error::Config`] for a size, knob or theme that the model cannot serve, [`Error::Unsatisfiable`] for a level whose
    /// kept part already breaks a rule.
    pub fn new(model: Arc<LevelModel>, mut request: LevelRequest) -> Result<Self> {
        model.turn_knobs(&request.style, &mut request.controls)?;
        if request.symmetric && request.from.is_some() {
            let reason = "a level that is there already cannot be asked to be symmetric";
            return Err(Error::config("options", "--symmetric", reason, "leave out the level to begin with"));
        }
        let asked = model.asked(&request.controls, request.theme.as_deref())?;
        if !(request.temperature.is_finite() && request.temperature > 0.0 && request.temperature <= 10.0) {
            let reason = format!("{} is out of range", request.temperature);
            return Err(Error::config("options", "temperature", reason, "choose more than 0, at most 10"));
        }
        let scan = model.game.scan;
        let (width, height) = match (&request.from, request.size) {
            (Some(grid), _) => (grid.width(), grid.height()),
            (None, Some(size)) => size,
            (None, None) => model.usual_size(),
        };
        check_size(width, height, "options", "--size")?;
        let (across, count) = shape(scan, width, height);
        model.check_across(across)?;
        // Games that are scanned by rows have whole levels, whose length is learned too.
        let most = if scan == super::Scan::Columns { super::LONGEST_SIDE } else { model.slices[2] * 4 };
        if count > most {
            let reason = format!(
                "{count} is too long: the model's levels have {} to {}",
                model.slices[0], model.slices[2]
            );
            return Err(Error::config("options", "--size", reason, format!("choose at most {most}")));
        }
        let mut plan = Plan {
            across,
            count,
            asked,
            controls: request.controls.clone(),
            temperature: request.temperature,
            symmetric: request.symmetric,
            ..Plan::default()
        };
        let mut written = None;
        if let Some(grid) = &request.from {
            if request.open.is_empty() {
                let reason = "no cell is open";
                return Err(Error::config(
                    "options",
                    "open",
                    reason,
                    "name the cells that are to be written anew",
                ));
            }
            if let Some((x, y)) = request.open.iter().find(|(x, y)| *x >= width || *y >= height) {
                let reason = format!("the cell {x},{y} is outside of {width} x {height}");
                return Err(Error::config("options", "open", reason, "name cells of the level"));
            }
            let slices = slices_of(&model.game, grid, &[]);
            let open: BTreeSet<usize> = request.open.iter().map(|cell| place(scan, count, *cell).0).collect();
            let (from, to) = (*open.first().unwrap_or(&0), open.last().unwrap_or(&0) + 1);
            for (s, slice) in slices.iter().enumerate().take(to).skip(from) {
                for (a, tile) in slice.iter().enumerate() {
                    let cell = super::slices::cell(scan, count, s, a);
                    if !request.open.contains(&cell) {
                        plan.locks.insert((s - from, a), *tile);
                    }
                }
            }
            plan.before = slices[..from].to_vec();
            plan.after = slices[to..].to_vec();
            plan.gap = to < count || from > 0;
            // What goes on to the end of a level is a continuation, not a gap.
            if to == count {
                plan.gap = false;
            }
            plan.count = to - from;
            written = Some((from, to));
        }
        Ok(Self {
            model,
            request,
            plan,
            written,
            writer: None,
            best: None,
            candidates: 0,
            back_outs: 0,
            spent: Duration::ZERO,
            last_rule: FINISHABLE.into(),
        })
    }

    fn locked(&self) -> BTreeSet<Cell> {
        let Some(grid) = &self.request.from else { return BTreeSet::new() };
        grid.cells().map(|(x, y, _)| (x, y)).filter(|cell| !self.request.open.contains(cell)).collect()
    }

    /// How many levels it may write.
    fn most(&self) -> usize {
        if self.request.controls.is_empty() { UNMENDED + 4 } else { MOST_CANDIDATES }
    }

    fn assemble(&self, slices: &[Slice]) -> Grid {
        let mut all = self.plan.before.clone();
        all.extend(slices.iter().cloned());
        all.extend(self.plan.after.iter().cloned());
        grid_of(self.model.game.scan, &all)
    }

    /// Solves, mends and steers what was written; `None`: it cannot be used.
    fn finish(&mut self, grid: Grid) -> Option<(f64, GeneratedLevel)> {
        let game = if self.request.from.is_none() { &self.model.eased } else { &self.model.game };
        let limits = self.request.limits;
        let seed = self.request.seed.derive("finish").derive_index(self.candidates as u64);
        let locked = self.locked();
        let mut mended = 0;
        let quick =
            if game.movement == Movement::Push { Limits { nodes: limits.nodes.min(20_000) } } else { limits };
        let (grid, solution) = match solve(game, &grid, quick).verdict {
            Verdict::Solved(solution) => (grid, solution),
            other => {
                if let Verdict::Unsolvable(rule) = other {
                    self.last_rule = rule;
                }
                // A level that is right as it was written is better than one that was mended.
                if self.request.from.is_none() && self.candidates < UNMENDED {
                    return None;
                }
                let repaired = repair(game, &grid, &locked, quick, seed).ok()?;
                mended = repaired.changes;
                (repaired.grid, repaired.solution)
            }
        };
        // Easy jumps are not always among the game's own: what leaves is finished by these, too.
        let eased = game.movement != self.model.game.movement;
        let game = &self.model.game;
        let solution = if eased {
            let Verdict::Solved(solution) = solve(game, &grid, limits).verdict else {
                self.last_rule = FINISHABLE.into();
                return None;
            };
            solution
        } else {
            solution
        };
        let steered = shaping::steer(&self.model, game, grid, solution, &self.request, &locked, seed);
        let (grid, solution) = steered;
        // A level that was learned from is no new level.
        if self.request.from.is_none() && self.model.known.contains(&image_hash(&grid)) {
            self.last_rule = "the level is not one it learned from".into();
            return None;
        }
        // Nothing leaves on one opinion.
        if !check::replay(game, &grid, &solution) {
            return None;
        }
        let knobs = measured(game, &grid, &solution);
        let distance = off(&self.model, &self.request.controls, &knobs);
        let report = LevelReport {
            solvable: true,
            solution,
            knobs,
            asked: self.request.controls.clone(),
            ms: 0.0,
            candidates: self.candidates,
            back_outs: self.back_outs,
            mended,
        };
        Some((distance, GeneratedLevel { grid, report }))
    }

    fn advance(&mut self) -> Result<ControlFlow<GeneratedLevel, LevelUpdate>> {
        let Some(writer) = &mut self.writer else {
            if self.candidates >= self.most() {
                let Some((_, level)) = self.best.take() else {
                    let remedy = "ask for less, unlock cells, or try another seed";
                    return Err(Error::Unsatisfiable { rule: self.last_rule.clone(), remedy: remedy.into() });
                };
                return Ok(ControlFlow::Break(level));
            }
            let seed = self.request.seed.derive("write").derive_index(self.candidates as u64);
            let mut plan = self.plan.clone();
            if self.request.from.is_none() {
                plan.asked = self.model.in_style(&plan.asked, &mut seed.derive("style").stream());
            }
            // What did not do is written again with a freer hand.
            plan.temperature *= 1.0 + FREER * self.candidates.min(8) as f32;
            self.writer = Some(Writer::new(Arc::clone(&self.model), plan, seed)?);
            self.candidates += 1;
            return Ok(ControlFlow::Continue(LevelUpdate::Checking));
        };
        match writer.step() {
            Ok(Wrote::On) => {
                let last = writer.slices.last().map_or_else(Vec::new, |slice| {
                    slice.iter().map(|symbol| symbol & !super::slices::ON_PATH).collect()
                });
                Ok(ControlFlow::Continue(LevelUpdate::Slices { count: writer.slices.len(), last }))
            }
            Ok(Wrote::Whole) => {
                let slices = writer.slices.clone();
                self.back_outs += writer.back_outs;
                self.writer = None;
                let grid = self.assemble(&slices);
                if let Some((distance, level)) = self.finish(grid) {
                    if self.best.as_ref().is_none_or(|(best, _)| distance < *best) {
                        self.best = Some((distance, level));
                    }
                    // Within the band that was asked for is near enough.
                    if distance <= 0.8
                        && let Some((_, level)) = self.best.take()
                    {
                        return Ok(ControlFlow::Break(level));
                    }
                }
                Ok(ControlFlow::Continue(LevelUpdate::Checking))
            }
            Err(Error::Unsatisfiable { .. }) => {
                self.last_rule = writer.rule().to_owned();
                self.back_outs += writer.back_outs;
                self.writer = None;
                // Where the writer gave up, mending what stands in the gap may still do.
                if let Some(from) = self.request.from.clone()
                    && self.best.is_none()
                    && let Some((distance, level)) = self.finish(from)
                {
                    self.best = Some((distance + 10.0, level));
                }
                Ok(ControlFlow::Continue(LevelUpdate::Checking))
            }
            Err(error) => Err(error),
        }
    }

    /// The slices of the level that are written, of one that is filled or continued.
    pub fn written(&self) -> Option<(usize, usize)> {
        self.written
    }
}

impl Job for Generate {
    type Output = GeneratedLevel;
    type Update = LevelUpdate;

    fn step(&mut self) -> Result<ControlFlow<GeneratedLevel, LevelUpdate>> {
        let start = Instant::now();
        let outcome = self.advance();
        self.spent += start.elapsed();
        match outcome? {
            ControlFlow::Break(mut level) => {
                level.report.ms = self.spent.as_secs_f64() * 1e3;
                level.report.candidates = self.candidates;
                level.report.back_outs = self.back_outs;
                Ok(ControlFlow::Break(level))
            }
            on => Ok(on),
        }
    }
}

/// What a level's knobs measure.
pub fn measured(game: &TileGame, grid: &Grid, solution: &Solution) -> BTreeMap<String, f64> {
    let value = |knob: &super::Knob| Some((knob.name.clone(), knob.measure(game, grid, Some(solution))?));
    game.knobs.iter().filter_map(value).collect()
}

/// How far a level is from what was asked, in tolerances, of the knob that is farthest.
pub(super) fn off(model: &LevelModel, asked: &BTreeMap<String, f64>, got: &BTreeMap<String, f64>) -> f64 {
    let far = |(name, value): (&String, &f64)| {
        let range = model.ranges.iter().find(|range| range.name == *name)?;
        Some((got.get(name)? - value).abs() / range.tolerance().max(1e-9))
    };
    asked.iter().filter_map(far).fold(0.0, f64::max)
}

/// The part of a level between two columns (or rows, where it is scanned by rows), as open cells.
pub fn region(game: &TileGame, grid: &Grid, from: usize, to: usize) -> BTreeSet<Cell> {
    let (across, count) = shape(game.scan, grid.width(), grid.height());
    let all = (from..to.min(count)).flat_map(|slice| (0..across).map(move |at| (slice, at)));
    all.map(|(slice, at)| super::slices::cell(game.scan, count, slice, at)).collect()
}

/// Whether a level keeps its game's rules before anybody moves; the rule that does not hold.
pub fn sound(game: &TileGame, grid: &Grid) -> Result<()> {
    ends(game, grid).map(|_| ()).map_err(|violation| Error::Unsatisfiable {
        rule: violation.rule,
        remedy: "mend the level (`skald level repair`)".into(),
    })
}
