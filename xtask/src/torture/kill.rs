//! `cargo xtask torture kill`: SIGKILL at any moment, and no promise is broken.
//!
//! Twice as many machines as addresses lease, renew and give back, so that addresses go from one
//! to the other all the time and most answers rest on a lease that was just stored. After each
//! restart every machine that holds a lease asks for it, one way or another.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use fastrand::Rng;
use indicatif::ProgressBar;

use super::daemon::{Daemon, Network};
use super::ledger::{Fault, Ledger, Machine, Promise, now};
use super::newcomers::newcomers;
use super::{Kill, interrupted_start, next_reply};
use crate::interrupt;
use crate::lab::Lab;
use crate::lab::server::Server;
use crate::load::fleet;
use crate::load::frame::{Ask, Client, Sender};
use crate::load::packets::Packets;
use crate::load::reply::{ACK, NAK, OFFER, Reply};
use crate::setup::{self, Group};

/// 512 addresses.
const NETWORK: Network =
    Network { own: "10.77.0.1/16", address: [10, 77, 0, 1], range: "10.77.16.0-10.77.17.255" };
const MACHINES: usize = 1000;
/// How long a machine waits for an answer.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long after a restart a machine asks for its lease before the server counts as silent.
const SILENCE: Duration = Duration::from_secs(15);

/// In one of so many rounds the daemon stops, before it is killed, for longer than any horizon
/// reaches: that is four lease times.
const FREEZES: u32 = 50;
const FREEZE: Duration = Duration::from_secs(125);

/// What happened in a run that ended well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// How often the daemon was killed.
    pub kills: u64,
    /// How often it had stopped for long before, and the XDP program answered alone.
    pub freezes: u64,
    /// Leases granted.
    pub leases: u64,
    /// Leases extended.
    pub renewals: u64,
    /// Leases given back.
    pub releases: u64,
    /// Addresses that went to another machine.
    pub handed_on: u64,
    /// Leases that were asked for after a restart.
    pub checked: u64,
    /// Roles that machines chose, and still had after the restarts.
    pub roles: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { kills, freezes, leases, renewals, releases, handed_on, checked, roles } = self;
        write!(
            f,
            "{kills} kills, {freezes} of them after a long stop; {leases} leases, {renewals} renewals, {releases} releases; \
             {handed_on} addresses went to another machine; after the restarts {checked} leases \
             were asked for, and none was forgotten"
        )?;
        if *roles > 0 { write!(f, "; nor was one of {roles} roles") } else { Ok(()) }
    }
}

/// Does it.
///
/// # Errors
/// When a promise is broken, or the daemon does not start again.
pub fn kill(options: &Kill) -> Result<Report> {
    setup::ensure(&[Group::Bpf])?;
    if let Some(rate) = options.new_clients {
        return newcomers(options, rate);
    }
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let lab = Lab::new()?;
    let mut run = Run::new(&lab, &options.xdp, seed)?;
    let bar = ProgressBar::new(options.rounds.into());
    for round in 0..options.rounds {
        run.round(round).with_context(|| format!("in round {round} of --seed {seed}"))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    run.report.handed_on = run.ledger.handed_on;
    Ok(run.report)
}

/// A machine of the run.
struct Guest {
    sender: Sender,
    asking: Option<Asking>,
    /// When it does something next, unless it is asking.
    next: Duration,
    /// Whether it still has to ask for its lease after a restart.
    owed: Option<Promise>,
}

/// A request whose answer is awaited.
#[derive(Clone, Copy)]
struct Asking {
    ask: Ask,
    xid: u32,
    sent: Duration,
}

/// A run.
struct Run {
    daemon: Daemon,
    /// Whether the daemon attaches its XDP program.
    xdp: bool,
    /// Whether the last daemon stopped long before it was killed.
    frozen: bool,
    packets: Packets,
    machines: Vec<Guest>,
    by_mac: HashMap<[u8; 6], Machine>,
    ledger: Ledger,
    random: Rng,
    xid: u32,
    report: Report,
}

impl Run {
    fn new(lab: &Lab, xdp: &str, seed: u64) -> Result<Run> {
        let (daemon, far) = Daemon::new(lab, NETWORK, xdp)?;
        let target = daemon.target;
        let machines: Vec<Guest> = (0..MACHINES)
            .map(|number| {
                let mac = fleet::mac(number as u32);
                let sender = Sender { mac, client: Client::Plain, relay: None, target };
                Guest { sender, asking: None, next: Duration::ZERO, owed: None }
            })
            .collect();
        Ok(Run {
            daemon,
            xdp: xdp != "off",
            frozen: false,
            packets: Packets::open(&far)?,
            by_mac: machines.iter().enumerate().map(|(n, m)| (m.sender.mac, n)).collect(),
            machines,
            ledger: Ledger::default(),
            random: Rng::with_seed(seed),
            xid: 0,
            report: Report::default(),
        })
    }
}

impl Run {
    /// Starts the daemon, lets all machines check their leases, lets them work, and kills it.
    fn round(&mut self, number: u32) -> Result<()> {
        interrupt::check()?;
        let mut server = interrupted_start(&self.daemon, &mut self.random, &mut self.report)?;
        if std::mem::take(&mut self.frozen) || self.random.bool() {
            self.let_others_ask_first(&mut server)?;
        }
        self.check_leases(&mut server)?;
        let mut end = now() + Duration::from_millis(self.random.u64(300..1200));
        if self.xdp && number % FREEZES == FREEZES / 10 {
            server.process().freeze()?;
            self.report.freezes += 1;
            self.frozen = true;
            end += FREEZE;
        }
        while now() < end {
            self.work(&mut server)?;
        }
        // Half of the kills come right behind a new lease's ACK: it must be stored by then.
        let leases = self.report.leases;
        let worst_moment = self.random.bool();
        while worst_moment && self.report.leases == leases && now() < end + PATIENCE {
            self.work(&mut server)?;
        }
        drop(server);
        self.report.kills += 1;
        // What it sent before its end was promised.
        self.take_what_came()?;
        for machine in &mut self.machines {
            machine.asking = None;
            machine.next = Duration::ZERO;
        }
        Ok(())
    }

    /// Lets machines without a lease ask for one, before those that hold one are heard: were an
    /// address forgotten, it would be given to another machine now.
    fn let_others_ask_first(&mut self, server: &mut Server) -> Result<()> {
        let end = now() + Duration::from_secs(1);
        while now() < end {
            let time = now();
            for number in 0..self.machines.len() {
                let Some(machine) = self.machines.get(number) else { continue };
                let waits = machine.asking.is_some_and(|asking| asking.sent + PATIENCE > time);
                if !waits && self.ledger.of(number, time).is_none() {
                    self.ask(number, Ask::Discover)?;
                }
            }
            self.take_replies(server)?;
        }
        Ok(())
    }

    /// Lets every machine that holds a lease ask for it.
    fn check_leases(&mut self, server: &mut Server) -> Result<()> {
        let start = now();
        for (number, machine) in self.machines.iter_mut().enumerate() {
            machine.owed = self.ledger.of(number, start);
        }
        loop {
            let time = now();
            let mut owing = 0;
            for number in 0..self.machines.len() {
                let held = self.ledger.of(number, time);
                let Some(machine) = self.machines.get_mut(number) else { continue };
                // A lease that has ended meanwhile is nobody's debt.
                machine.owed = machine.owed.and(held);
                let Some(held) = machine.owed else { continue };
                owing += 1;
                if time > start + SILENCE {
                    return Err(Fault::Silence { held }.into());
                }
                if machine.asking.is_none_or(|asking| asking.sent + PATIENCE < time) {
                    let ask = match self.random.u8(..3) {
                        0 => Ask::Discover,
                        1 => Ask::Reboot(held.address),
                        _ => Ask::Renew(held.address),
                    };
                    self.ask(number, ask)?;
                }
            }
            if owing == 0 {
                return Ok(());
            }
            self.take_replies(server)?;
        }
    }

    /// Lets each machine do what it is to do now.
    fn work(&mut self, server: &mut Server) -> Result<()> {
        let time = now();
        for number in 0..self.machines.len() {
            let Some(machine) = self.machines.get_mut(number) else { continue };
            let waits = machine.asking.is_some_and(|asking| asking.sent + PATIENCE > time);
            if waits || machine.next > time {
                continue;
            }
            let Some(held) = self.ledger.of(number, time) else {
                self.ask(number, Ask::Discover)?;
                continue;
            };
            let address = held.address;
            match self.random.u8(..100) {
                // Switched off: its lease ends by itself, later.
                0 => machine.next = time + Duration::from_secs(40),
                1..40 => {
                    let server = machine.sender.target.address;
                    self.ledger.release(number, time);
                    self.report.releases += 1;
                    self.ask(number, Ask::Release { address, server })?;
                    self.rest(number, 200);
                }
                _ => self.ask(number, Ask::Renew(address))?,
            }
        }
        self.take_replies(server)
    }

    fn ask(&mut self, number: Machine, ask: Ask) -> Result<()> {
        let Some(machine) = self.machines.get_mut(number) else { return Ok(()) };
        self.xid = self.xid.wrapping_add(1);
        machine.asking = Some(Asking { ask, xid: self.xid, sent: now() });
        let mut frame = machine.sender.ask(ask);
        self.packets.send(&[frame.with_xid(self.xid)]).context("cannot send")
    }

    /// Lets a machine do nothing for up to `milliseconds`.
    fn rest(&mut self, number: Machine, milliseconds: u64) {
        let rest = Duration::from_millis(self.random.u64(..milliseconds));
        if let Some(machine) = self.machines.get_mut(number) {
            machine.asking = None;
            machine.next = now() + rest;
        }
    }

    fn take_replies(&mut self, server: &mut Server) -> Result<()> {
        interrupt::check()?;
        self.packets.wait(2);
        self.take_what_came()?;
        server.process().check()
    }

    fn take_what_came(&mut self) -> Result<()> {
        while let Some(reply) = next_reply(&mut self.packets)? {
            self.on_reply(reply)?;
        }
        Ok(())
    }

    fn on_reply(&mut self, reply: Reply) -> Result<()> {
        let Some(number) = self.by_mac.get(&reply.mac).copied() else {
            bail!("a reply to a machine that does not exist: {reply:?}");
        };
        let Some(machine) = self.machines.get_mut(number) else { return Ok(()) };
        // What comes after the machine has lost its patience is not for it any more.
        let Some(asking) = machine.asking.filter(|asking| asking.xid == reply.xid) else {
            return Ok(());
        };
        let (time, address) = (now(), reply.address);
        match (reply.kind, asking.ask) {
            (OFFER, Ask::Discover) => {
                self.ledger.offer(number, address, time)?;
                if machine.owed.take().is_some() {
                    self.report.checked += 1;
                    machine.asking = None;
                } else {
                    self.ask(number, Ask::Select { address, server: reply.server })?;
                }
            }
            (ACK, Ask::Select { .. } | Ask::Reboot(_) | Ask::Renew(_)) => {
                let renewed = self.ledger.of(number, time).is_some();
                let until = asking.sent + Duration::from_secs(reply.lease_time.into());
                self.ledger.promise(Promise { machine: number, address, until }, time)?;
                self.report.checked += u64::from(machine.owed.take().is_some());
                *(if renewed { &mut self.report.renewals } else { &mut self.report.leases }) += 1;
                // The program answers only for as long as it has room to note what it answers.
                self.rest(number, if self.frozen { 20_000 } else { 400 });
            }
            (NAK, _) => {
                self.ledger.refusal(number, time)?;
                self.rest(number, 100);
            }
            (kind, ask) => return Err(anyhow!("message type {kind} as the answer to {ask:?}")),
        }
        Ok(())
    }
}
