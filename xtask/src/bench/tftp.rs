//! `cargo xtask bench tftp`: a boot file to one client and to many, beside other TFTP servers.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Tftp;
use super::report::Machine;
use super::spread::Spread;
use super::tftp_servers::{self, Bed, SERVER};
use crate::lab::{Lab, server};
use crate::load::cpu;
use crate::load::tftp::{self, BLOCK_SIZE, Got, Load};
use crate::progress;
use crate::setup::{self, Group};

const WINDOWS: [u16; 3] = [1, 4, 16];
const LOSS: f64 = 0.01;
/// The files: a large one, and one for what takes long.
const LARGE: (&str, usize) = ("large.efi", 4 << 20);
const SMALL: (&str, usize) = ("small.efi", 1 << 20);
/// How long a client that left still listens.
const LISTEN: Duration = Duration::from_secs(10);

/// What is asked of every server that can do it.
#[derive(Clone, Copy, Debug)]
struct Case {
    clients: usize,
    window: u16,
    loss: f64,
    file: (&'static str, usize),
    rounds: usize,
}

/// One server in one round.
#[derive(Clone, Debug)]
struct Sample {
    got: Got,
    /// CPU seconds that the server took.
    cpu: Option<f64>,
}

/// One server and one case.
#[derive(Debug)]
struct Row {
    server: &'static str,
    case: Case,
    samples: Vec<Sample>,
}

/// Runs the subcommand.
pub fn main(options: &Tftp) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Bench])?;
    let lab = Lab::new()?;
    let daemon = server::build_release()?;
    let files = lab.dir().join("firmware");
    let content = write_files(&files)?;
    let (file, _) = SMALL;
    let (server, block_size) = (SERVER, BLOCK_SIZE);
    let probe =
        Load { server, file, content: &content, block_size, clients: 1, window: 1, loss: 0.0 };
    let machine = Machine::this();
    let beds = tftp_servers::start(&lab, &daemon, options.program.as_deref(), &files, &probe)?;
    let late = progress::during("Listening for packets after an error", || late(&beds, &probe))?;
    let mut rows = Vec::new();
    for case in cases(options) {
        let (file, size) = case.file;
        let Case { clients, window, loss, .. } = case;
        let content = content.get(..size).unwrap_or_default();
        let load = Load { server, file, content, block_size, clients, window, loss };
        rows.extend(measure(&beds, case, &load)?);
    }
    println!("{}", markdown(&machine, &rows, &late));
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", json(&machine, &rows, &late));
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The files that all serve, and the content of the large one, with which the small one begins.
fn write_files(folder: &std::path::Path) -> Result<Vec<u8>> {
    let mut content = vec![0; LARGE.1];
    // No two blocks are the same, so that none can stand for another.
    fastrand::Rng::with_seed(7440).fill(&mut content);
    fs::create_dir(folder)?;
    for (name, size) in [LARGE, SMALL] {
        fs::write(folder.join(name), content.get(..size).unwrap_or_default())?;
    }
    // talos-pxe does not start without the files that its DHCP answers name.
    for name in ["ipxe.efi", "snponly.efi", "undionly.kpxe"] {
        fs::write(folder.join(name), "no machine boots this\0")?;
    }
    Ok(content)
}

fn cases(options: &Tftp) -> Vec<Case> {
    let quick = options.quick;
    let mut cases = Vec::new();
    for loss in [0.0, LOSS] {
        for clients in options.clients.iter().copied().map(usize::from) {
            if quick && loss > 0.0 && clients != 50 {
                continue;
            }
            let file = if loss > 0.0 || (quick && clients == 500) { SMALL } else { LARGE };
            let rounds = match (quick, loss > 0.0) {
                (true, true) => 1,
                (false, false) => 7,
                _ => 3,
            };
            cases.extend(WINDOWS.map(|window| Case { clients, window, loss, file, rounds }));
        }
    }
    cases
}

/// All servers that know of windows, where one is asked for, in turn, so that what disturbs the machine disturbs all.
fn measure(beds: &[Bed], case: Case, load: &Load<'_>) -> Result<Vec<Row>> {
    let mut able = Vec::new();
    for bed in beds {
        let (window, _) = tftp::probe(bed.far.netns(), load)
            .with_context(|| format!("{} does not answer", bed.name))?;
        if (window > 1) == (case.window > 1) {
            able.push((bed, Row { server: bed.name, case, samples: Vec::new() }));
        }
    }
    for round in 1..=case.rounds {
        for (bed, row) in &mut able {
            let what = format!(
                "{}: {} clients, window {}, {} % loss, round {round} of {}",
                bed.name,
                case.clients,
                case.window,
                case.loss * 100.0,
                case.rounds
            );
            row.samples.push(progress::during(&what, || bed.measure(load))?);
        }
        able.rotate_left(1);
    }
    able.sort_by_key(|(bed, _)| beds.iter().position(|other| other.name == bed.name));
    Ok(able.into_iter().map(|(_, row)| row).collect())
}

/// How many packets each server still sends to a client that has left with an error.
fn late(beds: &[Bed], probe: &Load<'_>) -> Result<Vec<(&'static str, u64)>> {
    let listen = |bed: &Bed| {
        let (_, client) = tftp::probe(bed.far.netns(), probe)?;
        Ok((bed.name, tftp::late_packets(&client, LISTEN)?))
    };
    thread::scope(|scope| {
        let listeners: Vec<_> = beds.iter().map(|bed| scope.spawn(move || listen(bed))).collect();
        let join = |listener: thread::ScopedJoinHandle<'_, _>| {
            listener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        listeners.into_iter().map(join).collect()
    })
}

/// The CPUs of a server, and of its clients. A single client has one to itself, as it has on a real
/// network: where the scheduler puts it on the server's, neither has to be woken.
fn cpus(clients: usize) -> (Range<usize>, Range<usize>) {
    let all = cpu::count() as usize;
    match clients {
        1 if all > 1 => (0..all - 1, all - 1..all),
        _ => (0..all, 0..all),
    }
}

impl Bed {
    fn measure(&self, load: &Load<'_>) -> Result<Sample> {
        let seconds = || self.process.map(|process| cpu::seconds_of(&[process])).transpose();
        let before = seconds()?;
        let (servers, clients) = cpus(load.clients);
        cpu::keep_to(self.first, servers)?;
        let got = tftp::run(self.far.netns(), clients, load)
            .with_context(|| format!("{} serves wrongly", self.name))?;
        let cpu = before.zip(seconds()?).map(|(before, after)| after - before);
        Ok(Sample { got, cpu })
    }
}

impl Row {
    /// 10^6 octets a second, of whole files.
    fn rate(&self) -> Spread {
        let rate = |Got { octets, time, .. }: &Got| *octets as f64 / 1e6 / time.as_secs_f64();
        Spread::of(self.samples.iter().map(|sample| rate(&sample.got)).collect())
    }

    /// CPU seconds for 10^9 octets.
    fn cpu(&self) -> Option<Spread> {
        let cpu = |sample: &Sample| Some(sample.cpu? / (sample.got.octets as f64 / 1e9));
        self.samples.iter().map(cpu).collect::<Option<Vec<_>>>().map(Spread::of)
    }

    /// The share of blocks that came for nothing; where clients failed it is not known.
    fn overhead(&self) -> Option<f64> {
        let sum = |of: fn(&Got) -> u64| self.samples.iter().map(|s| of(&s.got)).sum::<u64>() as f64;
        (self.failed() == 0).then(|| sum(|got| got.blocks) / sum(|got| got.needed) - 1.0)
    }

    fn failed(&self) -> usize {
        self.samples.iter().map(|sample| sample.got.failures.len()).sum()
    }

    fn first_failure(&self) -> Option<&str> {
        self.samples.iter().find_map(|sample| sample.got.failures.first()).map(String::as_str)
    }

    /// How many times as fast ours is in the same case.
    fn ratio(&self, rows: &[Row]) -> f64 {
        let Case { clients, window, loss, .. } = self.case;
        let same = |row: &&Row| {
            let case = row.case;
            (case.clients, case.window) == (clients, window) && (case.loss > 0.0) == (loss > 0.0)
        };
        let ours = rows.iter().filter(same).find(|row| row.server == "talos-pxe");
        ours.map_or(f64::NAN, |ours| ours.rate().median / self.rate().median)
    }
}

fn markdown(machine: &Machine, rows: &[Row], late: &[(&str, u64)]) -> String {
    let mut text = format!("{}\n\n", machine.line());
    let _ = writeln!(
        text,
        "Files by TFTP over a veth cable, blocks of {BLOCK_SIZE} octets: medians, and in brackets \
         the least and the most of all rounds. \"ours\" is how many times as fast talos-pxe is; \
         \"extra\" is what share of blocks came for nothing.\n\n\
         | clients | window | loss | MiB | server | MB/s | ours | extra | CPU s/GB | failed |\n\
         | ---: | ---: | ---: | ---: | --- | --- | ---: | ---: | --- | --- |"
    );
    for row in rows {
        let Case { clients, window, loss, file: (_, size), .. } = row.case;
        let failed = match row.first_failure() {
            Some(why) => format!("{} ({why})", row.failed()),
            None => "0".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {clients} | {window} | {:.0} % | {} | {} | {} | {:.2} | {} | {} | {failed} |",
            loss * 100.0,
            size >> 20,
            row.server,
            row.rate().text(1),
            row.ratio(rows),
            row.overhead().map_or_else(String::new, |extra| format!("{:.1} %", extra * 100.0)),
            row.cpu().map_or_else(String::new, |cpu| cpu.text(2)),
        );
    }
    let late: Vec<String> =
        late.iter().map(|(name, packets)| format!("{name} {packets}")).collect();
    let _ = writeln!(
        text,
        "\nPackets in {} s after a client's error: {}.",
        LISTEN.as_secs(),
        late.join(", ")
    );
    text
}

fn json(machine: &Machine, rows: &[Row], late: &[(&str, u64)]) -> serde_json::Value {
    let late: serde_json::Map<_, _> =
        late.iter().map(|(name, packets)| ((*name).to_owned(), json!(packets))).collect();
    let row = |row: &Row| {
        json!({
            "server": row.server,
            "clients": row.case.clients,
            "window": row.case.window,
            "loss": row.case.loss,
            "octets": row.case.file.1,
            "megabytes_per_second": row.rate().json(),
            "talos_pxe_is_times_as_fast": row.ratio(rows),
            "blocks_for_nothing": row.overhead(),
            "cpu_seconds_per_gigabyte": row.cpu().map(Spread::json),
            "failed": row.failed(),
            "first_failure": row.first_failure(),
        })
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    json!({ "machine": machine.line(), "rows": rows, "packets_after_an_error": late })
}
