//! How churn models are measured: AUC and calibration on players of whom nothing was learned, beside logistic regressions
//! on what can be counted.

use super::answer::{ChurnPart, ChurnTask, DAY_MS, Task, Watched, churn_parts, end_of};
use super::histories::{Histories, History};
use super::logistic::Logistic;
use super::model::PlayerModel;
use super::source::churn_question;
use crate::error::{Error, Result};
use crate::evaluation::{Measured, ReliabilityBin, Report, auc, brier, ece, log_loss, reliability};
use crate::model::{Row, Scratch};
use crate::seed::Seed;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Bins of the calibration error.
const BINS: usize = 15;

/// Measures who of the test players leaves. Beside the report, the reliability diagram.
///
/// # Errors
/// [`Error::Config`] for a model that was not trained for it; [`Error::Data`] if no test player was watched long enough.
pub fn evaluate_churn(
    model: &PlayerModel,
    histories: &Histories,
    seed: Seed,
    threads: usize,
) -> Result<(Report, Vec<ReliabilityBin>)> {
    let Ok(Task::Churn(task)) = ron::from_str(model.task()) else {
        let reason = "the model was not trained to tell who leaves";
        return Err(Error::config("skald.ron", "task", reason, "train one with `task: Churn(..)`"));
    };
    let (end_ms, parts) = (end_of(histories), churn_parts(histories));
    let watched = |test: bool| -> Vec<(&History, Watched)> {
        let of = |(history, part): (_, &ChurnPart)| ((*part == ChurnPart::Test) == test).then_some(history);
        let players = histories.players.iter().zip(&parts).filter_map(of);
        players
            .filter_map(|history| Some((history, task.watch(history, task.observe_days, end_ms)?)))
            .collect()
    };
    let (train, test) = (watched(false), watched(true));
    if test.is_empty() || train.is_empty() {
        return Err(Error::Data {
            source_name: "the recordings".into(),
            reason: "no test player's two windows end before the log does".into(),
            remedy: "record longer, or choose shorter windows".into(),
        });
    }
    let labels: Vec<bool> = test.iter().map(|(_, watched)| watched.left).collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::backend("starting threads", e))?;
    let own = pool.install(|| probabilities(model, histories, &test))?;
    let days = |days: f64| if days.fract() == 0.0 { format!("{days:.0}") } else { format!("{days}") };
    let mut report = Report {
        protocol: format!(
            "churn: no event in the {} days after the first {}; players whose windows end within the log, of fold 0 of the \
             import (else every fifth), of whom nothing was learned; 95 % bootstrap over players; ECE in 15 bins",
            days(task.outcome_days),
            days(task.observe_days)
        ),
        data_hash: histories.hash.clone(),
        n: test.len(),
        ..Report::default()
    };
    report.take(Measured::bootstrapped(test.len(), seed.derive("churn"), |counts| {
        let of = |n: &f64, i: usize| std::iter::repeat_n(i, *n as usize);
        let drawn: Vec<usize> = counts.iter().enumerate().flat_map(|(i, n)| of(n, i)).collect();
        let p: Vec<f64> = drawn.iter().map(|i| own[*i]).collect();
        let l: Vec<bool> = drawn.iter().map(|i| labels[*i]).collect();
        figures(&p, &l)
    }));
    let share = labels.iter().filter(|left| **left).count() as f64 / labels.len() as f64;
    report.set("churned", Some(share));
    let seen: Vec<bool> = train.iter().map(|(_, watched)| watched.left).collect();
    let rate = seen.iter().filter(|left| **left).count() as f64 / seen.len() as f64;
    report.baselines.insert("base rate".into(), figures(&vec![rate; labels.len()], &labels));
    for (name, all) in
        [("logistic regression on counts", false), ("logistic regression on counts and recency", true)]
    {
        let features = |players: &[(&History, Watched)]| -> Vec<Vec<f64>> {
            players
                .iter()
                .map(|(history, watched)| counted(history, watched, &task, histories, all))
                .collect()
        };
        if let Some(fitted) = Logistic::fit(&features(&train), &seen, 1.0) {
            let p: Vec<f64> = features(&test).iter().map(|row| fitted.probability(row)).collect();
            report.baselines.insert(name.into(), figures(&p, &labels));
        }
    }
    Ok((report, reliability(&own, &labels, BINS)))
}

fn figures(p: &[f64], labels: &[bool]) -> BTreeMap<String, f64> {
    let all = [
        ("auc", auc(p, labels)),
        ("log_loss", log_loss(p, labels)),
        ("brier", brier(p, labels)),
        ("ece", ece(p, labels, BINS)),
    ];
    all.into_iter().filter_map(|(name, figure)| Some((name.to_owned(), figure?))).collect()
}

/// What can be counted of a watched player: events in all, of each kind and on each day, active days; with `all` also how
/// long they have been gone, how long they played, and the mean and the spread of the outcomes.
fn counted(
    history: &History,
    watched: &Watched,
    task: &ChurnTask,
    histories: &Histories,
    all: bool,
) -> Vec<f64> {
    let events = &history.events[..watched.events];
    let log = |count: f64| count.ln_1p();
    let mut features = vec![log(events.len() as f64)];
    if histories.kinds.len() > 1 {
        let of = |kind: usize| events.iter().filter(|event| event.kind as usize == kind).count() as f64;
        features.extend((0..histories.kinds.len().min(64)).map(|kind| log(of(kind))));
    }
    let days = task.observe_days.ceil().clamp(1.0, 60.0) as usize;
    let begun = watched.until_ms - (task.observe_days * DAY_MS as f64) as i64;
    let mut by_day = vec![0.0; days];
    for event in events {
        let day = (event.at_ms - begun).max(0) / DAY_MS;
        by_day[usize::try_from(day).unwrap_or(0).min(days - 1)] += 1.0;
    }
    features.push(by_day.iter().filter(|count| **count > 0.0).count() as f64);
    features.extend(by_day.iter().map(|count| log(*count)));
    if all {
        let hours = |ms: i64| ms.max(0) as f64 / 3_600_000.0;
        let last = events.last().map_or(begun, |event| event.at_ms);
        features.extend([log(hours(watched.until_ms - last)), log(hours(last - begun))]);
        let values: Vec<f64> = events.iter().filter_map(|event| event.value.map(f64::from)).collect();
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let spread = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        features.extend([mean.signum() * log(mean.abs()), log(spread)]);
    }
    features
}

/// What the model says of watched players.
fn probabilities(
    model: &PlayerModel,
    histories: &Histories,
    players: &[(&History, Watched)],
) -> Result<Vec<f64>> {
    let vocabulary = model.vocabulary();
    let table = vocabulary.table(histories);
    let context = model.decoder().context();
    let [_, yes, no] = vocabulary.churn();
    let parts = players.par_chunks(32).map(|players| {
        let questions: Vec<Vec<u32>> = players
            .iter()
            .map(|(history, watched)| churn_question(history, *watched, vocabulary, &table, context))
            .collect();
        let mut caches: Vec<_> = questions.iter().map(|_| model.decoder().cache()).collect();
        let mut logits = vec![Vec::new(); questions.len()];
        let rows = questions.iter().zip(&mut caches).zip(&mut logits);
        let mut rows: Vec<Row<'_>> = rows
            .map(|((tokens, cache), logits)| Row { cache, tokens, logits, all: false, adapter: None })
            .collect();
        model.decoder().forward(&mut rows, &mut Scratch::default())?;
        let p = |logits: &Vec<f32>| {
            let margin = f64::from(logits[no as usize]) - f64::from(logits[yes as usize]);
            1.0 / (1.0 + margin.exp())
        };
        Ok(logits.iter().map(p).collect::<Vec<f64>>())
    });
    Ok(parts.collect::<Result<Vec<_>>>()?.concat())
}
