//! Training samples: histories as token sequences, and which of their tokens count.

use super::answer::{ChurnTask, Task, Watched, end_of};
use super::histories::{Histories, History};
use super::vocabulary::{BOS, EventVocabulary, Table};
use crate::seed::Stream;
use crate::training::{Sample, SampleSource};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A sequence whose tokens count by these weights.
pub(super) struct Weighted {
    pub(super) player: Arc<str>,
    pub(super) ids: Vec<u32>,
    pub(super) loss: Vec<f32>,
}

/// Sequences that are learned as they stand.
pub(super) struct Sequences(pub(super) Vec<Weighted>);

impl SampleSource for Sequences {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn sample(&self, index: usize, _: &mut Stream) -> Sample {
        self.fixed(index)
    }

    fn fixed(&self, index: usize) -> Sample {
        let Weighted { player, ids, loss } = &self.0[index];
        Sample { player: Some(Arc::clone(player)), ..Sample::new(ids.clone(), loss.clone()) }
    }

    fn player(&self, index: usize) -> Option<&str> {
        Some(&self.0[index].player)
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::new();
        for Weighted { ids, loss, .. } in &self.0 {
            bytes.clear();
            bytes.extend((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
            loss.iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
            hasher.update(&bytes);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// What of each history is learned, validated on and tested on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Split {
    /// All but the last two, the last but one, the last. Whoever has fewer than three is learned from only.
    #[default]
    LeaveOneOut,
    /// By the clock, the same for all players: what happened before this share of all events is learned; each player's first
    /// event after it validates, the first after the share of the test tests (Meng et al. 2020, "Exploring data splitting
    /// strategies for the evaluation of recommendation models"). Nothing is learned from what came later for anybody.
    ByTime {
        /// Up to here events are learned.
        learned: f64,
        /// From here on events test.
        test: f64,
    },
}

/// Of one history: how many events are learned, and which event validates and which one tests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parts {
    pub(super) learned: usize,
    pub(super) validation: Option<usize>,
    pub(super) test: Option<usize>,
}

impl Split {
    /// That of a trained model's task.
    pub(super) fn of(task: &str) -> Self {
        match ron::from_str(task) {
            Ok(Task::Next { split, .. }) => split,
            _ => Self::LeaveOneOut,
        }
    }

    pub(super) fn holds(&self) -> bool {
        match self {
            Self::LeaveOneOut => true,
            Self::ByTime { learned, test } => 0.0 < *learned && learned < test && *test < 1.0,
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::LeaveOneOut => "leave one out: the last event of each player with three or more".into(),
            Self::ByTime { learned, test } => format!(
                "global time: each player's first event after {test} of all events, the model having learned of what came before \
                 {learned} of all events only"
            ),
        }
    }

    /// When learning ends and the test begins, in milliseconds.
    pub(super) fn cuts(&self, histories: &Histories) -> [i64; 2] {
        let Self::ByTime { learned, test } = self else { return [i64::MAX; 2] };
        let events = histories.players.iter().flat_map(|history| &history.events);
        let mut times: Vec<i64> = events.map(|event| event.at_ms).collect();
        times.sort_unstable();
        [learned, test]
            .map(|share| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(i64::MAX))
    }

    pub(super) fn parts(&self, history: &History, [learned, test]: [i64; 2]) -> Parts {
        let count = history.events.len();
        match self {
            Self::LeaveOneOut if count < 3 => Parts { learned: count, validation: None, test: None },
            Self::LeaveOneOut => {
                Parts { learned: count - 2, validation: Some(count - 2), test: Some(count - 1) }
            }
            Self::ByTime { .. } => {
                let before = |cut: i64| history.events.iter().take_while(|event| event.at_ms < cut).count();
                let (first, second) = (before(learned), before(test));
                // Of whom nothing was learned nothing can be told.
                let held = |at: usize, most: usize| (first > 0 && at < most).then_some(at);
                Parts { learned: first, validation: held(first, second), test: held(second, count) }
            }
        }
    }
}

/// The next-event samples: those to learn, and those to validate on.
pub(super) fn next_samples(
    histories: &Histories,
    vocabulary: &EventVocabulary,
    sequence: usize,
    validation_players: usize,
    other_weight: f32,
    split: Split,
) -> (Sequences, Sequences) {
    let cuts = split.cuts(histories);
    let table = vocabulary.table(histories);
    let subjects = vocabulary.subjects();
    let any_subject = !subjects.is_empty();
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    let most = if validation_players == 0 { usize::MAX } else { validation_players };
    for history in &histories.players {
        let player: Arc<str> = history.player.as_str().into();
        let Parts { learned, validation: held, .. } = split.parts(history, cuts);
        let (tokens, ends) = vocabulary.history(&history.events[..held.map_or(learned, |at| at + 1)], &table);
        // Without subjects, every token is what an event is.
        let weight = |id: &u32| if !any_subject || subjects.contains(id) { 1.0 } else { other_weight };
        let end = learned.checked_sub(1).map_or(1, |last| ends[last]);
        for window in windows(&tokens[..end], sequence + 1) {
            let mut loss: Vec<f32> = window.iter().map(weight).collect();
            loss.iter_mut().take(1).for_each(|weight| *weight = 0.0);
            train.push(Weighted { player: Arc::clone(&player), ids: window.to_vec(), loss });
        }
        if held.is_some() && validation.len() < most {
            let start = tokens.len().saturating_sub(sequence + 1);
            let (ids, from) =
                (tokens[start..].to_vec(), ends[learned.saturating_sub(1)].saturating_sub(start));
            // Of the held-out event, as in training.
            let counts = |(at, id): (usize, &u32)| if at >= from && at > 0 { weight(id) } else { 0.0 };
            let loss = ids.iter().enumerate().map(counts).collect();
            validation.push(Weighted { player, ids, loss });
        }
    }
    (Sequences(train), Sequences(validation))
}

/// A sequence in windows of at most `length`, the last ones whole; each begins with the last token of the one before.
fn windows(tokens: &[u32], length: usize) -> Vec<&[u32]> {
    let mut out = Vec::new();
    let mut end = tokens.len();
    while end > 1 {
        let start = end.saturating_sub(length.max(2));
        out.push(&tokens[start..end]);
        end = if start == 0 { 0 } else { start + 1 };
    }
    out
}

/// The question whether a watched player left, and its answer, after what they did: the tokens, and how many of them are
/// the history. Long histories lose their beginning.
pub(super) fn churn_question(
    history: &History,
    watched: Watched,
    vocabulary: &EventVocabulary,
    table: &Table,
    sequence: usize,
) -> Vec<u32> {
    let events = &history.events[..watched.events];
    let (mut tokens, _) = vocabulary.history(events, table);
    // The question takes two tokens, and the answer one.
    let most = sequence.saturating_sub(2).max(2);
    if tokens.len() > most {
        tokens.drain(1..=tokens.len() - most);
        tokens[0] = BOS;
    }
    let last = events.last().map_or(watched.until_ms, |event| event.at_ms);
    tokens.push(vocabulary.gap(watched.until_ms.saturating_sub(last)));
    tokens.push(vocabulary.churn()[0]);
    tokens
}

/// Churn samples of some players.
pub(super) struct ChurnSamples {
    pub(super) histories: Arc<Histories>,
    pub(super) vocabulary: Arc<EventVocabulary>,
    pub(super) table: Arc<Table>,
    pub(super) task: ChurnTask,
    pub(super) sequence: usize,
    /// Which players.
    pub(super) players: Vec<usize>,
    pub(super) end_ms: i64,
}

impl ChurnSamples {
    /// Of those players who can be watched at all.
    pub(super) fn new(
        histories: &Arc<Histories>,
        vocabulary: &Arc<EventVocabulary>,
        task: ChurnTask,
        sequence: usize,
        players: impl Iterator<Item = usize>,
    ) -> Self {
        let end_ms = end_of(histories);
        let watchable = |at: &usize| task.watch(&histories.players[*at], task.observe_days, end_ms).is_some();
        Self {
            table: Arc::new(vocabulary.table(histories)),
            histories: Arc::clone(histories),
            vocabulary: Arc::clone(vocabulary),
            task,
            sequence,
            players: players.filter(watchable).collect(),
            end_ms,
        }
    }

    fn of(&self, index: usize, days: f64, event_weight: f32) -> Option<Sample> {
        let history = &self.histories.players[self.players[index]];
        let watched = self.task.watch(history, days, self.end_ms)?;
        let mut ids = churn_question(history, watched, &self.vocabulary, &self.table, self.sequence);
        let [_, yes, no] = self.vocabulary.churn();
        let mut loss = vec![event_weight; ids.len()];
        loss[0] = 0.0;
        // The question is not to be guessed.
        let asked = loss.len();
        loss[asked - 2..].fill(0.0);
        ids.push(if watched.left { yes } else { no });
        loss.push(1.0);
        Some(Sample { player: Some(history.player.as_str().into()), ..Sample::new(ids, loss) })
    }
}

impl SampleSource for ChurnSamples {
    fn len(&self) -> usize {
        self.players.len()
    }

    fn sample(&self, index: usize, noise: &mut Stream) -> Sample {
        let task = &self.task;
        if noise.chance(task.vary) {
            let days = task.observe_days * 0.2 * 10f64.powf(noise.uniform_f64());
            if let Some(sample) = self.of(index, days, task.event_weight) {
                return sample;
            }
        }
        self.of(index, task.observe_days, task.event_weight)
            .unwrap_or_else(|| Sample::new(Vec::new(), Vec::new()))
    }

    fn fixed(&self, index: usize) -> Sample {
        self.of(index, self.task.observe_days, 0.0).unwrap_or_else(|| Sample::new(Vec::new(), Vec::new()))
    }

    fn player(&self, index: usize) -> Option<&str> {
        Some(&self.histories.players[self.players[index]].player)
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.histories.hash.as_bytes());
        hasher.update(format!("{:?} {:?} {}", self.task, self.vocabulary.view(), self.sequence).as_bytes());
        self.players.iter().for_each(|player| {
            hasher.update(&(*player as u64).to_le_bytes());
        });
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::histories::tests::store;
    use super::*;
    use crate::player::EventView;

    fn of(rows: &str) -> (Histories, EventVocabulary) {
        let (_dir, path) = store(rows);
        let view = EventView::default();
        let histories = Histories::read(&[path], &view).unwrap();
        let split = Split::LeaveOneOut;
        let learned: Vec<usize> =
            histories.players.iter().map(|history| split.parts(history, [0; 2]).learned).collect();
        let vocabulary = EventVocabulary::of(&histories, &view, &learned, true).unwrap();
        (histories, vocabulary)
    }

    #[test]
    fn the_last_two_events_are_never_learned() {
        let (histories, vocabulary) = of("a T v 1\na T w 2\na T x 3\na T y 4\nb T z 1\nb T w 2\n");
        let (train, validation) = next_samples(&histories, &vocabulary, 16, 0, 0.2, Split::LeaveOneOut);
        let name = |id: &u32| vocabulary.subject_name(*id).unwrap_or_default();
        let learned: Vec<Vec<String>> =
            train.0.iter().map(|s| s.ids[1..].iter().map(name).collect()).collect();
        assert_eq!(learned, [vec!["v", "w"], vec!["z", "w"]]);
        assert_eq!(validation.0.len(), 1);
        let held = &validation.0[0];
        assert_eq!(
            (name(held.ids.last().unwrap()), held.loss.clone()),
            ("x".into(), vec![0.0, 0.0, 0.0, 1.0])
        );
        assert!(
            train.0.iter().all(|sample| sample.loss[0] == 0.0 && sample.loss[1..].iter().all(|w| *w == 1.0))
        );
    }

    #[test]
    fn by_the_clock_nothing_is_learned_of_what_came_later_for_anybody() {
        let rows =
            "a T v 1\na T w 2\na T x 6\na T y 9\nb T z 3\nb T w 4\nc T v 5\nc T w 7\nd T v 8\nd T w 10\n";
        let (histories, vocabulary) = of(rows);
        let split = Split::ByTime { learned: 0.5, test: 0.8 };
        let cuts = split.cuts(&histories);
        let parts: Vec<(usize, Option<usize>, Option<usize>)> = histories
            .players
            .iter()
            .map(|history| split.parts(history, cuts))
            .map(|parts| (parts.learned, parts.validation, parts.test))
            .collect();
        // b did nothing later, of d nothing was learned.
        assert_eq!(parts, [(2, Some(2), Some(3)), (2, None, None), (1, Some(1), None), (0, None, None)]);
        let (train, validation) = next_samples(&histories, &vocabulary, 16, 0, 0.2, split);
        let last = |samples: &Sequences| -> Vec<String> {
            samples.0.iter().map(|s| vocabulary.subject_name(*s.ids.last().unwrap()).unwrap()).collect()
        };
        assert_eq!(
            (last(&train), last(&validation)),
            (vec!["w".into(), "w".into(), "v".into()], vec!["x".into(), "w".into()])
        );
    }

    #[test]
    fn a_million_events_of_one_player_are_learned_in_windows_each_once() {
        let tokens: Vec<u32> = (0..1_000_000).collect();
        let parts = windows(&tokens, 51);
        assert!(parts.iter().all(|part| part.len() <= 51 && part.len() > 1));
        let predicted: usize = parts.iter().map(|part| part.len() - 1).sum();
        assert_eq!(predicted, 999_999);
        assert!(windows(&[1], 5).is_empty() && windows(&[], 5).is_empty());
    }
}
