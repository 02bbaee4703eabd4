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
    name: String,
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
    let mut beds = vec![ours("talos-pxe".to_owned(), &lab, &daemon, &root)?];
    for program in &http.programs {
        beds.push(ours(program.display().to_string(), &lab, program, &root)?);
    }
    beds.push(peer(&lab, &root)?);
    let (rounds, time) = if http.quick { (3, 1) } else { (7, 4) };
    let mut rows = Vec::new();
    for clients in http.clients.iter().copied().map(usize::from) {
        let mut samples = vec![Vec::new(); beds.len()];
        for round in 0..rounds {
            // In turn, so that what disturbs the machine disturbs all; another first each time.
            for turn in 0..beds.len() {
                let side = (round + turn) % beds.len();
                let (Some(bed), Some(samples)) = (beds.get(side), samples.get_mut(side)) else {
                    continue;
                };
                let round = round + 1;
                let what = format!("{}: {clients} clients, round {round} of {rounds}", bed.name);
                let measure = || bed.measure(clients, Duration::from_secs(time));
                samples.push(progress::during(&what, measure)?);
            }
        }
        for (bed, samples) in beds.iter().zip(samples) {
            rows.push(Row { clients, server: bed.name.clone(), samples });
        }
    }
    let memory = |bed: &Bed| Ok((bed.name.clone(), bed.peak_memory()?));
    let memory = beds.iter().map(memory).collect::<Result<Vec<_>>>()?;
    println!("{}", markdown(&machine, &rows, &memory));
    if let Some(file) = &http.json {
        let text = format!("{:#}\n", json(&machine, &rows, &memory));
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// What all serve: one image of real pages, so that none is read from a hole.
fn root(lab: &Path) -> Result<std::path::PathBuf> {
    let root = lab.join("root");
    fs::create_dir_all(root.join("assets"))?;
    File::create(root.join("assets/initramfs-amd64.xz"))?;
    fs::write(root.join(FILE), vec![0x5a; SIZE as usize])?;
    Ok(root)
}

fn ours(name: String, lab: &Lab, daemon: &Path, root: &Path) -> Result<Bed> {
    let (host, far) = cable(lab)?;
    let state = tempfile::tempdir_in(lab.dir())?.keep();
    let (root, state) = (root.display().to_string(), state.display().to_string());
    let network = "10.77.0.1/16";
    let flags = ["--mode", "server", "--addr", network, "--root", &root, "--state", &state];
    let mut server = Server::start(daemon, &host, flags)?;
    let processes = vec![server.process().id()];
    Ok(Bed { name, far, processes, _running: Running::Ours { _server: server } })
}

fn peer(lab: &Lab, root: &Path) -> Result<Bed> {
    let (host, far) = cable(lab)?;
    let folder = tempfile::tempdir_in(lab.dir())?.keep();
    let running = nginx(&host, root, &folder)?;
    let processes = running.iter().map(Process::id).collect();
    let name = "nginx".to_owned();
    Ok(Bed { name, far, processes, _running: Running::Nginx { _processes: running } })
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

/// One server with so many clients.
struct Row {
    clients: usize,
    server: String,
    samples: Vec<Sample>,
}

impl Row {
    fn rate(&self) -> Spread {
        Spread::of(self.samples.iter().map(|sample| sample.megabytes).collect())
    }

    fn cpu(&self) -> Spread {
        Spread::of(self.samples.iter().map(|sample| sample.cpu).collect())
    }

    /// The row of nginx with as many clients.
    fn peer<'a>(&self, rows: &'a [Row]) -> Option<&'a Row> {
        rows.iter().find(|row| row.clients == self.clients && row.server == "nginx")
    }
}

fn markdown(machine: &Machine, rows: &[Row], memory: &[(String, u64)]) -> String {
    let mut text = format!("{}\n\n", machine.line());
    text.push_str(
        "A file of 100 MiB by HTTP over a veth cable: medians, and in brackets the least and the \
         most of all rounds; the ratios are to nginx.\n\n\
         | clients | server | MB/s | ratio | CPU s/GB | ratio |\n\
         | ---: | --- | --- | ---: | --- | ---: |\n",
    );
    for row in rows {
        let ratio = |of: fn(&Row) -> Spread| {
            row.peer(rows).map_or(f64::NAN, |peer| of(row).median / of(peer).median)
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {} | {:.2} |",
            row.clients,
            row.server,
            row.rate().text(0),
            ratio(Row::rate),
            row.cpu().text(3),
            ratio(Row::cpu),
        );
    }
    let megabytes = |(name, octets): &(String, u64)| format!("{name} {:.1}", *octets as f64 / 1e6);
    let memory: Vec<String> = memory.iter().map(megabytes).collect();
    let _ = writeln!(text, "\nPeak memory in MB: {}", memory.join(", "));
    text
}

fn json(machine: &Machine, rows: &[Row], memory: &[(String, u64)]) -> serde_json::Value {
    let row = |row: &Row| {
        json!({
            "clients": row.clients,
            "server": row.server,
            "megabytes_per_second": row.rate().json(),
            "cpu_seconds_per_gigabyte": row.cpu().json(),
        })
    };
    let memory: serde_json::Map<_, _> =
        memory.iter().map(|(name, octets)| (name.clone(), json!(octets))).collect();
    let rows: Vec<_> = rows.iter().map(row).collect();
    json!({ "machine": machine.line(), "rows": rows, "peak_memory_octets": memory })
}
