//! [`DeviceChoice`]: where to compute, with a typed error when that is not there.

use crate::error::{Error, Result};
use candle_core::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::str::FromStr;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of that number (feature `cuda`).
    Cuda(usize),
    /// The Apple GPU of that number (feature `metal`).
    Metal(usize),
}

/// Where a job computes, and with how many threads.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// Threads on the CPU, at least 1.
    pub threads: usize,
    /// Whether these threads let everything else go first: the lowest priority the system has.
    pub polite: bool,
}

impl Compute {
    /// The CPU, with this many threads (0: one for each core).
    pub fn cpu(threads: usize) -> Self {
        Self { device: Device::Cpu, threads: threads_or_cores(threads), polite: false }
    }

    /// With threads that let everything else go first, for work beside a running game.
    #[must_use]
    pub fn politely(self) -> Self {
        Self { polite: true, ..self }
    }

    /// Starts its threads.
    pub(crate) fn pool(&self) -> Result<ThreadPool> {
        let polite = self.polite;
        ThreadPoolBuilder::new()
            .num_threads(self.threads.max(1))
            .start_handler(move |_| {
                if polite {
                    give_way();
                }
            })
            .build()
            .map_err(|e| Error::backend("starting the training threads", e))
    }
}

/// Gives the calling thread the lowest priority. A system that does not let us be polite runs it at the usual one.
pub(crate) fn give_way() {
    let _ = thread_priority::set_current_thread_priority(thread_priority::ThreadPriority::Min);
}

fn threads_or_cores(threads: usize) -> usize {
    if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
        let number = number.parse::<usize>();
        match (kind, number) {
            ("auto", Ok(0)) => Ok(Self::Auto),
            ("cpu", Ok(0)) => Ok(Self::Cpu),
            ("cuda", Ok(n)) => Ok(Self::Cuda(n)),
            ("metal", Ok(n)) => Ok(Self::Metal(n)),
            _ => Err(Error::config(
                "options",
                "device",
                format!("`{name}` is no device"),
                "choose auto, cpu, cuda, metal, or cuda:1 for the second GPU",
            )),
        }
    }
}

impl DeviceChoice {
    /// Opens the device, with this many threads on the CPU (0: one for each core).
    pub fn compute(self, threads: usize) -> Result<Compute> {
        Ok(Compute { device: self.open()?, ..Compute::cpu(threads) })
    }

    /// Opens the device.
    pub fn open(self) -> Result<Device> {
        let missing = |wanted: &str, reason: String, remedy: &str| Error::Device {
            wanted: wanted.into(),
            reason,
            remedy: remedy.into(),
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => {
                let gpu = [Self::Cuda(0), Self::Metal(0)];
                Ok(gpu.iter().find_map(|choice| choice.open().ok()).unwrap_or(Device::Cpu))
            }
            Self::Cuda(_) if !cfg!(feature = "cuda") => {
                let reason = "this build has no CUDA".into();
                Err(missing("cuda", reason, "build with `--features cuda`, or choose `cpu`"))
            }
            Self::Metal(_) if !cfg!(feature = "metal") => {
                let reason = "this build has no Metal".into();
                Err(missing("metal", reason, "build with `--features metal`, or choose `cpu`"))
            }
            Self::Cuda(n) => Device::new_cuda(n).map_err(|e| {
                missing("cuda", format!("it cannot be opened: {e}"), "check the driver, or choose `cpu`")
            }),
            Self::Metal(n) => Device::new_metal(n)
                .map_err(|e| missing("metal", format!("it cannot be opened: {e}"), "choose `cpu`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_and_nonsense_is_named() {
        assert_eq!("cuda:1".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(1));
        assert_eq!("auto".parse::<DeviceChoice>().unwrap(), DeviceChoice::Auto);
        for bad in ["gpu", "cuda:x", "cpu:3", ""] {
            assert!(bad.parse::<DeviceChoice>().unwrap_err().to_string().contains("device"));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn polite_threads_have_the_lowest_priority_and_others_that_of_their_starter() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // The 19th field; the second, a name in brackets, may have blanks.
            stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned()
        };
        assert_eq!(Compute::cpu(1).politely().pool().unwrap().install(nice), "19");
        assert_eq!(Compute::cpu(1).pool().unwrap().install(nice), nice());
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_missing_gpu_is_a_typed_error_and_auto_falls_back() {
        assert!(matches!(DeviceChoice::Cuda(0).open(), Err(Error::Device { .. })));
        assert!(DeviceChoice::Auto.open().is_ok());
    }
}
