//! [`PlayerProfile`]: what is known of a player now.

use super::model::{Happened, PlayerModel, PlayerState};
use crate::error::Result;

/// What is known of a player now. Kept up to date by the plugin, or by [`Self::update`] in any other engine.
#[cfg_attr(feature = "bevy", derive(bevy::prelude::Component))]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlayerProfile {
    /// How many events it rests on.
    pub events: u64,
    /// How little is known, 1 (nothing) towards 0. Stands beside every figure.
    pub uncertainty: f32,
    /// How likely the player leaves within the horizon that the model was trained for. None: it was not.
    pub churn_risk: Option<f32>,
    /// What comes next most likely, with probabilities, the likeliest first; at most eight.
    pub next: Vec<(String, f32)>,
}

/// How many next events a profile tells.
const NEXT: usize = 8;

impl PlayerProfile {
    /// Takes in an event: one step of the model.
    ///
    /// # Errors
    /// Only for a damaged model; what it has not heard of is unknown, not an error.
    pub fn update(
        &mut self,
        model: &PlayerModel,
        state: &mut PlayerState,
        happened: &Happened<'_>,
    ) -> Result<()> {
        model.observe(state, happened)?;
        self.events = state.events();
        self.uncertainty = state.uncertainty();
        self.churn_risk = model.churn_risk(state, happened.at_ms)?;
        self.next.clear();
        let mut best = Vec::with_capacity(NEXT + 1);
        model.likeliest(state, NEXT, &mut best);
        let named = |(token, p): (u32, f32)| Some((model.vocabulary().subject_name(token)?, p));
        self.next.extend(best.into_iter().filter_map(named));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::histories::tests::store;
    use super::super::training::tests::CONFIG;
    use super::*;
    use crate::job;
    use crate::nn::Compute;
    use crate::player::PlayerTraining;
    use crate::training::Fit;

    #[test]
    fn a_profile_follows_event_by_event_whatever_happens() {
        let mut rows = String::new();
        for player in 0..40 {
            for step in 0..8 {
                rows.push_str(&format!("p{player} Took i{} {step}\n", (player + step) % 5));
            }
        }
        let (_dir, path) = store(&rows);
        let out = tempfile::tempdir().unwrap();
        let setup = PlayerTraining::from_ron(CONFIG, "c").unwrap().prepare(&[path]).unwrap();
        job::run(Fit::new(setup, out.path(), &Compute::cpu(1)).unwrap(), |_| ()).unwrap();
        let model = PlayerModel::load(out.path()).unwrap();
        let (mut state, mut profile) = (model.begin().unwrap(), PlayerProfile::default());
        let mut tell = |kind: &str, subject: Option<&str>, at_ms: i64| {
            let happened = Happened { kind, subject, value: None, word: None, at_ms };
            profile.update(&model, &mut state, &happened).unwrap();
            profile.clone()
        };
        let one = tell("Took", Some("i2"), 5);
        assert_eq!((one.events, one.next[0].0.as_str(), one.churn_risk), (1, "i3", None));
        assert!(one.next.iter().map(|(_, p)| p).sum::<f32>() < 1.001 && one.uncertainty < 1.0);
        // A kind and a thing nobody has heard of, nothing at all, and a clock that was set back.
        tell("Slept", Some("nowhere"), 6);
        tell("Took", None, 7);
        tell("Took", Some("i3"), -100);
        assert_eq!(tell("Took", Some("i0"), 9).next[0].0, "i1");
        // Many more events than the context holds: what is remembered stays bounded, and it still knows what comes next.
        for at in 0..500 {
            let profile = tell("Took", Some(&format!("i{}", at % 5)), 10 + at);
            assert_eq!(profile.next[0].0, format!("i{}", (at + 1) % 5), "{at}");
        }
        assert_eq!(state.events(), 505);
        // A thing nobody has chosen yet is as attractive as what it is like.
        let text = r#"{"i0": ["a"], "i1": ["b"], "new": ["a"]}"#;
        let attributes = crate::player::Attributes::from_ron(text, "a").unwrap();
        let drawn = attributes.affinities(&model, &state, ["i0", "new", "unlike"].into_iter());
        assert_eq!((drawn[0].unwrap().0, drawn[2]), (drawn[1].unwrap().0, None));
        assert!(!drawn[0].unwrap().1 && drawn[1].unwrap().1);
    }
}
