//! `skald bench level`.

use super::range;
use crate::Common;
use bevy_skald::job;
use bevy_skald::level::{Endless, Generate, Grid, LevelModel, LevelRequest, Markov, Scan, Wfc, read_levels};
use bevy_skald::{Error, Result};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Its options.
#[derive(Args)]
pub struct LevelArgs {
    /// The model: a checkpoint directory of `skald train level`.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Levels for the baselines to learn from: files and folders.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Columns and rows (default: as usual in the levels that were learned).
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// Levels that are timed; of `WaveFunctionCollapse` a tenth.
    #[arg(long, default_value_t = 100)]
    levels: usize,
}

pub fn run(args: &LevelArgs, common: &Common) -> Result<()> {
    range((1..=100_000).contains(&args.levels), "--levels", "1 to 100000")?;
    let model = Arc::new(LevelModel::load(&args.model)?);
    let size = args.size.as_deref().map(crate::generate::level::size).transpose()?;
    let (width, height) = size.unwrap_or_else(|| model.usual_size());
    let request = |n: usize| LevelRequest {
        size,
        seed: common.seed().derive("level").derive_index(n as u64),
        ..LevelRequest::default()
    };
    let own =
        timed(args.levels, |n| job::run(Generate::new(Arc::clone(&model), request(n))?, |_| {}).map(|_| ()))?;
    let mut line =
        json!({ "model": args.model, "columns": width, "rows": height, "levels": args.levels, "ms": own });
    if model.game().scan == Scan::Columns {
        let mut endless = Endless::new(Arc::clone(&model), &request(0))?;
        line["endless_4_columns_ms"] = timed(args.levels, |_| endless.columns(4).map(|_| ()))?;
    }
    if !args.data.is_empty() {
        let levels: Vec<Grid> =
            read_levels(model.game(), &args.data)?.into_iter().map(|level| level.grid).collect();
        let seed = |n: usize| common.seed().derive("baselines").derive_index(n as u64);
        let chain = Markov::new(model.game(), &levels);
        let slices = if model.game().scan == Scan::Columns { width } else { height };
        line["markov_ms"] =
            timed(args.levels, |n| chain.draw(slices, seed(n)).map(|_| ()).ok_or_else(nothing))?;
        let wfc = Wfc::new(&levels[..levels.len().min(64)]);
        // It may come to contradictions only; the time is spent all the same.
        line["wfc_ms"] = timed(args.levels.div_ceil(10), |n| {
            wfc.draw(width, height, seed(n));
            Ok(())
        })?;
    }
    if common.json {
        println!("{line}");
    } else {
        println!("{line:#}");
    }
    Ok(())
}

fn nothing() -> Error {
    let remedy = "give levels of the model's game";
    Error::Data { source_name: "--data".into(), reason: "there is no level".into(), remedy: remedy.into() }
}

/// Milliseconds of each run: the median, the 95th percentile, the most.
fn timed(count: usize, mut run: impl FnMut(usize) -> Result<()>) -> Result<serde_json::Value> {
    let mut ms = Vec::with_capacity(count);
    for n in 0..count {
        let begun = Instant::now();
        run(n)?;
        ms.push(1e3 * begun.elapsed().as_secs_f64());
    }
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms[((ms.len() - 1) as f64 * share) as usize];
    Ok(json!({ "median": at(0.5), "p95": at(0.95), "most": at(1.0) }))
}
