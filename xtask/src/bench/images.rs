//! `cargo xtask bench http`: an image to one client and to many, beside nginx.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Http;
use super::http::{FILE, SIZE, nginx};
use super::report::Machine;
use super::spread::Spread;
use crate::lab::process::Process;
use crate::lab::server::{self, Server};
use crate::lab::{Host, Lab};
use crate::load::{cpu, downloads};
use crate::progress;
use crate::setup::{self, Group};

const ADDRESS: [u8; 4] = [10, 77, 0, 1];
const PORT: u16 = 8080;
/// How many clients download at the same time.
const CLIENTS: [usize; 3] = [1, 64, 1000];

/// One server in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// 10^6 octets a second.
    megabytes: f64,
    /// CPU seconds for 10^9 octets.
    cpu: f64,
}

/// A server at the end of a cable.
struct Bed {
    name: &'static str,
    far: Host,
    processes: Vec<u32>,
    _running: Running,
}

enum Running {
    Ours { _server: Server },
    Nginx { _processes: Vec<Process> },
}

/// Runs the subcommand.
pub fn main(http: &Http) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Bench])?;
    let lab = Lab::new()?;
    let daemon = server::build_release()?;
    let root = root(lab.dir())?;
    let machine = Machine::this();
    let beds = [ours(&lab, &daemon, &root)?, peer(&lab, &root)?];
    let (rounds, time) = if http.quick { (3, 1) } else { (7, 4) };
    let mut rows = Vec::new();
    for clients in CLIENTS {
        let mut samples = [Vec::new(), Vec::new()];
        for round in 1..=rounds {
            // In turn, so that what disturbs the machine disturbs both; the other first each time.
            for side in if round % 2 == 0 { [1, 0] } else { [0, 1] } {
                let (Some(bed), Some(samples)) = (beds.get(side), samples.get_mut(side)) else {
                    continue;
                };
                let what = format!("{}: {clients} clients, round {round} of {rounds}", bed.name);
                let measure = || bed.measure(clients, Duration::from_secs(time));
                samples.push(progress::during(&what, measure)?);
            }
        }
        rows.push(Row { clients, samples });
    }
    let memory = beds.iter().map(Bed::peak_memory).collect::<Result<Vec<_>>>()?;
    println!("{}", markdown(&machine, &rows, &memory));
    if let Some(file) = &http.json {
        let text = format!("{:#}\n", json(&machine, &rows, &memory));
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// What both serve: one image of real pages, so that none is read from a hole.
fn root(lab: &Path) -> Result<std::path::PathBuf> {
    let root = lab.join("root");
    fs::create_dir_all(root.join("assets"))?;
    File::create(root.join("assets/initramfs-amd64.xz"))?;
    fs::write(root.join(FILE), vec![0x5a; SIZE as usize])?;
    Ok(root)
}

fn ours(lab: &Lab, daemon: &Path, root: &Path) -> Result<Bed> {
    let (host, far) = cable(lab)?;
    let state = tempfile::tempdir_in(lab.dir())?.keep();
    let (root, state) = (root.display().to_string(), state.display().to_string());
    let network = "10.77.0.1/16";
    let flags = ["--mode", "server", "--addr", network, "--root", &root, "--state", &state];
    let mut server = Server::start(daemon, &host, flags)?;
    let processes = vec![server.process().id()];
    Ok(Bed { name: "talos-pxe", far, processes, _running: Running::Ours { _server: server } })
}

fn peer(lab: &Lab, root: &Path) -> Result<Bed> {
    let (host, far) = cable(lab)?;
    let folder = tempfile::tempdir_in(lab.dir())?.keep();
    let running = nginx(&host, root, &folder)?;
    let processes = running.iter().map(Process::id).collect();
    Ok(Bed { name: "nginx", far, processes, _running: Running::Nginx { _processes: running } })
}

/// The server's host and the clients' one.
fn cable(lab: &Lab) -> Result<(Host, Host)> {
    let [host, far] = lab.cable(["server", "clients"])?;
    host.add_address("10.77.0.1/16")?;
    far.add_address("10.77.0.2/16")?;
    Ok((host, far))
}

impl Bed {
    fn measure(&self, clients: usize, time: Duration) -> Result<Sample> {
        let server = SocketAddr::from((ADDRESS, PORT));
        let file = downloads::File { server, path: FILE, size: SIZE };
        let before = cpu::seconds_of(&self.processes)?;
        let got = downloads::run(self.far.netns(), &file, clients, time)?;
        let cpu = cpu::seconds_of(&self.processes)? - before;
        let octets = got.octets as f64;
        Ok(Sample { megabytes: octets / 1e6 / got.time.as_secs_f64(), cpu: cpu / (octets / 1e9) })
    }

    /// The most memory that its processes held, in octets.
    fn peak_memory(&self) -> Result<u64> {
        self.processes.iter().map(|process| cpu::peak_memory_of(*process)).sum()
    }
}

/// Both servers with so many clients.
struct Row {
    clients: usize,
    /// Ours, nginx's.
    samples: [Vec<Sample>; 2],
}

impl Row {
    fn of(&self, side: usize, what: fn(&Sample) -> f64) -> Spread {
        let samples = self.samples.get(side).map(Vec::as_slice).unwrap_or_default();
        Spread::of(samples.iter().map(what).collect())
    }
}

fn markdown(machine: &Machine, rows: &[Row], memory: &[u64]) -> String {
    let mut text = format!("{}\n\n", machine.line());
    text.push_str(
        "A file of 100 MiB by HTTP over a veth cable: medians, and in brackets the least and the \
         most of all rounds.\n\n\
         | clients | talos-pxe MB/s | nginx MB/s | ratio | talos-pxe CPU s/GB | nginx CPU s/GB | \
         ratio |\n| ---: | --- | --- | ---: | --- | --- | ---: |\n",
    );
    for row in rows {
        let rate = [0, 1].map(|side| row.of(side, |sample| sample.megabytes));
        let cpu = [0, 1].map(|side| row.of(side, |sample| sample.cpu));
        let [ours, peer] = rate;
        let [our_cpu, peer_cpu] = cpu;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {} | {} | {:.2} |",
            row.clients,
            ours.text(0),
            peer.text(0),
            ours.median / peer.median,
            our_cpu.text(3),
            peer_cpu.text(3),
            our_cpu.median / peer_cpu.median,
        );
    }
    let megabytes = |octets: &u64| format!("{:.1}", *octets as f64 / 1e6);
    let memory: Vec<String> = memory.iter().map(megabytes).collect();
    let _ = writeln!(text, "\nPeak memory in MB (talos-pxe, nginx): {}", memory.join(", "));
    text
}

fn json(machine: &Machine, rows: &[Row], memory: &[u64]) -> serde_json::Value {
    let side = |row: &Row, side| {
        json!({
            "megabytes_per_second": row.of(side, |sample| sample.megabytes).json(),
            "cpu_seconds_per_gigabyte": row.of(side, |sample| sample.cpu).json(),
        })
    };
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({ "clients": row.clients, "talos-pxe": side(row, 0), "nginx": side(row, 1) })
        })
        .collect();
    json!({ "machine": machine.line(), "rows": rows, "peak_memory_octets": memory })
}
