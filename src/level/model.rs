//! [`LevelModel`]: a checkpoint that writes levels: the game, the vocabulary, what can be asked, the network.

use super::difficulty::Completion;
use super::game::TileGame;
use super::knob::{Knob, Measure};
use super::pieces::Pieces;
use super::sequence::{Asked, BANDS, Range};
use super::training::DOMAIN;
use crate::decode::LoadedModel;
use crate::error::{Error, Result};
use crate::model::{Card, Checkpoint, Decoder};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A model that writes levels. Immutable; share it in an `Arc`.
pub struct LevelModel {
    pub(super) game: TileGame,
    /// The game with easy jumps, for levels written from nothing.
    pub(super) eased: TileGame,
    pub(super) pieces: Pieces,
    pub(super) names: Vec<String>,
    pub(super) ranges: Vec<Range>,
    pub(super) themes: Vec<String>,
    /// The lengths of slices it learned.
    pub(super) across: Vec<usize>,
    /// The fewest, the middle and the most slices of its levels.
    pub(super) slices: [usize; 3],
    loaded: Arc<LoadedModel>,
    /// Hashes of runs of slices that may not be copied.
    pub(super) copies: HashSet<u64>,
    /// Hashes of the levels it learned from.
    pub(super) known: HashSet<u64>,
}

impl LevelModel {
    /// Reads a checkpoint directory.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::new(&Checkpoint::load(dir)?)
    }

    /// Lays a checkpoint out.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        Self::of(Arc::new(LoadedModel::new(checkpoint)?))
    }

    /// Of a model that is loaded.
    ///
    /// # Errors
    /// [`Error::Config`] when it is no model of levels, or its card is damaged.
    pub fn of(loaded: Arc<LoadedModel>) -> Result<Self> {
        let card = &loaded.card;
        let wrong =
            |reason: String, remedy: &str| Err(Error::config("skald.ron", "conditioning", reason, remedy));
        if card.domain != DOMAIN {
            let reason = format!("this is a model of `{}`, not of levels", card.domain);
            return Err(Error::config("skald.ron", "domain", reason, "give what `skald train level` made"));
        }
        let listed = |name: &str| card.conditioning.get(name).map_or(&[][..], Vec::as_slice);
        let Some(text) = listed("game").first() else {
            return wrong("the game is missing".into(), "copy the whole checkpoint again");
        };
        let game = TileGame::from_ron(text, "skald.ron (game)")?;
        let mut ranges = Vec::new();
        for knob in &game.knobs {
            ranges.push(Range::from_strings(&knob.name, listed(&format!("knob {}", knob.name)))?);
        }
        let numbers =
            |name: &str| -> Vec<usize> { listed(name).iter().filter_map(|n| n.parse().ok()).collect() };
        let hashes =
            |name: &str| listed(name).iter().filter_map(|h| u64::from_str_radix(h, 16).ok()).collect();
        let (across, slices) = (numbers("across"), numbers("slices"));
        let (Some(slices), false) = (slices.try_into().ok(), across.is_empty()) else {
            return wrong("the sizes of levels are missing".into(), "copy the whole checkpoint again");
        };
        let pieces = Pieces::from_tokenizer(&loaded.tokenizer, &game)?;
        if let Some(missing) = across.iter().find(|n| **n == 0 || **n > pieces.across()) {
            return wrong(format!("no slice of {missing} can be written"), "copy the whole checkpoint again");
        }
        Ok(Self {
            names: game.knobs.iter().map(|knob| knob.name.clone()).collect(),
            themes: listed("theme").to_vec(),
            copies: hashes("copies"),
            known: hashes("levels"),
            eased: game.eased(),
            game,
            pieces,
            ranges,
            across,
            slices,
            loaded,
        })
    }

    /// The network.
    pub(super) fn decoder(&self) -> &Decoder {
        &self.loaded.decoder
    }

    /// The game it writes levels of.
    pub fn game(&self) -> &TileGame {
        &self.game
    }

    /// What can be asked, and between which values.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The themes it knows.
    pub fn themes(&self) -> &[String] {
        &self.themes
    }

    /// Where it came from.
    pub fn card(&self) -> &Card {
        &self.loaded.card
    }

    /// The usual width and height of its levels.
    pub fn usual_size(&self) -> (usize, usize) {
        let across = self.across[self.across.len() / 2];
        if self.game.scan == super::Scan::Columns {
            (self.slices[1], across)
        } else {
            (across, self.slices[1])
        }
    }

    /// The band tokens of what is asked.
    ///
    /// # Errors
    /// [`Error::Config`] for a knob or theme it does not have, or a value no level had.
    pub(super) fn asked(&self, controls: &BTreeMap<String, f64>, theme: Option<&str>) -> Result<Asked> {
        let mut asked = Asked::default();
        for (name, value) in controls {
            let Some(range) = self.ranges.iter().find(|range| range.name == *name) else {
                let reason = format!("the knob `{name}` is unknown");
                let remedy = format!("choose one of: {}", self.names.join(", "));
                return Err(Error::config("options", "--control", reason, remedy));
            };
            let (low, high) = range.ends();
            let slack = range.tolerance();
            if !value.is_finite() || *value < low - slack || *value > high + slack {
                let reason = format!("`{name}` = {value} is out of range");
                return Err(Error::config("options", "--control", reason, format!("choose {low} to {high}")));
            }
            asked.bands.insert(name.clone(), range.band(*value));
        }
        if let Some(theme) = theme {
            if !self.themes.iter().any(|known| known == theme) {
                let known =
                    if self.themes.is_empty() { "it learned none".into() } else { self.themes.join(", ") };
                let reason = format!("the theme `{theme}` is unknown");
                return Err(Error::config("options", "--theme", reason, format!("choose one of: {known}")));
            }
            asked.theme = Some(theme.to_owned());
        }
        Ok(asked)
    }
}

/// A checkpoint with the knob `difficulty`: the share of players who would finish a level, 0 to 1.
pub fn with_difficulty(checkpoint: &Checkpoint, completion: Completion) -> Result<Checkpoint> {
    let mut game = LevelModel::new(checkpoint)?.game;
    let name = "difficulty";
    game.knobs.retain(|knob| knob.name != name);
    game.knobs.push(Knob { name: name.into(), measure: Measure::Completion(completion), per_slice: false });
    let mut changed = checkpoint.clone();
    // Any share may be asked; how near a level comes says its report.
    let shares = (0..=BANDS).map(|n| n as f64 / BANDS as f64).collect();
    let range = Range { name: name.into(), quantiles: shares };
    changed.card.conditioning.insert("game".into(), vec![game.to_ron()?]);
    changed.card.conditioning.insert(format!("knob {name}"), range.to_strings());
    Ok(changed)
}
