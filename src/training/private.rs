//! Training that hides each player (DP-SGD; Abadi et al. 2016, with the user as the unit, as `McMahan` et al. 2018 have it): each
//! step draws every player on their own, clips the gradient of all that a drawn player did, and adds normal noise.
//!
//! What no player did (the written corpus) is learned as ever. The guarantee is for the weights and for the players of the
//! training part; curves and validation figures stay in the studio.

use super::packing::{PackedRow, pack};
use super::privacy::{Accountant, PrivacyConfig};
use super::source::SampleSource;
use crate::error::{Error, Result};
use crate::seed::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run has spent, and the key of its noise. Kept in the run's state and never in the model: whoever knew the key
/// could take the noise away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrivacyState {
    /// Derives draws and noise.
    pub(super) key: u64,
    /// What the steps cost.
    pub accountant: Accountant,
}

impl PrivacyState {
    /// A new key from the operating system.
    pub(super) fn new() -> Result<Self> {
        let key = getrandom::u64().map_err(|e| Error::backend("asking the system for randomness", e))?;
        Ok(Self { key, accountant: Accountant::default() })
    }
}

/// The samples of each player.
pub(super) struct Units(Vec<Vec<usize>>);

/// What the players drawn for a step add to its gradient.
pub(super) struct PrivateBatch {
    /// The rows of each.
    pub(super) units: Vec<Vec<PackedRow>>,
    /// How many players are drawn on average.
    pub(super) expected: f64,
    /// How much they count beside what needs no protection, 0 to 1.
    pub(super) share: f64,
    pub(super) clip_norm: f64,
    pub(super) noise_multiplier: f64,
    pub(super) noise: Seed,
}

impl Units {
    /// Groups samples by player. Fails when none belongs to one, or when the config protects nobody.
    pub(super) fn of(source: &dyn SampleSource, config: &PrivacyConfig) -> Result<Self> {
        let mut units: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for index in 0..source.len() {
            if let Some(player) = source.player(index) {
                units.entry(player.to_owned()).or_default().push(index);
            }
        }
        if units.is_empty() {
            return Err(Error::Data {
                source_name: "training set".into(),
                reason: "no sample belongs to a player who could be protected".into(),
                remedy: "give recorded play, or leave `privacy` out of the config".into(),
            });
        }
        config.check(units.len(), "config")?;
        Ok(Self(units.into_values().collect()))
    }

    /// Players.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The samples that belong to nobody.
    pub(super) fn public(&self, samples: usize) -> Vec<usize> {
        let mut public = vec![true; samples];
        self.0.iter().flatten().for_each(|&index| public[index] = false);
        (0..samples).filter(|&index| public[index]).collect()
    }

    /// With which probability a step draws a player.
    pub(super) fn rate(&self, config: &PrivacyConfig) -> f64 {
        (config.players_per_step / self.len() as f64).min(1.0)
    }

    /// The players of a step. Of one with more than a batch of rows, as many as a batch has, drawn anew each time.
    pub(super) fn draw(
        &self,
        source: &dyn SampleSource,
        config: &PrivacyConfig,
        key: u64,
        step: u64,
        [rows, length]: [usize; 2],
        share: f64,
    ) -> PrivateBatch {
        let seed = Seed::new(key).derive_index(step);
        let mut draws = seed.derive("players").stream();
        let rate = self.rate(config);
        let drawn = self.0.iter().filter(|_| draws.uniform_f64() < rate);
        let units = drawn.enumerate().map(|(n, samples)| {
            let mut noise = seed.derive("samples").derive_index(n as u64).stream();
            let mut order = samples.clone();
            noise.shuffle(&mut order);
            let mut packed = pack(order.into_iter().map(|index| source.sample(index, &mut noise)), length);
            packed.retain(PackedRow::counts);
            packed.truncate(rows);
            packed
        });
        PrivateBatch {
            units: units.filter(|rows| !rows.is_empty()).collect(),
            expected: rate * self.len() as f64,
            share,
            clip_norm: config.clip_norm,
            noise_multiplier: config.noise_multiplier,
            noise: seed.derive("noise"),
        }
    }
}

impl PrivateBatch {
    /// Adds a player's gradient to the sum, clipped.
    pub(super) fn add(&self, sum: &mut [f32], gradient: &[f32], norm: f64) {
        let scale = if norm > self.clip_norm { (self.clip_norm / norm) as f32 } else { 1.0 };
        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += scale * g);
    }

    /// The noisy mean of the sum, by its share, onto `gradient`, which is what was learned from the others.
    pub(super) fn finish(&self, sum: &[f32], gradient: &mut [f32]) {
        let deviation = (self.noise_multiplier * self.clip_norm) as f32;
        let (mine, others) = ((self.share / self.expected) as f32, (1.0 - self.share) as f32);
        let mut noise = self.noise.stream();
        for (g, sum) in gradient.iter_mut().zip(sum) {
            *g = others * *g + mine * (sum + deviation * noise.normal());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{self, Job};
    use crate::model::{Card, Network};
    use crate::nn::optim::OptimizerConfig;
    use crate::nn::{Compute, global_norm};
    use crate::seed::Stream;
    use crate::text::Tokenizer;
    use crate::training::config::tests::small;
    use crate::training::learner::{Step, learner};
    use crate::training::packing::packed;
    use crate::training::{DataNotes, DataSets, Fit, Fitted, PrivacyUnit, RunSetup, Sample, TrainingConfig};
    use std::ops::ControlFlow;
    use std::path::Path;

    /// Sentences of players, and one of nobody's for each.
    struct Play(Vec<(Option<String>, Sample)>);

    impl SampleSource for Play {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn sample(&self, index: usize, _: &mut Stream) -> Sample {
            self.0[index].1.clone()
        }
        fn fixed(&self, index: usize) -> Sample {
            self.0[index].1.clone()
        }
        fn player(&self, index: usize) -> Option<&str> {
            self.0[index].0.as_deref()
        }
        fn hash(&self) -> String {
            format!("{}", self.0.len())
        }
    }

    fn sample(seed: u64) -> Sample {
        let mut noise = Seed::new(seed).stream();
        let ids: Vec<u32> = (0..17).map(|_| 3 + noise.below(4) as u32).collect();
        let loss = ids.iter().enumerate().map(|(i, _)| f32::from(u8::from(i > 0))).collect();
        Sample::new(ids, loss)
    }

    fn play(players: usize, public: usize) -> Play {
        let of = |n: usize| (Some(format!("player {}", n % players)), sample(n as u64));
        let nobodys = (0..public).map(|n| (None, sample(100 + n as u64)));
        Play((0..2 * players).map(of).chain(nobodys).collect())
    }

    fn privacy() -> PrivacyConfig {
        PrivacyConfig {
            noise_multiplier: 1.1,
            clip_norm: 0.5,
            delta: 1e-3,
            players_per_step: 4.0,
            max_epsilon: None,
            unit: PrivacyUnit::Player,
        }
    }

    fn config() -> TrainingConfig {
        TrainingConfig { dropout: 0.0, privacy: Some(privacy()), steps: 12, ..small() }
    }

    fn step(number: u64) -> Step {
        Step { number, lr: 0.01, seed: Seed::new(3), limit: 100.0 }
    }

    #[test]
    fn without_noise_and_bound_it_is_the_step_that_takes_all_players_at_once() {
        let optimizer = OptimizerConfig::GradientDescent;
        let (source, config) = (play(3, 0), TrainingConfig { optimizer, clip_norm: 0.0, ..config() });
        let open =
            PrivacyConfig { noise_multiplier: 1e-14, clip_norm: 1e6, players_per_step: 3.0, ..privacy() };
        let units = Units::of(&source, &open).unwrap();
        assert_eq!((units.len(), units.rate(&open)), (3, 1.0));
        let batch = units.draw(&source, &open, 1, 1, [8, 16], 1.0);
        assert_eq!((batch.units.len(), batch.expected), (3, 3.0));
        let shape = config.model.as_ref().unwrap().config(7);
        let new = |config: &TrainingConfig| {
            let base = Network::new(&shape, Seed::new(1)).unwrap().weights().unwrap();
            learner(config, &shape, Some(&base), &Compute::cpu(1)).unwrap()
        };
        let (mut hidden, mut plain) =
            (new(&config), new(&TrainingConfig { privacy: None, ..config.clone() }));
        hidden.learn(&[], Some(&batch), &step(1)).unwrap();
        let rows: Vec<PackedRow> = batch.units.iter().flatten().cloned().collect();
        plain.learn(&rows, None, &step(1)).unwrap();
        let weights = [hidden, plain].map(|learner| learner.weights().unwrap());
        for (name, _, values) in weights[0].iter() {
            let others = weights[1].get(name).unwrap().1;
            assert!(values.iter().zip(others).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
        }
    }

    #[test]
    fn one_player_moves_the_sum_by_no_more_than_the_bound() {
        let config = privacy();
        let batch = PrivateBatch {
            units: Vec::new(),
            expected: 4.0,
            share: 1.0,
            clip_norm: config.clip_norm,
            noise_multiplier: config.noise_multiplier,
            noise: Seed::new(1),
        };
        let mut noise = Seed::new(2).stream();
        for size in [1e-3f32, 1.0, 1e4] {
            let gradient: Vec<f32> = (0..50).map(|_| size * noise.normal()).collect();
            let mut sum = vec![0.0; 50];
            batch.add(&mut sum, &gradient, global_norm(&gradient));
            assert!(global_norm(&sum) <= 0.5 + 1e-6);
            let parallel: f32 = sum.iter().zip(&gradient).map(|(a, b)| a * b).sum();
            assert!((f64::from(parallel) - global_norm(&sum) * global_norm(&gradient)).abs() < 1e-2);
        }
        // The noise is of the deviation that the accountant counts, divided by the players drawn on average.
        let mut noise = vec![0.0; 40_000];
        batch.finish(&vec![0.0; 40_000], &mut noise);
        let deviation = (noise.iter().map(|v| f64::from(v * v)).sum::<f64>() / 40_000.0).sqrt();
        assert!((deviation - 1.1 * 0.5 / 4.0).abs() < 0.003, "{deviation}");
    }

    #[test]
    fn players_are_drawn_on_their_own_and_nobody_elses_samples_are_in_their_rows() {
        let source = play(40, 5);
        let units = Units::of(&source, &privacy()).unwrap();
        assert_eq!(units.public(source.len()), (80..85).collect::<Vec<_>>());
        let counts: Vec<usize> =
            (0..400).map(|step| units.draw(&source, &privacy(), 9, step, [8, 16], 1.0).units.len()).collect();
        let mean = counts.iter().sum::<usize>() as f64 / 400.0;
        assert!((mean - 4.0).abs() < 0.4, "{mean}");
        assert!(
            counts.iter().any(|n| *n <= 1) && counts.iter().any(|n| *n >= 8),
            "Poisson, not a fixed number"
        );
        let drawn = units.draw(&source, &privacy(), 9, 1, [8, 16], 1.0).units;
        assert!(drawn.iter().all(|rows| packed(rows).0.ids.len() == 32), "two sentences of sixteen each");
        let again = units.draw(&source, &privacy(), 9, 1, [8, 16], 1.0).units;
        let other = units.draw(&source, &privacy(), 10, 1, [8, 16], 1.0).units;
        assert_eq!(drawn, again);
        assert_ne!(drawn, other, "who does not know the key knows nothing of the draw");
    }

    fn setup(config: TrainingConfig) -> RunSetup {
        RunSetup {
            config,
            tokenizer: Tokenizer::characters("abcd").unwrap(),
            data: DataSets { train: Box::new(play(40, 6)), validation: Box::new(play(2, 2)) },
            card: Card::new("text"),
            base: None,
            notes: DataNotes::default(),
        }
    }

    fn run(config: TrainingConfig, out: &Path) -> (Fitted, Vec<f64>) {
        let fit = Fit::new(setup(config), out, &Compute::cpu(1)).unwrap();
        let mut spent = Vec::new();
        let fitted = job::run(fit, |progress| spent.extend(progress.epsilon)).unwrap();
        (fitted, spent)
    }

    #[test]
    fn a_run_tells_what_it_costs_and_stops_at_its_budget() {
        let dir = tempfile::tempdir().unwrap();
        let (fitted, spent) = run(config(), &dir.path().join("a"));
        let mut accountant = Accountant::default();
        accountant.steps(1.1, 0.1, 12);
        assert_eq!(fitted.epsilon, Some(accountant.epsilon(1e-3)));
        assert!(spent[0] == 0.0 && spent.is_sorted() && spent.len() > 12, "{spent:?}");
        let card = std::fs::read_to_string(dir.path().join("a").join(crate::model::CARD)).unwrap();
        assert!(card.contains("privacy_epsilon") && !card.contains("key"), "{card}");
        let budget = PrivacyConfig { max_epsilon: Some(spent[5]), ..privacy() };
        let (stopped, spent) =
            run(TrainingConfig { privacy: Some(budget), ..config() }, &dir.path().join("b"));
        assert!(stopped.early && stopped.steps < 12 && stopped.steps > 0, "{stopped:?}");
        assert!(spent.iter().all(|epsilon| Some(*epsilon) <= budget.max_epsilon));
    }

    #[test]
    fn a_run_that_was_put_down_goes_on_with_its_own_noise() {
        let dir = tempfile::tempdir().unwrap();
        let mut fit = Fit::new(setup(config()), dir.path(), &Compute::cpu(1)).unwrap();
        let whole = |fit: &mut Fit| loop {
            if let ControlFlow::Break(fitted) = fit.step().unwrap() {
                break fitted;
            }
        };
        while fit.standing().step < 5 {
            assert!(fit.step().unwrap().is_continue());
        }
        fit.save().unwrap();
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let first = whole(&mut fit);
        let mut again = Fit::resume(setup(config()), copy.path(), &Compute::cpu(1)).unwrap();
        let second = whole(&mut again);
        assert_eq!(first.epsilon, second.epsilon);
        let bytes = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
        assert_eq!(bytes(dir.path()), bytes(copy.path()));
        // Another run of the same seed has other noise.
        let other = tempfile::tempdir().unwrap();
        run(config(), other.path());
        assert_ne!(bytes(dir.path()), bytes(other.path()));
    }

    #[test]
    fn data_without_players_is_refused() {
        let nobodys = Play((0..4).map(|n| (None, sample(n))).collect());
        let error = Units::of(&nobodys, &privacy()).err().unwrap().to_string();
        assert!(error.contains("no sample belongs to a player"), "{error}");
    }
}
