//! What was measured, as a table for people and as JSON.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::exchanges::{self, Exchanges};
use super::generator::{Kind, Load, Outcome};
use super::http::Traffic;
use super::ratios::{self, Ratio};
use super::search::Highest;
use super::testrun::{self, Answer};
use crate::exec;
use crate::load::cpu;

/// Where and with what a run was made.
#[derive(Debug)]
pub struct Machine {
    kernel: String,
    cpu: String,
    cpus: f64,
    versions: Vec<(&'static str, String)>,
    load_before: String,
}

impl Machine {
    /// This machine.
    pub fn this() -> Machine {
        let version = |program: &str, argument: &str| {
            // Some write it to standard error.
            let script = format!("{program} {argument} 2>&1 | head -n 1");
            let output = exec::output(std::process::Command::new("sh").args(["-c", &script]));
            let output = output.unwrap_or_default();
            let words = output.split(|c: char| !(c.is_ascii_digit() || c == '.'));
            words.into_iter().find(|word| word.contains('.')).unwrap_or("unknown").to_owned()
        };
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            kernel: release.trim().to_owned(),
            cpu: cpu::model(),
            cpus: cpu::count(),
            versions: vec![
                ("talos-pxe", env!("CARGO_PKG_VERSION").to_owned()),
                ("Kea", version("kea-dhcp4", "-v")),
                ("dnsmasq", version("dnsmasq", "--version")),
                ("nginx", version("nginx", "-v")),
                ("tftpd-hpa", version("in.tftpd", "-V")),
            ],
            load_before: cpu::load_average(),
        }
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        let versions = self.versions.iter().map(|(name, version)| format!("{name} {version}"));
        format!(
            "{} × {}, Linux {}; {}. Load average before {}, after {}.",
            self.cpus,
            self.cpu,
            self.kernel,
            versions.collect::<Vec<_>>().join(", "),
            self.load_before,
            cpu::load_average(),
        )
    }
}

/// The way of requests to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On the same segment.
    Direct,
    /// Through a relay agent.
    Relayed,
}

impl Way {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Relayed => "relayed",
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Discover => "DISCOVER",
            Kind::Renew => "REQUEST",
            Kind::Both => "both",
        }
    }
}

/// One row.
#[derive(Debug)]
pub struct Row {
    /// The server.
    pub server: &'static str,
    /// The requests' way.
    pub way: Way,
    /// How many machines asked.
    pub machines: usize,
    /// What was measured.
    pub what: What,
}

/// What a row is about.
#[derive(Debug)]
pub enum What {
    /// The highest rate without loss.
    Highest(Kind, Highest),
    /// The times of answers at a rate, while files are sent or not.
    Times(Load, Box<Outcome>, Option<Traffic>),
}

/// All that a run measured.
#[derive(Debug)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The modes in which the kernel ran the XDP program, as the daemon says.
    pub xdp: Option<String>,
    /// The times of answers without a cable.
    pub answers: Vec<Answer>,
    /// What was measured over a cable.
    pub rows: Vec<Row>,
    /// New clients.
    pub exchanges: Vec<Exchanges>,
}

/// The run as Markdown.
pub fn markdown(report: &Report) -> String {
    let Report { machine, xdp, answers, rows, exchanges } = report;
    let mut text =
        format!("{} XDP mode: {}.\n\n", machine.line(), xdp.as_deref().unwrap_or("none"));
    if !answers.is_empty() {
        text.push_str("The XDP program by the kernel's test run, without a cable:\n\n");
        text.push_str(testrun::HEAD);
        text.extend(answers.iter().map(Answer::markdown));
        text.push_str("\nOver a cable (veth), every reply checked:\n\n");
    }
    text.push_str("| server | machines | way | requests | most replies/s without loss |\n");
    text.push_str("| --- | ---: | --- | --- | ---: |\n");
    for row in rows {
        if let What::Highest(kind, highest) = &row.what {
            let more = if highest.generator_bound { " (generator's limit)" } else { "" };
            let (machines, way) = (row.machines, row.way.name());
            let _ = writeln!(
                text,
                "| {} | {machines} | {way} | {} | {:.0}{more} |",
                row.server,
                kind.name(),
                highest.rate
            );
        }
    }
    text.push_str(
        "\nMicroseconds from when a request was due until the kernel got its answer: that counts \
         the generator's own lateness, of which the last column tells. In brackets from when it \
         was sent: that is the server's and the cable's time alone. \"busy\" is the share of all \
         CPUs; generator and server share them.\n\n\
         | server | way | requests/s | beside | p50 | p99 | max | lost | sent late, p99 |\n\
         | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        if let What::Times(load, outcome, traffic) = &row.what {
            let beside =
                traffic.map_or_else(String::new, |Traffic { megabytes_per_second, busy }| {
                    format!(
                        "{megabytes_per_second:.0} MB/s to 64 clients, {:.0} % busy",
                        busy * 100.0
                    )
                });
            let both = |of: &dyn Fn(&Histogram<u64>) -> u64| {
                let micros = |histogram| of(histogram) as f64 / 1e3;
                format!("{:.1} ({:.1})", micros(&outcome.latency), micros(&outcome.service))
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {beside} | {} | {} | {} | {} | {:.1} |",
                row.server,
                row.way.name(),
                load.rate,
                both(&|times| times.value_at_quantile(0.5)),
                both(&|times| times.value_at_quantile(0.99)),
                both(&|times| times.max()),
                outcome.sent - outcome.answered,
                outcome.late.value_at_quantile(0.99) as f64 / 1e3,
            );
        }
    }
    if !exchanges.is_empty() {
        text.push_str("\nNew clients (perfdhcp), each of whose leases is stored:\n\n");
        text.push_str(exchanges::HEAD);
        text.extend(exchanges.iter().map(Exchanges::markdown));
    }
    let ratios = ratios::all(rows, exchanges);
    if !ratios.is_empty() {
        text.push('\n');
        text.push_str(ratios::HEAD);
        text.extend(ratios.iter().map(Ratio::markdown));
    }
    text
}

/// The run as JSON; times in microseconds.
pub fn json(report: &Report) -> Value {
    let Report { machine, xdp, answers, rows, exchanges } = report;
    let versions: serde_json::Map<String, Value> =
        machine.versions.iter().map(|(name, version)| ((*name).into(), json!(version))).collect();
    json!({
        "machine": { "cpu": machine.cpu, "cpus": machine.cpus, "kernel": machine.kernel },
        "versions": versions,
        "load_average": { "before": machine.load_before, "after": cpu::load_average() },
        "xdp_mode": xdp,
        "answers": answers.iter().map(Answer::json).collect::<Vec<_>>(),
        "new_clients": exchanges.iter().map(Exchanges::json).collect::<Vec<_>>(),
        "ratios": ratios::all(rows, exchanges).iter().map(Ratio::json).collect::<Vec<_>>(),
        "rows": rows.iter().map(row_json).collect::<Vec<_>>(),
    })
}

fn row_json(row: &Row) -> Value {
    let mut value = json!({
        "server": row.server, "way": row.way.name(), "machines": row.machines,
    });
    let more = match &row.what {
        What::Highest(kind, highest) => json!({
            "requests": kind.name(),
            "replies_per_second_without_loss": highest.rate,
            "generator_bound": highest.generator_bound,
        }),
        What::Times(load, outcome, traffic) => json!({
            "requests": load.kind.name(),
            "rate": load.rate,
            "sent": outcome.sent,
            "answered": outcome.answered,
            "wrong": outcome.wrong,
            "latency_us": times(&outcome.latency),
            "from_sending_us": times(&outcome.service),
            "sent_late_us": times(&outcome.late),
            "beside": traffic.map(|traffic| json!({
                "megabytes_per_second": traffic.megabytes_per_second, "cpus_busy": traffic.busy,
            })),
        }),
    };
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

fn times(histogram: &Histogram<u64>) -> Value {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    json!({
        "p50": micros(histogram.value_at_quantile(0.5)),
        "p99": micros(histogram.value_at_quantile(0.99)),
        "p99.9": micros(histogram.value_at_quantile(0.999)),
        "max": micros(histogram.max()),
    })
}
