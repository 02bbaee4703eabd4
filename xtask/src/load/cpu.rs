//! How busy this machine is, and what its processes take.

use std::fs;
use std::ops::Range;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

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

/// Keeps a process to some CPUs, and what it starts from now on.
///
/// # Errors
/// Without root, or when it has ended.
pub fn keep_to(process: u32, cpus: Range<usize>) -> Result<()> {
    let folder = format!("/proc/{process}/task");
    for thread in fs::read_dir(&folder).with_context(|| format!("no {folder}"))? {
        let id = thread?.file_name().to_str().and_then(|id| Pid::from_raw(id.parse().ok()?));
        match keep(id, cpus.clone()) {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error).context("cannot keep a server to a CPU"),
        }
    }
    Ok(())
}

/// Keeps this thread to some CPUs, and those that it starts.
///
/// # Errors
/// When there are no such CPUs.
pub fn keep_this_to(cpus: Range<usize>) -> Result<()> {
    keep(None, cpus).context("cannot keep this thread to a CPU")
}

fn keep(thread: Option<Pid>, cpus: Range<usize>) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    cpus.take(CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    sched_setaffinity(thread, &set)
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

/// The CPU time that processes have taken, in seconds, to a hundredth.
///
/// # Errors
/// When one of them has ended.
pub fn seconds_of(processes: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for process in processes {
        let file = format!("/proc/{process}/stat");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        // The name in brackets may hold anything; `utime` and `stime` are fields 14 and 15.
        let (_, fields) = text.rsplit_once(')').unwrap_or_default();
        let times = fields.split_whitespace().skip(11).take(2);
        ticks += times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that a process has held, in octets: its own and mapped pages.
///
/// # Errors
/// When it has ended.
pub fn peak_memory_of(process: u32) -> Result<u64> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kibibytes.context("no VmHWM")? << 10)
}
