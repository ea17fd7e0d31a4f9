//! Evaluating a model of levels: its levels beside those of people, of a Markov chain, and of `WaveFunctionCollapse`.

use super::baseline::{Markov, Wfc};
use super::check::{plain_search, replay};
use super::game::TileGame;
use super::generate::{Generate, GeneratedLevel, LevelRequest, off};
use super::grid::Grid;
use super::knob::{leniency, linearity};
use super::measures::{Numbered, Numbering, distance, longest_copied_run, novelty, patterns, tpkl};
use super::model::LevelModel;
use super::read::Level;
use super::slices::{image_hash, shape};
use super::solve::{Limits, Verdict, solve};
use crate::error::{Error, Result};
use crate::evaluation::{Measured, Report};
use crate::job;
use crate::seed::Seed;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is evaluated.
#[derive(Clone, Debug)]
pub struct LevelEvaluation {
    /// Levels that are generated.
    pub levels: usize,
    /// Columns and rows (default: as usual).
    pub size: Option<(usize, usize)>,
    /// Levels for each knob and setting.
    pub control_levels: usize,
    /// Everything drawn.
    pub seed: Seed,
    /// What each solving may spend.
    pub limits: Limits,
}

/// What came of it.
pub struct Evaluated {
    /// The figures.
    pub report: Report,
    /// The generated levels.
    pub levels: Vec<GeneratedLevel>,
    /// Of each, the longest run of slices that a training level has too.
    pub copied: Vec<usize>,
}

/// Pairs of levels that diversity is a mean over, at most.
const PAIRS: usize = 4000;
/// Moments of play that the plain search looks at, at most.
const MOST_MOMENTS: usize = 400_000;
/// Levels of each baseline.
const BASELINE_LEVELS: usize = 100;
/// Levels whose nearest training level is sought, at most.
const COMPARED: usize = 300;

/// Evaluates. `human` are the levels the model learned from, and others of the game: those the model knows stand for the
/// training set, the rest is held out.
///
/// # Errors
/// [`Error::Data`] when none of the levels is one that the model learned from.
pub fn evaluate(model: &Arc<LevelModel>, human: &[Level], options: &LevelEvaluation) -> Result<Evaluated> {
    let game = &model.game;
    let (train, held): (Vec<&Grid>, Vec<&Grid>) =
        human.iter().map(|level| &level.grid).partition(|grid| model.known.contains(&image_hash(grid)));
    if train.is_empty() {
        return Err(Error::Data {
            source_name: "--data".into(),
            reason: "none of the levels is one the model learned from".into(),
            remedy: "give the levels it was trained on".into(),
        });
    }
    let train: Vec<Grid> = train.into_iter().cloned().collect();
    let mut hasher = blake3::Hasher::new();
    human.iter().for_each(|level| {
        hasher.update(&(level.grid.width() as u32).to_le_bytes());
        hasher.update(level.grid.tiles());
    });
    let size = options.size.unwrap_or_else(|| model.usual_size());
    let base = LevelRequest { size: Some(size), limits: options.limits, ..LevelRequest::default() };
    let numbers: Vec<u64> = (0..options.levels as u64).collect();
    let made: Vec<Result<GeneratedLevel>> = numbers
        .par_iter()
        .map(|n| {
            let seed = options.seed.derive("level").derive_index(*n);
            job::run(Generate::new(Arc::clone(model), LevelRequest { seed, ..base.clone() })?, |_| {})
        })
        .collect();
    let levels: Vec<GeneratedLevel> = made.into_iter().collect::<Result<_>>()?;
    let mut report = Report {
        protocol: protocol(options.levels, size),
        data_hash: hasher.finalize().to_hex().to_string(),
        n: levels.len(),
        ..Report::default()
    };
    let grids: Vec<Grid> = levels.iter().map(|level| level.grid.clone()).collect();
    let count = shape(game.scan, size.0, size.1).1;
    let measure = Measure { game, train: &train, count, limits: options.limits, seed: options.seed };
    let mut own = measure.figures(&grids);
    let searched: Vec<Option<bool>> =
        grids.par_iter().map(|grid| plain_search(game, grid, MOST_MOMENTS)).collect();
    let decided: Vec<bool> = searched.iter().flatten().copied().collect();
    own.figures.insert("searched".into(), decided.len() as f64 / grids.len().max(1) as f64);
    if !decided.is_empty() {
        let finishable = decided.iter().filter(|yes| **yes).count() as f64 / decided.len() as f64;
        own.figures.insert("searched_solvable".into(), finishable);
    }
    let ms: Vec<f64> = levels.iter().map(|level| level.report.ms).collect();
    own.figures.insert("ms_median".into(), median(ms));
    let moves: Vec<f64> = levels.iter().map(|level| level.report.solution.length() as f64).collect();
    own.figures.insert("path_length".into(), moves.iter().sum::<f64>() / moves.len().max(1) as f64);
    let steps: Vec<String> = levels.iter().map(|level| steps(&level.report.solution)).collect();
    if let Some(entropy) = entropy(&steps) {
        own.figures.insert("solution_entropy".into(), entropy);
    }
    report.take(own);
    let known = grids.iter().filter(|grid| model.known.contains(&image_hash(grid))).count();
    report.set("new_levels", Some(1.0 - known as f64 / grids.len().max(1) as f64));
    control(model, options, size, &mut report)?;
    let mut beside = |name: &str, grids: Vec<Grid>| {
        if !grids.is_empty() {
            report.baselines.insert(name.to_owned(), measure.figures(&grids).figures);
        }
    };
    let held: Vec<Grid> = held.into_iter().cloned().collect();
    beside("held out levels", held);
    let chain = Markov::new(game, &train);
    let many = BASELINE_LEVELS.min(options.levels.max(1));
    let seed = options.seed.derive("baselines");
    beside(
        "markov chain",
        (0..many).filter_map(|n| chain.draw(count, seed.derive_index(n as u64))).collect(),
    );
    let wfc = Wfc::new(&train[..train.len().min(64)]);
    let start = std::time::Instant::now();
    let drawn: Vec<Option<Grid>> = (0..many.min(20))
        .into_par_iter()
        .map(|n| wfc.draw(size.0, size.1, seed.derive("wfc").derive_index(n as u64)))
        .collect();
    let ms =
        start.elapsed().as_secs_f64() * 1e3 * rayon::current_num_threads() as f64 / drawn.len().max(1) as f64;
    beside("wave function collapse", drawn.into_iter().flatten().collect());
    if let Some(figures) = report.baselines.get_mut("wave function collapse") {
        figures.insert("ms_mean".into(), ms);
    }
    let mut own = measure.training();
    own.retain(|_, value| value.is_finite());
    report.baselines.insert("training levels".into(), own);
    let mut numbering = Numbering::default();
    let train: Vec<Numbered> = train.iter().map(|grid| numbering.number(game, grid)).collect();
    let copied = grids.iter().map(|grid| longest_copied_run(&numbering.number(game, grid), &train)).collect();
    Ok(Evaluated { report, levels, copied })
}

fn protocol(levels: usize, (w, h): (usize, usize)) -> String {
    format!(
        "{levels} levels of {w} x {h} from consecutive seeds. solvable: solved by the game's solver and replayed by a second \
         implementation of its rules. searched_solvable: found finishable by that one's own breadth-first search, of those it \
         decided within {MOST_MOMENTS} moments of play (searched: their share). tpkl_k: symmetrised tile-pattern KL divergence of all levels together against the \
         training levels together (Lucas and Volz 2019, epsilon 1e-5). novelty, diversity: edit distance over slices to \
         the nearest part of a training level that is as long, and mean pairwise (Horn et al. 2014; novelty over the first \
         {COMPARED} levels, diversity over {PAIRS} pairs); the training levels are cut into parts of the same length, and \
         parts of one level are not compared. longest_copied_run: mean over \
         levels of the longest run of slices found in one training level. linearity, leniency after Smith and Whitehead \
         2010. control_mae: each knob asked at the middles of five equal bands of its range, all others open; \
         control_within: the share within its band. Intervals: bootstrap over levels, 1,000 resamples."
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Measure<'a> {
    game: &'a TileGame,
    train: &'a [Grid],
    /// Slices of a generated level.
    count: usize,
    limits: Limits,
    seed: Seed,
}

impl Measure<'_> {
    /// The figures of levels.
    fn figures(&self, grids: &[Grid]) -> Measured {
        let mut numbering = Numbering::default();
        let train: Vec<Numbered> = self.train.iter().map(|grid| numbering.number(self.game, grid)).collect();
        let parts: Vec<Numbered> =
            train.iter().flat_map(|level| level.parts(self.count, self.count / 4)).collect();
        let own: Vec<Numbered> = grids.iter().map(|grid| numbering.number(self.game, grid)).collect();
        let rows: Vec<BTreeMap<String, f64>> = grids
            .par_iter()
            .zip(&own)
            .enumerate()
            .map(|(n, (grid, numbered))| {
                let found = solve(self.game, grid, self.limits);
                let solved = matches!(&found.verdict, Verdict::Solved(s) if replay(self.game, grid, s));
                let mut row = BTreeMap::from([
                    ("solvable".to_owned(), f64::from(u8::from(solved))),
                    ("solver_nodes".to_owned(), found.nodes as f64),
                    ("longest_copied_run".to_owned(), longest_copied_run(numbered, &train) as f64),
                    ("linearity".to_owned(), linearity(self.game, grid)),
                    ("leniency".to_owned(), leniency(self.game, grid)),
                ]);
                if let Some(most) = self.game.longest_copy {
                    let run = longest_copied_run(numbered, &train);
                    row.insert("copied_within".to_owned(), f64::from(u8::from(run <= most)));
                }
                if n < COMPARED {
                    row.extend(novelty(numbered, &parts).map(|value| ("novelty".to_owned(), value)));
                }
                row
            })
            .collect();
        let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for name in rows.iter().flat_map(BTreeMap::keys).cloned().collect::<std::collections::BTreeSet<_>>() {
            columns.insert(
                name.clone(),
                rows.iter().map(|row| row.get(&name).copied().unwrap_or(f64::NAN)).collect(),
            );
        }
        let mut measured = Measured::means(&columns, self.seed);
        for k in 2..=4 {
            if let Some(value) = tpkl(&patterns(grids.iter(), k), &patterns(self.train.iter(), k)) {
                measured.figures.insert(format!("tpkl_{k}"), value);
            }
        }
        let apart: Vec<(usize, Numbered)> = own.into_iter().enumerate().collect();
        if let Some(value) = self.diversity(&apart) {
            measured.figures.insert("diversity".into(), value);
        }
        measured
    }

    /// The mean distance of two levels; of parts of one level (those with one number) none.
    fn diversity(&self, levels: &[(usize, Numbered)]) -> Option<f64> {
        if levels.len() < 2 {
            return None;
        }
        let mut noise = self.seed.derive("pairs").stream();
        let all = levels.len() * (levels.len() - 1) / 2;
        let pairs: Vec<(usize, usize)> = if all <= PAIRS {
            (0..levels.len()).flat_map(|a| (a + 1..levels.len()).map(move |b| (a, b))).collect()
        } else {
            let draw = |_| {
                let a = noise.below(levels.len());
                (a, (a + 1 + noise.below(levels.len() - 1)) % levels.len())
            };
            (0..PAIRS).map(draw).collect()
        };
        let pairs: Vec<(usize, usize)> =
            pairs.into_iter().filter(|(a, b)| levels[*a].0 != levels[*b].0).collect();
        let between = |(a, b): &(usize, usize)| distance(&levels[*a].1, &levels[*b].1);
        let sum: f64 = pairs.par_iter().map(between).collect::<Vec<_>>().iter().sum();
        (!pairs.is_empty()).then(|| sum / pairs.len() as f64)
    }

    /// The training levels beside themselves.
    fn training(&self) -> BTreeMap<String, f64> {
        let mut numbering = Numbering::default();
        let train: Vec<Numbered> = self.train.iter().map(|grid| numbering.number(self.game, grid)).collect();
        let cut = |stride: usize| -> Vec<(usize, Numbered)> {
            let parts = |(n, level): (usize, &Numbered)| {
                level.parts(self.count, stride).into_iter().map(move |part| (n, part)).collect::<Vec<_>>()
            };
            train.iter().enumerate().flat_map(parts).collect()
        };
        let (apart, all) = (cut(self.count), cut(self.count / 4));
        let few = train.len().min(COMPARED);
        let alone: Vec<f64> = apart[..apart.len().min(COMPARED)]
            .par_iter()
            .filter_map(|(n, part)| {
                let others = all.iter().filter(|(i, _)| i != n).map(|(_, other)| distance(part, other));
                others.min_by(f64::total_cmp)
            })
            .collect();
        let solved: Vec<bool> = self.train[..few]
            .par_iter()
            .map(|grid| matches!(solve(self.game, grid, self.limits).verdict, Verdict::Solved(_)))
            .collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let of = |measure: fn(&TileGame, &Grid) -> f64| {
            mean(self.train.iter().map(|g| measure(self.game, g)).collect())
        };
        let mut figures = BTreeMap::from([
            ("solvable".to_owned(), solved.iter().filter(|s| **s).count() as f64 / few.max(1) as f64),
            ("linearity".to_owned(), of(linearity)),
            ("leniency".to_owned(), of(leniency)),
            ("novelty".to_owned(), mean(alone)),
        ]);
        figures.extend(self.diversity(&apart).map(|value| ("diversity".to_owned(), value)));
        figures
    }
}

/// Asks each knob at five settings.
fn control(
    model: &Arc<LevelModel>,
    options: &LevelEvaluation,
    size: (usize, usize),
    report: &mut Report,
) -> Result<()> {
    if options.control_levels == 0 {
        return Ok(());
    }
    let (mut within, mut all) = (0, 0);
    for range in model.ranges.iter().take(8) {
        let (low, high) = range.ends();
        if high <= low {
            continue;
        }
        let wanted: Vec<f64> = (0..5).map(|n| low + (high - low) * (n as f64 + 0.5) / 5.0).collect();
        let jobs: Vec<(f64, u64)> = wanted
            .iter()
            .flat_map(|value| (0..options.control_levels as u64).map(move |n| (*value, n)))
            .collect();
        let got: Vec<Result<(f64, f64, f64)>> = jobs
            .par_iter()
            .map(|(value, n)| {
                let request = LevelRequest {
                    size: Some(size),
                    controls: BTreeMap::from([(range.name.clone(), *value)]),
                    seed: options.seed.derive(&range.name).derive(&value.to_string()).derive_index(*n),
                    limits: options.limits,
                    ..LevelRequest::default()
                };
                let level = job::run(Generate::new(Arc::clone(model), request.clone())?, |_| {})?;
                let got = level.report.knobs.get(&range.name).copied().unwrap_or(f64::NAN);
                Ok((*value, got, off(model, &request.controls, &level.report.knobs)))
            })
            .collect();
        let got: Vec<(f64, f64, f64)> = got.into_iter().collect::<Result<_>>()?;
        let mae = got.iter().map(|(asked, got, _)| (asked - got).abs()).sum::<f64>() / got.len() as f64;
        report.set(&format!("control_mae@{}", range.name), Some(mae));
        report.set(&format!("control_spearman@{}", range.name), spearman(&got));
        // A rounding more than the band itself.
        let inside = got.iter().filter(|(.., off)| *off <= 1.0 + 1e-6).count();
        report.set(&format!("control_within@{}", range.name), Some(inside as f64 / got.len() as f64));
        within += inside;
        all += got.len();
    }
    if all > 0 {
        report.set("control_within_all", Some(within as f64 / all as f64));
    }
    Ok(())
}

/// Spearman's rank correlation of asked and got; ties share their rank.
fn spearman(pairs: &[(f64, f64, f64)]) -> Option<f64> {
    let ranks = |values: Vec<f64>| -> Vec<f64> {
        let rank = |value: &f64| {
            let less = values.iter().filter(|other| *other < value).count() as f64;
            let same = values.iter().filter(|other| *other == value).count() as f64;
            less + (same - 1.0) / 2.0
        };
        values.iter().map(rank).collect()
    };
    let (a, b) = (ranks(pairs.iter().map(|p| p.0).collect()), ranks(pairs.iter().map(|p| p.1).collect()));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (sum(&a, &a) * sum(&b, &b)).sqrt();
    (scale > 0.0).then(|| sum(&a, &b) / scale)
}

/// A solution's steps as letters.
fn steps(solution: &super::Solution) -> String {
    match solution {
        super::Solution::Moves(moves) => moves.to_ascii_lowercase(),
        super::Solution::Cells(cells) => cells
            .windows(2)
            .map(|two| match (two[1].0.cmp(&two[0].0), two[1].1.cmp(&two[0].1)) {
                (std::cmp::Ordering::Less, _) => 'l',
                (std::cmp::Ordering::Greater, _) => 'r',
                (_, std::cmp::Ordering::Less) => 'u',
                _ => 'd',
            })
            .collect(),
    }
}

/// The entropy of three steps in a row, in bits a step.
fn entropy(solutions: &[String]) -> Option<f64> {
    let mut counts: BTreeMap<&[u8], f64> = BTreeMap::new();
    solutions
        .iter()
        .flat_map(|s| s.as_bytes().windows(3))
        .for_each(|run| *counts.entry(run).or_default() += 1.0);
    let all: f64 = counts.values().sum();
    (all > 0.0).then(|| counts.values().map(|n| -(n / all) * (n / all).log2()).sum::<f64>() / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_knows_order_only() {
        let of =
            |pairs: &[(f64, f64)]| spearman(&pairs.iter().map(|(a, b)| (*a, *b, 0.0)).collect::<Vec<_>>());
        assert_eq!(of(&[(1.0, 1.0), (2.0, 10.0), (3.0, 11.0)]), Some(1.0));
        assert_eq!(of(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), Some(-1.0));
        assert_eq!(of(&[(1.0, 3.0), (2.0, 3.0)]), None);
    }
}
