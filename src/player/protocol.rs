//! How next-event models are measured: full ranking and the 100 draws of `SASRec`, with what stands beside.

use super::baselines::{Baseline, Guessing, Markov, Neighbours, Popularity};
use super::histories::Histories;
use super::model::PlayerModel;
use super::source::Split;
use super::vocabulary::UNKNOWN;
use crate::error::{Error, Result};
use crate::evaluation::{Measured, Rank, Report};
use crate::model::{Row, Scratch};
use crate::seed::Seed;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// How a next-event model is measured: a held-out event of each player is to be found from all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Among all subjects, ties at their expected rank.
    Full {
        /// Whether what is in the player's history is left out of the ranking (but for the right one).
        masked: bool,
    },
    /// Among 100 drawn uniformly, with replacement, from what is not in the player's training part (Kang and `McAuley`
    /// 2018). Of more than 10,000 players, 10,000 are drawn.
    Sampled100,
}

impl Protocol {
    fn describe(self, split: Split, held: Held) -> String {
        let event = match (held, split) {
            (Held::Test, split) => split.describe(),
            (Held::Validation, Split::LeaveOneOut) => {
                "validation: the last event but one of each player with three or more".into()
            }
            (Held::Validation, _) => "validation: each player's first event after what was learned".into(),
        };
        let how = match self {
            Self::Full { masked: true } => "ranked among all subjects, those of their history left out",
            Self::Full { masked: false } => "ranked among all subjects",
            Self::Sampled100 => {
                "of more than 10,000 players 10,000 drawn, ranked among 100 subjects drawn uniformly with replacement from \
                 those not in the training part"
            }
        };
        format!("{event}, {how}, ties at their expected rank; 95 % bootstrap over players")
    }
}

/// On which held-out events a model is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// Those that nothing was chosen by.
    #[default]
    Test,
    /// Those that settings are chosen by.
    Validation,
}

/// Ranks at which figures are taken.
const CUTS: [usize; 4] = [1, 5, 10, 20];
/// How many players the sampled protocol measures.
const SAMPLED_PLAYERS: usize = 10_000;
/// Players that are scored at a time.
const BATCH: usize = 32;

/// A player to measure on.
struct Case {
    /// Subjects of the history, the newest last, without the last event's.
    history: Vec<u32>,
    /// The model's tokens of that history.
    tokens: Vec<u32>,
    target: u32,
    /// Whom it is measured against; all, if empty.
    against: Vec<u32>,
}

/// Ranks a next-event model on held-out events of histories (of the split it was trained with), beside popularity, a Markov chain and sequence-kNN, and
/// beside itself given somebody else's history (which should fall to popularity) and guessing (a hit in the first ten of
/// 10 / subjects); if those do better, something has leaked.
///
/// # Errors
/// [`Error::Data`] if no player has three events that are about something.
pub fn evaluate_next(
    model: &PlayerModel,
    histories: &Histories,
    protocol: Protocol,
    held: Held,
    seed: Seed,
    threads: usize,
) -> Result<Report> {
    let split = Split::of(model.task());
    let cuts = split.cuts(histories);
    let subjects = model.vocabulary().subjects();
    let count = subjects.len();
    let table = model.vocabulary().table(histories);
    let first = subjects.start;
    let number = |token: u32| (token != UNKNOWN).then(|| token - first);
    let (mut training, mut cases) = (Vec::new(), Vec::new());
    let draws = seed.derive("draws");
    for (at, history) in histories.players.iter().enumerate() {
        let parts = split.parts(history, cuts);
        let about = |end: usize| -> Vec<u32> {
            let tokens =
                history.events[..end].iter().filter_map(|e| Some(table.subjects[e.subject? as usize]));
            tokens.filter_map(number).collect()
        };
        let mine = about(parts.learned);
        let last = if held == Held::Test { parts.test } else { parts.validation };
        let target =
            last.and_then(|last| Some((last, table.subjects[history.events[last].subject? as usize])));
        if let Some((last, target)) = target.and_then(|(last, token)| Some((last, number(token)?))) {
            let (mut tokens, _) = model.vocabulary().history(&history.events[..last], &table);
            let context = model.decoder().context();
            tokens.drain(..tokens.len().saturating_sub(context));
            let against = match protocol {
                Protocol::Sampled100 => {
                    let known: HashSet<u32> = mine.iter().copied().collect();
                    let mut dice = draws.derive_index(at as u64).stream();
                    let fresh = std::iter::repeat_with(|| dice.below(count) as u32);
                    if known.len() >= count {
                        Vec::new()
                    } else {
                        fresh.filter(|subject| !known.contains(subject)).take(100).collect()
                    }
                }
                Protocol::Full { .. } => Vec::new(),
            };
            cases.push(Case { history: about(last), tokens, target, against });
        }
        training.push(mine);
    }
    if protocol == Protocol::Sampled100 && cases.len() > SAMPLED_PLAYERS {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        seed.derive("players").stream().shuffle(&mut order);
        let chosen: HashSet<usize> = order.into_iter().take(SAMPLED_PLAYERS).collect();
        let mut at = 0..;
        cases.retain(|_| at.next().is_some_and(|at| chosen.contains(&at)));
    }
    if cases.is_empty() {
        return Err(Error::Data {
            source_name: "the recordings".into(),
            reason: "no player has a held-out event about something that the model knows".into(),
            remedy: "record more, or evaluate the model on the data it was made for".into(),
        });
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::backend("starting threads", e))?;
    let name = protocol.describe(split, held);
    pool.install(|| measure(model, &training, &cases, (protocol, name), histories, seed))
}

fn measure(
    model: &PlayerModel,
    training: &[Vec<u32>],
    cases: &[Case],
    (protocol, name): (Protocol, String),
    histories: &Histories,
    seed: Seed,
) -> Result<Report> {
    let count = model.vocabulary().subjects().len();
    let mut report =
        Report { protocol: name, data_hash: histories.hash.clone(), n: cases.len(), ..Report::default() };
    let popularity = Popularity::new(training, count);
    let own: Vec<&[u32]> = cases.iter().map(|case| case.tokens.as_slice()).collect();
    let ranked = by_model(model, &own, cases, protocol)?;
    report.take(Measured::means(
        &columns(&ranked, &cases_popularity(cases, &popularity)),
        seed.derive("means"),
    ));
    for (name, figure) in spread(&ranked, count) {
        report.set(name, Some(figure));
    }
    // Somebody else's history: what is left is popularity, or something has leaked.
    let mut others: Vec<usize> = (0..cases.len()).collect();
    seed.derive("others").stream().shuffle(&mut others);
    let foreign: Vec<&[u32]> = others.iter().map(|at| cases[*at].tokens.as_slice()).collect();
    let shuffled = by_model(model, &foreign, cases, protocol)?;
    let markov = Markov::new(training, &popularity);
    let neighbours = Neighbours::new(training, &popularity);
    let guessing = Guessing;
    let baselines: [(&str, Ranked); 5] = [
        ("shuffled history", shuffled),
        ("popularity", by_baseline(&popularity, cases, protocol, count)),
        ("markov", by_baseline(&markov, cases, protocol, count)),
        ("sequence-knn", by_baseline(&neighbours, cases, protocol, count)),
        ("guessing", by_baseline(&guessing, cases, protocol, count)),
    ];
    let strata = cases_popularity(cases, &popularity);
    for (name, ranked) in baselines {
        let ones = vec![1.0; cases.len()];
        let mut figures: BTreeMap<String, f64> = columns(&ranked, &strata)
            .into_iter()
            .filter_map(|(name, column)| {
                let kept = || column.iter().zip(&ones).filter(|(value, _)| !value.is_nan());
                let n = kept().count();
                (n > 0).then(|| (name, kept().map(|(value, _)| value).sum::<f64>() / n as f64))
            })
            .collect();
        figures.extend(spread(&ranked, count).map(|(name, figure)| (name.to_owned(), figure)));
        report.baselines.insert(name.to_owned(), figures);
    }
    Ok(report)
}

/// Where the right ones stand, and what stood in the first ten places.
struct Ranked {
    ranks: Vec<Rank>,
    /// Whether the right one was first of all, whatever is left out; NaN where that was not asked.
    first: Vec<f64>,
    /// Whether the right one is another than the one before.
    changed: Vec<bool>,
    /// How often each subject was among the first ten.
    shown: Vec<u32>,
    /// Whether a list could be taken (full ranking only).
    listed: bool,
}

/// Where the right one of a case stands.
struct Placed {
    rank: Rank,
    first: f64,
    changed: bool,
    /// The first ten.
    list: Vec<u32>,
}

/// The rank of a case's target among its scores, one for each subject; and its first ten.
fn place(case: &Case, scores: &mut [f32], protocol: Protocol) -> Placed {
    let changed = case.history.last() != Some(&case.target);
    let own = scores[case.target as usize];
    match protocol {
        Protocol::Sampled100 => {
            let drawn = case.against.iter().map(|subject| scores[*subject as usize]);
            let all: Vec<f32> = std::iter::once(own).chain(drawn).collect();
            let rank = Rank::of(&all, 0).unwrap_or(Rank { above: 0, ties: 0 });
            Placed { rank, first: f64::NAN, changed, list: Vec::new() }
        }
        Protocol::Full { masked } => {
            let mut hidden = 0;
            let first = Rank::of(scores, case.target as usize).map_or(f64::NAN, |rank| rank.hit(1));
            if masked {
                for subject in case.history.iter().filter(|subject| **subject != case.target) {
                    let score = &mut scores[*subject as usize];
                    hidden += usize::from(*score > f32::NEG_INFINITY);
                    *score = f32::NEG_INFINITY;
                }
            }
            let mut rank = Rank::of(scores, case.target as usize).unwrap_or(Rank { above: 0, ties: 0 });
            if own == f32::NEG_INFINITY {
                rank.ties -= hidden.min(rank.ties);
            }
            let mut order: Vec<u32> = (0..scores.len() as u32).collect();
            let ten = 10.min(order.len());
            let by = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
            if ten < order.len() {
                order.select_nth_unstable_by(ten, by);
            }
            order.truncate(ten);
            Placed { rank, first, changed, list: order }
        }
    }
}

fn gather(parts: Vec<Vec<Placed>>, count: usize, protocol: Protocol) -> Ranked {
    let mut all = Ranked {
        ranks: Vec::new(),
        first: Vec::new(),
        changed: Vec::new(),
        shown: vec![0; count],
        listed: protocol != Protocol::Sampled100,
    };
    for Placed { rank, first, changed, list } in parts.into_iter().flatten() {
        all.ranks.push(rank);
        all.first.push(first);
        all.changed.push(changed);
        list.iter().for_each(|subject| all.shown[*subject as usize] += 1);
    }
    all
}

fn by_model(model: &PlayerModel, tokens: &[&[u32]], cases: &[Case], protocol: Protocol) -> Result<Ranked> {
    let subjects = model.vocabulary().subjects();
    let range = subjects.start as usize..subjects.end as usize;
    let parts = tokens.par_chunks(BATCH).zip(cases.par_chunks(BATCH)).map(|(tokens, cases)| {
        let mut caches: Vec<_> = tokens.iter().map(|_| model.decoder().cache()).collect();
        let mut logits = vec![Vec::new(); tokens.len()];
        let rows = tokens.iter().zip(&mut caches).zip(&mut logits);
        let mut rows: Vec<Row<'_>> = rows
            .map(|((tokens, cache), logits)| Row { cache, tokens, logits, all: false, adapter: None })
            .collect();
        model.decoder().forward(&mut rows, &mut Scratch::default())?;
        let ranks = cases.iter().zip(&mut logits);
        Ok(ranks.map(|(case, logits)| place(case, &mut logits[range.clone()], protocol)).collect())
    });
    Ok(gather(parts.collect::<Result<_>>()?, subjects.len(), protocol))
}

fn by_baseline(baseline: &dyn Baseline, cases: &[Case], protocol: Protocol, count: usize) -> Ranked {
    let parts = cases.par_chunks(BATCH).map(|cases| {
        let mut scores = vec![0.0; count];
        let each = cases.iter().map(|case| {
            scores.fill(0.0);
            baseline.score(&case.history, &mut scores);
            place(case, &mut scores, protocol)
        });
        each.collect()
    });
    gather(parts.collect(), count, protocol)
}

/// Each target's third by popularity: those of the most popular third of choices, the middle, the rest.
fn cases_popularity(cases: &[Case], popularity: &Popularity) -> Vec<usize> {
    let mut order: Vec<usize> = (0..popularity.0.len()).collect();
    order.sort_by(|a, b| popularity.0[*b].total_cmp(&popularity.0[*a]).then(a.cmp(b)));
    let total: f32 = popularity.0.iter().sum();
    let (mut third, mut sum) = (vec![2; popularity.0.len()], 0.0);
    for subject in order {
        third[subject] = ((3.0 * sum / total.max(1.0)) as usize).min(2);
        sum += popularity.0[subject];
    }
    cases.iter().map(|case| third[case.target as usize]).collect()
}

/// Figures by player; NaN where a player has none.
fn columns(ranked: &Ranked, thirds: &[usize]) -> BTreeMap<String, Vec<f64>> {
    type Gain = fn(&Rank, usize) -> f64;
    let gains: [(&str, Gain); 3] = [("hr", Rank::hit), ("ndcg", Rank::ndcg), ("mrr", Rank::reciprocal)];
    let mut columns = BTreeMap::new();
    for (name, gain) in gains {
        for k in CUTS {
            columns.insert(format!("{name}@{k}"), ranked.ranks.iter().map(|rank| gain(rank, k)).collect());
        }
    }
    if ranked.listed {
        let changes = ranked.first.iter().zip(&ranked.changed);
        let changes = changes.map(|(first, changed)| if *changed { *first } else { f64::NAN });
        columns.insert("change_only_accuracy".into(), changes.collect());
        columns.insert("next_action_accuracy".into(), ranked.first.clone());
    }
    for (third, name) in ["popular", "middle", "rare"].iter().enumerate() {
        let of = |(rank, own): (&Rank, &usize)| if *own == third { rank.ndcg(10) } else { f64::NAN };
        columns.insert(
            format!("ndcg_10_by_popularity@{name}"),
            ranked.ranks.iter().zip(thirds).map(of).collect(),
        );
    }
    columns
}

/// Of full rankings: the share of subjects that were among anybody's first ten, and how unequally often (Gini).
fn spread(ranked: &Ranked, count: usize) -> impl Iterator<Item = (&'static str, f64)> {
    let mut shown: Vec<f64> = ranked.shown.iter().map(|n| f64::from(*n)).collect();
    shown.sort_by(f64::total_cmp);
    let total: f64 = shown.iter().sum();
    let coverage = shown.iter().filter(|n| **n > 0.0).count() as f64 / count.max(1) as f64;
    let n = shown.len() as f64;
    let weighted: f64 = shown.iter().enumerate().map(|(i, x)| (2.0 * (i as f64 + 1.0) - n - 1.0) * x).sum();
    let gini = if total > 0.0 { weighted / (n * total) } else { 0.0 };
    let listed = ranked.listed;
    [("coverage", coverage), ("gini", gini)].into_iter().filter(move |_| listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn case(history: Vec<u32>, target: u32) -> Case {
        Case { history, tokens: Vec::new(), target, against: Vec::new() }
    }

    #[test]
    fn guessing_hits_as_often_as_chance_and_a_constant_stands_in_the_middle() {
        let cases: Vec<Case> = (0..4000).map(|n| case(vec![n, n / 7], n % 50)).collect();
        let guessed = by_baseline(&Guessing, &cases, Protocol::Full { masked: false }, 50);
        let hits: f64 = guessed.ranks.iter().map(|rank| rank.hit(10)).sum();
        assert!((hits / 4000.0 - 0.2).abs() < 0.03, "{hits}");
        let ranked =
            by_baseline(&Popularity(vec![0.0; 19]), &[case(vec![], 3)], Protocol::Full { masked: false }, 19);
        assert_eq!(ranked.ranks[0], Rank { above: 0, ties: 18 });
    }

    #[test]
    fn what_is_masked_does_not_stand_above() {
        let mut scores = [5.0, 4.0, 3.0, 2.0];
        let masked = place(&case(vec![0, 2, 3], 3), &mut scores.clone(), Protocol::Full { masked: true });
        assert_eq!(masked.rank, Rank { above: 1, ties: 0 });
        let plain = place(&case(vec![0, 2, 3], 3), &mut scores, Protocol::Full { masked: false });
        assert_eq!(plain.rank, Rank { above: 3, ties: 0 });
    }

    proptest! {
        /// A reference written out: sort, and take the mean of the places of all that score the same.
        #[test]
        fn places_equal_those_of_a_sorted_list(scores in prop::collection::vec(0u8..6, 2..40), target: prop::sample::Index, seen in prop::collection::vec(0usize..40, 0..6)) {
            let target = target.index(scores.len());
            let history: Vec<u32> = seen.iter().filter(|s| **s < scores.len()).map(|s| *s as u32).collect();
            let mut floats: Vec<f32> = scores.iter().map(|s| f32::from(*s)).collect();
            let Placed { rank, list: ten, .. } = place(&case(history.clone(), target as u32), &mut floats, Protocol::Full { masked: true });
            let mut kept: Vec<usize> = (0..scores.len()).filter(|i| *i == target || !history.contains(&(*i as u32))).collect();
            kept.sort_by(|a, b| scores[*b].cmp(&scores[*a]));
            let places: Vec<f64> = (0..kept.len()).filter(|p| scores[kept[*p]] == scores[target]).map(|p| p as f64).collect();
            prop_assert!((rank.place() - places.iter().sum::<f64>() / places.len() as f64).abs() < 1e-9);
            prop_assert_eq!(ten.len(), 10.min(scores.len()));
        }
    }
}
