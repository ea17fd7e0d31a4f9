//! How a level is written for the model: what is asked of it in front, then slice after slice, each behind a token that
//! says how many are left.
//!
//! `<bos> <across:14> <knob:enemies:3> <theme:any> <begin> <more> 0|--- 3|-XX <more> ..  <left:0> .. <eos>`. To fill a gap,
//! what stands behind it and before it comes first (Bavarian et al. 2022, "Efficient training of language models to fill in
//! the middle").

use super::pieces::Pieces;
use super::slices::Slice;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Levels of so many bands are told apart on each knob.
pub(super) const BANDS: usize = 8;
/// So many slices before the end the model is told how many are left.
pub(super) const COUNTED: usize = 16;
/// So many slices on each side of a gap are looked at.
pub(super) const AROUND: usize = 12;

pub(super) const BEGIN: &str = "<begin>";
pub(super) const MORE: &str = "<more>";
pub(super) const FILL: &str = "<fill>";
pub(super) const BEFORE: &str = "<before>";
pub(super) const GAP: &str = "<gap>";

/// The values a knob had in the levels a model learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// The knob.
    pub name: String,
    /// Its quantiles: where its bands begin and end. The first and the last leave out the most extreme hundredth.
    pub quantiles: Vec<f64>,
}

impl Range {
    /// Of values, in any order.
    pub(super) fn of(name: &str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get(((values.len() - 1) as f64 * share).round() as usize).copied();
        let quantiles = if values.is_empty() {
            vec![0.0; BANDS + 1]
        } else {
            (0..=BANDS).filter_map(|i| at((i as f64 / BANDS as f64).clamp(0.01, 0.99))).collect()
        };
        Self { name: name.to_owned(), quantiles }
    }

    /// The band of a value: how many inner quantiles it is above.
    pub(super) fn band(&self, value: f64) -> usize {
        self.quantiles[1..self.quantiles.len() - 1].iter().filter(|quantile| value > **quantile).count()
    }

    /// The value that this share of the levels is below, 0 to 1.
    pub fn quantile(&self, share: f64) -> f64 {
        let at = share.clamp(0.0, 1.0) * (self.quantiles.len() - 1) as f64;
        let (low, part) = (at as usize, at.fract());
        let next = self.quantiles[(low + 1).min(self.quantiles.len() - 1)];
        self.quantiles[low] + part * (next - self.quantiles[low])
    }

    /// The least and the greatest value usually seen.
    pub fn ends(&self) -> (f64, f64) {
        (self.quantiles[0], self.quantiles[self.quantiles.len() - 1])
    }

    /// How far a level may be from what was asked of it: half of a fifth of the range.
    pub fn tolerance(&self) -> f64 {
        let (low, high) = self.ends();
        (high - low) / 10.0
    }

    pub(super) fn to_strings(&self) -> Vec<String> {
        self.quantiles.iter().map(f64::to_string).collect()
    }

    pub(super) fn from_strings(name: &str, texts: &[String]) -> Result<Self> {
        let quantiles: Option<Vec<f64>> =
            texts.iter().map(|text| text.parse().ok().filter(|v: &f64| v.is_finite())).collect();
        let quantiles = quantiles.filter(|quantiles| quantiles.len() == BANDS + 1);
        quantiles.map(|quantiles| Self { name: name.to_owned(), quantiles }).ok_or_else(|| {
            let reason = format!("the bands of the knob `{name}` are not {} numbers", BANDS + 1);
            Error::config("skald.ron", "conditioning", reason, "copy the whole checkpoint again")
        })
    }
}

/// The control tokens of a vocabulary.
pub(super) fn specials(across: &[usize], knobs: &[String], themes: &[String]) -> Vec<String> {
    let mut all: Vec<String> = [BEGIN, MORE, FILL, BEFORE, GAP].map(str::to_owned).into();
    all.extend((0..COUNTED).map(|left| format!("<left:{left}>")));
    all.extend(across.iter().map(|across| format!("<across:{across}>")));
    for knob in knobs {
        all.push(format!("<knob:{knob}:any>"));
        all.extend((0..BANDS).map(|band| format!("<knob:{knob}:{band}>")));
    }
    all.push("<theme:any>".into());
    all.extend(themes.iter().map(|theme| format!("<theme:{theme}>")));
    all
}

/// What is asked of a level.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Bands by knob; what is not there may be any.
    pub bands: BTreeMap<String, usize>,
    pub theme: Option<String>,
}

/// Writes sequences.
pub(super) struct Scribe<'a> {
    pub pieces: &'a Pieces,
    pub knobs: &'a [String],
}

impl Scribe<'_> {
    fn token(&self, name: &str, out: &mut Vec<u32>) {
        out.extend(self.pieces.special(name));
    }

    /// What stands in front.
    pub fn head(&self, across: usize, asked: &Asked, out: &mut Vec<u32>) {
        self.token("<bos>", out);
        self.token(&format!("<across:{across}>"), out);
        for knob in self.knobs {
            let band = asked.bands.get(knob).map_or_else(|| "any".to_owned(), usize::to_string);
            self.token(&format!("<knob:{knob}:{band}>"), out);
        }
        self.token(&format!("<theme:{}>", asked.theme.as_deref().unwrap_or("any")), out);
    }

    /// What stands in front of a gap: what comes behind it, then what comes before it.
    pub fn around(&self, before: &[Slice], after: &[Slice], out: &mut Vec<u32>) {
        self.token(FILL, out);
        for slice in &after[..after.len().min(AROUND)] {
            self.token(MORE, out);
            self.pieces.encode(slice, None, out);
        }
        self.token(BEFORE, out);
        for slice in &before[before.len().saturating_sub(AROUND)..] {
            self.token(MORE, out);
            self.pieces.encode(slice, None, out);
        }
        self.token(GAP, out);
    }

    /// The token before a slice, when so many come after it.
    pub fn countdown(&self, left: usize) -> Option<u32> {
        if left < COUNTED {
            self.pieces.special(&format!("<left:{left}>"))
        } else {
            self.pieces.special(MORE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_hold_equally_many_and_survive_their_text() {
        let range = Range::of("x", (0..800).map(f64::from).collect());
        let mut counts = [0; BANDS];
        (0..800).for_each(|v| counts[range.band(f64::from(v))] += 1);
        assert!(counts.iter().all(|n| (95..=105).contains(n)), "{counts:?}");
        assert!((range.quantile(0.5) - 400.0).abs() < 2.0 && range.quantile(2.0) == range.ends().1);
        assert_eq!(Range::from_strings("x", &range.to_strings()).unwrap(), range);
        assert!(Range::from_strings("x", &["nan".into()]).is_err());
        assert_eq!(Range::of("none", Vec::new()).band(3.0), BANDS - 1);
    }
}
