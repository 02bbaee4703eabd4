//! New clients: four messages each, and a lease that has to be stored before the last of them.
//! perfdhcp, which comes with Kea, makes them and counts; it is also a relay agent.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::servers::{self, ADDRESS};
use crate::exec;
use crate::lab::Lab;

/// perfdhcp's own address.
const RELAY: &str = "10.77.0.3/16";
/// How many clients there can be: so many that few come twice.
const CLIENTS: &str = "4000000";

/// How long it may take apart from the load.
const SOON: Duration = Duration::from_secs(30);

/// The highest rate of new clients at which nothing was lost.
#[derive(Debug)]
pub struct Exchanges {
    /// The server.
    pub server: &'static str,
    /// Clients a second.
    pub rate: u32,
    /// What came of the lowest rate at which something was lost.
    pub above: Option<Trial>,
}

/// What perfdhcp says of one rate.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Clients a second that began.
    pub rate: u32,
    /// Clients a second that got their lease.
    pub done: f64,
    /// Answers that never came. Those that found no room at perfdhcp do not count.
    pub lost: u32,
}

/// Finds it, to `exactness` of it. Each rate gets a new server without a lease.
///
/// # Errors
/// When the server does not start.
pub fn highest(
    lab: &Lab,
    kind: servers::Kind,
    daemon: &Path,
    root: &Path,
    time: Duration,
    exactness: f64,
    mut say: impl FnMut(&str),
) -> Result<Exchanges> {
    let mut best = Exchanges { server: kind.name(), rate: 0, above: None };
    let mut rate = 2000;
    loop {
        say(&format!("{rate} new clients a second"));
        let mut outcome = trial(lab, kind, daemon, root, rate, time)?;
        if !outcome.is_clean() {
            outcome = trial(lab, kind, daemon, root, rate, time)?;
        }
        if outcome.is_clean() {
            best.rate = rate;
        } else {
            best.above = Some(outcome);
        }
        rate = match best.above {
            None if best.rate >= 64_000 => return Ok(best),
            None => rate * 2,
            Some(above) => (best.rate + above.rate) / 2,
        };
        let step = best.above.map_or(u32::MAX, |above| above.rate - best.rate);
        if f64::from(step) <= (f64::from(best.rate) * exactness).max(50.0) {
            return Ok(best);
        }
    }
}

fn trial(
    lab: &Lab,
    kind: servers::Kind,
    daemon: &Path,
    root: &Path,
    rate: u32,
    time: Duration,
) -> Result<Trial> {
    let mut bed = servers::start(lab, kind, daemon, root)?;
    bed.far.add_address(RELAY)?;
    let mut perfdhcp = bed.far.command("perfdhcp");
    perfdhcp.args(["-4", "-R", CLIENTS, "-r", &rate.to_string()]);
    // It waits for the last answers, and an answer after a second is late, not lost: firmware
    // waits for at least 4 s.
    perfdhcp.args(["-p", &time.as_secs().to_string(), "-W", "1500000", "-d", "4"]);
    perfdhcp.args(["-l", "eth0", &std::net::Ipv4Addr::from(ADDRESS).to_string()]);
    let mut perfdhcp = bed.far.start(perfdhcp)?;
    // Its status says whether something was lost, which its report says better.
    perfdhcp.wait(time + SOON)?;
    bed.process.check()?;
    let report = perfdhcp.text();
    let snmp = exec::output(bed.far.command("cat").arg("/proc/net/snmp"))?;
    Trial::read(&report, rate, time, overflowed(&snmp)?)
        .with_context(|| format!("perfdhcp: {report}"))
}

impl Trial {
    fn read(report: &str, rate: u32, time: Duration, overflowed: u32) -> Result<Trial> {
        let (offers, acks) = report.split_once("REQUEST-ACK").context("no REQUEST-ACK")?;
        let lost = figure(offers, "drops:")? + figure(acks, "drops:")?;
        let done = f64::from(figure(acks, "received packets:")?) / time.as_secs_f64();
        Ok(Trial { rate, done, lost: lost.saturating_sub(overflowed) })
    }

    /// Whether nothing was lost, and perfdhcp kept up with the rate.
    fn is_clean(&self) -> bool {
        self.lost == 0 && self.done > f64::from(self.rate) * 0.9
    }
}

/// The number behind a name at the begin of a line.
fn figure(report: &str, name: &str) -> Result<u32> {
    let line = report.lines().find_map(|line| line.strip_prefix(name)).context("no figure")?;
    Ok(line.trim().parse()?)
}

/// How many datagrams found no room in a socket's buffer, as `/proc/net/snmp` has it: a line of
/// names, then one of numbers.
fn overflowed(snmp: &str) -> Result<u32> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = lines.next().zip(lines.next()).context("no figures of UDP")?;
    let mut figures = names.split(' ').zip(numbers.split(' '));
    let (_, overflowed) = figures.find(|(name, _)| *name == "RcvbufErrors").context("no figure")?;
    Ok(overflowed.parse()?)
}

impl Exchanges {
    /// A row of a table in Markdown, under [`HEAD`].
    pub fn markdown(&self) -> String {
        let above = self.above.map_or_else(String::new, |Trial { rate, done, lost }| {
            format!("at {rate}/s {lost} answers were lost, and {done:.0} clients/s done")
        });
        format!("| {} | {} | {above} |\n", self.server, self.rate)
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        json!({
            "server": self.server,
            "new_clients_per_second_without_loss": self.rate,
            "above": self.above.map(|Trial { rate, done, lost }| json!({
                "rate": rate, "clients_done_per_second": done, "answers_lost": lost,
            })),
        })
    }
}

/// The head of the table.
pub const HEAD: &str =
    "| server | new clients/s without loss | above that |\n| --- | ---: | --- |\n";
