//! How an event will go, before it happens: whether a quest will be finished, how a thing will be rated. The model has learned
//! kinds, outcomes and subjects together, so that one question to it answers for any event it knows (Bayes):
//! `P(outcome | subject) ~ P(outcome) P(subject | outcome)`, all given the player's history.

use super::histories::Histories;
use super::model::{PlayerModel, PlayerState, softmax};
use super::source::Split;
use super::vocabulary::Outcome;
use crate::error::{Error, Result};
use crate::evaluation::{Measured, Report, auc, brier, ece, log_loss};
use crate::model::{KvCache, Row, Scratch};
use crate::seed::Seed;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Players that are measured, at most.
const PLAYERS: usize = 4000;
/// What a subject's own share or mean counts less than the overall one: as much as this many events.
const PRIOR: f64 = 5.0;

impl PlayerModel {
    /// How an event of this kind about this subject would go for the player, if it came `after_ms` after their last one: the
    /// probability of each outcome, in the order of [`super::EventVocabulary::outcomes`]. Empty: the model was trained without
    /// outcomes (`events: (outcome: ..)`), or does not know the kind. A subject it does not know counts for nothing.
    pub fn outcomes(
        &self,
        state: &PlayerState,
        kind: &str,
        subject: Option<&str>,
        after_ms: i64,
    ) -> Result<Vec<f32>> {
        let Some(kind) = self.vocabulary().kind(kind) else { return Ok(Vec::new()) };
        let subject = subject.and_then(|name| self.vocabulary().subject(name));
        let (cache, front) = self.room(state);
        self.outcomes_after(cache, front, kind, subject, after_ms, &mut Scratch::default())
    }

    /// How likely an event about each of these subjects, if it is of one of two kinds, is of the first: whether a quest would be
    /// finished rather than dropped. Empty: the model does not know both kinds. `None`: it does not know the subject.
    pub fn rather<'a>(
        &self,
        state: &PlayerState,
        kinds: [&str; 2],
        subjects: impl Iterator<Item = &'a str>,
        after_ms: i64,
    ) -> Result<Vec<Option<f32>>> {
        let vocabulary = self.vocabulary();
        let [Some(first), Some(second)] = kinds.map(|kind| vocabulary.kind(kind)) else {
            return Ok(Vec::new());
        };
        let (mut cache, mut front) = self.room(state);
        // The kind is the last token that is written; what stands before it is the same for both.
        vocabulary.write(Some(0), after_ms, (Some(first), None, None), &mut front);
        front.pop();
        let mut scratch = Scratch::default();
        let mut logits = Vec::new();
        let own = if front.is_empty() {
            state.logits()
        } else {
            let row =
                Row { cache: &mut cache, tokens: &front, logits: &mut logits, all: false, adapter: None };
            self.decoder().forward(&mut [row], &mut scratch)?;
            &logits
        };
        let shares = softmax(&[own[first as usize], own[second as usize]]);
        let after = self.after_each(&cache, &[first, second], &mut scratch)?;
        let about = [softmax(&after[0]), softmax(&after[1])];
        let chance = |name| {
            let subject = vocabulary.subject(name)? as usize;
            let [a, b] = [0, 1].map(|n| shares[n] * about[n][subject]);
            (a + b > 0.0).then(|| a / (a + b))
        };
        Ok(subjects.map(chance).collect())
    }

    /// What the network remembers of a player, with room for a question of four tokens, and what of their history it must read
    /// again for that: the newest half of one that is too long.
    fn room(&self, state: &PlayerState) -> (KvCache, Vec<u32>) {
        let context = self.decoder().context();
        let (tokens, mut cache) = (state.tokens(), state.cache());
        if tokens.len() + 4 <= context {
            return (cache, Vec::new());
        }
        cache.truncate(0);
        (cache, tokens[tokens.len() - context / 2..].to_vec())
    }

    /// The logits after each of these tokens, were it the next.
    fn after_each(&self, cache: &KvCache, next: &[u32], scratch: &mut Scratch) -> Result<Vec<Vec<f32>>> {
        let mut caches: Vec<KvCache> = next.iter().map(|_| cache.clone()).collect();
        let mut after = vec![Vec::new(); next.len()];
        let mut rows: Vec<Row<'_>> = caches
            .iter_mut()
            .zip(next.chunks(1))
            .zip(&mut after)
            .map(|((cache, tokens), logits)| Row { cache, tokens, logits, all: false, adapter: None })
            .collect();
        self.decoder().forward(&mut rows, scratch)?;
        Ok(after)
    }

    /// The same after a history that is in `cache`, and `front` which is not.
    fn outcomes_after(
        &self,
        mut cache: KvCache,
        mut front: Vec<u32>,
        kind: u32,
        subject: Option<u32>,
        after_ms: i64,
        scratch: &mut Scratch,
    ) -> Result<Vec<f32>> {
        let vocabulary = self.vocabulary();
        let outcomes = vocabulary.outcome_tokens();
        if outcomes.is_empty() {
            return Ok(Vec::new());
        }
        vocabulary.write(Some(0), after_ms, (Some(kind), None, None), &mut front);
        let mut logits = Vec::new();
        if front.is_empty() {
            // The event's outcome is its first token; what came last says what comes next.
            let reason = "one kind of events without times has nothing to ask after";
            return Err(Error::config("skald.ron", "events", reason, "train with `gaps: true`"));
        }
        let row = Row { cache: &mut cache, tokens: &front, logits: &mut logits, all: false, adapter: None };
        self.decoder().forward(&mut [row], scratch)?;
        let own: Vec<f32> = outcomes.clone().map(|token| logits[token as usize]).collect();
        let mut shares = softmax(&own);
        let Some(subject) = subject else { return Ok(shares) };
        let after = self.after_each(&cache, &outcomes.collect::<Vec<u32>>(), scratch)?;
        for (share, logits) in shares.iter_mut().zip(&after) {
            *share *= softmax(logits)[subject as usize];
        }
        let total: f32 = shares.iter().sum();
        if total > 0.0 {
            shares.iter_mut().for_each(|share| *share /= total);
        }
        Ok(shares)
    }
}

/// A held-out event whose outcome is known.
struct Case {
    tokens: Vec<u32>,
    kind: u32,
    subject: Option<u32>,
    about: Option<u32>,
    after_ms: i64,
    outcome: Outcome,
}

/// Measures outcomes that are told before they are known: of each player's held-out event, beside the overall and the
/// subject's own shares (or means) in the training part. Of words accuracy and log-loss, and where there are two AUC, Brier and
/// ECE of the first (in the order of their names); of numbers the mean absolute error.
///
/// # Errors
/// [`Error::Data`] if no held-out event has an outcome.
pub fn evaluate_outcome(
    model: &PlayerModel,
    histories: &Histories,
    seed: Seed,
    threads: usize,
) -> Result<Report> {
    let vocabulary = model.vocabulary();
    let (table, split) = (vocabulary.table(histories), Split::of(model.task()));
    let cuts = split.cuts(histories);
    let mut seen: Vec<(Option<u32>, Outcome)> = Vec::new();
    let mut cases = Vec::new();
    let context = model.decoder().context();
    for history in &histories.players {
        let parts = split.parts(history, cuts);
        let outcome = |at: usize| vocabulary.outcome_of(&history.events[at], &table);
        seen.extend((0..parts.learned).filter_map(|at| Some((history.events[at].subject, outcome(at)?))));
        let Some((at, outcome)) = parts.test.and_then(|at| Some((at, outcome(at)?))) else { continue };
        let (mut tokens, _) = vocabulary.history(&history.events[..at], &table);
        tokens.drain(..(tokens.len() + 4).saturating_sub(context));
        let event = &history.events[at];
        let before = at.checked_sub(1).map_or(event.at_ms, |at| history.events[at].at_ms);
        cases.push(Case {
            tokens,
            kind: table.kinds[event.kind as usize],
            subject: event
                .subject
                .map(|s| table.subjects[s as usize])
                .filter(|s| vocabulary.subjects().contains(s)),
            about: event.subject,
            after_ms: event.at_ms - before,
            outcome,
        });
    }
    if cases.is_empty() || seen.is_empty() {
        return Err(Error::Data {
            source_name: "the recordings".into(),
            reason: "no held-out event has an outcome that the model knows".into(),
            remedy: "train with `events: (outcome: (field: ..))`, on events that have it".into(),
        });
    }
    seed.derive("outcomes").stream().shuffle(&mut cases);
    cases.truncate(PLAYERS);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::backend("starting threads", e))?;
    let told: Vec<Vec<f32>> = pool.install(|| {
        let of = |case: &Case| {
            let (cache, tokens) = (model.decoder().cache(), case.tokens.clone());
            model.outcomes_after(
                cache,
                tokens,
                case.kind,
                case.subject,
                case.after_ms,
                &mut Scratch::default(),
            )
        };
        cases.par_iter().map(of).collect::<Result<_>>()
    })?;
    let mut report = Report {
        protocol: format!(
            "outcomes: {}, how it goes told from all before it, its kind, its time and what it is about; at most {PLAYERS} \
             players; 95 % bootstrap over players; beside it shares or means of the training part",
            split.describe()
        ),
        data_hash: histories.hash.clone(),
        n: cases.len(),
        ..Report::default()
    };
    let (overall, own) = shares(&seen, vocabulary.outcome_tokens().len());
    let of_all: Vec<Vec<f32>> = cases.iter().map(|_| overall.clone()).collect();
    let of_subject: Vec<Vec<f32>> = cases
        .iter()
        .map(|case| case.about.and_then(|about| own.get(&about)).unwrap_or(&overall).clone())
        .collect();
    let means = vocabulary.outcome_means();
    let figures = |told: &[Vec<f32>], drawn: &[usize]| figures(told, &cases, drawn, &means);
    report.take(Measured::bootstrapped(cases.len(), seed.derive("means"), |counts| {
        let of = |(i, n): (usize, &f64)| std::iter::repeat_n(i, *n as usize);
        figures(&told, &counts.iter().enumerate().flat_map(of).collect::<Vec<_>>())
    }));
    let all: Vec<usize> = (0..cases.len()).collect();
    report.baselines.insert("overall shares".into(), figures(&of_all, &all));
    report.baselines.insert("the subject's own shares".into(), figures(&of_subject, &all));
    Ok(report)
}

/// The share of each outcome in training: over all, and of each subject, drawn towards the overall one.
fn shares(seen: &[(Option<u32>, Outcome)], count: usize) -> (Vec<f32>, HashMap<u32, Vec<f32>>) {
    let mut all = vec![0.0f64; count];
    let mut own: HashMap<u32, Vec<f64>> = HashMap::new();
    for (subject, outcome) in seen {
        all[outcome.index] += 1.0;
        if let Some(subject) = subject {
            own.entry(*subject).or_insert_with(|| vec![0.0; count])[outcome.index] += 1.0;
        }
    }
    let total: f64 = all.iter().sum();
    let overall: Vec<f64> = all.iter().map(|n| (n + 0.5) / (total + 0.5 * count as f64)).collect();
    let own = own.into_iter().map(|(subject, counts)| {
        let total: f64 = counts.iter().sum();
        let share = |(n, all): (&f64, &f64)| ((n + PRIOR * all) / (total + PRIOR)) as f32;
        (subject, counts.iter().zip(&overall).map(share).collect())
    });
    let own = own.collect();
    (overall.iter().map(|share| *share as f32).collect(), own)
}

fn figures(told: &[Vec<f32>], cases: &[Case], drawn: &[usize], means: &[f32]) -> BTreeMap<String, f64> {
    let n = drawn.len().max(1) as f64;
    let mut out = BTreeMap::new();
    let numbers: Vec<(f64, f64)> = drawn
        .iter()
        .filter_map(|i| {
            let value = cases[*i].outcome.value?;
            let expected: f32 = told[*i].iter().zip(means).map(|(p, mean)| p * mean).sum();
            Some((f64::from(expected), f64::from(value)))
        })
        .collect();
    if numbers.len() == drawn.len() {
        let off: f64 = numbers.iter().map(|(told, is)| (told - is).abs()).sum();
        out.insert("mae".into(), off / n);
        return out;
    }
    let best = |p: &[f32]| (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap_or(0);
    let right = drawn.iter().filter(|i| best(&told[**i]) == cases[**i].outcome.index).count();
    out.insert("accuracy".into(), right as f64 / n);
    let loss = |i: &usize| -f64::from(told[*i][cases[*i].outcome.index].max(1e-9)).ln();
    out.insert("log_loss".into(), drawn.iter().map(loss).sum::<f64>() / n);
    let words = means.iter().filter(|mean| mean.is_nan()).count();
    if let (2, Some(first)) = (words, means.iter().position(|mean| mean.is_nan())) {
        let p: Vec<f64> = drawn.iter().map(|i| f64::from(told[*i][first])).collect();
        let labels: Vec<bool> = drawn.iter().map(|i| cases[*i].outcome.index == first).collect();
        for (name, figure) in [
            ("auc", auc(&p, &labels)),
            ("brier", brier(&p, &labels)),
            ("ece", ece(&p, &labels, 15)),
            ("log_loss", log_loss(&p, &labels)),
        ] {
            out.extend(figure.map(|figure| (name.to_owned(), figure)));
        }
    }
    out
}
