//! Reports: named figures with their protocol, baselines and confidence intervals.

use super::nested;
use crate::seed::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an evaluation found. A figure that does not apply is left out, never 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// How it was measured, by name.
    pub protocol: String,
    /// BLAKE3 of the data.
    pub data_hash: String,
    /// How many units (dialogues, players) it rests on.
    pub n: usize,
    /// The figures. One of a family is named `family@member` and written `"family": {"member": ..}`.
    #[serde(flatten, with = "nested")]
    pub figures: BTreeMap<String, f64>,
    /// The same figures for what stands beside the model.
    #[serde(with = "nested::each")]
    pub baselines: BTreeMap<String, BTreeMap<String, f64>>,
    /// 95 % intervals over units; how they were found is the protocol's to say.
    #[serde(with = "nested")]
    pub ci95: BTreeMap<String, [f64; 2]>,
}

impl Report {
    /// Sets a figure, if there is one.
    pub fn set(&mut self, name: &str, figure: Option<f64>) {
        if let Some(figure) = figure.filter(|figure| figure.is_finite()) {
            self.figures.insert(name.to_owned(), figure);
        }
    }

    /// The figures in the order people read them: by name, the members of a family by number.
    pub fn in_order(&self) -> Vec<(&str, f64)> {
        let names = in_order(self.figures.keys().map(String::as_str));
        names.into_iter().map(|name| (name, self.figures[name])).collect()
    }

    /// Takes in figures and their intervals.
    pub fn take(&mut self, measured: Measured) {
        self.figures.extend(measured.figures);
        self.ci95.extend(measured.ci95);
    }
}

/// Names sorted as people read them: `hr@5` before `hr@10`.
pub(super) fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_by_key(|name| {
        let (family, member) = name.split_once('@').unwrap_or((name, ""));
        (family, member.parse::<u64>().unwrap_or(u64::MAX), member)
    });
    names
}

/// Figures and their 95 % intervals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The figures.
    pub figures: BTreeMap<String, f64>,
    /// The interval of each that has one.
    pub ci95: BTreeMap<String, [f64; 2]>,
}

impl Measured {
    /// Figures over `units` units that depend only on how often each occurs: on all of them once, and
    /// bootstrapped.
    pub fn bootstrapped(units: usize, seed: Seed, figures: impl Fn(&[f64]) -> BTreeMap<String, f64>) -> Self {
        let counted = |drawn: &[usize]| {
            let mut counts = vec![0.0; units];
            drawn.iter().for_each(|unit| counts[*unit] += 1.0);
            figures(&counts)
        };
        Self { figures: figures(&vec![1.0; units]), ci95: resample(units, seed, counted) }
    }

    /// Figures that are means of a value per unit, bootstrapped over units; NaN where a unit has no value.
    pub fn means(columns: &BTreeMap<String, Vec<f64>>, seed: Seed) -> Self {
        let units = columns.values().map(Vec::len).max().unwrap_or(0);
        Self::bootstrapped(units, seed, |counts| means(columns, counts))
    }
}

/// The mean of each column, its values weighted by `counts`; NaN is no value, and without any there is no mean.
pub(super) fn means(columns: &BTreeMap<String, Vec<f64>>, counts: &[f64]) -> BTreeMap<String, f64> {
    let mean = |column: &Vec<f64>| {
        let whole = column.iter().zip(counts).filter(|(value, count)| !value.is_nan() && **count > 0.0);
        let (sum, all) = whole.fold((0.0, 0.0), |(sum, all), (value, n)| (sum + n * value, all + n));
        (all > 0.0).then(|| sum / all)
    };
    columns.iter().filter_map(|(name, column)| Some((name.clone(), mean(column)?))).collect()
}

/// The loss of one unit: a sum of weighted nats, its weight, and the bytes it stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnitLoss {
    /// Nats.
    pub nats: f64,
    /// Tokens.
    pub tokens: f64,
    /// UTF-8 bytes of the text those tokens spell.
    pub bytes: f64,
}

/// `loss` (nats a token), `perplexity` and `bits_per_byte` over units.
pub fn language_figures(units: &[UnitLoss]) -> BTreeMap<String, f64> {
    let sum = |f: fn(&UnitLoss) -> f64| units.iter().map(f).sum::<f64>();
    let (nats, tokens, bytes) = (sum(|u| u.nats), sum(|u| u.tokens), sum(|u| u.bytes));
    let mut figures = BTreeMap::new();
    if tokens > 0.0 {
        figures.insert("loss".to_owned(), nats / tokens);
        figures.insert("perplexity".to_owned(), (nats / tokens).exp());
    }
    if bytes > 0.0 {
        figures.insert("bits_per_byte".to_owned(), nats / (std::f64::consts::LN_2 * bytes));
    }
    figures
}

/// Percentile bootstrap (Efron 1979) over units, 1,000 resamples: the 95 % interval of each figure.
pub fn bootstrap<T: Clone>(
    units: &[T],
    seed: Seed,
    figures: impl Fn(&[T]) -> BTreeMap<String, f64>,
) -> BTreeMap<String, [f64; 2]> {
    resample(units.len(), seed, |drawn| {
        figures(&drawn.iter().map(|unit| units[*unit].clone()).collect::<Vec<T>>())
    })
}

fn resample(
    units: usize,
    seed: Seed,
    figures: impl Fn(&[usize]) -> BTreeMap<String, f64>,
) -> BTreeMap<String, [f64; 2]> {
    const RESAMPLES: usize = 1000;
    if units < 2 {
        return BTreeMap::new();
    }
    let mut noise = seed.derive("bootstrap").stream();
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut drawn = vec![0; units];
    for _ in 0..RESAMPLES {
        drawn.iter_mut().for_each(|unit| *unit = noise.below(units));
        for (name, figure) in figures(&drawn) {
            found.entry(name).or_default().push(figure);
        }
    }
    let interval = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        [values[values.len() * 25 / 1000], values[(values.len() * 975 / 1000).min(values.len() - 1)]]
    };
    found.into_iter().map(|(name, values)| (name, interval(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_and_perplexity_are_the_formula() {
        let units = [
            UnitLoss { nats: 2.0, tokens: 2.0, bytes: 4.0 },
            UnitLoss { nats: 4.0, tokens: 2.0, bytes: 4.0 },
        ];
        let figures = language_figures(&units);
        assert!((figures["perplexity"] - 1.5f64.exp()).abs() < 1e-12);
        assert!((figures["bits_per_byte"] - 6.0 / (8.0 * std::f64::consts::LN_2)).abs() < 1e-12);
        assert!(language_figures(&[]).is_empty());
    }

    #[test]
    fn an_interval_holds_the_mean_and_narrows() {
        let mean = |v: &[f64]| BTreeMap::from([("mean".to_owned(), v.iter().sum::<f64>() / v.len() as f64)]);
        let interval = |n: usize| {
            bootstrap(&(0..n).map(|i| (i % 10) as f64).collect::<Vec<_>>(), Seed::new(1), mean)["mean"]
        };
        let (few, many) = (interval(20), interval(2000));
        assert!(few[0] < 4.5 && 4.5 < few[1] && many[0] < 4.5 && 4.5 < many[1]);
        assert!(many[1] - many[0] < 0.3 * (few[1] - few[0]));
    }

    #[test]
    fn means_leave_out_what_does_not_apply_and_have_the_interval_of_the_plain_bootstrap() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i % 7)).collect();
        let columns = BTreeMap::from([
            ("mean".to_owned(), values.clone()),
            ("half".to_owned(), values.iter().map(|v| if *v > 2.0 { *v } else { f64::NAN }).collect()),
            ("none".to_owned(), vec![f64::NAN; 50]),
        ]);
        let measured = Measured::means(&columns, Seed::new(1));
        let mean = |v: &[f64]| BTreeMap::from([("mean".to_owned(), v.iter().sum::<f64>() / v.len() as f64)]);
        assert_eq!(measured.figures["mean"], mean(&values)["mean"]);
        let (ours, plain) = (measured.ci95["mean"], bootstrap(&values, Seed::new(1), mean)["mean"]);
        assert!((ours[0] - plain[0]).abs() < 1e-12 && (ours[1] - plain[1]).abs() < 1e-12);
        assert_eq!(measured.figures["half"], 4.5);
        assert!(!measured.figures.contains_key("none") && !measured.ci95.contains_key("none"));
    }

    #[test]
    fn members_of_a_family_stand_in_the_order_of_their_numbers() {
        let mut report = Report::default();
        ["hr@10", "loss", "hr@5", "hr@a", "auc"].iter().for_each(|name| report.set(name, Some(1.0)));
        let names: Vec<&str> = report.in_order().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["auc", "hr@5", "hr@10", "hr@a", "loss"]);
    }

    #[test]
    fn a_figure_that_does_not_apply_is_left_out() {
        let mut report = Report::default();
        report.set("a", None);
        report.set("b", Some(f64::NAN));
        report.set("c", Some(1.0));
        let json = serde_json::to_string(&report).unwrap();
        assert!(!json.contains("\"a\"") && !json.contains("\"b\"") && json.contains("\"c\":1.0"), "{json}");
    }
}
