//! [`DeviceChoice`]: where to compute, with a typed error when that is not there.

use crate::error::{Error, Result};
use candle_core::Device;
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
}

impl Compute {
    /// The CPU, with this many threads (0: one for each core).
    pub fn cpu(threads: usize) -> Self {
        Self { device: Device::Cpu, threads: threads_or_cores(threads) }
    }
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
        Ok(Compute { device: self.open()?, threads: threads_or_cores(threads) })
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

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_missing_gpu_is_a_typed_error_and_auto_falls_back() {
        assert!(matches!(DeviceChoice::Cuda(0).open(), Err(Error::Device { .. })));
        assert!(DeviceChoice::Auto.open().is_ok());
    }
}
