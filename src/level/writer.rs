//! [`Writer`]: the model writes a level slice by slice, and backs out of what cannot be finished or is copied.

use super::game::{Count, Scan};
use super::model::LevelModel;
use super::pieces::Piece;
use super::reach::Reach;
use super::sequence::{Asked, BEGIN, Scribe};
use super::slices::{ON_PATH, Slice, hash};
use crate::decode::Sampling;
use crate::error::{Error, Result};
use crate::model::{KvCache, Row, Scratch};
use crate::seed::{Seed, Stream};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A level to write.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// The length of a slice, and how many are to be written.
    pub across: usize,
    pub count: usize,
    pub asked: Asked,
    /// Values asked of knobs that count tiles.
    pub controls: BTreeMap<String, f64>,
    /// Tiles that are fixed, by slice and place.
    pub locks: BTreeMap<(usize, usize), u8>,
    /// What stands before and after, where a gap is filled; then `count` is the gap's.
    pub before: Vec<Slice>,
    pub after: Vec<Slice>,
    pub gap: bool,
    /// Whether the right half is to be the left one's image.
    pub symmetric: bool,
    pub temperature: f32,
}

/// How much of the context is kept when it is full, in slices.
const KEPT: usize = 24;

/// How much more the temperature is for each failure at a slice.
const FREER: f32 = 0.3;

pub(super) struct Writer {
    model: Arc<LevelModel>,
    plan: Plan,
    noise: Stream,
    sampling: Sampling,
    cache: KvCache,
    scratch: Scratch,
    logits: Vec<f32>,
    /// Tokens that the network has not seen yet.
    pending: Vec<u32>,
    pub slices: Vec<Slice>,
    /// Each slice's tokens, the countdown first.
    tokens: Vec<Vec<u32>>,
    /// The first slice in the cache, and how long it was before each slice from there.
    first: usize,
    marks: Vec<usize>,
    reach: Option<Reach>,
    bits: Vec<u16>,
    /// Tiles of each count so far.
    counted: Vec<usize>,
    /// Failures since the farthest slice was last passed.
    failures: u32,
    farthest: usize,
    /// How often it went back, and may.
    pub back_outs: usize,
    allowed: usize,
    /// Slices that are never taken back.
    kept: usize,
    /// The last rule that failed.
    rule: &'static str,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// A slice more, or some fewer.
    On,
    /// All slices are there.
    Whole,
}

impl Writer {
    pub fn new(model: Arc<LevelModel>, plan: Plan, seed: Seed) -> Result<Self> {
        // What is there already may need any jump.
        let game = if plan.before.is_empty() && plan.after.is_empty() { &model.eased } else { &model.game };
        let mut reach = if game.scan == Scan::Columns { Reach::new(game, plan.across) } else { None };
        let bits = model.game.bits();
        if let Some(reach) = &mut reach {
            for slice in &plan.before {
                reach.push(&slice_bits(slice, &bits));
            }
        }
        let temperature = if plan.temperature > 0.0 { plan.temperature } else { 1.0 };
        let allowed = plan.count.saturating_mul(12).saturating_add(200);
        let mut writer = Self {
            sampling: Sampling { temperature, top_p: 1.0, min_p: 0.005, ..Sampling::default() },
            noise: seed.stream(),
            cache: model.decoder().cache(),
            scratch: Scratch::default(),
            logits: Vec::new(),
            pending: Vec::new(),
            slices: Vec::new(),
            tokens: Vec::new(),
            first: 0,
            marks: Vec::new(),
            reach,
            bits,
            counted: vec![0; model.game.counts.len()],
            failures: 0,
            farthest: 0,
            back_outs: 0,
            allowed,
            kept: 0,
            rule: super::FINISHABLE,
            model,
            plan,
        };
        for slice in writer.plan.before.clone().iter().chain(&writer.plan.after.clone()) {
            writer.count(slice, 1);
        }
        writer.begin(0);
        Ok(writer)
    }

    /// Starts the sequence so that slice `next` comes next.
    fn begin(&mut self, next: usize) {
        let model = Arc::clone(&self.model);
        let scribe = Scribe { pieces: &model.pieces, knobs: &model.names };
        self.cache = model.decoder().cache();
        self.pending.clear();
        scribe.head(self.plan.across, &self.plan.asked, &mut self.pending);
        self.first = next.saturating_sub(KEPT);
        if self.plan.gap {
            scribe.around(&self.plan.before, &self.plan.after, &mut self.pending);
        } else if self.first == 0 && self.plan.before.is_empty() {
            self.pending.extend(model.pieces.special(BEGIN));
        } else if self.first == 0 {
            // What stands before is read as if it had been written here.
            for slice in &self.plan.before[self.plan.before.len().saturating_sub(KEPT)..] {
                self.pending.extend(scribe.countdown(usize::MAX));
                model.pieces.encode(slice, None, &mut self.pending);
            }
        }
        self.marks.clear();
        for at in self.first..next {
            self.marks.push(self.cache.len() + self.pending.len());
            self.pending.extend(&self.tokens[at]);
        }
    }

    fn count(&mut self, slice: &[u8], sign: isize) {
        for (counted, count) in self.counted.iter_mut().zip(&self.model.game.counts) {
            let of = slice.iter().filter(|symbol| counts(&self.model, count, **symbol)).count();
            *counted = counted.saturating_add_signed(of as isize * sign);
        }
    }

    /// Puts what is pending through the network; the logits of what comes next.
    fn feed(&mut self) -> Result<()> {
        let rows = &mut [Row {
            cache: &mut self.cache,
            tokens: &self.pending,
            logits: &mut self.logits,
            all: false,
            adapter: None,
        }];
        self.model.decoder().forward(rows, &mut self.scratch)?;
        self.pending.clear();
        Ok(())
    }

    /// Forgets all slices from `to` on.
    fn back(&mut self, to: usize) {
        for slice in self.slices.split_off(to) {
            self.count(&slice, -1);
        }
        self.tokens.truncate(to);
        if let Some(reach) = &mut self.reach {
            reach.truncate(self.plan.before.len() + to);
        }
        // What the network has not seen cannot be cut from its memory.
        match self.marks.get(to.wrapping_sub(self.first)) {
            Some(mark) if to >= self.first && *mark <= self.cache.len() => {
                self.cache.truncate(*mark);
                self.marks.truncate(to - self.first);
                self.pending.clear();
            }
            _ => self.begin(to),
        }
    }

    /// From now on the first `count` slices are never taken back.
    pub fn keep(&mut self, count: usize) {
        self.kept = count;
    }

    /// It may go back so often from now on.
    pub fn allow(&mut self, back_outs: usize) {
        self.allowed = self.back_outs + back_outs;
    }

    /// Writes a slice, or goes back.
    ///
    /// # Errors
    /// [`Error::Unsatisfiable`] with the rule that failed most lately, when it went back too often.
    pub fn step(&mut self) -> Result<Wrote> {
        let at = self.slices.len();
        if at == self.plan.count {
            return Ok(Wrote::Whole);
        }
        let most = self.plan.across + 1;
        if self.cache.len() + self.pending.len() + most > self.model.decoder().context() {
            self.begin(at);
        }
        match self.slice(at)? {
            Ok(slice) => {
                self.slices.push(slice);
                if self.slices.len() > self.farthest {
                    (self.farthest, self.failures) = (self.slices.len(), 0);
                }
                Ok(if self.slices.len() == self.plan.count { Wrote::Whole } else { Wrote::On })
            }
            Err(rule) => {
                self.rule = rule;
                self.back_outs += 1;
                self.failures += 1;
                if self.back_outs > self.allowed {
                    let remedy = "ask for less, unlock cells, or try another seed";
                    return Err(Error::Unsatisfiable { rule: rule.into(), remedy: remedy.into() });
                }
                // The same slice again twice, then ever farther back.
                let far = if self.failures < 3 { 0 } else { 1usize << (self.failures / 3).min(6) };
                self.back(at.saturating_sub(far).max(self.kept));
                Ok(Wrote::On)
            }
        }
    }

    fn slice(&mut self, at: usize) -> Result<Result<Slice, &'static str>> {
        let model = Arc::clone(&self.model);
        let scribe = Scribe { pieces: &model.pieces, knobs: &model.names };
        let left = self.plan.count - 1 - at;
        let mark = self.cache.len() + self.pending.len();
        let mut tokens: Vec<u32> = scribe.countdown(left).into_iter().collect();
        self.pending.extend(&tokens);
        let bias = self.bias(at);
        let mut slice: Slice = Vec::with_capacity(self.plan.across);
        while slice.len() < self.plan.across {
            let place = slice.len();
            let room = self.plan.across - place;
            let fits = |piece: &Piece| {
                piece.symbols.len() <= room
                    && (self.plan.locks.is_empty()
                        || piece.symbols.iter().enumerate().all(|(n, symbol)| {
                            let lock = self.plan.locks.get(&(at, place + n));
                            lock.is_none_or(|tile| *tile == symbol & !ON_PATH)
                        }))
                    && (!self.plan.symmetric || self.mirrors(&slice, piece, at))
                    && self.within(&slice, piece)
            };
            let candidates: Vec<(u32, &Piece)> = model
                .pieces
                .at(place)
                .iter()
                .filter_map(|id| Some((*id, model.pieces.piece(*id)?)))
                .filter(|(_, piece)| fits(piece))
                .collect();
            if candidates.is_empty() {
                self.undo(mark);
                return Ok(Err("the counts of tiles, with what is locked"));
            }
            self.feed()?;
            let mut logits: Vec<f32> = candidates
                .iter()
                .map(|(id, piece)| {
                    let nudge: f32 = piece.symbols.iter().map(|s| bias[usize::from(s & !ON_PATH)]).sum();
                    self.logits[*id as usize] + nudge
                })
                .collect();
            // What failed is tried again with a freer hand: else a model that knows its levels well copies on and on.
            let freer = 1.0 + FREER * self.failures.min(6) as f32;
            let sampling =
                Sampling { temperature: self.sampling.temperature * freer, ..self.sampling.clone() };
            let Some((chosen, _)) = sampling.sample(&mut logits, &[], &mut self.noise) else {
                self.undo(mark);
                return Ok(Err("a tile that may stand there"));
            };
            let (id, piece) = candidates[chosen as usize];
            slice.extend(&piece.symbols);
            tokens.push(id);
            self.pending.push(id);
        }
        if let Some(rule) = self.broken(&slice, at) {
            self.undo(mark);
            return Ok(Err(rule));
        }
        self.count(&slice, 1);
        self.marks.push(mark);
        self.tokens.push(tokens);
        Ok(Ok(slice))
    }

    /// Takes a slice back that was being written. What stood before it is in the cache then, or is still pending.
    fn undo(&mut self, mark: usize) {
        if self.cache.len() >= mark {
            self.cache.truncate(mark);
            self.pending.clear();
        } else {
            self.pending.truncate(mark - self.cache.len());
        }
    }

    /// Whether a piece is the image of what stands on the other side. What there may only be so many of has no image, and
    /// where it would have one anything may stand that is none of it.
    fn mirrors(&self, slice: &[u8], piece: &Piece, at: usize) -> bool {
        let few = |symbol: u8| {
            let mut counts = self.model.game.counts.iter();
            counts.any(|count| count.at_most != usize::MAX && self::counts(&self.model, count, symbol))
        };
        piece.symbols.iter().enumerate().all(|(n, symbol)| {
            let place = slice.len() + n;
            let image = if self.model.game.scan == Scan::Columns {
                self.plan.count.checked_sub(at + 1).and_then(|image| self.slices.get(image)?.get(place))
            } else {
                let image = self.plan.across - 1 - place;
                slice.get(image).or_else(|| piece.symbols.get(image.checked_sub(slice.len())?))
            };
            image.is_none_or(|image| symbol & !ON_PATH == image & !ON_PATH || few(*image) || few(*symbol))
        })
    }

    /// Whether a piece keeps the game's highest counts.
    fn within(&self, slice: &[u8], piece: &Piece) -> bool {
        self.model.game.counts.iter().zip(&self.counted).all(|(count, so_far)| {
            if count.at_most == usize::MAX {
                return true;
            }
            let of =
                |symbols: &[u8]| symbols.iter().filter(|symbol| counts(&self.model, count, **symbol)).count();
            let new = of(&piece.symbols);
            new == 0 || so_far + of(slice) + new <= count.at_most
        })
    }

    /// The rule that a new slice breaks.
    fn broken(&mut self, slice: &Slice, at: usize) -> Option<&'static str> {
        if let Some(most) = self.model.game.longest_copy {
            let mut run: Vec<Slice> = self.plan.before.clone();
            run.extend(self.slices.iter().cloned());
            run.push(slice.clone());
            let written = self.slices.len() + 1;
            if written > most
                && let Some(last) = run.len().checked_sub(most + 1)
                && self.model.copies.contains(&hash(&run[last..]))
            {
                return Some("no more slices than `longest_copy` are copied");
            }
        }
        let reach = self.reach.as_mut()?;
        let columns = self.plan.before.len() + at;
        reach.truncate(columns);
        reach.push(&slice_bits(slice, &self.bits));
        if !reach.alive() {
            reach.truncate(columns);
            return Some(super::FINISHABLE);
        }
        if at + 1 == self.plan.count {
            for slice in &self.plan.after {
                reach.push(&slice_bits(slice, &self.bits));
            }
            let finished = reach.finished();
            reach.truncate(columns + 1);
            if !finished {
                reach.truncate(columns);
                return Some(super::FINISHABLE);
            }
        }
        None
    }

    /// How much each tile is nudged, so that what is counted comes near to what was asked.
    fn bias(&self, at: usize) -> Vec<f32> {
        let model = &self.model;
        let mut bias = vec![0.0f32; model.game.tiles.len()];
        for (knob, range) in model.game.knobs.iter().zip(&model.ranges) {
            let (Some(value), Some(tiles)) = (self.plan.controls.get(&knob.name), knob.tiles(&model.game))
            else {
                continue;
            };
            let cells = (self.plan.count * self.plan.across) as f64;
            let mut whole = *value;
            if knob.per_slice {
                whole *= self.plan.count as f64;
            }
            if matches!(knob.measure, super::knob::Measure::Share(_)) {
                whole *= cells;
            }
            let is = |symbol: &&u8| tiles.contains(&(**symbol & !ON_PATH));
            let so_far = self.slices.iter().flatten().filter(is).count() as f64;
            let due = whole * (at as f64 + 0.5) / self.plan.count as f64;
            // In units of a tolerance of the whole, so that rare tiles are steered as well as common ones.
            let mut unit = range.tolerance();
            if knob.per_slice {
                unit *= self.plan.count as f64;
            }
            if matches!(knob.measure, super::knob::Measure::Share(_)) {
                unit *= cells;
            }
            let push = ((due - so_far) / (unit / 2.0).max(1.0)).clamp(-3.0, 3.0) as f32;
            // Common tiles come in long runs, each of which counts.
            let gentle = if whole / cells > 0.15 { 0.25 } else { 1.0 };
            tiles.iter().for_each(|tile| bias[usize::from(*tile)] += push * gentle);
        }
        bias
    }

    /// The rule that failed last.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

fn counts(model: &LevelModel, count: &Count, symbol: u8) -> bool {
    count.tiles.contains(model.game.char_of(symbol & !ON_PATH))
}

fn slice_bits(slice: &[u8], bits: &[u16]) -> Vec<u16> {
    slice.iter().map(|symbol| bits[usize::from(symbol & !ON_PATH)]).collect()
}
