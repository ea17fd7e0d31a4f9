//! [`DataCard`]: what a run's data was, as `data.json` holds it: where it came from and under which licence, how
//! much of it there is, what was dropped and why, and how it was split.

use super::DATA_REPORT;
use super::source::{DataSets, SampleSource};
use super::split::{Part, Shares, check_groups, check_times};
use crate::error::{Error, Result};
use crate::files::{parse_ron, read_limited, read_text, write_atomic};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The licence of data beside which there is no word about it.
pub const NOT_STATED: &str = "not stated";

/// The file beside data that says where it came from, as people write it.
pub const DATA_RON: &str = "data.ron";

/// What a run's data was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataCard {
    /// BLAKE3 of all samples.
    pub data_hash: String,
    /// Where it came from.
    #[serde(default)]
    pub sources: Vec<DataSource>,
    /// How it was split.
    #[serde(default)]
    pub split: SplitMethod,
    /// The training part.
    pub train: PartCard,
    /// The validation part.
    pub validation: PartCard,
    /// The test part, if one was kept.
    #[serde(default, skip_serializing_if = "PartCard::is_empty")]
    pub test: PartCard,
    /// What was not used, by reason.
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
    /// What else the domain has to say.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

/// What whoever made a run's data sets says of them; the run itself counts and hashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataNotes {
    /// Where they came from.
    pub sources: Vec<DataSource>,
    /// How they were split. By group: no player may be in both parts.
    pub split: SplitMethod,
    /// What was not used, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What else the domain has to say.
    pub details: serde_json::Value,
}

impl DataNotes {
    /// The card of data sets.
    ///
    /// # Errors
    /// [`Error::Data`] naming a player who is in both parts of a split by group.
    pub(super) fn card(&self, data: &DataSets, data_hash: &str) -> Result<DataCard> {
        let players = |source: &dyn SampleSource| -> BTreeSet<String> {
            (0..source.len()).filter_map(|index| source.player(index).map(str::to_owned)).collect()
        };
        let parts = [players(&*data.train), players(&*data.validation)];
        if matches!(self.split, SplitMethod::ByGroup { .. })
            && let Some(player) = parts[0].intersection(&parts[1]).next()
        {
            return Err(Error::Data {
                source_name: "data set".into(),
                reason: format!("player {player} is in the training part and in the validation part"),
                remedy: "please report this with the data".into(),
            });
        }
        let part = |source: &dyn SampleSource, players: &BTreeSet<String>| PartCard {
            samples: source.len() as u64,
            groups: (!players.is_empty()).then_some(players.len() as u64),
            tokens: None,
        };
        Ok(DataCard {
            data_hash: data_hash.to_owned(),
            sources: self.sources.clone(),
            split: self.split.clone(),
            train: part(&*data.train, &parts[0]),
            validation: part(&*data.validation, &parts[1]),
            test: PartCard::default(),
            dropped: self.dropped.clone(),
            details: self.details.clone(),
        })
    }
}

/// How much is in a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartCard {
    /// Samples.
    pub samples: u64,
    /// Players, conversations, .. whose samples these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<u64>,
    /// Tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl PartCard {
    fn is_empty(&self) -> bool {
        self.samples == 0
    }
}

/// How data was split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum SplitMethod {
    /// It is not known.
    #[default]
    Unknown,
    /// The first part of a text to learn from, the rest held out.
    InOrder {
        /// How large the parts are.
        shares: Shares,
    },
    /// [`super::split_by_group`].
    ByGroup {
        /// What a group is ("player", "conversation").
        group: String,
        /// The split's seed.
        seed: u64,
        /// How large the parts are.
        shares: Shares,
    },
    /// [`super::split_by_time`].
    ByTime {
        /// How large the parts are.
        shares: Shares,
    },
    /// A line and all that repeats it are in one part.
    ByLine,
    /// Every tenth line is held out.
    EveryTenthLine,
}

/// Where a sample came from and went to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The part it is in.
    pub part: Part,
    /// The player or conversation it belongs to.
    pub group: String,
    /// When it happened (any unit, the same for all; 0 where splits are not by time).
    pub time: i64,
    /// Its length.
    pub tokens: u64,
}

impl std::fmt::Display for DataCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |part: &PartCard| match part.groups {
            Some(groups) => format!("{} samples ({groups} players)", part.samples),
            None => format!("{} samples", part.samples),
        };
        write!(f, "{} to learn, {} held out", part(&self.train), part(&self.validation))?;
        self.dropped.iter().try_for_each(|(reason, count)| write!(f, "; {count} dropped: {reason}"))?;
        self.sources
            .iter()
            .try_for_each(|source| write!(f, "; {}: {}", source.path.display(), source.licence))
    }
}

impl DataCard {
    /// A card of samples that were split, once it is sure that nothing leaked: a split by group has no group in
    /// two parts, a split by time learns nothing of a player that came after what of that player is held out.
    ///
    /// # Errors
    /// [`Error::Data`] naming the first sample that leaked, or the part that is empty (training, or validation).
    pub fn new(data_hash: impl Into<String>, split: SplitMethod, origins: &[Origin]) -> Result<Self> {
        let parts: Vec<Part> = origins.iter().map(|origin| origin.part).collect();
        let groups: Vec<&str> = origins.iter().map(|origin| origin.group.as_str()).collect();
        match split {
            SplitMethod::ByGroup { .. } => check_groups(&parts, &groups)?,
            SplitMethod::ByTime { .. } => {
                let times: Vec<i64> = origins.iter().map(|origin| origin.time).collect();
                check_times(&parts, &groups, &times)?;
            }
            _ => {}
        }
        let of = |part: Part| {
            let inside = || origins.iter().filter(move |origin| origin.part == part);
            let groups: BTreeSet<&str> = inside().map(|origin| origin.group.as_str()).collect();
            PartCard {
                samples: inside().count() as u64,
                groups: Some(groups.len() as u64),
                tokens: Some(inside().map(|origin| origin.tokens).sum()),
            }
        };
        let [train, validation, test] = Part::ALL.map(of);
        for (part, card) in [(Part::Train, &train), (Part::Validation, &validation)] {
            if card.is_empty() {
                return Err(Error::Data {
                    source_name: "data set".into(),
                    reason: format!("the {} part is empty", part.name()),
                    remedy: "give more data, or other shares".into(),
                });
            }
        }
        Ok(Self {
            data_hash: data_hash.into(),
            sources: Vec::new(),
            split,
            train,
            validation,
            test,
            dropped: BTreeMap::new(),
            details: serde_json::Value::Null,
        })
    }

    /// Reads the card of the run in `dir`. What older versions did not write is empty.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(DATA_REPORT);
        let bytes = read_limited(&path, 1 << 26, "read the data card")?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let reason = format!("the data card is damaged ({e})");
            Error::config(path.display().to_string(), "data card", reason, "restore or remove it")
        })
    }

    /// Writes the card into the directory of a run.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let pretty =
            serde_json::to_vec_pretty(self).map_err(|e| Error::backend("writing the data card", e))?;
        write_atomic(&dir.join(DATA_REPORT), &pretty)
    }
}

/// Where data came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSource {
    /// The file or folder that was given.
    pub path: PathBuf,
    /// Its licence, or [`NOT_STATED`].
    pub licence: String,
    /// Who made it, or where it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// What people write in [`DATA_RON`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    licence: String,
    #[serde(default)]
    origin: Option<String>,
}

impl DataSource {
    /// What stands beside the data at `path` (in the folder itself, if it is one): [`DATA_RON`] (`(licence:
    /// "CC-BY-4.0", origin: "the studio's writers")`), or else a `LICENSE`, of which the SPDX identifier is taken
    /// or the first line.
    ///
    /// # Errors
    /// [`Error::Syntax`] if that file is malformed; [`Error::Io`] if it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let source = |licence: String, origin| Self { path: path.to_owned(), licence, origin };
        let file = folder.join(DATA_RON);
        if file.is_file() {
            let text = read_text(&file, 1 << 20, "read what the data is")?;
            let stated: Stated = parse_ron(&text, &file.display().to_string())?;
            return Ok(source(stated.licence, stated.origin));
        }
        let names = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md"];
        let Some(file) = names.map(|name| folder.join(name)).into_iter().find(|file| file.is_file()) else {
            return Ok(source(NOT_STATED.to_owned(), None));
        };
        let text = read_text(&file, 1 << 20, "read the data's licence")?;
        Ok(source(title(&text).unwrap_or_else(|| NOT_STATED.to_owned()), None))
    }
}

/// The SPDX identifier in a licence's text, or its first line, up to 100 characters.
fn title(text: &str) -> Option<String> {
    let spdx = text.lines().find_map(|line| line.split_once("SPDX-License-Identifier:"));
    let first = || text.lines().map(|line| line.trim_matches(|c: char| c == '#' || c.is_whitespace()));
    let line = spdx.map(|(_, id)| id.trim()).or_else(|| first().find(|line| !line.is_empty()))?;
    Some(line.chars().take(100).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::training::split::{split_by_group, split_by_time};

    fn origins(parts: &[Part], groups: &[&str]) -> Vec<Origin> {
        let of = |(at, (part, group)): (usize, (&Part, &&str))| Origin {
            part: *part,
            group: (*group).to_owned(),
            time: at as i64,
            tokens: 10,
        };
        parts.iter().zip(groups).enumerate().map(of).collect()
    }

    fn by_group(seed: u64) -> SplitMethod {
        SplitMethod::ByGroup { group: "player".into(), seed, shares: Shares::default() }
    }

    #[test]
    fn a_card_counts_its_parts_and_comes_back() {
        let ids: Vec<String> = (0..400).map(|n| format!("p{}", n / 2)).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let parts = split_by_group(&ids, Seed::new(1), Shares::default()).unwrap();
        let mut card = DataCard::new("hash", by_group(1), &origins(&parts, &ids)).unwrap();
        let counted = [&card.train, &card.validation, &card.test].map(|part| part.groups.unwrap());
        assert_eq!(counted.iter().sum::<u64>(), 200);
        assert_eq!(card.train.samples, counted[0] * 2);
        assert_eq!(card.train.tokens, Some(card.train.samples * 10));
        card.dropped.insert("skipped".into(), 3);
        let dir = tempfile::tempdir().unwrap();
        card.save(dir.path()).unwrap();
        assert_eq!(DataCard::read(dir.path()).unwrap(), card);
        let text = std::fs::read_to_string(dir.path().join(DATA_REPORT)).unwrap();
        assert!(text.contains("\"method\": \"by_group\""), "{text}");
    }

    #[test]
    fn a_leaking_or_empty_split_has_no_card() {
        use Part::{Train, Validation};
        let says = |split: SplitMethod, parts: &[Part], words: &str| {
            let error =
                DataCard::new("", split, &origins(parts, &["ann", "bob", "ann"])).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says(by_group(0), &[Train, Train, Validation], "`ann` is in two parts");
        let by_time = || SplitMethod::ByTime { shares: Shares::default() };
        says(by_time(), &[Validation, Train, Train], "of `ann`, sample 2 in train");
        says(by_group(0), &[Train, Train, Train], "the validation part is empty");
        let times = split_by_time(&[0, 1, 2], Shares { train: 0.7, validation: 0.3, test: 0.0 }).unwrap();
        DataCard::new("", by_time(), &origins(&times, &["ann", "bob", "ann"])).unwrap();
    }

    #[test]
    fn cards_of_older_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"data_hash":"ab","details":{"files":["a.txt"]},
            "train":{"rows_of_an_epoch":722,"samples":2309},"validation":{"rows":27,"samples":115}}"#;
        std::fs::write(dir.path().join(DATA_REPORT), old).unwrap();
        let card = DataCard::read(dir.path()).unwrap();
        assert_eq!((card.train.samples, card.split, card.sources.len()), (2309, SplitMethod::Unknown, 0));
        std::fs::write(dir.path().join(DATA_REPORT), &old[..40]).unwrap();
        assert!(DataCard::read(dir.path()).unwrap_err().to_string().contains(DATA_REPORT));
    }

    #[test]
    fn a_licence_is_read_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.txt");
        std::fs::write(&file, "text").unwrap();
        let licence = |path: &Path| DataSource::of(path).unwrap().licence;
        assert_eq!(licence(&file), NOT_STATED);
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("LICENSE.md", "\n# Creative Commons Attribution 4.0\n\ntext");
        assert_eq!(licence(&file), "Creative Commons Attribution 4.0");
        write("LICENSE", "// SPDX-License-Identifier: CC-BY-4.0 \n");
        assert_eq!(licence(dir.path()), "CC-BY-4.0");
        write(DATA_RON, "(licence: \"CC0-1.0\", origin: \"our writers\")");
        let source = DataSource::of(&file).unwrap();
        assert_eq!((source.licence.as_str(), source.origin.as_deref()), ("CC0-1.0", Some("our writers")));
        write(DATA_RON, "(licence: \"CC0-1.0\",\n license: \"x\")");
        let error = DataSource::of(&file).unwrap_err().to_string();
        assert!(error.contains("data.ron:2"), "{error}");
    }
}
