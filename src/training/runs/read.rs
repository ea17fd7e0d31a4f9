//! Reads a run's directory, whatever state it is in: what is missing or damaged becomes a line in [`Run::faults`].

use super::{Point, Run, Status};
use crate::files::read_limited;
use crate::model::{CARD, Card, FILES};
use crate::training::config::TrainingConfig;
use crate::training::curve::CURVE;
use crate::training::directory::MARK;
use crate::training::environment::{ENVIRONMENT, Environment};
use crate::training::state::{STATE, Standing};
use crate::training::{DATA_REPORT, DataCard};
use safetensors::tensor::Metadata;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads the run in `dir`, which is called `name`.
pub(super) fn read(dir: &Path, name: String) -> Run {
    let mut faults = Vec::new();
    let mut noted = |fault: Option<String>| faults.extend(fault);
    let (curve, fault) = curve(dir);
    noted(fault);
    let card = keep(card(dir), CARD, &mut noted);
    let standing = keep(standing(dir), STATE, &mut noted);
    let network = keep(network(dir), FILES[0], &mut noted);
    let weights = keep(header(&dir.join(FILES[1])), FILES[1], &mut noted);
    let data = keep(DataCard::read(dir).map_err(|e| e.to_string()), DATA_REPORT, &mut noted);
    // Runs of older versions have none.
    let starts = match dir.join(ENVIRONMENT).exists() {
        true => keep(Environment::read(dir).map_err(|e| e.to_string()), ENVIRONMENT, &mut noted),
        false => None,
    };
    let best = curve.iter().filter_map(|point| Some((point.val_loss?, point.step)));
    let best = best.min_by(|a, b| a.0.total_cmp(&b.0));
    let steps = curve.last().map_or(0, |point| point.step);
    let provenance = card.as_ref().map(|card| &card.provenance);
    let hashes = [
        data.as_ref().map(|data| &data.data_hash),
        standing.as_ref().map(|standing| &standing.data_hash),
        provenance.map(|provenance| &provenance.data_hash),
    ];
    let mut known = hashes.into_iter().flatten().filter(|hash| !hash.is_empty());
    let data_hash = known.next().cloned();
    if known.any(|other| Some(other) != data_hash.as_ref()) {
        noted(Some(format!("{DATA_REPORT}, {STATE} and {CARD} name different data")));
    }
    let config = standing.as_ref().map(|standing| &standing.config);
    let mut settings = BTreeMap::new();
    if let Some(config) = config {
        flatten("", &serde_json::to_value(config).unwrap_or_default(), &mut settings);
    }
    if let Some(start) = starts.as_ref().and_then(|starts| starts.first()) {
        let mut environment = serde_json::to_value(start).unwrap_or_default();
        // What is different each time says nothing.
        if let Some(fields) = environment.as_object_mut() {
            fields.retain(|key, _| !["command", "started"].contains(&key.as_str()));
        }
        flatten("environment", &environment, &mut settings);
    }
    let updated = std::fs::metadata(dir.join(CURVE)).and_then(|about| about.modified()).ok();
    Run {
        name,
        path: dir.to_owned(),
        status: status(dir, steps, standing.as_ref()),
        domain: card.as_ref().map(|card| card.domain.clone()),
        architecture: network,
        parameters: weights.as_ref().map(parameters),
        steps,
        planned_steps: config.map(|config| config.steps),
        best_val_loss: best.map(|(loss, _)| loss),
        best_step: best.map(|(_, step)| step),
        train_loss: curve.iter().rev().find_map(|point| point.train_loss),
        data_hash,
        seed: config.map(|config| config.seed).or(provenance.map(|provenance| provenance.seed)),
        seconds: standing.as_ref().map(|standing| standing.seconds),
        started: starts.and_then(|starts| Some(starts.into_iter().next()?.started)),
        updated: updated.map(|time| humantime::format_rfc3339_seconds(time).to_string()),
        faults,
        settings,
        curve,
    }
}

/// What was read, or a fault noted under the file's name.
fn keep<T>(read: Result<T, String>, file: &str, noted: &mut impl FnMut(Option<String>)) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(reason) => {
            let reason = reason.lines().next().unwrap_or_default();
            noted(Some(if reason.contains(file) { reason.to_owned() } else { format!("{file}: {reason}") }));
            None
        }
    }
}

fn status(dir: &Path, steps: u64, standing: Option<&Standing>) -> Status {
    let over = |standing: &Standing| {
        let TrainingConfig { steps: planned, patience, .. } = standing.config;
        steps >= planned || (patience > 0 && standing.since_best >= patience)
    };
    match (standing.map(over), dir.join(MARK).exists()) {
        (_, true) => Status::Open,
        (Some(true), false) => Status::Done,
        (Some(false), false) => Status::Stopped,
        (None, false) => Status::Unknown,
    }
}

/// The points of a curve; lines that are none are left out, and said.
fn curve(dir: &Path) -> (Vec<Point>, Option<String>) {
    let bytes = match read_limited(&dir.join(CURVE), 1 << 30, "read the curve") {
        Ok(bytes) => bytes,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut points: Vec<Point> = Vec::new();
    let (mut bad, mut first) = (0, 0);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice::<Point>(line) {
            Ok(point) if points.last().is_none_or(|last| last.step < point.step) => points.push(point),
            _ => {
                bad += 1;
                first = if bad == 1 { at + 1 } else { first };
            }
        }
    }
    let fault = match (bad, points.is_empty()) {
        (0, true) => Some(format!("{CURVE} is empty: no step was made")),
        (0, false) => None,
        (1, _) => Some(format!("{CURVE}:{first} is half written or damaged, and left out")),
        _ => Some(format!("{CURVE}: {bad} lines are damaged and left out, the first is line {first}")),
    };
    (points, fault)
}

fn card(dir: &Path) -> Result<Card, String> {
    let bytes = bytes(&dir.join(CARD), 1 << 24)?;
    Card::from_ron(&bytes, CARD).map_err(|e| e.to_string())
}

fn standing(dir: &Path) -> Result<Standing, String> {
    let metadata = header(&dir.join(STATE))?;
    let standing = metadata.metadata().as_ref().and_then(|map| map.get("standing"));
    ron::from_str(standing.ok_or("it is no training state of ours")?)
        .map_err(|e| format!("it is of another version ({e})"))
}

/// The name of a network, from its `config.json`.
fn network(dir: &Path) -> Result<String, String> {
    let bytes = bytes(&dir.join(FILES[0]), 1 << 20)?;
    let config: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    let named = config["architectures"][0].as_str().or(config["model_type"].as_str());
    let named = named.ok_or("it names no architecture")?;
    Ok(["ForCausalLM", "LMHeadModel"].iter().fold(named, |name, tail| name.trim_end_matches(tail)).to_owned())
}

/// The numbers in the tensors of a safetensors file.
fn parameters(weights: &Metadata) -> u64 {
    let sizes = weights
        .tensors()
        .into_values()
        .map(|tensor| tensor.shape.iter().fold(1u64, |size, dim| size.saturating_mul(*dim as u64)));
    sizes.fold(0, u64::saturating_add)
}

/// The header of a safetensors file, without reading its tensors.
fn header(path: &Path) -> Result<Metadata, String> {
    let mut file = File::open(path).map_err(|e| missing(&e))?;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| "it is truncated")?;
    let size = u64::from_le_bytes(size);
    if size > 100_000_000 || size + 8 > length {
        return Err("it is truncated or no safetensors file".into());
    }
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    match (size + 8).checked_add(metadata.data_len() as u64) == Some(length) {
        true => Ok(metadata),
        false => Err("it is truncated".into()),
    }
}

fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    if !path.exists() {
        return Err("it is missing".into());
    }
    read_limited(path, limit, "read the file").map_err(|e| e.to_string())
}

fn missing(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound { "it is missing".into() } else { error.to_string() }
}

/// Puts the leaves of a JSON value into `out`, by dotted name.
fn flatten(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, out);
            }
        }
        _ => {
            out.insert(path.to_owned(), value.clone());
        }
    }
}
