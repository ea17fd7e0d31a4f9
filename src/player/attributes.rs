//! [`Attributes`]: what things are like, so that one nobody has chosen yet can be ranked by those it resembles.

use super::model::{PlayerModel, PlayerState};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What things are like. RON: `{"iron sword": ["weapon", "iron"], "iron key": ["key", "iron"]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(pub BTreeMap<String, BTreeSet<String>>);

impl Attributes {
    /// Reads attributes. `file` is for messages.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        crate::files::parse_ron(text, file)
    }

    /// How alike two things are: the share of their attributes that both have (Jaccard).
    fn likeness(&self, a: &str, b: &str) -> f32 {
        let (Some(a), Some(b)) = (self.0.get(a), self.0.get(b)) else { return 0.0 };
        let (both, any) = (a.intersection(b).count(), a.union(b).count());
        both as f32 / any.max(1) as f32
    }

    /// How much a player is drawn to each of these, by name, as [`PlayerModel::affinities`]; what the model has not heard of
    /// is the mean of what it resembles, weighted by likeness. None: it resembles nothing known. The flag says that a figure
    /// is such a guess.
    pub fn affinities<'a>(
        &self,
        model: &PlayerModel,
        state: &PlayerState,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<Option<(f32, bool)>> {
        let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let logits = model.affinities(state, known.iter().copied());
        let guess = |name: &str| {
            let (mut sum, mut weights) = (0.0, 0.0);
            for (other, logit) in known.iter().zip(&logits) {
                if let Some(logit) = logit {
                    let weight = self.likeness(name, other);
                    sum += weight * logit;
                    weights += weight;
                }
            }
            (weights > 0.0).then(|| (sum / weights, true))
        };
        names
            .map(|name| match model.affinities(state, std::iter::once(name))[0] {
                Some(logit) => Some((logit, false)),
                None => guess(name),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_with_the_same_attributes_are_alike() {
        let text =
            r#"{"sword": ["weapon", "iron"], "axe": ["weapon", "iron"], "key": ["iron"], "rope": ["hemp"]}"#;
        let all = Attributes::from_ron(text, "a.ron").unwrap();
        assert!(all.likeness("sword", "axe") > all.likeness("sword", "key"));
        assert!(all.likeness("sword", "key") > 0.0 && all.likeness("sword", "rope") == 0.0);
        assert_eq!(all.likeness("sword", "never described"), 0.0);
        assert!(Attributes::from_ron("{1: 2}", "a.ron").unwrap_err().to_string().contains("a.ron:1"));
    }
}
