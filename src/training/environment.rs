//! Where and how a run was made: `environment.json` within its directory.

use super::directory::Start;
use crate::error::{Error, Result};
use crate::files::{read_limited, write_atomic};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::SystemTime;

/// The file's name within a run's directory: a JSON array, an [`Environment`] for each start of the run.
pub const ENVIRONMENT: &str = "environment.json";

/// How many starts are kept, the last ones.
const STARTS: usize = 1000;

/// What a run was made with and on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The crate's version.
    pub version: String,
    /// The git commit it was built from, if whoever built it set `SKALD_COMMIT` for the compiler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether it was built without debug assertions.
    pub release: bool,
    /// The operating system ("linux").
    pub os: String,
    /// The processor's kind (`x86_64`).
    pub arch: String,
    /// The processor's name, where it can be asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Cores this process may use.
    pub cores: usize,
    /// Threads that compute.
    pub threads: usize,
    /// The processor's features that matter here.
    pub features: Vec<String>,
    /// The command line.
    pub command: Vec<String>,
    /// When it was asked, in UTC (RFC 3339).
    pub started: String,
}

impl Environment {
    /// That of this process, now.
    pub fn here() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("SKALD_COMMIT").map(str::to_owned),
            release: !cfg!(debug_assertions),
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            features: features().map(str::to_owned).collect(),
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }

    /// Reads the starts of the run in `dir`, the first one first.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no such file, [`Error::Config`] when it is damaged.
    pub fn read(dir: &Path) -> Result<Vec<Self>> {
        let path = dir.join(ENVIRONMENT);
        let bytes = read_limited(&path, 1 << 26, "read the run's environment")?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let reason = format!("the file is damaged ({e})");
            Error::config(path.display().to_string(), "environment", reason, "restore or remove it")
        })
    }
}

/// Writes down that a run starts in `dir`, here and now. A run that goes on keeps what its earlier starts said; what
/// cannot be read of them is no reason not to train.
pub fn record_start(dir: &Path, start: Start) -> Result<()> {
    let mut starts = match start {
        Start::Fresh => Vec::new(),
        Start::Resume => Environment::read(dir).unwrap_or_default(),
    };
    starts.push(Environment::here());
    starts.drain(..starts.len().saturating_sub(STARTS));
    let pretty =
        serde_json::to_vec_pretty(&starts).map_err(|e| Error::backend("writing the environment", e))?;
    write_atomic(&dir.join(ENVIRONMENT), &pretty)
}

#[cfg(target_arch = "x86_64")]
fn cpu() -> Option<String> {
    let name = raw_cpuid::CpuId::new().get_processor_brand_string()?.as_str().trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// What Linux says of it; other systems are asked nothing.
#[cfg(not(target_arch = "x86_64"))]
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = text.lines().find_map(|line| {
        line.split_once(':').filter(|(key, _)| ["model name", "Model", "Hardware"].contains(&key.trim()))
    })?;
    Some(name.trim().to_owned())
}

/// Names of the features that are there.
fn features() -> impl Iterator<Item = &'static str> {
    macro_rules! detected {
        ($detected:ident: $($name:tt),*) => { vec![$(($name, std::arch::$detected!($name))),*] };
    }
    #[cfg(target_arch = "x86_64")]
    let all = detected!(is_x86_feature_detected:
        "sse4.2", "avx", "avx2", "fma", "f16c", "avxvnni",
        "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16", "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    let all =
        detected!(is_aarch64_feature_detected: "neon", "fp16", "dotprod", "bf16", "i8mm", "sve", "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all: Vec<(&str, bool)> = Vec::new();
    all.into_iter().filter_map(|(name, there)| there.then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_kept_until_the_run_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Environment::read(dir.path()).unwrap_err().to_string().contains("check the path"));
        record_start(dir.path(), Start::Fresh).unwrap();
        record_start(dir.path(), Start::Resume).unwrap();
        let starts = Environment::read(dir.path()).unwrap();
        assert_eq!(starts.len(), 2);
        assert_eq!(Environment { started: String::new(), ..starts[0].clone() }, {
            Environment { started: String::new(), ..Environment::here() }
        });
        assert!(humantime::parse_rfc3339(&starts[0].started).is_ok());
        assert!(starts[0].cores > 0 && starts[0].threads > 0 && !starts[0].command.is_empty());
        record_start(dir.path(), Start::Fresh).unwrap();
        assert_eq!(Environment::read(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_and_does_not_stop_a_run() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(ENVIRONMENT), b"[{\"version\"").unwrap();
        assert!(Environment::read(dir.path()).unwrap_err().to_string().contains(ENVIRONMENT));
        record_start(dir.path(), Start::Resume).unwrap();
        assert_eq!(Environment::read(dir.path()).unwrap().len(), 1);
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn the_processor_is_the_one_the_system_names() {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let of = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_once(':').unwrap().1.trim().to_owned()
        };
        let here = Environment::here();
        assert_eq!(here.cpu.as_deref().unwrap_or("unknown"), of("model name"));
        let flags = of("flags");
        for feature in here.features {
            let flag = feature.replace('.', "_").replace("avx512vnni", "avx512_vnni");
            let flag = flag.replace("avx512bf16", "avx512_bf16").replace("avx512fp16", "avx512_fp16");
            let flag = flag.replace("avxvnni", "avx_vnni");
            assert!(flags.split(' ').any(|known| known == flag), "{flag} in {flags}");
        }
    }
}
