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
use crate::seed::Stream;
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
    /// Bands that went together in the levels it learned from, by knob.
    pub(super) styles: Vec<Vec<Option<usize>>>,
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
            styles: listed("styles").iter().filter_map(|text| style(text, game.knobs.len())).collect(),
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

    /// Refuses slices of a length that it has not learned.
    pub(super) fn check_across(&self, across: usize) -> Result<()> {
        if self.across.contains(&across) {
            return Ok(());
        }
        let side = if self.game.scan == super::Scan::Columns { "rows" } else { "columns" };
        let known: Vec<String> = self.across.iter().map(usize::to_string).collect();
        let reason = format!("the model has not learned levels of {across} {side}");
        Err(Error::config("options", "--size", reason, format!("choose {} {side}", known.join(" or "))))
    }

    /// Turns knobs to a player's style: an axis at 0.5 leaves its knobs where they usually are.
    ///
    /// # Errors
    /// [`Error::Config`] for an axis that no taste of the game names, or a value outside 0 to 1.
    pub(super) fn turn_knobs(
        &self,
        style: &BTreeMap<String, f64>,
        controls: &mut BTreeMap<String, f64>,
    ) -> Result<()> {
        let mut wanted: BTreeMap<&str, f64> = BTreeMap::new();
        for (axis, value) in style {
            if !(0.0..=1.0).contains(value) {
                let reason = format!("`{axis}` = {value} is out of range");
                return Err(Error::config("options", "--style", reason, "choose 0 to 1"));
            }
            let tastes: Vec<_> = self.game.tastes.iter().filter(|taste| taste.axis == *axis).collect();
            if tastes.is_empty() {
                let known: Vec<&str> = self.game.tastes.iter().map(|taste| taste.axis.as_str()).collect();
                let reason = format!("the game has no taste for `{axis}`");
                let remedy =
                    if known.is_empty() { "write `tastes` into the game".into() } else { known.join(", ") };
                return Err(Error::config("options", "--style", reason, remedy));
            }
            for taste in tastes {
                *wanted.entry(&taste.knob).or_insert(0.5) += taste.weight * (value - 0.5);
            }
        }
        for (knob, share) in wanted {
            if let Some(range) = self.ranges.iter().find(|range| range.name == knob) {
                controls.entry(knob.to_owned()).or_insert_with(|| range.quantile(share));
            }
        }
        Ok(())
    }

    /// What is asked, with what is not asked as it went together with it in one of the levels it learned from: so levels
    /// differ from each other as those did.
    pub(super) fn in_style(&self, asked: &Asked, noise: &mut Stream) -> Asked {
        let fits = |style: &&Vec<Option<usize>>| {
            let mut knobs = self.names.iter().zip(style.iter());
            knobs.all(|(name, band)| asked.bands.get(name).is_none_or(|asked| Some(*asked) == *band))
        };
        let fitting: Vec<&Vec<Option<usize>>> = self.styles.iter().filter(fits).collect();
        let mut all = asked.clone();
        if let Some(style) = noise.pick(&fitting) {
            for (name, band) in self.names.iter().zip(style.iter()) {
                if let Some(band) = band {
                    all.bands.entry(name.clone()).or_insert(*band);
                }
            }
        }
        all
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

/// Bands as a card writes them.
fn style(text: &str, knobs: usize) -> Option<Vec<Option<usize>>> {
    let mut bands: Vec<Option<usize>> =
        text.split(' ').map(|band| band.parse().ok().filter(|band| *band < BANDS)).collect();
    // A knob that was added later had no bands.
    (bands.len() <= knobs).then(|| {
        bands.resize(knobs, None);
        bands
    })
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
