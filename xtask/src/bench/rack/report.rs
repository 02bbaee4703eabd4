//! How racks booted, as tables for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Run;
use crate::bench::report::Machine;
use crate::load::rack::Stage;
use crate::load::rack::files::Size;

/// What one stage, or all of them, took.
struct Times {
    name: &'static str,
    /// Of the machines that came through, in order, in seconds.
    seconds: Vec<f64>,
    retries: u32,
    failures: usize,
}

impl Times {
    /// Of one server: each stage, then all together.
    fn of(run: &Run) -> Vec<Times> {
        let stage = |stage: Stage| {
            let boots = || run.boots.iter();
            let times = boots().filter_map(|boot| boot.stages.get(&stage));
            let failed = boots().filter(|boot| boot.failure.as_ref().is_some_and(|f| f.0 == stage));
            Times::new(
                stage.name(),
                times.copied(),
                boots().filter_map(|boot| boot.retries.get(&stage)).sum(),
                failed.count(),
            )
        };
        let mut all: Vec<Times> = Stage::ALL.into_iter().map(stage).collect();
        let boots = run.boots.iter().filter_map(|boot| Some(boot.up? - boot.on));
        let retries = all.iter().map(|times| times.retries).sum();
        let failures = all.iter().map(|times| times.failures).sum();
        all.push(Times::new("all", boots, retries, failures));
        all
    }

    fn new(
        name: &'static str,
        times: impl Iterator<Item = Duration>,
        retries: u32,
        failures: usize,
    ) -> Times {
        let mut seconds: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        Times { name, seconds, retries, failures }
    }

    /// The least time that this share of the machines did not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.seconds.len() as f64).ceil() as usize;
        self.seconds.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn json(&self) -> Value {
        json!({
            "machines": self.seconds.len(),
            "p50_seconds": self.quantile(0.5),
            "p99_seconds": self.quantile(0.99),
            "max_seconds": self.quantile(1.0),
            "retries": self.retries,
            "failures": self.failures,
        })
    }
}

impl Run {
    /// When machines were up, in order, in seconds since the first was switched on.
    pub(super) fn up(&self) -> Vec<f64> {
        let up = self.boots.iter().filter_map(|boot| boot.up);
        let mut seconds: Vec<f64> = up.map(|up| up.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    /// When the last was; no number when none was.
    fn last(&self) -> f64 {
        self.up().last().copied().unwrap_or(f64::NAN)
    }

    fn mean(&self) -> f64 {
        let up = self.up();
        up.iter().sum::<f64>() / up.len() as f64
    }

    /// Why machines gave up, and how many.
    fn failures(&self) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for (stage, why) in self.boots.iter().filter_map(|boot| boot.failure.as_ref()) {
            *failures.entry(format!("{}: {why}", stage.name())).or_default() += 1;
        }
        failures
    }
}

/// The runs as Markdown.
pub fn markdown(machine: &Machine, size: Size, runs: &[Run]) -> String {
    let mut text = format!("{}\n\n", machine.line());
    let _ = writeln!(
        text,
        "{} machines, switched on in {} s, each with a kernel of {} and an initramfs of {}. \"CPU\" \
         is the servers' own; \"all CPU\" is that of machines and network, too. The ratios are to \
         talos-pxe's figures: above 1 it is better.\n\n\
         | servers | booted | last up, s | ratio | mean, s | CPU, s | ratio | all CPU, s | \
         peak memory, MB |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        size.machines,
        size.spread.as_secs(),
        mebibytes(size.image / 5),
        mebibytes(size.image),
    );
    let ours = runs.iter().find(|run| run.kind == super::Kind::TalosPxe);
    let ratio = |run: &Run, of: &dyn Fn(&Run) -> f64| match ours {
        Some(ours) => format!("{:.2}", of(run) / of(ours)),
        None => String::new(),
    };
    for run in runs {
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {} | {:.1} | {:.1} | {} | {:.1} | {:.0} |",
            run.kind.name(),
            run.up().len(),
            run.last(),
            ratio(run, &Run::last),
            run.mean(),
            run.cpu,
            ratio(run, &|run| run.cpu),
            run.busy,
            run.memory as f64 / 1e6,
        );
    }
    text.push_str(
        "\nSeconds, of the machines that came through:\n\n\
         | stage | servers | p50 | p99 | max | retries | failures |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let all: Vec<_> = runs.iter().map(|run| (run.kind.name(), Times::of(run))).collect();
    for at in 0..=Stage::ALL.len() {
        for (servers, times) in all.iter().filter_map(|(name, all)| Some((name, all.get(at)?))) {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| times.quantile(share));
            let Times { name, retries, failures, .. } = times;
            let _ = writeln!(
                text,
                "| {name} | {servers} | {p50:.3} | {p99:.3} | {max:.3} | {retries} | {failures} |"
            );
        }
    }
    for run in runs {
        for (why, count) in run.failures() {
            let _ =
                writeln!(text, "\n{} machines without a boot by {}: {why}", count, run.kind.name());
        }
    }
    text
}

/// The runs as JSON.
pub fn json(machine: &Machine, size: Size, runs: &[Run]) -> Value {
    let run = |run: &Run| {
        let stages: serde_json::Map<String, Value> =
            Times::of(run).iter().map(|times| (times.name.to_owned(), times.json())).collect();
        json!({
            "servers": run.kind.name(),
            "booted": run.up().len(),
            "last_up_seconds": run.last(),
            "mean_up_seconds": run.mean(),
            "seconds": run.time.as_secs_f64(),
            "cpu_seconds": run.cpu,
            "all_cpu_seconds": run.busy,
            "peak_memory_octets": run.memory,
            "stages": stages,
            "failures": run.failures(),
            "up_seconds": run.up(),
        })
    };
    json!({
        "machine": machine.line(),
        "machines": size.machines,
        "spread_seconds": size.spread.as_secs(),
        "image_octets": size.image,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn mebibytes(octets: u64) -> String {
    format!("{:.1} MiB", octets as f64 / f64::from(1 << 20))
}
