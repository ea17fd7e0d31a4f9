//! `skald bench crowd`.

use super::frame::{figures, frame, show, spin};
use super::inference::rss;
use super::range;
use crate::Common;
use bevy::prelude::*;
use bevy_skald::decode::{LoadedModel, Prompt, Sampling};
use bevy_skald::model::KvType;
use bevy_skald::prelude::*;
use bevy_skald::runtime::{
    ComputeWorker, FrameGovernor, Generate, GeneratePlugin, GenerationFailed, GenerationFinished, ModelAsset,
    RuntimePlugin, SkaldDiagnosticsPlugin,
};
use bevy_skald::seed::Seed;
use bevy_skald::{Error, Result};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Its options.
#[derive(Args)]
pub struct CrowdArgs {
    /// The model: a checkpoint or Hugging Face directory, or a GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// How many NPCs talk at once.
    #[arg(long, default_value_t = 100)]
    npcs: usize,
    /// Prompt tokens that all have in common.
    #[arg(long, default_value_t = 512)]
    shared: usize,
    /// Prompt tokens of each.
    #[arg(long, default_value_t = 64)]
    own: usize,
    /// Tokens that each says.
    #[arg(long, default_value_t = 16)]
    tokens: usize,
    /// The game's own work in each frame.
    #[arg(long, default_value_t = 4.0, value_name = "MS")]
    work_ms: f64,
    /// How long frames are measured before anybody talks, and how long nothing is done at the end.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Let the worker run as it likes.
    #[arg(long)]
    ungoverned: bool,
}

#[derive(Resource, Default)]
struct Heard {
    finished: usize,
    tokens: usize,
    failed: Vec<String>,
}

pub fn run(args: &CrowdArgs, common: &Common) -> Result<()> {
    range((1..=10_000).contains(&args.npcs), "--npcs", "1 to 10000")?;
    range((1..=1 << 16).contains(&args.own), "--own", "1 to 65536")?;
    range(args.shared <= 1 << 16, "--shared", "0 to 65536")?;
    range((1..=1 << 12).contains(&args.tokens), "--tokens", "1 to 4096")?;
    range((0.0..=16.0).contains(&args.work_ms), "--work-ms", "0 to 16")?;
    range((0.0..=600.0).contains(&args.seconds), "--seconds", "0 to 600")?;
    let model = Arc::new(LoadedModel::open(&args.model)?);
    let prompts = prompts(args, &model, common.seed())?;
    let page = model.decoder.cache_of(KvType::F16);
    let unshared = args.npcs
        * (args.shared + args.own + args.tokens).div_ceil(bevy_skald::model::KvCache::PAGE)
        * page.page_bytes();
    let threads = common.threads.max(1);
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, AssetPlugin::default(), SkaldDiagnosticsPlugin))
        .add_plugins((RuntimePlugin { execution: Execution::Background { threads } }, GeneratePlugin))
        .init_resource::<Heard>()
        .add_observer(|done: On<GenerationFinished>, mut heard: ResMut<Heard>| {
            heard.finished += 1;
            heard.tokens += done.tokens;
        })
        .add_observer(|failed: On<GenerationFailed>, mut heard: ResMut<Heard>| {
            heard.failed.push(failed.error.to_string());
        });
    let work = Duration::from_secs_f64(args.work_ms / 1000.0);
    app.add_systems(Update, move || spin(work));
    app.finish();
    app.cleanup();
    app.world_mut().resource_mut::<FrameGovernor>().enabled = !args.ungoverned;
    let handle = app.world_mut().resource_mut::<Assets<ModelAsset>>().add(ModelAsset { model });
    let since = Instant::now();
    let mut off = Vec::new();
    while since.elapsed().as_secs_f64() < args.seconds.max(1.0) {
        off.push(frame(&mut app));
    }
    let sampling = Sampling { temperature: 1.0, max_tokens: args.tokens, ..Sampling::default() };
    let since = Instant::now();
    for (n, prompt) in prompts.into_iter().enumerate() {
        let entity = app.world_mut().spawn_empty().id();
        let ask = Generate { prompt: Prompt::Text(prompt), ..Generate::new(entity, handle.clone(), []) };
        app.world_mut().trigger(ask.with_seed(n as u64).with_sampling(sampling.clone()));
    }
    let (mut on, mut kv_bytes) = (Vec::new(), 0);
    loop {
        on.push(frame(&mut app));
        kv_bytes = kv_bytes.max(app.world().resource::<bevy_skald::runtime::GenerateStats>().kv_bytes);
        let heard = app.world().resource::<Heard>();
        if let Some(reason) = heard.failed.first() {
            return Err(Error::backend("the crowd's lines", reason.clone()));
        }
        if heard.finished == args.npcs {
            break;
        }
        if since.elapsed() > Duration::from_secs(900) {
            return Err(Error::Deadline { what: "the crowd's lines".into(), seconds: 900.0 });
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    (0..30).for_each(|_| {
        frame(&mut app);
    });
    // The game stands still: what is left is ours.
    let cpu = cpu_ms();
    std::thread::sleep(Duration::from_secs_f64(args.seconds));
    let idle = cpu_ms().zip(cpu).map(|(after, before)| after - before);
    let heard = app.world().resource::<Heard>();
    let governor = app.world().resource::<FrameGovernor>();
    let line = serde_json::json!({
        "model": args.model, "npcs": args.npcs, "shared": args.shared, "own": args.own, "threads": threads,
        "seconds": seconds, "tokens": heard.tokens, "kv_bytes": kv_bytes, "kv_bytes_unshared": unshared,
        "kv_share": kv_bytes as f64 / unshared as f64, "work_ms": args.work_ms,
        "off": figures(off), "on": figures(on), "overruns": governor.overruns(),
        "idle_seconds": args.seconds, "idle_cpu_ms": idle,
        "rss_bytes": rss(), "file_bytes": std::fs::metadata(&args.model).map(|meta| meta.len()).ok(),
        "kv_budget": app.world().resource::<ComputeWorker>().scheduler().kv_budget,
    });
    show(&line, common);
    Ok(())
}

/// Prompts of so many tokens, as the model's tokenizer counts them.
fn prompts(args: &CrowdArgs, model: &LoadedModel, seed: Seed) -> Result<Vec<String>> {
    const WORDS: [&str; 16] = [
        " the", " mill", " river", " old", " and", " smith", " said", " a", " gold", " north", " road",
        " she", " went", " night", " wolf", " far",
    ];
    let mut noise = seed.stream();
    let mut text = |from: &str, tokens: usize| -> Result<String> {
        let mut text = from.to_owned();
        loop {
            let missing = tokens.saturating_sub(model.tokenizer.encode(&text)?.len());
            if missing == 0 {
                return Ok(text);
            }
            // A word is a token or more.
            (0..missing.div_ceil(3)).for_each(|_| text += WORDS[noise.below(WORDS.len())]);
        }
    };
    let lore = text(&model.text_prompt(""), args.shared)?;
    (0..args.npcs).map(|_| text(&lore, args.shared + args.own)).collect()
}

/// Processor time of this process so far, in milliseconds, where the system tells.
fn cpu_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    // User and system time, in hundredths of a second.
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) * 10.0)
}
