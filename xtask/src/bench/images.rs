//! `cargo xtask bench http`: an image to one client and to many, beside nginx.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Http;
use super::image_servers::{Bed, image, root};
use super::image_turns;
use super::report::Machine;
use super::spread::Spread;
use crate::lab::{Lab, server};
use crate::load::downloads;
use crate::progress;
use crate::setup::{self, Group};

/// One server in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// 10^6 octets a second.
    megabytes: f64,
    /// CPU seconds for 10^9 octets.
    cpu: f64,
}

/// Runs the subcommand.
pub fn main(http: &Http) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Bench])?;
    let lab = Lab::new()?;
    let daemon = server::build_release()?;
    let root = root(lab.dir())?;
    let machine = Machine::this();
    let turns = match http.turns {
        true => image_turns::measure(&lab, &daemon, &root, if http.quick { 1 } else { 3 })?,
        false => Vec::new(),
    };
    let mut beds = vec![Bed::ours("talos-pxe".to_owned(), &lab, &daemon, &root, &[])?];
    for program in &http.programs {
        beds.push(Bed::ours(program.display().to_string(), &lab, program, &root, &[])?);
    }
    beds.push(Bed::nginx(&lab, &root)?);
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
                let measure = || Sample::of(bed, clients, Duration::from_secs(time));
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
    if !turns.is_empty() {
        println!("{}", image_turns::markdown(&turns));
    }
    if let Some(file) = &http.json {
        let text = format!("{:#}\n", json(&machine, &rows, &memory, &turns));
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

impl Sample {
    fn of(bed: &Bed, clients: usize, time: Duration) -> Result<Self> {
        let before = bed.cpu_seconds()?;
        let got = downloads::run(bed.far.netns(), &image(), clients, time)?;
        let (cpu, octets) = (bed.cpu_seconds()? - before, got.octets as f64);
        Ok(Self { megabytes: octets / 1e6 / got.time.as_secs_f64(), cpu: cpu / (octets / 1e9) })
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

fn json(
    machine: &Machine,
    rows: &[Row],
    memory: &[(String, u64)],
    turns: &[image_turns::Row],
) -> serde_json::Value {
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
    let turns: Vec<_> = turns.iter().map(image_turns::Row::json).collect();
    json!({
        "machine": machine.line(), "rows": rows, "peak_memory_octets": memory, "turns": turns,
    })
}
