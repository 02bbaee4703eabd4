//! `cargo xtask bench dhcp`: each server in turn, with the same load.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::Dhcp;
use super::exchanges;
use super::generator::{Generator, Kind, Load, Outcome};
use super::http::{self, Downloads};
use super::report::{self, Machine as Computer, Report, Row, Way, What};
use super::search;
use super::servers::{self, Bed};
use super::testrun;
use crate::lab::{Lab, server};
use crate::load::fleet::{self, Machine};
use crate::load::packets::Packets;
use crate::setup::{self, Group};

/// How much is measured.
struct Plan {
    ways: &'static [Way],
    kinds: &'static [Kind],
    /// Requests a second at which answers are timed, apart from what each server and Kea can do.
    rates: &'static [u32],
    /// How long each step of a search takes.
    step: Duration,
    /// How long answers are timed.
    times: Duration,
    /// How long new clients come, in whole seconds.
    clients: Duration,
    /// To which part of itself the highest rate of new clients is found.
    exactness: f64,
    /// How often each kind of answer is measured by test run.
    rounds: u32,
}

const FULL: Plan = Plan {
    ways: &[Way::Direct, Way::Relayed],
    kinds: &[Kind::Discover, Kind::Renew, Kind::Both],
    rates: &[1000, 10_000, 100_000],
    step: Duration::from_secs(2),
    times: Duration::from_secs(10),
    clients: Duration::from_secs(5),
    exactness: 1.0 / 16.0,
    rounds: 200,
};

const QUICK: Plan = Plan {
    ways: &[Way::Direct],
    kinds: &[Kind::Both],
    rates: &[1000],
    step: Duration::from_millis(400),
    times: Duration::from_secs(2),
    clients: Duration::from_secs(1),
    exactness: 1.0 / 4.0,
    rounds: 20,
};

/// The rate at which answers are timed beside downloads.
const BESIDE: u32 = 1000;

/// All that a run needs.
struct Run<'a> {
    plan: &'a Plan,
    lab: Lab,
    daemon: PathBuf,
    root: PathBuf,
    bar: ProgressBar,
    report: Report,
    /// What Kea can do, by way: it is measured first.
    of_kea: Vec<(Way, u32)>,
}

/// Runs the subcommand.
pub fn main(dhcp: &Dhcp) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Bench])?;
    let plan = if dhcp.quick { &QUICK } else { &FULL };
    let lab = Lab::new()?;
    let daemon = server::build_release()?;
    let root = root(lab.dir())?;
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let wanted = |kind| dhcp.only.is_none_or(|only| only == kind);
    let answers =
        if wanted(servers::Kind::FastPath) { testrun::measure(plan.rounds)? } else { Vec::new() };
    let (machine, xdp, rows, exchanges) = (Computer::this(), None, Vec::new(), Vec::new());
    let report = Report { machine, xdp, answers, rows, exchanges };
    let mut run = Run { plan, lab, daemon, root, bar, report, of_kea: Vec::new() };
    for kind in servers::Kind::ALL.into_iter().filter(|kind| wanted(*kind)) {
        run.server(kind, kind.machines(dhcp.machines))?;
        if kind != servers::Kind::Dnsmasq {
            run.new_clients(kind)?;
        }
    }
    run.bar.finish_and_clear();
    println!("{}", report::markdown(&run.report));
    if let Some(file) = &dhcp.json {
        let text = format!("{:#}\n", report::json(&run.report));
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// What the servers of files serve.
fn root(lab: &Path) -> Result<PathBuf> {
    let root = lab.join("root");
    fs::create_dir_all(root.join("assets"))?;
    File::create(root.join("assets/initramfs-amd64.xz"))?;
    File::create(root.join(http::FILE))?.set_len(http::SIZE)?;
    Ok(root)
}

impl Run<'_> {
    fn server(&mut self, kind: servers::Kind, count: u32) -> Result<()> {
        let name = kind.name();
        let mut bed = servers::start(&self.lab, kind, &self.daemon, &self.root)?;
        self.say(name, "first addresses");
        let sender = bed.sender(Way::Direct);
        let mut machines =
            fleet::bind(&mut Packets::open(&bed.far)?, sender, count, kind.window())?;
        bed.introduce(&machines)?;
        self.report.xdp = self.report.xdp.take().or_else(|| bed.process.xdp_mode());
        let mut generator = Generator::open(&bed.host, &bed.far, kind == servers::Kind::FastPath)?;
        for way in self.plan.ways {
            fleet::address(&mut machines, bed.sender(*way));
            self.way(&mut bed, &mut generator, *way, &machines)?;
        }
        fleet::address(&mut machines, bed.sender(Way::Direct));
        self.beside_downloads(&bed, &mut generator, &machines)?;
        bed.process.check()
    }

    fn new_clients(&mut self, kind: servers::Kind) -> Result<()> {
        let say = |what: &str| self.say(kind.name(), what);
        let (plan, lab) = (self.plan, &self.lab);
        let found = exchanges::highest(
            lab,
            kind,
            &self.daemon,
            &self.root,
            plan.clients,
            plan.exactness,
            say,
        )?;
        self.report.exchanges.push(found);
        Ok(())
    }

    fn way(
        &mut self,
        bed: &mut Bed,
        generator: &mut Generator,
        way: Way,
        machines: &[Machine],
    ) -> Result<()> {
        let name = bed.kind.name();
        let count = machines.len();
        let mut most = 0;
        for kind in self.plan.kinds {
            let highest = search::highest(*kind, self.plan.step, 500, |load| {
                self.say(name, &format!("{way:?}, {:?} at {}/s", load.kind, load.rate));
                bed.process.check()?;
                generator.run(machines, load)
            })?;
            most = highest.rate as u32;
            self.row(name, way, count, What::Highest(*kind, highest));
        }
        if bed.kind == servers::Kind::Kea {
            self.of_kea.push((way, most));
        }
        let of_kea = self.of_kea.iter().filter(|(of, _)| *of == way).map(|(_, rate)| *rate);
        let mut rates: Vec<u32> = self.plan.rates.iter().copied().chain(of_kea).collect();
        rates.retain(|rate| *rate <= most);
        rates.sort_unstable();
        for rate in rates {
            let load = Load { kind: Kind::Both, rate, time: self.plan.times };
            self.say(name, &format!("{way:?}, answers timed at {rate}/s"));
            let outcome = generator.run(machines, load)?;
            self.times(name, way, count, load, outcome, None)?;
        }
        Ok(())
    }

    fn beside_downloads(
        &mut self,
        bed: &Bed,
        generator: &mut Generator,
        machines: &[Machine],
    ) -> Result<()> {
        let (name, count) = (bed.kind.name(), machines.len());
        self.say(name, "answers timed beside downloads");
        let _nginx = match bed.kind {
            servers::Kind::Kea | servers::Kind::Dnsmasq => {
                let folder = tempfile::tempdir_in(self.lab.dir())?.keep();
                http::nginx(&bed.host, &self.root, &folder)?
            }
            servers::Kind::FastPath | servers::Kind::Daemon => Vec::new(),
        };
        let downloads = Downloads::start(&bed.far, servers::ADDRESS)?;
        let load = Load { kind: Kind::Both, rate: BESIDE, time: self.plan.times };
        let (outcome, traffic) = downloads.during(|| generator.run(machines, load))?;
        self.times(name, Way::Direct, count, load, outcome, Some(traffic))
    }

    fn times(
        &mut self,
        name: &'static str,
        way: Way,
        count: usize,
        load: Load,
        outcome: Outcome,
        traffic: Option<http::Traffic>,
    ) -> Result<()> {
        if let Some(fault) = &outcome.fault {
            ensure!(outcome.wrong == 0, "{name} answered {} times wrongly: {fault}", outcome.wrong);
        }
        self.row(name, way, count, What::Times(load, Box::new(outcome), traffic));
        Ok(())
    }

    fn row(&mut self, server: &'static str, way: Way, machines: usize, what: What) {
        self.report.rows.push(Row { server, way, machines, what });
    }

    fn say(&self, name: &str, what: &str) {
        self.bar.set_message(format!("{name}: {what}"));
        if self.bar.is_hidden() {
            eprintln!("{name}: {what}");
        }
    }
}
