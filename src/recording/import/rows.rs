//! Rows of a table, of any format, read one at a time.

use super::mapping::{Column, Format, Mapping, Time, TimeUnit};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The longest line that is read, in bytes. A file without line ends is not read into memory.
const LONGEST: u64 = 1 << 24;

/// A row: the values of its columns, as text.
pub(super) enum Cells {
    Listed(csv::StringRecord),
    Named(serde_json::Map<String, serde_json::Value>),
}

/// Where the columns are.
pub(super) struct Header(HashMap<String, usize>);

impl Cells {
    /// The text of a column; nothing if it is not there or empty.
    pub(super) fn get(&self, column: &Column, header: &Header) -> Option<String> {
        let text = match (self, column) {
            (Self::Listed(cells), Column::At(place)) => cells.get(*place)?.trim().to_owned(),
            (Self::Listed(cells), Column::Named(name)) => cells.get(*header.0.get(name)?)?.trim().to_owned(),
            (Self::Named(cells), Column::Named(name)) => match cells.get(name)? {
                serde_json::Value::String(text) => text.trim().to_owned(),
                serde_json::Value::Null => return None,
                value => value.to_string(),
            },
            (Self::Named(_), Column::At(_)) => return None,
        };
        (!text.is_empty()).then_some(text)
    }
}

/// What became of a line.
pub(super) enum Line {
    Row(Cells),
    /// It is none, for this reason.
    Bad(&'static str),
}

/// Hands each line of a file to `each`, with its number (from 1).
pub(super) fn read(
    path: &Path,
    mapping: &Mapping,
    mut each: impl FnMut(u64, Line, &Header) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io("open the data", path, e))?;
    match mapping.format {
        Format::Csv | Format::Tsv => {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .delimiter(if mapping.format == Format::Csv { b',' } else { b'\t' })
                .quoting(mapping.format == Format::Csv)
                .from_reader(BufReader::with_capacity(1 << 16, file));
            let mut header = None;
            let mut record = csv::StringRecord::new();
            loop {
                let line = reader.position().line();
                match reader.read_record(&mut record) {
                    Ok(false) => return Ok(()),
                    Ok(true) if mapping.header && header.is_none() => {
                        header = Some(named(record.iter(), path, mapping)?);
                    }
                    Ok(true) => {
                        let header = header.get_or_insert_with(|| Header(HashMap::new()));
                        each(line, Line::Row(Cells::Listed(record.clone())), header)?;
                    }
                    Err(error) => match error.kind() {
                        csv::ErrorKind::Utf8 { .. } => {
                            let header = header.get_or_insert_with(|| Header(HashMap::new()));
                            each(line, Line::Bad("not UTF-8"), header)?;
                        }
                        _ => {
                            let source = std::io::Error::other(error.to_string());
                            return Err(Error::io("read the data", path, source));
                        }
                    },
                }
            }
        }
        Format::Spaces | Format::Jsonl => {
            let mut header = None;
            lines(path, file, |number, bytes| {
                let Ok(text) = std::str::from_utf8(bytes) else {
                    let header = header.get_or_insert_with(|| Header(HashMap::new()));
                    return each(number, Line::Bad("not UTF-8"), header);
                };
                if text.trim().is_empty() {
                    return Ok(());
                }
                if mapping.format == Format::Jsonl {
                    let header = header.get_or_insert_with(|| Header(HashMap::new()));
                    return match serde_json::from_str(text) {
                        Ok(serde_json::Value::Object(cells)) => {
                            each(number, Line::Row(Cells::Named(cells)), header)
                        }
                        _ => each(number, Line::Bad("no JSON object"), header),
                    };
                }
                if mapping.header && header.is_none() {
                    header = Some(named(text.split_whitespace(), path, mapping)?);
                    return Ok(());
                }
                let header = header.get_or_insert_with(|| Header(HashMap::new()));
                each(number, Line::Row(Cells::Listed(text.split_whitespace().collect())), header)
            })
        }
    }
}

/// The columns' names, which must have those that the mapping wants.
fn named<'a>(names: impl Iterator<Item = &'a str>, path: &Path, mapping: &Mapping) -> Result<Header> {
    let header: HashMap<String, usize> = names
        .enumerate()
        .map(|(at, name)| (name.trim_start_matches('\u{feff}').trim().to_owned(), at))
        .collect();
    let wanted = [Some(&mapping.player), mapping.subject.as_ref(), mapping.time.as_ref().map(|t| &t.column)];
    for column in wanted.into_iter().flatten().chain(mapping.values.values()) {
        if let Column::Named(name) = column
            && !header.contains_key(name)
        {
            let mut there: Vec<&str> = header.keys().map(String::as_str).collect();
            there.sort_unstable();
            return Err(Error::Data {
                source_name: format!("{}:1", path.display()),
                reason: format!("there is no column `{name}` (there are {})", there.join(", ")),
                remedy: "mend the mapping".into(),
            });
        }
    }
    Ok(Header(header))
}

/// Each line of a file, without its end. A line too long for any table is an error, not a full memory.
fn lines(path: &Path, file: File, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        let read = std::io::Read::take(&mut reader, LONGEST)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io("read the data", path, e))?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == LONGEST {
            return Err(Error::Syntax {
                file: path.display().to_string(),
                line: number as usize,
                column: 0,
                reason: format!("the line is longer than {LONGEST} bytes"),
                remedy: "check that this is a table of events".into(),
            });
        }
        each(number, line.trim_ascii_end())?;
    }
}

/// A time in milliseconds since 1970; nothing if it is none that a store can hold.
pub(super) fn milliseconds(text: &str, time: &Time) -> Option<i64> {
    // Year 10000, beyond which no play was recorded.
    const LAST: f64 = 2.5e14;
    let number = |scale: f64| {
        let value = text.parse::<f64>().ok()? * scale;
        (value.is_finite() && value.abs() < LAST).then_some(value.round() as i64)
    };
    match time.unit {
        TimeUnit::Seconds => number(1000.0),
        TimeUnit::Milliseconds => number(1.0),
        TimeUnit::Rfc3339 => {
            let at = humantime::parse_rfc3339_weak(text).ok()?;
            let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
            i64::try_from(since.as_millis()).ok()
        }
    }
}
