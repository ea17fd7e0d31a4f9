//! [`Endless`]: a level without an end, for a runner: columns leave for good while the writer is some columns ahead.

use super::game::Scan;
use super::generate::LevelRequest;
use super::model::LevelModel;
use super::slices::{ON_PATH, Slice};
use super::writer::{Plan, Writer};
use crate::error::{Error, Result};
use std::sync::Arc;

/// How far the writer stays ahead of what has left, in columns: what cannot be finished is seen and taken back in here.
const AHEAD: usize = 8;
/// How often the writer may go back for one call.
const BACK_OUTS: usize = 400;

/// Writes columns, as many as are wanted. From every column that left, a way leads on from the start; nothing that left
/// changes. Knobs are asked of the model only (a level without an end has no whole whose tiles could be counted).
pub struct Endless {
    writer: Writer,
    /// How many columns have left.
    left: usize,
}

impl Endless {
    /// A level that has not begun.
    ///
    /// # Errors
    /// [`Error::Config`] for a game that is not scanned by columns, and for what the model cannot serve.
    pub fn new(model: Arc<LevelModel>, request: &LevelRequest) -> Result<Self> {
        if model.game.scan != Scan::Columns {
            let reason = "the game is not scanned by columns";
            return Err(Error::config("options", "game", reason, "choose a game that scrolls sideways"));
        }
        let mut controls = request.controls.clone();
        model.turn_knobs(&request.style, &mut controls)?;
        let asked = model.asked(&controls, request.theme.as_deref())?;
        let across = request.size.map_or(model.usual_size().1, |(_, rows)| rows);
        model.check_across(across)?;
        let plan = Plan {
            across,
            count: usize::MAX >> 8,
            asked: model.in_style(&asked, &mut request.seed.derive("style").stream()),
            temperature: request.temperature,
            ..Plan::default()
        };
        let writer = Writer::new(model, plan, request.seed.derive("write"))?;
        Ok(Self { writer, left: 0 })
    }

    /// How many columns can leave now.
    pub fn ready(&self) -> usize {
        (self.writer.slices.len() - self.left).saturating_sub(AHEAD)
    }

    /// Writes a column, or takes some back that cannot be finished.
    ///
    /// # Errors
    /// [`Error::Unsatisfiable`] with the rule, when it went back too often. Calling again goes on.
    pub fn step(&mut self) -> Result<()> {
        self.writer.step().map(|_| ())
    }

    /// The next columns, each its tiles from the top; `count` of them.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn columns(&mut self, count: usize) -> Result<Vec<Vec<u8>>> {
        self.writer.allow(BACK_OUTS);
        while self.ready() < count {
            self.step()?;
        }
        Ok(self.take(count))
    }

    /// What is ready, at most `count` columns.
    pub fn take(&mut self, count: usize) -> Vec<Vec<u8>> {
        let count = count.min(self.ready());
        let tiles = |slice: &Slice| slice.iter().map(|symbol| symbol & !ON_PATH).collect();
        let columns = self.writer.slices[self.left..][..count].iter().map(tiles).collect();
        self.left += count;
        self.writer.keep(self.left);
        self.writer.allow(BACK_OUTS);
        columns
    }
}
