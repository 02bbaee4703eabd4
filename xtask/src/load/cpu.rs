//! How busy this machine is.

use std::fs;

use anyhow::{Context as _, Result};

/// Seconds that all CPUs together have idled since the machine started.
///
/// # Errors
/// Without `/proc`.
pub fn idle() -> Result<f64> {
    let text = fs::read_to_string("/proc/uptime").context("cannot tell how busy the CPUs are")?;
    let idle = text.split_whitespace().nth(1).and_then(|idle| idle.parse().ok());
    idle.context("/proc/uptime has no second number")
}

/// How many CPUs there are.
pub fn count() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// The load averages over 1, 5 and 15 minutes, as `/proc/loadavg` says them.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The model of the CPU.
pub fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.to_owned())
}
