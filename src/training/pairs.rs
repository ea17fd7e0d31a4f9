//! [`Pairs`]: pairs of answers to one prompt, with what a reference model thinks of them.

use super::packing::{pack, packed};
use super::source::{Sample, SampleSource};
use super::taste::Taste;
use crate::error::{Error, Result};
use crate::model::{Dropout, ModelConfig, Network, Weights};
use crate::nn::tape::{Pool, Tape};
use crate::seed::Stream;
use rayon::ThreadPoolBuilder;

/// Pairs of answers, each a [`Sample`] with its `rejected` half.
pub struct Pairs {
    samples: Vec<Sample>,
    hash: String,
}

/// Pairs that the reference sees at a time.
const AT_ONCE: usize = 16;

impl Pairs {
    /// Takes the reference's margins of these pairs, in rows of `length` tokens; pairs that do not fit one are left out.
    /// `name` is where they come from. Where `weighed`, the tokens count that are why an answer is preferred
    /// (see `training::taste`); otherwise all count alike. Fails when none is left.
    pub fn new(
        samples: Vec<Sample>,
        reference: (&ModelConfig, &Weights),
        length: usize,
        threads: usize,
        name: &str,
        weighed: bool,
    ) -> Result<Self> {
        let fits = |sample: &Sample| {
            let tokens = |ids: &[u32]| ids.len().saturating_sub(1);
            let other = sample.rejected.as_ref().map_or(length, |other| tokens(&other.ids));
            tokens(&sample.ids) > 0 && other > 0 && tokens(&sample.ids) + other <= length
        };
        let mut samples: Vec<Sample> = samples.into_iter().filter(fits).collect();
        if weighed {
            let taste = Taste::of(&samples);
            samples.iter_mut().for_each(|sample| taste.weigh(sample));
        }
        if samples.is_empty() {
            return Err(Error::Data {
                source_name: name.into(),
                reason: "there is no pair of a chosen and a rejected answer".into(),
                remedy: "record more play, or pick pairs by hand".into(),
            });
        }
        let mut hasher = blake3::Hasher::new();
        for sample in &samples {
            let other = sample.rejected.as_ref().map_or(&[][..], |other| &other.ids);
            for ids in [&sample.ids[..], other] {
                for id in ids {
                    hasher.update(&id.to_le_bytes());
                }
                hasher.update(&u32::MAX.to_le_bytes());
            }
        }
        let network = Network::from_weights(reference.0, reference.1)?;
        let pool = ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        let pool = pool.map_err(|e| Error::backend("starting the training threads", e))?;
        pool.install(|| {
            let mut buffers = Pool::default();
            for samples in samples.chunks_mut(AT_ONCE) {
                take_margins(&network, samples, length, &mut buffers);
            }
        });
        Ok(Self { samples, hash: hasher.finalize().to_hex().to_string() })
    }
}

/// Pairs, and what is rehearsed beside them ([`super::Objective::Preference`]'s `rehearsal`), which counts by how well it
/// would be liked (see `training::taste`). The pairs come first.
pub struct Rehearsed {
    pairs: Pairs,
    corpus: Box<dyn SampleSource>,
    taste: Taste,
}

impl Rehearsed {
    /// Pairs, and what the model is to remember.
    pub fn new(pairs: Pairs, corpus: Box<dyn SampleSource>) -> Self {
        let taste = Taste::of(&pairs.samples);
        Self { pairs, corpus, taste }
    }

    fn liked(&self, mut sample: Sample) -> Sample {
        self.taste.apply(&mut sample);
        sample
    }
}

impl SampleSource for Rehearsed {
    fn len(&self) -> usize {
        self.pairs.len() + self.corpus.len()
    }

    fn sample(&self, index: usize, noise: &mut Stream) -> Sample {
        match index.checked_sub(self.pairs.len()) {
            None => self.pairs.sample(index, noise),
            Some(index) => self.liked(self.corpus.sample(index, noise)),
        }
    }

    fn fixed(&self, index: usize) -> Sample {
        match index.checked_sub(self.pairs.len()) {
            None => self.pairs.fixed(index),
            Some(index) => self.liked(self.corpus.fixed(index)),
        }
    }

    fn player(&self, index: usize) -> Option<&str> {
        match index.checked_sub(self.pairs.len()) {
            None => self.pairs.player(index),
            Some(index) => self.corpus.player(index),
        }
    }

    fn check(&self) -> Result<()> {
        self.corpus.check()
    }

    fn hash(&self) -> String {
        format!("{} {}", self.pairs.hash(), self.corpus.hash())
    }
}

/// Asks the reference about each pair; a row holds one.
fn take_margins(network: &Network, samples: &mut [Sample], length: usize, buffers: &mut Pool) {
    let rows: Vec<_> = samples.iter().flat_map(|sample| pack([sample.clone()].into_iter(), length)).collect();
    let (batch, targets, weights) = packed(&rows);
    let mut tape = Tape::new(network.parameters(), buffers);
    let logits = network.forward(&mut tape, &batch, Dropout::default());
    let loss = tape.loss(logits, &targets, 0.0);
    let nll = tape.value(loss);
    for (n, (sample, row)) in samples.iter_mut().zip(&rows).enumerate() {
        let nats = |range: &std::ops::Range<usize>| -> f64 {
            let at = n * length + range.start..n * length + range.end;
            at.map(|at| f64::from(nll[at]) * f64::from(weights[at].max(0.0))).sum()
        };
        if let (Some(rejected), Some(pair)) = (&mut sample.rejected, row.pairs().first()) {
            rejected.margin = (nats(&pair.rejected) - nats(&pair.chosen)) as f32;
        }
    }
}

impl SampleSource for Pairs {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn sample(&self, index: usize, _noise: &mut Stream) -> Sample {
        self.samples[index].clone()
    }

    fn fixed(&self, index: usize) -> Sample {
        self.samples[index].clone()
    }

    fn player(&self, index: usize) -> Option<&str> {
        self.samples[index].player.as_deref()
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;
    use crate::model::Card;
    use crate::nn::Compute;
    use crate::seed::Seed;
    use crate::text::Tokenizer;
    use crate::training::config::tests::small;
    use crate::training::{DataNotes, DataSets, Fit, Objective, Rejected, RunSetup, TrainingConfig};

    /// Answers to a prompt of four letters: those with a `y` are liked, those with an `x` are not.
    fn pairs(tokenizer: &Tokenizer, count: usize, seed: u64) -> Vec<Sample> {
        let mut noise = Seed::new(seed).stream();
        let mut word = |mark: char| -> String {
            let letters = (0..3).map(|_| ['a', 'b', 'c', 'd'][noise.below(4)]);
            letters.chain([mark]).collect()
        };
        let texts: Vec<[String; 3]> = (0..count).map(|_| [word('a'), word('y'), word('x')]).collect();
        let sample = |[prompt, chosen, rejected]: &[String; 3]| {
            let ids = |answer: &str| tokenizer.encode(&format!("{prompt}{answer}")).unwrap();
            let loss = vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
            let mut sample = Sample::new(ids(chosen), loss.clone());
            sample.rejected = Some(Rejected { ids: ids(rejected), loss, margin: 0.0 });
            sample
        };
        texts.iter().map(sample).collect()
    }

    #[test]
    fn taste_is_learned_from_pairs_and_holds_for_new_ones() {
        let tokenizer = Tokenizer::characters("abcdxy").unwrap();
        let config = small().model.unwrap().config(tokenizer.vocab_size());
        let base = Network::new(&config, Seed::new(1)).unwrap().weights().unwrap();
        let source = |count, seed| {
            let samples = pairs(&tokenizer, count, seed);
            Box::new(Pairs::new(samples, (&config, &base), 16, 2, "test", false).unwrap())
        };
        let objective = Objective::Preference { beta: 0.5, likelihood: 0.1, rehearsal: 0.0 };
        let training = TrainingConfig {
            model: None,
            base: Some("base".into()),
            objective,
            steps: 60,
            rows: 8,
            dropout: 0.0,
            validate_every: 20,
            ..small()
        };
        let dir = tempfile::tempdir().unwrap();
        let setup = RunSetup {
            config: training,
            tokenizer: tokenizer.clone(),
            data: DataSets { train: source(60, 1), validation: source(20, 2) },
            card: Card::new("text"),
            base: Some((config.clone(), base.clone())),
            notes: DataNotes::default(),
        };
        let fit = Fit::new(setup, dir.path(), &Compute::cpu(2)).unwrap();
        let mut seen = Vec::new();
        job::run(fit, |progress| seen.extend(progress.pair_accuracy)).unwrap();
        assert_eq!(seen[0], 0.5);
        assert!(*seen.last().unwrap() > 0.9, "{seen:?}");
    }

    #[test]
    fn no_pairs_are_an_error_and_long_ones_are_left_out() {
        let tokenizer = Tokenizer::characters("abcdxy").unwrap();
        let config = small().model.unwrap().config(tokenizer.vocab_size());
        let base = Network::new(&config, Seed::new(1)).unwrap().weights().unwrap();
        let error =
            Pairs::new(Vec::new(), (&config, &base), 16, 1, "play.db", false).err().unwrap().to_string();
        assert!(error.contains("play.db") && error.contains("pick pairs"), "{error}");
        assert!(Pairs::new(pairs(&tokenizer, 3, 1), (&config, &base), 13, 1, "p", false).is_err());
        assert_eq!(
            Pairs::new(pairs(&tokenizer, 3, 1), (&config, &base), 14, 1, "p", false).unwrap().len(),
            3
        );
    }
}
