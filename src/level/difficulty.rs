//! How hard a level is, learned from attempts: which share of players like those recorded would finish it.
//!
//! A logistic regression on what a solution shows (how long, how steep, how near to dangers), so a few hundred attempts are
//! enough and a designer can read the weights. Attempts are split by player: what is reported was not learned from.

use super::game::{TileGame, bit};
use super::grid::Grid;
use super::knob::slices;
use super::solve::{Limits, Solution, solve};
use super::walk::{Cells, GridCells};
use crate::error::{Error, Result};
use crate::evaluation::{auc, log_loss};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One player's attempt at a level, a line of JSONL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The player, by pseudonym.
    pub player: String,
    /// The level's rows, or the name of one that is given beside.
    pub level: String,
    /// Whether it was finished.
    pub finished: bool,
    /// Deaths on the way.
    #[serde(default)]
    pub deaths: u32,
    /// How long it took, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// Whether the player gave up.
    #[serde(default)]
    pub quit: bool,
}

/// What a solution shows.
pub(super) const FEATURES: [&str; 7] =
    ["length", "pushes", "dangers", "dangers near the way", "gaps", "climbs", "doors"];

/// Weights of a logistic regression on `FEATURES`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// Of each feature, as it is.
    pub weights: Vec<f64>,
    /// Of none.
    pub bias: f64,
}

impl Completion {
    /// The share of players that would finish a level.
    pub fn predict(&self, game: &TileGame, grid: &Grid, solution: &Solution) -> f64 {
        let features = features(game, grid, solution);
        sigmoid(self.bias + self.weights.iter().zip(features).map(|(w, f)| w * f).sum::<f64>())
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn features(game: &TileGame, grid: &Grid, solution: &Solution) -> [f64; FEATURES.len()] {
    let cells = GridCells::new(grid, &game.bits());
    let n = slices(game.scan, grid) as f64;
    let count = |wanted: u16| cells.bits.iter().filter(|bits| **bits & wanted != 0).count() as f64;
    let way = solution.cells(game, grid);
    let danger = |x: i32, y: i32| cells.bits(x, y).is_some_and(|bits| bits & (bit::HAZARD | bit::ENEMY) != 0);
    let near = way
        .iter()
        .filter(|(x, y)| (-2..=2).any(|dx| (-2..=2).any(|dy| danger(*x as i32 + dx, *y as i32 + dy))));
    let climbs = way.windows(2).filter(|two| two[1].1 < two[0].1).count() as f64;
    let empty = |x: i32| {
        (0..cells.height).all(|y| cells.bits(x, y).is_some_and(|b| b & (bit::SOLID | bit::ONE_WAY) == 0))
    };
    let length = way.len().max(1) as f64;
    [
        length.ln(),
        (solution.pushes().unwrap_or(0) as f64).ln_1p(),
        count(bit::HAZARD | bit::ENEMY) / n,
        near.count() as f64 / length,
        (0..cells.width).filter(|x| empty(*x)).count() as f64 / f64::from(cells.width),
        climbs / length,
        count(bit::DOOR).ln_1p(),
    ]
}

/// How well a fit foretells attempts of players it did not learn from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifficultyReport {
    /// How it was measured.
    pub protocol: String,
    /// Attempts that were learned from, and held out.
    pub attempts: usize,
    /// Held-out attempts.
    pub n: usize,
    /// Of held-out attempts.
    pub auc: Option<f64>,
    /// In nats.
    pub log_loss: Option<f64>,
    /// Mean squared error.
    pub brier: f64,
    /// The mean difference of the share that was foretold and the share that finished, over levels with attempts.
    pub level_error: f64,
    /// The same figures for the mean completion of the attempts learned from, whatever the level.
    pub baselines: BTreeMap<String, BTreeMap<String, f64>>,
    /// The weights.
    pub weights: BTreeMap<String, f64>,
}

/// Fits completion to attempts. `named` are levels that attempts may name.
///
/// # Errors
/// [`Error::Data`] for too few attempts or players, or levels that cannot be solved; [`Error::Syntax`] for a level's rows.
pub fn fit(
    game: &TileGame,
    attempts: &[Attempt],
    named: &BTreeMap<String, Grid>,
    limits: Limits,
) -> Result<(Completion, DifficultyReport)> {
    let mut known: BTreeMap<&str, Option<[f64; FEATURES.len()]>> = BTreeMap::new();
    for attempt in attempts {
        if known.contains_key(attempt.level.as_str()) {
            continue;
        }
        let read;
        let grid = match named.get(&attempt.level) {
            Some(grid) => grid,
            None => {
                read = super::grid_from_text(game, &attempt.level, "attempts")?;
                &read
            }
        };
        let solution = solve(game, grid, limits).solution();
        known.insert(&attempt.level, solution.map(|solution| features(game, grid, &solution)));
    }
    type Rows<'a> = Vec<([f64; FEATURES.len()], f64, &'a str)>;
    let rows = |held: bool| -> Rows<'_> {
        let is_held = |player: &str| blake3::hash(player.as_bytes()).as_bytes()[0].is_multiple_of(5);
        let of = attempts.iter().filter(|attempt| is_held(&attempt.player) == held);
        of.filter_map(|a| Some((known[a.level.as_str()]?, f64::from(u8::from(a.finished)), a.level.as_str())))
            .collect()
    };
    let (train, held) = (rows(false), rows(true));
    if train.len() < 20 || held.is_empty() {
        return Err(Error::Data {
            source_name: "--attempts".into(),
            reason: format!(
                "there are {} attempts to learn from and {} of other players",
                train.len(),
                held.len()
            ),
            remedy: "record at least 20 attempts of several players, on levels that can be finished".into(),
        });
    }
    let completion = logistic(&train);
    let foretell = |features: &[f64; FEATURES.len()]| {
        sigmoid(completion.bias + completion.weights.iter().zip(features).map(|(w, f)| w * f).sum::<f64>())
    };
    let mean = train.iter().map(|row| row.1).sum::<f64>() / train.len() as f64;
    let figures = |of: &dyn Fn(&[f64; FEATURES.len()]) -> f64| {
        let brier = held.iter().map(|(f, y, _)| (of(f) - y).powi(2)).sum::<f64>() / held.len() as f64;
        let mut levels: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
        for (f, y, level) in &held {
            let sums = levels.entry(level).or_default();
            *sums = (sums.0 + of(f), sums.1 + y, sums.2 + 1.0);
        }
        let error = levels.values().map(|(p, y, n)| ((p - y) / n).abs()).sum::<f64>() / levels.len() as f64;
        let scored: Vec<(f64, bool)> = held.iter().map(|(f, y, _)| (of(f), *y > 0.5)).collect();
        (brier, error, scored)
    };
    let (brier, level_error, scored) = figures(&foretell);
    let (base_brier, base_error, base) = figures(&|_| mean);
    let mut baseline =
        BTreeMap::from([("brier".to_owned(), base_brier), ("level_error".to_owned(), base_error)]);
    baseline.extend(loss(&base).map(|value| ("log_loss".to_owned(), value)));
    let report = DifficultyReport {
        protocol: "logistic regression on what the solution shows; players whose pseudonym's BLAKE3 hash is 0 mod 5 held out"
            .into(),
        attempts: train.len(),
        n: held.len(),
        auc: area(&scored),
        log_loss: loss(&scored),
        brier,
        level_error,
        baselines: BTreeMap::from([("mean completion".to_owned(), baseline)]),
        weights: FEATURES.iter().map(|name| (*name).to_owned()).zip(completion.weights.iter().copied()).collect(),
    };
    Ok((completion, report))
}

fn area(scored: &[(f64, bool)]) -> Option<f64> {
    let (scores, labels): (Vec<f64>, Vec<bool>) = scored.iter().copied().unzip();
    auc(&scores, &labels)
}

fn loss(scored: &[(f64, bool)]) -> Option<f64> {
    let (scores, labels): (Vec<f64>, Vec<bool>) = scored.iter().copied().unzip();
    log_loss(&scores, &labels)
}

/// Newton's method on standardised features, with a small ridge.
fn logistic(rows: &[([f64; FEATURES.len()], f64, &str)]) -> Completion {
    const D: usize = FEATURES.len();
    const RIDGE: f64 = 1.0;
    let n = rows.len() as f64;
    let mut mean = [0.0; D];
    let mut scale = [0.0; D];
    for i in 0..D {
        mean[i] = rows.iter().map(|row| row.0[i]).sum::<f64>() / n;
        scale[i] = (rows.iter().map(|row| (row.0[i] - mean[i]).powi(2)).sum::<f64>() / n).sqrt();
    }
    // What never differs says nothing.
    let standard = |f: &[f64; D]| -> [f64; D + 1] {
        std::array::from_fn(|i| {
            if i == D {
                1.0
            } else if scale[i] > 1e-9 {
                (f[i] - mean[i]) / scale[i]
            } else {
                0.0
            }
        })
    };
    let mut w = [0.0; D + 1];
    for _ in 0..30 {
        let mut gradient = [0.0; D + 1];
        let mut curve = [[0.0; D + 1]; D + 1];
        for (f, y, _) in rows {
            let x = standard(f);
            let p = sigmoid(w.iter().zip(x).map(|(w, x)| w * x).sum());
            for i in 0..=D {
                gradient[i] += (p - y) * x[i];
                for j in 0..=D {
                    curve[i][j] += p * (1.0 - p) * x[i] * x[j];
                }
            }
        }
        for i in 0..=D {
            if i < D {
                gradient[i] += RIDGE * w[i];
                curve[i][i] += RIDGE;
            }
            curve[i][i] += 1e-6;
        }
        let step = eliminate(curve, gradient);
        w.iter_mut().zip(step).for_each(|(w, s)| *w -= s.clamp(-2.0, 2.0));
    }
    let weights: Vec<f64> = (0..D).map(|i| if scale[i] > 1e-9 { w[i] / scale[i] } else { 0.0 }).collect();
    let bias = w[D] - weights.iter().zip(mean).map(|(w, m)| w * m).sum::<f64>();
    Completion { weights, bias }
}

/// Solves `a x = b` for a positive definite `a`.
fn eliminate<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for i in 0..N {
        for j in i + 1..N {
            let share = a[j][i] / a[i][i];
            let pivot = a[i];
            a[j].iter_mut().zip(pivot).skip(i).for_each(|(value, above)| *value -= share * above);
            b[j] -= share * b[i];
        }
    }
    for i in (0..N).rev() {
        b[i] = (b[i] - (i + 1..N).map(|k| a[i][k] * b[k]).sum::<f64>()) / a[i][i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn attempts_on_harder_levels_foretell_less_completion() {
        let game = platformer();
        let mut noise = Seed::new(4).stream();
        let level = |enemies: usize| {
            let row: String =
                (0..40).map(|x| if x % 5 == 3 && x / 5 < enemies { 'E' } else { '-' }).collect();
            format!("{0}\n{0}\n{0}\n{row}\n{1}\n", "-".repeat(40), "X".repeat(40))
        };
        let mut attempts = Vec::new();
        for player in 0..60 {
            for enemies in 0..8 {
                let finished = noise.chance(0.95 - 0.11 * enemies as f32);
                attempts.push(Attempt {
                    player: format!("p{player}"),
                    level: level(enemies),
                    finished,
                    deaths: 0,
                    seconds: 30.0,
                    quit: !finished,
                });
            }
        }
        let (completion, report) = fit(&game, &attempts, &BTreeMap::new(), Limits::default()).unwrap();
        let of = |enemies: usize| {
            let grid = super::super::grid_from_text(&game, &level(enemies), "t").unwrap();
            let solution = solve(&game, &grid, Limits::default()).solution().unwrap();
            completion.predict(&game, &grid, &solution)
        };
        assert!(of(0) > 0.8 && of(7) < 0.4 && of(1) > of(5), "{} {} {}", of(0), of(3), of(7));
        assert!(report.brier < report.baselines["mean completion"]["brier"], "{report:?}");
        assert!(report.auc.unwrap() > 0.65 && report.n < report.attempts);
        assert!(fit(&game, &attempts[..10], &BTreeMap::new(), Limits::default()).is_err());
    }
}
