//! TensorBoard event files: what a run tells, as TensorBoard and its kin read it.
//!
//! A file is a row of `TFRecord`s (length, masked CRC-32C of the length, data, masked CRC-32C of the data; all little
//! endian), each an `Event` message of protobuf: a wall time, a step, and scalars by tag (`event.proto` and
//! `summary.proto` of TensorFlow). Only the few fields that scalars need are written, by hand.

use super::progress::{Progress, Stage};
use crate::error::{Error, Result};
use crate::files::read_limited;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the names of event files begin with; TensorBoard looks for it.
pub const EVENTS: &str = "events.out.tfevents.";

/// The longest event that is read, in bytes. Ours are below 200.
const LONGEST: u64 = 1 << 20;

/// Appends a run's scalars to an event file: `loss/train`, `loss/validation` (nats a token), `learning_rate` and
/// `tokens_per_s`.
///
/// Each start of a run has a file of its own. A file only grows, a record at a time: a run that is killed leaves at
/// most one torn record at its end, which the next start cuts.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins an event file in `dir` for a run whose last step is `last` (none: it begins anew). What older files
    /// say of later steps is cut, as are torn records, and TensorBoard is told to forget what it has read of them.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses; [`Error::Config`] when an older file is above 1 GiB.
    pub fn open(dir: &Path, last: Option<u64>) -> Result<Self> {
        let older = files(dir)?;
        for path in &older {
            cut(path, last)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Readers take the files in the order of their names.
        let newest = older.iter().filter_map(|path| number(path)).max();
        let next = newest.map_or(now, |newest| now.max(newest.saturating_add(1)));
        let path = dir.join(format!("{EVENTS}{next:010}.skald"));
        let failed = |e| Error::io("begin the event file", &path, e);
        let file = File::options().create_new(true).append(true).open(&path).map_err(failed)?;
        let mut events = Self { path, file };
        events.append(&Event::Version.encode(0))?;
        events.append(&Event::Start.encode(last.map_or(0, |last| last.saturating_add(1))))?;
        Ok(events)
    }

    /// Adds the scalars of a whole step; nothing while its validation is under way. When the disk refuses, none
    /// of it stays.
    pub fn add(&mut self, progress: &Progress) -> Result<()> {
        if progress.stage != Stage::Stepped {
            return Ok(());
        }
        let speed = (progress.tokens_per_s > 0.0).then_some(progress.tokens_per_s as f32);
        let scalars = [
            ("loss/train", progress.train_loss),
            ("loss/validation", progress.val_loss.map(|loss| loss as f32)),
            ("privacy/epsilon", progress.epsilon.map(|epsilon| epsilon as f32)),
            ("learning_rate", Some(progress.lr as f32)),
            ("tokens_per_s", speed),
        ];
        let scalars = scalars.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect();
        self.append(&Event::Scalars(scalars).encode(progress.step))
    }

    /// Puts the events on the disk: a resume point must not be ahead of them.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("write the event file", &self.path, e))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        let failed = |e| Error::io("write the event file", &self.path, e);
        let before = self.file.metadata().map_err(failed)?.len();
        self.file.write_all(&frame(event)).map_err(|e| {
            let _ = self.file.set_len(before);
            failed(e)
        })
    }
}

/// The event files in `dir` that this crate wrote, by name.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("look for event files", dir, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if number(&path).is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The number in the name of an event file of ours.
fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(EVENTS)?.strip_suffix(".skald")?.parse().ok()
}

/// Cuts an event file before the first record that is torn or of a step after `last`. A file of which nothing is
/// left to tell is removed.
fn cut(path: &Path, last: Option<u64>) -> Result<()> {
    let bytes = read_limited(path, 1 << 30, "read the event file")?;
    let mut kept = 0;
    let mut steps = false;
    for event in Records(&bytes) {
        match step(event) {
            Some(step) if has_scalars(event) && Some(step) > last => break,
            Some(_) => steps |= has_scalars(event),
            None => break,
        }
        kept += frame_length(event);
    }
    let failed = |e| Error::io("cut the event file", path, e);
    if !steps {
        return std::fs::remove_file(path).map_err(failed);
    }
    if kept < bytes.len() {
        let file = File::options().write(true).open(path).map_err(failed)?;
        file.set_len(kept as u64).map_err(failed)?;
    }
    Ok(())
}

/// An event's contents.
enum Event {
    /// The first of a file.
    Version,
    /// A run begins or goes on: what was told of this step and later ones no longer holds.
    Start,
    /// Scalars by tag.
    Scalars(Vec<(&'static str, f32)>),
}

impl Event {
    /// The event as protobuf, at this moment.
    fn encode(&self, step: u64) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let mut event = vec![field(1, FIXED64)];
        event.extend(now.to_le_bytes());
        event.push(field(2, VARINT));
        varint(&mut event, step);
        match self {
            Self::Version => nested(&mut event, 3, b"brain.Event:2"),
            // `SessionLog { status: START }`.
            Self::Start => nested(&mut event, 7, &[field(1, VARINT), 1]),
            Self::Scalars(scalars) => {
                let mut summary = Vec::new();
                for (tag, number) in scalars {
                    let mut value = Vec::new();
                    nested(&mut value, 1, tag.as_bytes());
                    value.push(field(2, FIXED32));
                    value.extend(number.to_le_bytes());
                    nested(&mut summary, 1, &value);
                }
                nested(&mut event, 5, &summary);
            }
        }
        event
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// What stands before a field's value: its number (below 16) and its wire type.
fn field(number: u8, wire: u8) -> u8 {
    number << 3 | wire
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn nested(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(field(number, BYTES));
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// An event's fields as number, wire type and value (a number, or the bytes of what is nested). Nothing more after
/// the first that is malformed.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, u64, &[u8])> {
    std::iter::from_fn(move || {
        let key = take_varint(&mut rest)?;
        let wire = key & 7;
        let value = match wire {
            0 => {
                let mut after = rest;
                take_varint(&mut after)?;
                rest.split_off(..rest.len() - after.len())?
            }
            1 => rest.split_off(..8)?,
            2 => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest.split_off(..length)?
            }
            5 => rest.split_off(..4)?,
            _ => return None,
        };
        Some((key >> 3, wire, value))
    })
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The step of an event (0 if it names none). Nothing if it is no event.
fn step(event: &[u8]) -> Option<u64> {
    let mut time = false;
    let mut step = 0;
    for (number, wire, mut value) in fields(event) {
        time |= (number, wire) == (1, u64::from(FIXED64));
        if (number, wire) == (2, u64::from(VARINT)) {
            step = take_varint(&mut value)?;
        }
    }
    time.then_some(step)
}

fn has_scalars(event: &[u8]) -> bool {
    fields(event).any(|(number, wire, _)| (number, wire) == (5, u64::from(BYTES)))
}

/// The checksum of a record: CRC-32C, turned and shifted so that checksums of checksums stay good ones.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A record that holds `data`.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, &checksum(&length)[..], data, &checksum(data)].concat()
}

fn frame_length(data: &[u8]) -> usize {
    data.len() + 16
}

/// The data of the whole records at the beginning of a file: ends before the first that is torn or damaged.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut rest = self.0;
        let length = rest.split_off(..8)?;
        if rest.split_off(..4)? != checksum(length) {
            return None;
        }
        let length = u64::from_le_bytes(length.try_into().ok()?);
        if length > LONGEST {
            return None;
        }
        let data = rest.split_off(..length as usize)?;
        if rest.split_off(..4)? != checksum(data) {
            return None;
        }
        self.0 = rest;
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn progress(step: u64) -> Progress {
        Progress {
            pair_accuracy: None,
            epsilon: None,
            step,
            steps: 1000,
            train_loss: (step > 0).then_some(2.5),
            val_loss: step.is_multiple_of(5).then_some(3.5),
            lr: 0.25,
            tokens_per_s: if step > 0 { 1000.0 } else { 0.0 },
            stage: Stage::Stepped,
        }
    }

    /// The steps that all event files of a directory tell scalars of, in the order they are read.
    fn steps(dir: &Path) -> Vec<u64> {
        let mut found = Vec::new();
        for path in files(dir).unwrap() {
            let bytes = std::fs::read(path).unwrap();
            assert_eq!(Records(&bytes).map(frame_length).sum::<usize>(), bytes.len());
            found.extend(Records(&bytes).filter(|event| has_scalars(event)).filter_map(step));
        }
        found
    }

    #[test]
    fn a_record_is_framed_as_tensorflow_frames_it() {
        // By `tensorboard.summary.writer.record_writer.RecordWriter` of the tensorboard package.
        let expected = "0500000000000000 eab2043e 68656c6c6f bb1f1c19";
        let hex: String = frame(b"hello").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""));
    }

    #[test]
    fn a_resume_cuts_torn_records_and_later_steps() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::open(dir.path(), None).unwrap();
        (0..10).for_each(|step| events.add(&progress(step)).unwrap());
        let whole = std::fs::read(events.path()).unwrap();
        std::fs::write(events.path(), [&whole[..], &frame(b"torn")[..7]].concat()).unwrap();
        let mut events = EventFile::open(dir.path(), Some(6)).unwrap();
        assert_eq!(steps(dir.path()), (0..7).collect::<Vec<_>>());
        (7..9).for_each(|step| events.add(&progress(step)).unwrap());
        assert_eq!(steps(dir.path()), (0..9).collect::<Vec<_>>());
        assert_eq!(files(dir.path()).unwrap().len(), 2);
        // A run that begins anew forgets all of it.
        EventFile::open(dir.path(), None).unwrap();
        assert_eq!((steps(dir.path()), files(dir.path()).unwrap().len()), (vec![], 1));
    }

    #[test]
    fn a_validation_under_way_tells_nothing_yet() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::open(dir.path(), None).unwrap();
        let stage = Stage::Validating { done: 1, of: 2 };
        events.add(&Progress { stage, ..progress(5) }).unwrap();
        assert_eq!(steps(dir.path()), [0; 0]);
    }

    #[test]
    fn files_of_others_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join(format!("{EVENTS}1700000000.host.7.0"));
        std::fs::write(&other, b"not ours").unwrap();
        EventFile::open(dir.path(), None).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), b"not ours");
        let error = EventFile::open(&dir.path().join("none"), None).err().unwrap().to_string();
        assert!(error.contains("check the path"), "{error}");
    }

    proptest! {
        #[test]
        fn what_was_framed_comes_back(data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let bytes: Vec<u8> = data.iter().flat_map(|data| frame(data)).collect();
            prop_assert_eq!(Records(&bytes).map(<[u8]>::to_vec).collect::<Vec<_>>(), data);
        }

        #[test]
        fn a_cut_or_flipped_byte_loses_what_comes_after_and_nothing_before(
            count in 1usize..6, length in 0usize..40, at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let record = frame(&vec![7; length]);
            let bytes = record.repeat(count);
            let at = at.index(bytes.len());
            let whole = at / record.len();
            prop_assert_eq!(Records(&bytes[..at]).count(), whole);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(Records(&flipped).count(), whole);
        }

        #[test]
        fn an_event_says_its_step(number in any::<u64>()) {
            prop_assert_eq!(step(&Event::Scalars(vec![("a", 1.0)]).encode(number)), Some(number));
            prop_assert_eq!(step(&Event::Start.encode(number)), Some(number));
        }

        #[test]
        fn no_bytes_confuse_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200), last in any::<u64>()) {
            let _ = (step(&bytes), has_scalars(&bytes), Records(&bytes).count());
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(format!("{EVENTS}1.skald"));
            std::fs::write(&path, [frame(&bytes), bytes].concat()).unwrap();
            prop_assert!(EventFile::open(dir.path(), Some(last)).is_ok());
        }
    }
}
