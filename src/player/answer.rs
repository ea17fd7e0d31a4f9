//! [`Task`]: what a player model is asked, and what the right answer was.

use super::histories::{Histories, History};
use super::source::Split;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// What a player model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Task {
    /// What comes next.
    Next {
        /// How many players are validated on, the first ones; 0: all.
        #[serde(default)]
        validation_players: usize,
        /// How much the other tokens of an event count (what it is about counts 1).
        #[serde(default = "other")]
        other_weight: f32,
        /// What is left for validation and test.
        #[serde(default)]
        split: Split,
    },
    /// Whether a player leaves, and what comes next beside. Fold 0 of the players (or a fifth of them) is left for the test,
    /// an eighth of the others for validation.
    Churn(ChurnTask),
}

fn other() -> f32 {
    0.2
}

/// Whether a player leaves: they are watched for a while from their first event, and have left if nothing is heard of them
/// in the time after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChurnTask {
    /// Days a player is watched.
    pub observe_days: f64,
    /// Days in which they come back or not.
    pub outcome_days: f64,
    /// How much predicting the events counts (the answer counts 1).
    #[serde(default = "other")]
    pub event_weight: f32,
    /// How often in training a player is watched for another time, drawn from a fifth of it to twice as long.
    #[serde(default)]
    pub vary: f32,
}

impl Task {
    /// Refuses what makes no sense, naming the field.
    pub fn validate(&self, file: &str) -> Result<()> {
        let share = |value: f32| (0.0..=1.0).contains(&value);
        let days = |value: f64| value > 0.0 && value <= 3650.0;
        let rules = match *self {
            Self::Next { other_weight, split, .. } => vec![
                ("task.other_weight", share(other_weight), "0 to 1"),
                ("task.split", split.holds(), "0 < learned < test < 1"),
            ],
            Self::Churn(churn) => vec![
                ("task.observe_days", days(churn.observe_days), "above 0, at most 3650"),
                ("task.outcome_days", days(churn.outcome_days), "above 0, at most 3650"),
                ("task.event_weight", share(churn.event_weight), "0 to 1"),
                ("task.vary", share(churn.vary), "0 to 1"),
            ],
        };
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => {
                Err(Error::config(file, *field, "the value is out of range", format!("choose {range}")))
            }
            None => Ok(()),
        }
    }
}

/// A player who was watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Watched {
    /// Events within the observation.
    pub(super) events: usize,
    /// When it ended.
    pub(super) until_ms: i64,
    /// Whether nothing was heard of them afterwards.
    pub(super) left: bool,
}

impl ChurnTask {
    /// What became of a player who was watched for `days`. Nothing if the log, which ends at `end_ms`, cannot tell.
    pub(super) fn watch(&self, history: &History, days: f64, end_ms: i64) -> Option<Watched> {
        let first = history.events.iter().map(|event| event.at_ms).min()?;
        let until_ms = first.saturating_add((days * DAY_MS as f64) as i64);
        let outcome = until_ms.saturating_add((self.outcome_days * DAY_MS as f64) as i64);
        if outcome > end_ms {
            return None;
        }
        let events = history.events.iter().take_while(|event| event.at_ms < until_ms).count();
        let back = history.events.iter().any(|event| (until_ms..outcome).contains(&event.at_ms));
        Some(Watched { events, until_ms, left: !back })
    }
}

/// When a log ends.
pub(super) fn end_of(histories: &Histories) -> i64 {
    let times = histories.players.iter().flat_map(|history| &history.events).map(|event| event.at_ms);
    times.max().unwrap_or(i64::MIN)
}

/// Which part of a churn evaluation a player is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChurnPart {
    Train,
    Validation,
    Test,
}

/// The part of each player: test players by the fold of the import, or else every fifth; every eighth of the others is for
/// validation.
pub(super) fn churn_parts(histories: &Histories) -> Vec<ChurnPart> {
    let mut others = 0;
    let part = |(at, history): (usize, &History)| {
        if history.fold.map_or(at % 5 == 4, |fold| fold == 0) {
            return ChurnPart::Test;
        }
        others += 1;
        if others % 8 == 0 { ChurnPart::Validation } else { ChurnPart::Train }
    };
    histories.players.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::Event;

    #[test]
    fn a_player_has_left_if_nothing_is_heard_in_the_outcome_window() {
        let task = ChurnTask { observe_days: 5.0, outcome_days: 10.0, event_weight: 0.1, vary: 0.0 };
        let at = |days: &[f64]| History {
            events: days
                .iter()
                .map(|day| Event {
                    at_ms: (day * DAY_MS as f64) as i64,
                    kind: 0,
                    subject: None,
                    value: None,
                    word: None,
                })
                .collect(),
            ..History::default()
        };
        let end = 20 * DAY_MS;
        let watched = task.watch(&at(&[1.0, 2.0, 5.99]), 5.0, end).unwrap();
        assert_eq!((watched.events, watched.until_ms, watched.left), (3, 6 * DAY_MS, true));
        assert!(!task.watch(&at(&[1.0, 15.9]), 5.0, end).unwrap().left);
        assert!(task.watch(&at(&[1.0, 16.0]), 5.0, end).unwrap().left);
        assert!(task.watch(&at(&[5.1]), 5.0, end).is_none(), "the log ends before the outcome");
        assert!(task.watch(&History::default(), 5.0, end).is_none());
    }
}
