//! [`EventVocabulary`]: events to tokens and back.
//!
//! An event is up to four tokens: the time since the last one, its kind (where there are several), its outcome, and what
//! it is about. Then come the questions a model can be asked and their answers. It is stored in the model's card, beside
//! the tokenizer that numbers the words.

use super::events::EventView;
use super::histories::{Event, Histories};
use crate::error::{Error, Result};
use crate::model::Card;
use crate::text::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Under which name the card keeps it.
const CARD_ENTRY: &str = "events";

/// The first token of every history.
pub(super) const BOS: u32 = 1;
/// What is not in the vocabulary.
pub(super) const UNKNOWN: u32 = 3;

/// Seconds between two events at which a new bucket begins: from a second to an hour in large steps, then by the square
/// root of two to two months.
fn gap_edges() -> Vec<f64> {
    let mut edges = vec![1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0];
    edges.extend((0..22).map(|k| 3600.0 * 2f64.powf(f64::from(k) / 2.0)));
    edges
}

/// What the card keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    view: EventView,
    kinds: Vec<String>,
    /// Where the next bin of a numeric outcome begins.
    edges: Vec<f32>,
    words: Vec<String>,
    /// The mean of each bin's outcomes in training.
    #[serde(default)]
    means: Vec<f32>,
    subjects: u32,
}

/// How an event went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Among all outcomes.
    pub(super) index: usize,
    /// Of one that is a number.
    pub(super) value: Option<f32>,
}

/// Events to tokens and back.
#[derive(Clone, Debug)]
pub struct EventVocabulary {
    stored: Stored,
    gap_edges: Vec<f64>,
    tokenizer: Tokenizer,
    kinds: HashMap<String, u32>,
    /// The first token of each part.
    firsts: Firsts,
}

#[derive(Clone, Copy, Debug)]
struct Firsts {
    gap: u32,
    kind: u32,
    bin: u32,
    word: u32,
    ask: u32,
    subject: u32,
    end: u32,
}

impl EventVocabulary {
    /// The vocabulary of what players did in `training` (a count of events from the front of each history, so that
    /// nothing is learned of those held out). Subjects are in the order in which the store first knows them; those that
    /// no training event is about are in it too, if `all_subjects`: they exist, and can be ranked.
    pub fn of(
        histories: &Histories,
        view: &EventView,
        training: &[usize],
        all_subjects: bool,
    ) -> Result<Self> {
        let mut counts = vec![0u32; histories.subjects.len()];
        let mut values = Vec::new();
        for (history, learned) in histories.players.iter().zip(training) {
            for event in &history.events[..history.events.len().min(*learned)] {
                if let Some(count) = event.subject.and_then(|subject| counts.get_mut(subject as usize)) {
                    *count += 1;
                }
                values.extend(event.value.filter(|value| value.is_finite()));
            }
        }
        values.sort_by(f32::total_cmp);
        let bins = view.outcome.as_ref().map_or(1, |outcome| outcome.bins);
        let mut edges: Vec<f32> =
            (1..bins).filter_map(|n| values.get(n * values.len() / bins).copied()).collect();
        edges.dedup();
        let means = means(&values, &edges);
        let named = counts.iter().zip(&histories.subjects);
        let kept =
            named.filter(|(count, _)| **count >= view.min_count || (all_subjects && view.min_count == 1));
        let subjects: Vec<String> = kept.map(|(_, name)| format!("={name}")).collect();
        let stored = Stored {
            view: view.clone(),
            kinds: histories.kinds.clone(),
            edges,
            means,
            words: if view.outcome.is_some() { histories.words.clone() } else { Vec::new() },
            subjects: subjects.len() as u32,
        };
        let mut words: Vec<String> = (0..=gap_edges().len()).map(|n| format!("<gap:{n}>")).collect();
        words.extend(stored.kinds.iter().map(|kind| format!("<kind:{kind}>")));
        words.extend((0..=stored.edges.len()).map(|n| format!("<bin:{n}>")));
        words.extend(stored.words.iter().map(|word| format!("<outcome:{word}>")));
        words.extend(["<ask:churn>", "<yes>", "<no>"].map(str::to_owned));
        words.extend(subjects);
        if words.len() >= (1 << 20) - 4 {
            let reason = format!("there are {} different things in these events", words.len());
            let remedy = "raise `events.min_count`";
            return Err(Error::config("config", "events.min_count", reason, remedy));
        }
        Self::assemble(stored, Tokenizer::words(&words)?)
    }

    fn assemble(stored: Stored, tokenizer: Tokenizer) -> Result<Self> {
        let gap_edges = gap_edges();
        let gap = UNKNOWN + 1;
        let kind = gap + gap_edges.len() as u32 + 1;
        let bin = kind + stored.kinds.len() as u32;
        let word = bin + stored.edges.len() as u32 + 1;
        let ask = word + stored.words.len() as u32;
        let subject = ask + 3;
        let firsts =
            Firsts { gap, kind, bin, word, ask, subject, end: subject.saturating_add(stored.subjects) };
        if tokenizer.vocab_size() != firsts.end as usize || tokenizer.id("<ask:churn>") != Some(ask) {
            return Err(Error::Vocabulary {
                file: "skald.ron".into(),
                reason: "the tokenizer is not the one of these events".into(),
                remedy: "copy the whole checkpoint directory again".into(),
            });
        }
        let kinds = stored.kinds.iter().cloned().zip(0..).collect();
        Ok(Self { stored, gap_edges, tokenizer, kinds, firsts })
    }

    /// Puts it into a model's card.
    pub fn note(&self, card: &mut Card) -> Result<()> {
        let text = ron::to_string(&self.stored).map_err(|e| Error::backend("writing the vocabulary", e))?;
        card.conditioning.insert(CARD_ENTRY.into(), vec![text]);
        Ok(())
    }

    /// Reads it from a model's card. `file` is for messages.
    pub fn read(card: &Card, tokenizer: &Tokenizer, file: &str) -> Result<Self> {
        let Some([text]) = card.conditioning.get(CARD_ENTRY).map(Vec::as_slice) else {
            let reason = format!("this is a model for {}, not for players", card.domain);
            return Err(Error::config(file, "domain", reason, "give one that `skald train player` made"));
        };
        let stored: Stored = ron::from_str(text).map_err(|e| Error::ron(file, &e))?;
        stored.view.validate(file)?;
        Self::assemble(stored, tokenizer.clone())
    }

    /// Words to ids.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Which parts of events count.
    pub fn view(&self) -> &EventView {
        &self.stored.view
    }

    /// How many tokens there are.
    pub fn size(&self) -> usize {
        self.firsts.end as usize
    }

    /// The tokens of subjects.
    pub fn subjects(&self) -> std::ops::Range<u32> {
        self.firsts.subject..self.firsts.end
    }

    /// The token of a subject. None: the model has not heard of it.
    pub fn subject(&self, name: &str) -> Option<u32> {
        self.tokenizer.id(&format!("={name}")).filter(|id| self.subjects().contains(id))
    }

    /// What the token of a subject stands for.
    pub fn subject_name(&self, token: u32) -> Option<String> {
        self.subjects()
            .contains(&token)
            .then(|| self.tokenizer.token(token))?
            .map(|name| name[1..].to_owned())
    }

    /// The token of a kind of events. None: the model has not heard of it.
    pub fn kind(&self, name: &str) -> Option<u32> {
        self.kinds.get(name).map(|kind| self.firsts.kind + kind)
    }

    /// The question whether the player will leave, and the answers yes and no.
    pub fn churn(&self) -> [u32; 3] {
        [self.firsts.ask, self.firsts.ask + 1, self.firsts.ask + 2]
    }

    /// The token of a time between two events, in milliseconds; less than none is none.
    pub fn gap(&self, ms: i64) -> u32 {
        let seconds = ms.max(0) as f64 / 1000.0;
        self.firsts.gap + self.gap_edges.partition_point(|edge| *edge <= seconds) as u32
    }

    /// The token of a numeric outcome.
    pub fn bin(&self, value: f32) -> u32 {
        self.firsts.bin + self.stored.edges.partition_point(|edge| *edge <= value) as u32
    }

    /// The token of an outcome that is a word.
    pub fn word(&self, word: &str) -> Option<u32> {
        let at = self.stored.words.iter().position(|known| known == word)?;
        Some(self.firsts.word + at as u32)
    }

    /// What outcomes there are, for people: the bins of numbers (by the least number), then words. Empty without `outcome`.
    pub fn outcomes(&self) -> Vec<String> {
        let bins = (0..=self.stored.edges.len()).map(|bin| match bin.checked_sub(1) {
            None => "least".to_owned(),
            Some(edge) => format!("{} or more", self.stored.edges[edge]),
        });
        let named = if self.outcome_tokens().is_empty() { 0 } else { usize::MAX };
        bins.chain(self.stored.words.iter().cloned()).take(named).collect()
    }

    /// The tokens of outcomes.
    pub(super) fn outcome_tokens(&self) -> std::ops::Range<u32> {
        if self.stored.view.outcome.is_some() { self.firsts.bin..self.firsts.ask } else { 0..0 }
    }

    /// What each outcome is worth as a number; NaN for a word. A model of before this was kept has no means of bins.
    pub(super) fn outcome_means(&self) -> Vec<f32> {
        let bins =
            (0..=self.stored.edges.len()).map(|bin| self.stored.means.get(bin).copied().unwrap_or(0.0));
        bins.chain(self.stored.words.iter().map(|_| f32::NAN)).collect()
    }

    fn outcome_token(&self, event: &Event, table: &Table) -> Option<u32> {
        match (event.value, event.word) {
            (Some(value), _) => Some(self.bin(value)),
            (_, Some(word)) => table.words.get(word as usize).copied(),
            _ => None,
        }
    }

    pub(super) fn outcome_of(&self, event: &Event, table: &Table) -> Option<Outcome> {
        self.stored.view.outcome.as_ref()?;
        let token = self.outcome_token(event, table)?;
        let index = token.checked_sub(self.firsts.bin)? as usize;
        Some(Outcome { index, value: event.value.filter(|value| value.is_finite()) })
    }

    /// Whether an event's kind is a token: there are several.
    fn has_kinds(&self) -> bool {
        self.stored.kinds.len() > 1
    }

    /// Adds the tokens of an event: the gap since `before_ms`, its kind, how it went, and what it is about.
    pub fn write(
        &self,
        before_ms: Option<i64>,
        at_ms: i64,
        (kind, outcome, subject): (Option<u32>, Option<u32>, Option<u32>),
        to: &mut Vec<u32>,
    ) {
        if self.stored.view.gaps {
            let gap = before_ms.map_or(0, |before| at_ms.saturating_sub(before));
            to.push(self.gap(gap));
        }
        if self.has_kinds() {
            to.push(kind.unwrap_or(UNKNOWN));
        }
        to.extend(outcome);
        to.extend(subject);
    }

    /// For each subject and word of histories, its token.
    pub(super) fn table(&self, histories: &Histories) -> Table {
        let subject = |name: &String| self.subject(name).unwrap_or(UNKNOWN);
        Table {
            kinds: histories.kinds.iter().map(|name| self.kind(name).unwrap_or(UNKNOWN)).collect(),
            subjects: histories.subjects.iter().map(subject).collect(),
            words: histories.words.iter().map(|name| self.word(name).unwrap_or(UNKNOWN)).collect(),
        }
    }

    /// The tokens of a history's events, [`BOS`] first, and where each event ends.
    pub(super) fn history(&self, events: &[Event], table: &Table) -> (Vec<u32>, Vec<usize>) {
        let (mut tokens, mut ends) = (vec![BOS], Vec::with_capacity(events.len()));
        let mut before = None;
        for event in events {
            let outcome = self.outcome_token(event, table);
            let subject = event.subject.map(|subject| table.subjects[subject as usize]);
            let kind = Some(table.kinds[event.kind as usize]);
            self.write(before, event.at_ms, (kind, outcome, subject), &mut tokens);
            before = Some(event.at_ms);
            ends.push(tokens.len());
        }
        (tokens, ends)
    }
}

/// The mean of the values in each bin; they are sorted.
fn means(values: &[f32], edges: &[f32]) -> Vec<f32> {
    let starts = std::iter::once(0).chain(edges.iter().map(|edge| values.partition_point(|v| v < edge)));
    let starts: Vec<usize> = starts.chain([values.len()]).collect();
    let mean = |two: &[usize]| {
        let part = &values[two[0]..two[1].max(two[0])];
        part.iter().map(|v| f64::from(*v)).sum::<f64>() / part.len().max(1) as f64
    };
    starts.windows(2).map(|two| mean(two) as f32).collect()
}

/// The tokens of the names in [`Histories`].
pub(super) struct Table {
    pub(super) kinds: Vec<u32>,
    pub(super) subjects: Vec<u32>,
    pub(super) words: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::super::histories::tests::store;
    use super::*;
    use crate::player::OutcomeView;

    #[test]
    fn events_become_tokens_and_the_card_brings_the_vocabulary_back() {
        let (_dir, path) = store("a Took x 10 5\na Dropped y 15 9\na Took x 900 won\n");
        let view = EventView {
            outcome: Some(OutcomeView { field: "score".into(), bins: 2 }),
            gaps: true,
            ..EventView::default()
        };
        let histories = Histories::read(&[path], &view).unwrap();
        let vocabulary = EventVocabulary::of(&histories, &view, &[3], true).unwrap();
        let (tokens, ends) = vocabulary.history(&histories.players[0].events, &vocabulary.table(&histories));
        assert_eq!(ends, [5, 9, 13]);
        let spelled: Vec<_> = tokens.iter().map(|id| vocabulary.tokenizer().token(*id).unwrap()).collect();
        let second = ["<gap:2>", "<kind:Dropped>", "<bin:1>", "=y"];
        assert_eq!(spelled[..5], ["<bos>", "<gap:0>", "<kind:Took>", "<bin:0>", "=x"]);
        assert_eq!(spelled[5..9], second);
        assert_eq!(spelled[11], "<outcome:won>");
        let mut card = Card::new("player");
        vocabulary.note(&mut card).unwrap();
        let back = EventVocabulary::read(&card, vocabulary.tokenizer(), "skald.ron").unwrap();
        assert_eq!(
            (back.stored.clone(), back.subject("y")),
            (vocabulary.stored.clone(), vocabulary.subject("y"))
        );
        assert_eq!(back.subject_name(back.subject("y").unwrap()).as_deref(), Some("y"));
        assert!(back.subject("never seen").is_none() && back.kind("Slept").is_none());
        // Time going backwards is no time at all.
        assert_eq!(back.gap(-5_000), back.gap(0));
        let error = EventVocabulary::read(&Card::new("dialogue"), vocabulary.tokenizer(), "skald.ron");
        assert!(error.unwrap_err().to_string().contains("not for players"));
        let other = Tokenizer::words(&["x".into()]).unwrap();
        assert!(EventVocabulary::read(&card, &other, "skald.ron").is_err());
    }
}
