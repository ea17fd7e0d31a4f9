//! `skald bench inference`.

use super::range;
use crate::Common;
use bevy_skald::model::{Decoder, KvCache, KvType, Row, Scratch};
use bevy_skald::seed::Seed;
use bevy_skald::{Error, Result};
use clap::{Args, ValueEnum};
use rayon::ThreadPoolBuilder;
use serde_json::{Map, json};
use std::path::PathBuf;
use std::time::Instant;

/// Its options.
#[derive(Args)]
pub struct InferenceArgs {
    /// The model: a checkpoint or Hugging Face directory, or a GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Tokens of the prompt that is prefilled.
    #[arg(long, default_value_t = 512)]
    prefill: usize,
    /// Tokens that each sequence decodes.
    #[arg(long, default_value_t = 128)]
    decode: usize,
    /// How many sequences are decoded at once.
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [1, 8, 32])]
    batch: Vec<usize>,
    /// How keys and values are stored.
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    kv: Kv,
}

/// [`KvType`], for the command line.
#[derive(Clone, Copy, ValueEnum)]
enum Kv {
    F32,
    F16,
    Q8,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F32 => Self::F32,
            Kv::F16 => Self::F16,
            Kv::Q8 => Self::Q8,
        }
    }
}

pub fn run(args: &InferenceArgs, common: &Common) -> Result<()> {
    range((1..=1 << 17).contains(&args.prefill), "--prefill", "1 to 131072")?;
    range((1..=1 << 17).contains(&args.decode), "--decode", "1 to 131072")?;
    range(args.batch.iter().all(|n| (1..=1024).contains(n)), "--batch", "1 to 1024 each")?;
    let loading = Instant::now();
    let decoder = crate::model::decoder(&args.model)?;
    let load_ms = 1000.0 * loading.elapsed().as_secs_f64();
    let threads = common.threads.max(1);
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| Error::backend("starting the threads", e))?;
    let line = pool.install(|| measure(args, &decoder, common.seed()))?;
    let mut line = line;
    line["threads"] = threads.into();
    line["load_ms"] = load_ms.into();
    line["weight_bytes"] = decoder.bytes().into();
    line["rss_bytes"] = rss().into();
    line["instruction_set"] = bevy_skald::nn::instruction_set().into();
    if common.json {
        println!("{line}");
    } else {
        println!("{line:#}");
    }
    Ok(())
}

fn measure(args: &InferenceArgs, decoder: &Decoder, seed: Seed) -> Result<serde_json::Value> {
    let mut noise = seed.stream();
    let mut tokens =
        |count: usize| -> Vec<u32> { (0..count).map(|_| noise.below(decoder.vocab_size()) as u32).collect() };
    let mut scratch = Scratch::default();
    let prefill = args.prefill.min(decoder.context().saturating_sub(args.decode + 1)).max(1);
    // Once to warm up.
    let mut seconds = 0.0;
    for _ in 0..2 {
        let (mut cache, mut logits) = (decoder.cache_of(args.kv.into()), Vec::new());
        let prompt = tokens(prefill);
        let begun = Instant::now();
        step(decoder, &mut [&mut cache], &[&prompt], &mut [&mut logits], &mut scratch)?;
        seconds = begun.elapsed().as_secs_f64();
    }
    let mut decode = Map::new();
    let mut kv_bytes = 0;
    for &batch in &args.batch {
        let mut caches: Vec<KvCache> = (0..batch).map(|_| decoder.cache_of(args.kv.into())).collect();
        let mut logits = vec![Vec::new(); batch];
        let count = args.decode.min(decoder.context().saturating_sub(1)).max(1);
        let mut turn = |caches: &mut [KvCache], logits: &mut [Vec<f32>], next: &[u32]| {
            let rows: Vec<&[u32]> = next.chunks(1).collect();
            let mut caches: Vec<&mut KvCache> = caches.iter_mut().collect();
            let mut logits: Vec<&mut Vec<f32>> = logits.iter_mut().collect();
            step(decoder, &mut caches, &rows, &mut logits, &mut scratch)
        };
        turn(&mut caches, &mut logits, &tokens(batch))?;
        let begun = Instant::now();
        for _ in 1..count {
            turn(&mut caches, &mut logits, &tokens(batch))?;
        }
        let speed = ((count.max(2) - 1) * batch) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
        kv_bytes = kv_bytes.max(caches.iter().map(KvCache::bytes).sum());
        decode.insert(batch.to_string(), json!(speed));
    }
    Ok(json!({
        "model": args.model, "prefill": prefill, "prefill_tokens_per_s": prefill as f64 / seconds,
        "ttft_ms": 1000.0 * seconds, "decode": decode, "kv_bytes": kv_bytes,
    }))
}

fn step(
    decoder: &Decoder,
    caches: &mut [&mut KvCache],
    tokens: &[&[u32]],
    logits: &mut [&mut Vec<f32>],
    scratch: &mut Scratch,
) -> Result<()> {
    let rows = caches.iter_mut().zip(tokens).zip(logits);
    let mut rows: Vec<Row<'_>> = rows
        .map(|((cache, tokens), logits)| Row { cache, tokens, logits, all: false, adapter: None })
        .collect();
    decoder.forward(&mut rows, scratch)
}

/// The memory of this process, where the system tells.
pub(super) fn rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
