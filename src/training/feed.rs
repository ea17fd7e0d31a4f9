//! [`Feed`]: which rows a step learns. Everything is a function of the seed and of where the run stands, so that a resumed
//! run sees the same; only a part of an epoch is packed at a time.

use super::config::TrainingConfig;
use super::packing::{PackedRow, pack};
use super::privacy::PrivacyConfig;
use super::private::{PrivateBatch, Units};
use super::source::{Sample, SampleSource};
use super::state::Standing;
use crate::error::{Error, Result};
use crate::seed::Seed;

/// About how many tokens are packed at a time.
const BLOCK_TOKENS: usize = 1 << 21;

/// How many samples are packed at a time.
fn block(length: usize) -> usize {
    (BLOCK_TOKENS / length.max(1)).max(1)
}

fn nothing_counts(set: &str, remedy: &str) -> Error {
    let reason = "no token counts for the loss".into();
    Error::Data { source_name: set.into(), reason, remedy: remedy.into() }
}

/// Which rows a step learns.
pub(super) struct Feed {
    seed: Seed,
    /// Rows in a batch, and their length.
    shape: [usize; 2],
    /// The samples that need no protection.
    public: Vec<usize>,
    /// The others, by player, where players are protected.
    units: Option<Units>,
    /// The rows of the part of the epoch that is learned now.
    rows: Vec<PackedRow>,
}

impl Feed {
    /// Packs the rows where the run stands. Fails when there is nothing to learn.
    pub(super) fn new(
        source: &dyn SampleSource,
        config: &TrainingConfig,
        standing: &Standing,
    ) -> Result<Self> {
        let units = config.privacy.as_ref().map(|privacy| Units::of(source, privacy)).transpose()?;
        let public = match &units {
            Some(units) => units.public(source.len()),
            None => (0..source.len()).collect(),
        };
        let mut feed = Self {
            seed: Seed::new(config.seed),
            shape: [config.rows, config.sequence],
            public,
            units,
            rows: Vec::new(),
        };
        feed.rows = feed.pack(source, standing)?;
        Ok(feed)
    }

    /// The players that are protected.
    pub(super) fn units(&self) -> Option<&Units> {
        self.units.as_ref()
    }

    fn pack(&self, source: &dyn SampleSource, standing: &Standing) -> Result<Vec<PackedRow>> {
        if self.public.is_empty() && self.units.is_some() {
            return Ok(Vec::new());
        }
        let rows = epoch(source, &self.public, self.seed, (standing.epoch, standing.block), self.shape[1]);
        source.check()?;
        // A later part of an epoch may have nothing that counts; all of it may not.
        let one = self.public.len() <= block(self.shape[1]);
        if rows.is_empty() && one {
            return Err(nothing_counts(
                "training set",
                "give samples of two tokens or more with a weight above 0",
            ));
        }
        Ok(rows)
    }

    /// The next batch, which `standing` is moved past.
    pub(super) fn next(
        &mut self,
        source: &dyn SampleSource,
        standing: &mut Standing,
    ) -> Result<Vec<PackedRow>> {
        let mut batch = Vec::with_capacity(self.shape[0]);
        let blocks = self.public.len().div_ceil(block(self.shape[1]));
        let mut empty = 0;
        while batch.len() < self.shape[0] && blocks > 0 {
            if standing.cursor >= self.rows.len() {
                (standing.cursor, standing.block) = (0, standing.block + 1);
                if standing.block >= blocks {
                    (standing.epoch, standing.block) = (standing.epoch + 1, 0);
                }
                self.rows = self.pack(source, standing)?;
                empty = if self.rows.is_empty() { empty + 1 } else { 0 };
                if empty > blocks {
                    return Err(nothing_counts(
                        "training set",
                        "give samples of two tokens or more with a weight above 0",
                    ));
                }
                continue;
            }
            batch.push(self.rows[standing.cursor].clone());
            standing.cursor += 1;
        }
        Ok(batch)
    }

    /// What the players that were drawn for `step` add, where players are protected.
    pub(super) fn private(
        &self,
        source: &dyn SampleSource,
        privacy: Option<&PrivacyConfig>,
        standing: &Standing,
        step: u64,
    ) -> Option<PrivateBatch> {
        let (units, privacy, spent) = (self.units.as_ref()?, privacy?, standing.privacy.as_ref()?);
        let share = 1.0 - self.public.len() as f64 / source.len().max(1) as f64;
        Some(units.draw(source, privacy, spent.key, step, self.shape, share))
    }
}

/// The rows of a part of an epoch, in which each sample of `of` is learned once.
fn epoch(
    source: &dyn SampleSource,
    of: &[usize],
    seed: Seed,
    (epoch, part): (u64, usize),
    length: usize,
) -> Vec<PackedRow> {
    let seed = seed.derive("epoch").derive_index(epoch);
    let mut order = of.to_vec();
    seed.derive("order").stream().shuffle(&mut order);
    let noise = seed.derive("sample");
    let part_of = order.chunks(block(length)).nth(part).unwrap_or_default();
    let samples = part_of.iter().map(|&i| source.sample(i, &mut noise.derive_index(i as u64).stream()));
    let mut rows = pack(samples, length);
    // Nothing is learned from a row without weight, and its loss would be 0 / 0.
    rows.retain(PackedRow::counts);
    // The last rows are the emptiest: mix them in.
    let seed = seed.derive("rows");
    let seed = if part == 0 { seed } else { seed.derive_index(part as u64) };
    seed.stream().shuffle(&mut rows);
    rows
}

/// What is held out, packed in its own order, a part at a time.
pub(super) struct Held {
    length: usize,
    samples: usize,
    part: usize,
    rows: Vec<PackedRow>,
}

impl Held {
    /// Packs the first part. Fails when nothing of it counts.
    pub(super) fn new(source: &dyn SampleSource, length: usize) -> Result<Self> {
        let mut held = Self { length, samples: source.len(), part: 0, rows: Vec::new() };
        held.load(source, 0)?;
        if held.rows.is_empty() {
            return Err(nothing_counts("validation set", "give more data"));
        }
        Ok(held)
    }

    fn load(&mut self, source: &dyn SampleSource, part: usize) -> Result<()> {
        let size = block(self.length);
        let samples: Vec<Sample> =
            (part * size..self.samples.min((part + 1) * size)).map(|i| source.fixed(i)).collect();
        self.part = part;
        self.rows = pack(samples.into_iter(), self.length);
        self.rows.retain(PackedRow::counts);
        source.check()
    }

    fn parts(&self) -> usize {
        self.samples.div_ceil(block(self.length))
    }

    /// About how many batches of `rows` there are; exact where one part is all.
    pub(super) fn batches(&self, rows: usize) -> usize {
        self.rows.len().div_ceil(rows.max(1)) * self.parts()
    }

    /// The batch at `at` (its part and its first row), and where the next one is.
    pub(super) fn batch(
        &mut self,
        source: &dyn SampleSource,
        at: (usize, usize),
        rows: usize,
    ) -> Result<(&[PackedRow], Option<(usize, usize)>)> {
        if at.0 != self.part {
            self.load(source, at.0)?;
        }
        let end = self.rows.len().min(at.1 + rows);
        let next = if end < self.rows.len() { Some((at.0, end)) } else { Some((at.0 + 1, 0)) };
        let parts = self.parts();
        Ok((&self.rows[at.1.min(end)..end], next.filter(|(part, _)| *part < parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Stream;
    use crate::training::config::tests::small;

    struct Fixed(Vec<Sample>);

    impl SampleSource for Fixed {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn sample(&self, index: usize, _: &mut Stream) -> Sample {
            self.0[index].clone()
        }
        fn fixed(&self, index: usize) -> Sample {
            self.0[index].clone()
        }
        fn hash(&self) -> String {
            String::new()
        }
    }

    fn sample(length: usize, first: u32) -> Sample {
        let mut loss = vec![1.0; length];
        loss.iter_mut().take(1).for_each(|w| *w = 0.0);
        Sample::new((first..first + length as u32).collect(), loss)
    }

    fn standing() -> Standing {
        Standing::new(small(), String::new())
    }

    #[test]
    fn an_epoch_depends_on_seed_and_number_alone_and_has_no_weightless_rows() {
        let mut samples: Vec<Sample> = (0..40).map(|n| sample(5, n)).collect();
        samples[7].loss.fill(0.0);
        let source = Fixed(samples);
        let all: Vec<usize> = (0..40).collect();
        let rows = |seed, number| epoch(&source, &all, Seed::new(seed), (number, 0), 4);
        assert_eq!(rows(1, 0), rows(1, 0));
        assert_ne!(rows(1, 0), rows(1, 1));
        assert_ne!(rows(1, 0), rows(2, 0));
        assert_eq!(rows(1, 0).len(), 39);
        let nothing = Fixed(vec![sample(1, 0), sample(0, 0)]);
        assert!(matches!(Feed::new(&nothing, &small(), &standing()), Err(Error::Data { .. })));
    }

    /// More samples than are packed at a time: an epoch still learns each once, and a resumed run goes on in its midst.
    #[test]
    fn a_large_epoch_is_packed_in_parts() {
        let length = 1 << 16;
        let count = 2 * block(length) + 5;
        let source = Fixed((0..count).map(|n| sample(3, 10 * n as u32)).collect());
        let config = TrainingConfig { sequence: length, rows: 1, ..small() };
        let mut standing = Standing { config: config.clone(), ..standing() };
        let mut feed = Feed::new(&source, &config, &standing).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let mut parts = std::collections::BTreeSet::new();
        while standing.epoch == 0 {
            let row = feed.next(&source, &mut standing).unwrap().remove(0);
            let mut again = Feed::new(&source, &config, &standing).unwrap();
            let mut then = standing.clone();
            if standing.epoch == 0 {
                parts.insert(standing.block);
                seen.extend(row.targets().iter().filter(|id| **id % 10 == 1).copied());
                assert_eq!(again.next(&source, &mut then).unwrap().len(), 1);
            }
        }
        assert_eq!(seen.len(), count);
        assert_eq!(parts.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        let mut held = Held::new(&source, length).unwrap();
        let (mut at, mut predicted) = (Some((0, 0)), 0.0);
        while let Some(now) = at {
            let (rows, next) = held.batch(&source, now, 3).unwrap();
            predicted += rows.iter().map(PackedRow::weight).sum::<f64>();
            at = next;
        }
        assert_eq!(predicted, 2.0 * count as f64);
    }
}
