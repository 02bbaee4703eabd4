//! What the figures of a run say when they are held against each other.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::exchanges::Exchanges;
use super::generator::{Kind, Load, Outcome};
use super::report::{Row, Way, What};
use super::servers;

/// Two figures of one run.
#[derive(Debug)]
pub struct Ratio {
    what: String,
    figure: f64,
    beside: f64,
    /// Whether more is better, so that the ratio says how many times more, not less.
    more_is_better: bool,
}

impl Ratio {
    /// A row of a table in Markdown, under [`HEAD`].
    pub fn markdown(&self) -> String {
        let Ratio { what, figure, beside, .. } = self;
        let show = |figure: f64| {
            if figure < 1000.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
        };
        format!("| {what} | {} | {} | {:.1} |\n", show(*figure), show(*beside), self.ratio())
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let Ratio { what, figure, beside, .. } = self;
        json!({ "what": what, "figure": figure, "beside": beside, "ratio": self.ratio() })
    }

    fn ratio(&self) -> f64 {
        if self.more_is_better { self.figure / self.beside } else { self.beside / self.figure }
    }
}

/// The head of the table.
pub const HEAD: &str = "| what | figure | beside | ratio |\n| --- | ---: | ---: | ---: |\n";

/// All that can be told from these rows.
pub fn all(rows: &[Row], exchanges: &[Exchanges]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    let (ours, kea) = (servers::Kind::FastPath.name(), servers::Kind::Kea.name());
    for way in [Way::Direct, Way::Relayed] {
        if let Some((figure, beside)) = highest(rows, ours, way).zip(highest(rows, kea, way)) {
            let what = format!("replies/s without loss, {}: {ours}, {kea}", way.name());
            ratios.push(Ratio { what, figure, beside, more_is_better: true });
        }
        let (at, theirs) = match times(rows, kea, way, false).max_by_key(|(load, _)| load.rate) {
            Some((load, outcome)) => (load.rate, outcome),
            None => continue,
        };
        let same = times(rows, ours, way, false).find(|(load, _)| load.rate == at);
        if let Some((_, outcome)) = same {
            for (from, figure, beside) in both(outcome, theirs) {
                let way = way.name();
                let what = format!("p99 in µs {from}, {way}, {at}/s: {ours}, {kea}");
                ratios.push(Ratio { what, figure, beside, more_is_better: false });
            }
        }
    }
    for server in servers::Kind::ALL.map(servers::Kind::name) {
        let Some((load, busy)) = times(rows, server, Way::Direct, true).next() else { continue };
        let mut quiet = times(rows, server, Way::Direct, false);
        let quiet = quiet.find(|(other, _)| other.rate == load.rate);
        if let Some((_, quiet)) = quiet {
            for (from, busy, quiet) in both(busy, quiet) {
                let what = format!("p99 in µs {from}, {server}: beside downloads, without");
                let (figure, beside) = (busy, quiet);
                ratios.push(Ratio { what, figure, beside, more_is_better: true });
            }
        }
    }
    let rate = |kind: servers::Kind| {
        exchanges.iter().find(|exchanges| exchanges.server == kind.name()).map(|all| all.rate)
    };
    for kind in [servers::Kind::FastPath, servers::Kind::Daemon] {
        if let Some((figure, beside)) = rate(kind).zip(rate(servers::Kind::Kea)) {
            let what = format!("new clients/s without loss: {}, {kea}", kind.name());
            ratios.push(Ratio {
                what,
                figure: figure.into(),
                beside: beside.into(),
                more_is_better: true,
            });
        }
    }
    ratios
}

fn highest(rows: &[Row], server: &str, way: Way) -> Option<f64> {
    rows.iter().find_map(|row| match &row.what {
        What::Highest(Kind::Both, highest) if row.server == server && row.way == way => {
            Some(highest.rate)
        }
        _ => None,
    })
}

fn times<'a>(
    rows: &'a [Row],
    server: &str,
    way: Way,
    beside_downloads: bool,
) -> impl Iterator<Item = (&'a Load, &'a Outcome)> {
    rows.iter().filter(move |row| row.server == server && row.way == way).filter_map(move |row| {
        match &row.what {
            What::Times(load, outcome, traffic) if traffic.is_some() == beside_downloads => {
                Some((load, outcome.as_ref()))
            }
            _ => None,
        }
    })
}

/// The 99th percentiles of two loads in microseconds, from when requests were due and from when
/// they were sent.
fn both(one: &Outcome, other: &Outcome) -> [(&'static str, f64, f64); 2] {
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1e3;
    [
        ("from due", p99(&one.latency), p99(&other.latency)),
        ("from sent", p99(&one.service), p99(&other.service)),
    ]
}
