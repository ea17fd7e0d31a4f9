//! What stands beside a next-event model: popularity, a first-order Markov chain, sequence-kNN.

use crate::seed::Seed;
use std::collections::HashMap;

/// What scores every subject for what comes next. Subjects are numbered from 0.
pub(super) trait Baseline: Sync {
    /// Scores after a history, the newest last, into `scores`, which are all 0.
    fn score(&self, history: &[u32], scores: &mut [f32]);
}

/// Scores that have nothing to do with anything, the same for the same history.
pub(super) struct Guessing;

impl Baseline for Guessing {
    fn score(&self, history: &[u32], scores: &mut [f32]) {
        let bytes: Vec<u8> = history.iter().flat_map(|subject| subject.to_le_bytes()).collect();
        let mut dice = Seed::new(0).derive(&blake3::hash(&bytes).to_hex()).stream();
        scores.iter_mut().for_each(|score| *score = dice.uniform());
    }
}

/// How often each subject was chosen in training.
pub(super) struct Popularity(pub(super) Vec<f32>);

impl Popularity {
    pub(super) fn new(training: &[Vec<u32>], subjects: usize) -> Self {
        let mut counts = vec![0.0; subjects];
        training.iter().flatten().for_each(|subject| counts[*subject as usize] += 1.0);
        Self(counts)
    }
}

impl Baseline for Popularity {
    fn score(&self, _: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.0);
    }
}

/// How often each subject came right after the last one; what never did is ranked by popularity.
pub(super) struct Markov {
    next: HashMap<u32, Vec<(u32, f32)>>,
    /// Popularity as a share of all, below any count.
    popularity: Vec<f32>,
}

impl Markov {
    pub(super) fn new(training: &[Vec<u32>], popularity: &Popularity) -> Self {
        let mut counts: HashMap<u32, HashMap<u32, f32>> = HashMap::new();
        for pair in training.iter().flat_map(|history| history.windows(2)) {
            *counts.entry(pair[0]).or_default().entry(pair[1]).or_default() += 1.0;
        }
        let sorted = |counts: HashMap<u32, f32>| {
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_unstable_by_key(|(subject, _)| *subject);
            counts
        };
        let total: f32 = popularity.0.iter().sum::<f32>().max(1.0);
        Self {
            next: counts.into_iter().map(|(from, counts)| (from, sorted(counts))).collect(),
            popularity: popularity.0.iter().map(|count| 0.5 * count / total).collect(),
        }
    }
}

impl Baseline for Markov {
    fn score(&self, history: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.popularity);
        let next = history.last().and_then(|last| self.next.get(last));
        for (subject, count) in next.into_iter().flatten() {
            scores[*subject as usize] += count;
        }
    }
}

/// What the players chose who are most like this one (sequence-kNN; Jannach and Ludewig 2017): players who share subjects,
/// the newest of which count most, vote for what they chose.
pub(super) struct Neighbours {
    training: Vec<Vec<u32>>,
    /// Who chose a subject.
    players: HashMap<u32, Vec<u32>>,
    popularity: Vec<f32>,
    /// How many vote.
    k: usize,
}

impl Neighbours {
    pub(super) fn new(training: &[Vec<u32>], popularity: &Popularity) -> Self {
        let mut players: HashMap<u32, Vec<u32>> = HashMap::new();
        for (player, history) in (0u32..).zip(training) {
            for subject in history {
                let list = players.entry(*subject).or_default();
                if list.last() != Some(&player) {
                    list.push(player);
                }
            }
        }
        let total: f32 = popularity.0.iter().sum::<f32>().max(1.0);
        let popularity = popularity.0.iter().map(|count| 1e-4 * count / total).collect();
        Self { training: training.to_vec(), players, popularity, k: 500 }
    }
}

impl Baseline for Neighbours {
    fn score(&self, history: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.popularity);
        let mut alike: HashMap<u32, f32> = HashMap::new();
        for (age, subject) in history.iter().rev().take(50).enumerate() {
            let weight = 1.0 / (1 + age) as f32;
            let list = self.players.get(subject).map_or(&[][..], Vec::as_slice);
            // The latest players of a subject that everybody chose are enough.
            for player in list.iter().rev().take(5000) {
                *alike.entry(*player).or_default() += weight / (1.0 + list.len() as f32).ln().max(1.0);
            }
        }
        let length = |player: u32| (self.training[player as usize].len() as f32).sqrt();
        let mut alike: Vec<(u32, f32)> = alike.into_iter().map(|(p, w)| (p, w / length(p))).collect();
        alike.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        alike.truncate(self.k);
        for (player, likeness) in alike {
            for subject in &self.training[player as usize] {
                scores[*subject as usize] += likeness;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_rank_what_was_chosen() {
        let training = vec![vec![0, 1, 2], vec![0, 1, 3], vec![1, 2, 1], vec![4, 0]];
        let popularity = Popularity::new(&training, 6);
        let scores = |baseline: &dyn Baseline, history: &[u32]| {
            let mut scores = vec![0.0; 6];
            baseline.score(history, &mut scores);
            scores
        };
        assert_eq!(scores(&popularity, &[]), [3.0, 4.0, 2.0, 1.0, 1.0, 0.0]);
        let markov = scores(&Markov::new(&training, &popularity), &[3, 1]);
        assert!(markov[2] > 1.9 && markov[3] > 0.9 && markov[0] > markov[4] && markov[0] < 0.5, "{markov:?}");
        let knn = scores(&Neighbours::new(&training, &popularity), &[4]);
        assert!(knn[0] > knn[1] && knn[4] > knn[1], "{knn:?}");
        // A history nobody knows falls back to popularity.
        let unknown = scores(&Markov::new(&training, &popularity), &[5]);
        assert!(unknown[1] > unknown[0] && unknown[0] > unknown[5]);
    }
}
