//! [`Mapping`]: which column of a table says what, as a RON file.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a table of events becomes a recording. Unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// How the file is laid out.
    pub format: Format,
    /// Whether the first line names the columns. Lines of JSON name theirs themselves.
    #[serde(default)]
    pub header: bool,
    /// On what ground these players may be recorded: nothing of players without consent is written.
    pub consent: Basis,
    /// Who played. The store keeps pseudonyms.
    pub player: Column,
    /// What happened.
    pub kind: Kind,
    /// What it happened to (an item, a level, a quest): the payload's `subject`.
    #[serde(default)]
    pub subject: Option<Column>,
    /// When. Without it the order of the rows is the order of the events.
    #[serde(default)]
    pub time: Option<Time>,
    /// What else goes into the payload: its name there, and the column. Numbers become numbers.
    #[serde(default)]
    pub values: BTreeMap<String, Column>,
    /// Pause between two events of a player, in seconds, that begins a new session. None: one session a player.
    #[serde(default)]
    pub session_gap_s: Option<u64>,
    /// Puts each player into one of so many folds by the BLAKE3 hash of their id (as a number, modulo this), noted as
    /// `fold` in each payload: a split into training and test players that is the same in every store.
    #[serde(default)]
    pub folds: Option<u8>,
    /// The build that is noted with each session.
    #[serde(default)]
    pub build: String,
}

/// How a file of rows is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Commas between the columns, quotes where needed (RFC 4180).
    Csv,
    /// Tabs between the columns.
    Tsv,
    /// Blanks between the columns.
    Spaces,
    /// A JSON object a line.
    Jsonl,
}

/// A column, by its place (the first is 0) or by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// By place.
    At(usize),
    /// By name.
    Named(String),
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(place) => write!(f, "{place}"),
            Self::Named(name) => write!(f, "`{name}`"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The same in every row.
    Always(String),
    /// As a column says.
    In(Column),
}

/// On what ground players may be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// All of them have agreed, or the data has no persons in it; the words are kept in the store.
    Stated(String),
    /// Those rows in which this column says so ("1", "true", "yes", "granted").
    Column(Column),
}

/// When something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// Where it stands.
    pub column: Column,
    /// In what it is counted.
    #[serde(default)]
    pub unit: TimeUnit,
}

/// In what time is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds since 1970, fractions allowed.
    #[default]
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// A date and time as in RFC 3339, UTC ("2024-05-01T12:30:00Z").
    Rfc3339,
}

impl Mapping {
    /// Reads a mapping. `file` is for messages.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let mapping: Self = crate::files::parse_ron(text, file)?;
        mapping.validate(file)?;
        Ok(mapping)
    }

    /// Refuses what makes no sense, naming the field.
    pub fn validate(&self, file: &str) -> Result<()> {
        let named = self.header || self.format == Format::Jsonl;
        let by_place = self.format != Format::Jsonl;
        let columns = [("player", Some(&self.player)), ("subject", self.subject.as_ref())]
            .into_iter()
            .chain([("time", self.time.as_ref().map(|time| &time.column))])
            .chain(self.values.values().map(|column| ("values", Some(column))))
            .chain([("kind", if let Kind::In(column) = &self.kind { Some(column) } else { None })])
            .chain([(
                "consent",
                if let Basis::Column(column) = &self.consent { Some(column) } else { None },
            )]);
        for (field, column) in columns {
            let remedy = match column {
                Some(Column::Named(_)) if !named => "give its place (the first is 0), or set `header: true`",
                Some(Column::At(_)) if !by_place => "give its name: lines of JSON have no order",
                _ => continue,
            };
            return Err(Error::config(file, field, "the column cannot be found so", remedy));
        }
        if matches!(&self.kind, Kind::Always(kind) if kind.is_empty()) {
            return Err(Error::config(file, "kind", "it is empty", "name what happened, \"Bought\" say"));
        }
        if matches!(&self.consent, Basis::Stated(words) if words.trim().is_empty()) {
            let remedy = "say why these players may be recorded";
            return Err(Error::config(file, "consent", "it is empty", remedy));
        }
        if self.values.contains_key("subject") && self.subject.is_some() {
            return Err(Error::config(file, "values", "`subject` is there twice", "rename the value"));
        }
        if self.folds.is_some_and(|folds| folds < 2)
            || (self.folds.is_some() && self.values.contains_key("fold"))
        {
            return Err(Error::config(
                file,
                "folds",
                "it makes no split",
                "give 2 or more, and no value `fold`",
            ));
        }
        if self.session_gap_s == Some(0) {
            return Err(Error::config(file, "session_gap_s", "it is 0", "give at least 1 second"));
        }
        Ok(())
    }
}
