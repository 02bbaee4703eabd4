//! `cargo xtask bench rack`: a rack of machines boots, all at once, beside other boot servers.

mod chart;
mod report;
mod stacks;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum as _};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::report::Machine;
use crate::lab::{Lab, server};
use crate::load::cpu;
use crate::load::rack::files::{self, Size};
use crate::load::rack::{self, Boot};
use crate::progress;
use crate::setup::{self, Group};
use stacks::{Kind, SITE, Stack};

/// How long the servers have run when the first machine is switched on.
const BEFORE: Duration = Duration::from_secs(1);

/// A rack: complete boots of many machines; times of each stage, CPU time and memory, beside
/// dnsmasq with nginx, and Kea with tftpd-hpa and nginx.
///
/// Every machine gets an address, loads iPXE by TFTP, gets an address again, and its script, kernel,
/// initramfs and config by HTTP; one in four has a BIOS, the others UEFI. What they get is checked.
/// The machines share the CPUs with the servers, which run in turn.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench rack --quick              100 machines, images of 16 MiB.
  cargo xtask bench rack --json rack.json --svg rack.svg
  cargo xtask bench rack --only talos-pxe --max-transfers off
  cargo xtask bench rack --machines 500 --image 200M --only talos-pxe")]
pub struct Rack {
    /// How many machines there are (default: 1000).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    machines: Option<u32>,

    /// The size of the initramfs; the kernel has a fifth of it (default: 64M).
    #[arg(long, value_name = "SIZE", value_parser = size)]
    image: Option<u64>,

    /// The seconds in which the machines are switched on, evenly.
    #[arg(long, value_name = "SECS", default_value_t = 1)]
    spread: u32,

    /// How many images talos-pxe sends at a time, as its flag of this name takes it.
    #[arg(long, value_name = "N", default_value = "auto")]
    max_transfers: String,

    /// Only this server; may be repeated.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Kind>,

    /// 100 machines and images of 16 MiB, unless said otherwise.
    #[arg(long)]
    quick: bool,

    /// Write all figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw a chart of machines booted over time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// How a rack booted from one server.
#[derive(Debug)]
struct Run {
    kind: Kind,
    boots: Vec<Boot>,
    /// Until the last machine was up or had given up.
    time: Duration,
    /// CPU seconds that the server used.
    cpu: f64,
    /// CPU seconds that everything used: the machines, the network and whatever else ran.
    busy: f64,
    /// The most memory that the server's processes held, in octets.
    memory: u64,
}

/// Runs the subcommand.
pub fn main(rack: &Rack) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Bench, Group::Lab])?;
    let (machines, image) = if rack.quick { (100, 16 << 20) } else { (1000, 64 << 20) };
    let size = Size {
        machines: rack.machines.unwrap_or(machines),
        spread: Duration::from_secs(rack.spread.into()),
        image: rack.image.unwrap_or(image),
    };
    raise_file_limit()?;
    let lab = Lab::new()?;
    let daemon = server::build_release()?;
    let folder = lab.dir().join("rack");
    let plan = files::make(&folder, SITE, size)?;
    let root = folder.join("root");
    let machine = Machine::this();
    let wanted = |kind: &&Kind| rack.only.is_empty() || rack.only.contains(kind);
    let mut runs = Vec::new();
    for kind in Kind::value_variants().iter().filter(wanted) {
        let what = format!("{}: {} machines", kind.name(), size.machines);
        let play = || {
            let mut stack = Stack::start(&lab, *kind, &daemon, &rack.max_transfers, &root, &plan)?;
            thread::sleep(BEFORE);
            let (before, idle, start) = (stack.used()?, cpu::idle()?, Instant::now());
            let boots = rack::boot(&mut stack.network, &plan)?;
            let (time, idle, after) = (start.elapsed(), cpu::idle()? - idle, stack.used()?);
            let busy = time.as_secs_f64() * cpu::count() - idle;
            let (cpu, memory) = (after.cpu - before.cpu, after.memory);
            Ok(Run { kind: *kind, boots, time, cpu, busy, memory })
        };
        let run = progress::during(&what, play);
        runs.push(run.with_context(|| format!("{} fails", kind.name()))?);
    }
    println!("{}", report::markdown(&machine, size, &runs));
    let write = |file: &PathBuf, text: String| {
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    if let Some(file) = &rack.json {
        write(file, format!("{:#}\n", report::json(&machine, size, &runs)))?;
    }
    if let Some(file) = &rack.svg {
        let lines: Vec<_> =
            runs.iter().map(|run| chart::Line { kind: run.kind, up: run.up() }).collect();
        write(file, chart::svg(size, &lines))?;
    }
    Ok(())
}

/// Machines and servers need a descriptor for each connection.
fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

/// Reads a size such as `64M`.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size such as 500K, 64M or 1G");
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 10),
        Some(number) if text.ends_with('M') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|size| (1..=4 << 30).contains(size)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!(size("2G"), Ok(2 << 30));
        for wrong in ["", "M", "0", "5G", "-1K", "64m", "18446744073709551615G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
