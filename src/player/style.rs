//! How a player plays: axes named by the designer, clusters of players with summaries one can read, and a monitor for drift.

use super::histories::{Histories, History};
use crate::error::{Error, Result};
use crate::seed::{Seed, Stream};
use serde::{Deserialize, Serialize};

/// The axes of style, as a designer writes them. RON; unknown fields are refused with their line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StyleAxes {
    /// The axes.
    pub axes: Vec<Axis>,
}

/// An axis of style: which share of what a player does feeds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// Its name ("fighter").
    pub name: String,
    /// What feeds it.
    pub fed_by: Vec<Feed>,
}

/// A kind of events that feeds an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// The kind of events.
    pub kind: String,
    /// Only those about this. None: all.
    #[serde(default)]
    pub subject: Option<String>,
    /// How much each counts; below 0 for what speaks against it.
    #[serde(default = "one")]
    pub weight: f32,
}

fn one() -> f32 {
    1.0
}

impl StyleAxes {
    /// Reads axes. `file` is for messages.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let axes: Self = crate::files::parse_ron(text, file)?;
        for axis in &axes.axes {
            if axis.fed_by.is_empty() || axis.fed_by.iter().any(|feed| !feed.weight.is_finite()) {
                let reason = format!("nothing feeds the axis `{}`, or a weight is no number", axis.name);
                return Err(Error::config(file, "axes.fed_by", reason, "name kinds of events"));
            }
        }
        Ok(axes)
    }

    /// A player's place on each axis, -1 to 1: the weighted share of their events that feed it, 0 for who did nothing.
    pub fn of(&self, history: &History, histories: &Histories) -> Vec<f32> {
        let feeds = |feed: &Feed, event: &super::Event| {
            histories.kinds[event.kind as usize] == feed.kind
                && feed.subject.as_ref().is_none_or(|name| {
                    event.subject.is_some_and(|subject| histories.subjects[subject as usize] == *name)
                })
        };
        let total = history.events.len().max(1) as f32;
        let place = |axis: &Axis| {
            let each = history.events.iter().map(|event| {
                axis.fed_by.iter().filter(|feed| feeds(feed, event)).map(|feed| feed.weight).sum::<f32>()
            });
            (each.sum::<f32>() / total).clamp(-1.0, 1.0)
        };
        self.axes.iter().map(place).collect()
    }
}

/// Players in groups of like ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// The middle of each.
    pub centres: Vec<Vec<f32>>,
    /// The group of each player.
    pub members: Vec<usize>,
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

impl Clusters {
    /// Groups rows of equally many numbers into at most `k` (k-means++, Arthur and Vassilvitskii 2007; the best of 16 tries).
    pub fn of(rows: &[Vec<f32>], k: usize, seed: Seed) -> Self {
        let k = k.clamp(1, rows.len().max(1));
        let tries = (0..16).map(|at| once(rows, k, &mut seed.derive_index(at).stream()));
        let best = tries.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(clusters, _)| clusters);
        best.unwrap_or(Self { centres: Vec::new(), members: Vec::new() })
    }

    /// What makes a group itself, in words: where its middle is farthest from that of all ("much slay, little talk").
    pub fn summary(&self, cluster: usize, names: &[&str]) -> String {
        let Some(centre) = self.centres.get(cluster) else { return String::new() };
        let n = self.centres.len() as f32;
        let mean = |at: usize| self.centres.iter().map(|centre| centre[at]).sum::<f32>() / n;
        let mut differences: Vec<(f32, &str)> = names
            .iter()
            .enumerate()
            .take(centre.len())
            .map(|(at, name)| (centre[at] - mean(at), *name))
            .collect();
        differences.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        let told = differences.iter().take(3).filter(|(difference, _)| difference.abs() > 0.02);
        let words: Vec<String> =
            told.map(|(d, name)| format!("{} {name}", if *d > 0.0 { "much" } else { "little" })).collect();
        if words.is_empty() { "as most".to_owned() } else { words.join(", ") }
    }
}

fn once(rows: &[Vec<f32>], k: usize, dice: &mut Stream) -> (Clusters, f64) {
    let Some(first) = dice.pick(rows) else {
        return (Clusters { centres: Vec::new(), members: Vec::new() }, 0.0);
    };
    let mut centres = vec![first.clone()];
    while centres.len() < k {
        let far = |row: &Vec<f32>| {
            centres.iter().map(|centre| f64::from(apart(row, centre))).fold(f64::INFINITY, f64::min)
        };
        let weights: Vec<f64> = rows.iter().map(far).collect();
        let mut at = dice.uniform_f64() * weights.iter().sum::<f64>();
        let chosen = weights.iter().position(|weight| {
            at -= weight;
            at < 0.0
        });
        centres.push(rows[chosen.unwrap_or(0)].clone());
    }
    let mut members = vec![usize::MAX; rows.len()];
    let mut cost = 0.0;
    for _ in 0..100 {
        let mut moved = false;
        cost = 0.0;
        for (row, member) in rows.iter().zip(&mut members) {
            let by = |a: &usize, b: &usize| apart(row, &centres[*a]).total_cmp(&apart(row, &centres[*b]));
            let nearest = (0..k).min_by(by).unwrap_or(0);
            cost += f64::from(apart(row, &centres[nearest]));
            moved |= *member != nearest;
            *member = nearest;
        }
        if !moved {
            break;
        }
        for (at, centre) in centres.iter_mut().enumerate() {
            let own: Vec<&Vec<f32>> =
                rows.iter().zip(&members).filter(|(_, member)| **member == at).map(|(row, _)| row).collect();
            if own.is_empty() {
                continue;
            }
            for (i, value) in centre.iter_mut().enumerate() {
                *value = own.iter().map(|row| row[i]).sum::<f32>() / own.len() as f32;
            }
        }
    }
    (Clusters { centres, members }, cost)
}

/// How far two samples of one figure have drifted apart: the population stability index over ten bins at the quantiles of
/// the reference, shares floored at 1e-4. Below 0.1: none; above 0.25: what was learned no longer fits. Nothing for an empty
/// sample.
pub fn drift(reference: &[f32], now: &[f32]) -> Option<f64> {
    const BINS: usize = 10;
    let mut sorted: Vec<f32> = reference.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    if sorted.is_empty() || now.is_empty() {
        return None;
    }
    let mut edges: Vec<f32> = (1..BINS).map(|n| sorted[n * sorted.len() / BINS]).collect();
    edges.dedup();
    let shares = |values: &[f32]| {
        let mut counts = vec![0.0; edges.len() + 1];
        values.iter().for_each(|value| counts[edges.partition_point(|edge| edge <= value)] += 1.0);
        let total: f64 = counts.iter().sum();
        counts.into_iter().map(|count| (count / total).max(1e-4)).collect::<Vec<f64>>()
    };
    let (was, is) = (shares(&sorted), shares(now));
    Some(was.iter().zip(&is).map(|(was, is)| (is - was) * (is / was).ln()).sum())
}

#[cfg(test)]
mod tests {
    use super::super::histories::tests::store;
    use super::*;
    use crate::player::EventView;

    #[test]
    fn axes_are_shares_of_what_was_done() {
        let (_dir, path) = store("a Fought wolf 1\na Fought rat 2\na Talked mira 3\na Walked mill 4\n");
        let histories = Histories::read(&[path], &EventView::default()).unwrap();
        let axes = StyleAxes::from_ron(
            r#"(axes: [(name: "fighter", fed_by: [(kind: "Fought"), (kind: "Talked", weight: -1)]),
                       (name: "wolf hunter", fed_by: [(kind: "Fought", subject: "wolf")])])"#,
            "s",
        )
        .unwrap();
        assert_eq!(axes.of(&histories.players[0], &histories), [0.25, 0.25]);
        assert_eq!(axes.of(&History::default(), &histories), [0.0, 0.0]);
        let error = StyleAxes::from_ron(r#"(axes: [(name: "x", fed_by: [])])"#, "s").unwrap_err().to_string();
        assert!(error.contains("`x`"), "{error}");
    }

    #[test]
    fn groups_are_found_and_told_apart_in_words() {
        let mut dice = Seed::new(1).stream();
        let rows: Vec<Vec<f32>> = (0..90)
            .map(|n| (0..3).map(|at| f32::from(u8::from(n % 3 == at)) + 0.1 * dice.normal()).collect())
            .collect();
        let clusters = Clusters::of(&rows, 3, Seed::new(2));
        assert!((0..90).all(|n| clusters.members[n] == clusters.members[n % 3]));
        let summary = clusters.summary(clusters.members[0], &["fight", "talk", "walk"]);
        assert!(summary.contains("much fight") && summary.contains("little"), "{summary}");
        assert!(Clusters::of(&[], 3, Seed::new(2)).members.is_empty());
    }

    #[test]
    fn drift_is_none_for_the_same_and_large_for_another() {
        let mut dice = Seed::new(1).stream();
        let mut draw = |shift: f32| -> Vec<f32> { (0..4000).map(|_| dice.normal() + shift).collect() };
        let (a, b, c) = (draw(0.0), draw(0.0), draw(1.0));
        assert!(drift(&a, &b).unwrap() < 0.02 && drift(&a, &c).unwrap() > 0.5);
        assert!(drift(&[], &a).is_none() && drift(&[1.0; 5], &[1.0; 5]).unwrap().abs() < 1e-9);
    }
}
