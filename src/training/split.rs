//! Splits that do not leak: by group (a player, a conversation) or by time, and the check that none did.

use crate::error::{Error, Result};
use crate::seed::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a sample is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// To learn from.
    Train,
    /// To choose models by.
    Validation,
    /// To measure the chosen one by.
    Test,
}

impl Part {
    /// All of them, in the order of time.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// How large the parts are, as shares that add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// The training part, above 0.
    pub train: f64,
    /// The validation part (0: none).
    pub validation: f64,
    /// The test part (0: none).
    pub test: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Self { train: 0.9, validation: 0.05, test: 0.05 }
    }
}

impl Shares {
    /// Each value: its name, whether it is in range, and the range.
    pub fn rules(&self) -> Vec<(&'static str, bool, &'static str)> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let sum = self.train + self.validation + self.test;
        vec![
            ("shares.train", share(self.train) && self.train > 0.0, "above 0, at most 1"),
            ("shares.validation", share(self.validation), "0 to 1"),
            ("shares.test", share(self.test), "0 to 1"),
            ("shares", (sum - 1.0).abs() < 1e-9, "shares that add up to 1"),
        ]
    }

    fn check(&self) -> Result<()> {
        match self.rules().into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => {
                let reason = "the value is out of range";
                Err(Error::config("split", field, reason, format!("choose {range}")))
            }
            None => Ok(()),
        }
    }

    /// The parts that are wanted.
    fn wanted(&self) -> Vec<Part> {
        let shares = [self.train, self.validation, self.test];
        Part::ALL.into_iter().zip(shares).filter(|(_, share)| *share > 0.0).map(|(part, _)| part).collect()
    }
}

/// The part of each sample, given the group it belongs to: all of a group's samples are in one part.
///
/// A group's part is drawn from its id and the seed alone, so it stays the same when data is added, and parts have
/// the wanted shares of the groups on average.
///
/// # Errors
/// [`Error::Config`] for senseless shares; [`Error::Data`] if a wanted part would be empty.
pub fn split_by_group(ids: &[impl AsRef<str>], seed: Seed, shares: Shares) -> Result<Vec<Part>> {
    shares.check()?;
    let wanted = shares.wanted();
    let seed = seed.derive("split by group");
    let draw = |id: &str| {
        let at = (seed.derive(id).to_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let ends = [shares.train, shares.train + shares.validation, f64::INFINITY];
        let part = Part::ALL.into_iter().zip(ends).find(|(part, end)| at < *end && wanted.contains(part));
        // Rounding may leave a sliver after the last wanted part.
        part.map_or(wanted[wanted.len() - 1], |(part, _)| part)
    };
    let mut groups: BTreeMap<&str, Part> = BTreeMap::new();
    let parts: Vec<Part> =
        ids.iter().map(|id| *groups.entry(id.as_ref()).or_insert_with(|| draw(id.as_ref()))).collect();
    let refuse = |reason: String, remedy: &str| {
        Err(Error::Data { source_name: "split by group".into(), reason, remedy: remedy.into() })
    };
    match groups.len() {
        0 => return refuse("there is nothing to split".into(), "give data"),
        1 if wanted.len() > 1 => {
            let reason = format!("all samples are of one player or conversation (`{}`)", ids[0].as_ref());
            return refuse(reason, "split by time, or record more players");
        }
        _ => {}
    }
    match wanted.into_iter().find(|part| !parts.contains(part)) {
        Some(part) => refuse(
            format!("the {} part is empty: none of {} groups fell into it", part.name(), groups.len()),
            "record more players, give the part a larger share, or choose another split seed",
        ),
        None => Ok(parts),
    }
}

/// The part of each sample, given when it happened: training comes first, then validation, then test. Samples of
/// the same moment are in one part, so parts have the wanted shares as nearly as moments allow.
///
/// # Errors
/// [`Error::Config`] for senseless shares; [`Error::Data`] if there are fewer moments than wanted parts.
pub fn split_by_time(timestamps: &[i64], shares: Shares) -> Result<Vec<Part>> {
    shares.check()?;
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for time in timestamps {
        *counts.entry(*time).or_default() += 1;
    }
    let wanted = shares.wanted();
    if counts.len() < wanted.len() {
        return Err(Error::Data {
            source_name: "split by time".into(),
            reason: format!(
                "{} samples of {} moments cannot be cut into {} parts",
                timestamps.len(),
                counts.len(),
                wanted.len()
            ),
            remedy: "give data of a longer time, or split by player".into(),
        });
    }
    let moments: Vec<i64> = counts.keys().copied().collect();
    // How many samples are before each moment.
    let before: Vec<usize> = counts
        .values()
        .scan(0, |sum, count| {
            let at = *sum;
            *sum += count;
            Some(at)
        })
        .collect();
    // Where each part after the first begins, as an index of moments: as near to its share as leaves a moment for
    // every other part.
    let mut begins: Vec<(i64, Part)> = Vec::new();
    let (mut low, mut share) = (1, 0.0);
    for (i, part) in wanted.iter().enumerate().skip(1) {
        share += match wanted[i - 1] {
            Part::Train => shares.train,
            Part::Validation => shares.validation,
            Part::Test => shares.test,
        };
        let high = moments.len() - (wanted.len() - i);
        let target = share * timestamps.len() as f64;
        let off = |at: usize| (before[at] as f64 - target).abs();
        let at = (low..=high).min_by(|a, b| off(*a).total_cmp(&off(*b))).unwrap_or(high);
        begins.push((moments[at], *part));
        low = at + 1;
    }
    let of = |time: &i64| {
        begins.iter().rev().find(|(begin, _)| time >= begin).map_or(wanted[0], |(_, part)| *part)
    };
    Ok(timestamps.iter().map(of).collect())
}

/// Checks that no group is in two parts. `parts` and `groups` tell of the same samples.
///
/// # Errors
/// [`Error::Data`] naming the first group that is, and where.
pub fn check_groups(parts: &[Part], groups: &[impl AsRef<str>]) -> Result<()> {
    check_lengths(parts.len(), groups.len())?;
    let mut first: BTreeMap<&str, (Part, usize)> = BTreeMap::new();
    for (at, (part, group)) in parts.iter().zip(groups).enumerate() {
        let (known, before) = *first.entry(group.as_ref()).or_insert((*part, at));
        if known != *part {
            return Err(leak(
                format!(
                    "`{}` is in two parts: sample {before} in {}, sample {at} in {}",
                    group.as_ref(),
                    known.name(),
                    part.name()
                ),
                "split by group, so that all samples of a player are in one part",
            ));
        }
    }
    Ok(())
}

/// Checks that nothing a player did is learned from if it came later than what of the same player is held out:
/// for each group, training comes before validation, and both before test. A sample of the same moment is no leak.
///
/// # Errors
/// [`Error::Data`] naming the first group, and both samples.
pub fn check_times(parts: &[Part], groups: &[impl AsRef<str>], timestamps: &[i64]) -> Result<()> {
    check_lengths(parts.len(), groups.len())?;
    check_lengths(parts.len(), timestamps.len())?;
    // The earliest sample of each group in each part.
    let mut earliest: BTreeMap<(&str, Part), usize> = BTreeMap::new();
    for (at, (part, group)) in parts.iter().zip(groups).enumerate() {
        let known = earliest.entry((group.as_ref(), *part)).or_insert(at);
        if timestamps[at] < timestamps[*known] {
            *known = at;
        }
    }
    for (at, (part, group)) in parts.iter().zip(groups).enumerate() {
        let held = Part::ALL.into_iter().filter(|later| later > part);
        for (later, held) in held.filter_map(|p| Some((p, *earliest.get(&(group.as_ref(), p))?))) {
            if timestamps[at] > timestamps[held] {
                return Err(leak(
                    format!(
                        "of `{}`, sample {at} in {} (time {}) is later than sample {held} in {} (time {})",
                        group.as_ref(),
                        part.name(),
                        timestamps[at],
                        later.name(),
                        timestamps[held]
                    ),
                    "split by time, so that what is held out comes after what is learned",
                ));
            }
        }
    }
    Ok(())
}

fn check_lengths(parts: usize, others: usize) -> Result<()> {
    if parts == others {
        return Ok(());
    }
    Err(leak(
        format!("{parts} samples and {others} origins do not belong together"),
        "give one for each sample",
    ))
}

fn leak(reason: String, remedy: &str) -> Error {
    Error::Data { source_name: "leak check".into(), reason, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THIRDS: Shares = Shares { train: 0.5, validation: 0.25, test: 0.25 };

    fn players(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("player {n}")).collect()
    }

    #[test]
    fn what_cannot_be_split_says_why() {
        let seed = Seed::new(1);
        let says = |ids: &[&str], shares, words: &str| {
            let error = split_by_group(ids, seed, shares).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says(&[], THIRDS, "nothing to split");
        says(&["ann"; 9], THIRDS, "one player or conversation (`ann`)");
        says(&["ann", "bob"], THIRDS, "part is empty");
        says(&["ann"], Shares { train: 0.0, validation: 0.5, test: 0.5 }, "shares.train");
        says(&["ann"], Shares { train: 0.5, validation: f64::NAN, test: 0.5 }, "shares.validation");
        says(&["ann"], Shares { train: 0.5, validation: 0.1, test: 0.1 }, "add up to 1");
        let error = split_by_time(&[7, 7, 9], THIRDS).unwrap_err().to_string();
        assert!(error.contains("3 samples of 2 moments cannot be cut into 3 parts"), "{error}");
        assert!(split_by_time(&[], THIRDS).is_err());
        let all = Shares { train: 1.0, validation: 0.0, test: 0.0 };
        assert_eq!(split_by_group(&["ann"], seed, all).unwrap(), [Part::Train]);
        assert_eq!(split_by_time(&[5], all).unwrap(), [Part::Train]);
    }

    #[test]
    fn leaks_are_found_and_named() {
        use Part::{Test, Train, Validation};
        let ids = ["ann", "bob", "ann", "bob"];
        let error = check_groups(&[Train, Train, Train, Test], &ids).unwrap_err().to_string();
        assert!(error.contains("`bob` is in two parts: sample 1 in train, sample 3 in test"), "{error}");
        check_groups(&[Train, Test, Train, Test], &ids).unwrap();
        check_times(&[Train, Train, Validation, Test], &ids, &[1, 2, 1, 3]).unwrap();
        let error =
            check_times(&[Train, Train, Validation, Train], &ids, &[5, 1, 4, 9]).unwrap_err().to_string();
        assert!(error.contains("of `ann`, sample 0 in train (time 5) is later than sample 2"), "{error}");
        let error =
            check_times(&[Validation, Train, Test, Train], &ids, &[5, 1, 4, 9]).unwrap_err().to_string();
        assert!(error.contains("in validation (time 5) is later than sample 2 in test (time 4)"), "{error}");
        assert!(check_groups(&[Train], &ids).is_err() && check_times(&[Train], &["ann"], &[]).is_err());
    }

    #[test]
    fn shares_of_many_groups_are_those_wanted() {
        let ids = players(4000);
        let parts = split_by_group(&ids, Seed::new(3), Shares::default()).unwrap();
        let share = |part| parts.iter().filter(|p| **p == part).count() as f64 / 4000.0;
        // Four standard deviations of a binomial share of 0.05.
        assert!((share(Part::Validation) - 0.05).abs() < 0.014 && (share(Part::Test) - 0.05).abs() < 0.014);
        assert_ne!(parts, split_by_group(&ids, Seed::new(4), Shares::default()).unwrap());
    }

    fn shares() -> impl Strategy<Value = Shares> {
        (1u32..10, 0u32..10, 0u32..10).prop_map(|(train, validation, test)| {
            let sum = f64::from(train + validation + test);
            let share = |n: u32| f64::from(n) / sum;
            Shares { train: share(train), validation: share(validation), test: share(test) }
        })
    }

    proptest! {
        #[test]
        fn a_split_by_group_never_leaks_and_stays_when_data_is_added(
            ids in prop::collection::vec(0usize..60, 1..200), more in prop::collection::vec(0usize..300, 0..50),
            seed in any::<u64>(), shares in shares(),
        ) {
            let name = |ids: &[usize]| ids.iter().map(|n| format!("p{n}")).collect::<Vec<_>>();
            let (few, all) = (name(&ids), name(&[&ids[..], &more[..]].concat()));
            if let Ok(parts) = split_by_group(&few, Seed::new(seed), shares) {
                check_groups(&parts, &few).unwrap();
                for part in shares.wanted() {
                    prop_assert!(parts.contains(&part));
                }
                prop_assert!(parts.iter().all(|part| shares.wanted().contains(part)));
                let later = split_by_group(&all, Seed::new(seed), shares).unwrap();
                prop_assert_eq!(&later[..parts.len()], &parts[..]);
            }
        }

        #[test]
        fn a_split_by_time_never_leaks_and_has_every_part(
            times in prop::collection::vec(-40i64..40, 1..150), groups in 1usize..5, shares in shares(),
        ) {
            let ids: Vec<String> = (0..times.len()).map(|at| format!("p{}", at % groups)).collect();
            let moments = times.iter().collect::<std::collections::BTreeSet<_>>().len();
            let wanted = shares.wanted();
            match split_by_time(&times, shares) {
                Ok(parts) => {
                    check_times(&parts, &ids, &times).unwrap();
                    let found = parts.iter().copied().collect::<std::collections::BTreeSet<_>>();
                    prop_assert_eq!(found.into_iter().collect::<Vec<_>>(), wanted);
                }
                Err(_) => prop_assert!(moments < wanted.len()),
            }
        }

        #[test]
        fn distinct_moments_are_cut_to_the_sample(count in 20usize..400) {
            let times: Vec<i64> = (0..count as i64).collect();
            let parts = split_by_time(&times, THIRDS).unwrap();
            let train = parts.iter().filter(|part| **part == Part::Train).count();
            prop_assert!((train as f64 - count as f64 / 2.0).abs() <= 0.5);
        }

        #[test]
        fn a_shuffled_split_is_a_leak(count in 4usize..60, seed in any::<u64>()) {
            // One player, half of whose samples are held out at random: unless chance ordered them, it leaks.
            let mut parts = vec![Part::Train; count];
            parts[count / 2..].fill(Part::Test);
            Seed::new(seed).stream().shuffle(&mut parts);
            let times: Vec<i64> = (0..count as i64).collect();
            prop_assert_eq!(check_times(&parts, &vec!["p"; count], &times).is_ok(), parts.is_sorted());
            prop_assert!(check_groups(&parts, &vec!["p"; count]).is_err());
        }
    }
}
