//! `cargo xtask torture kill --new-clients`: SIGKILL while thousands of new machines a second get
//! their first lease, each of which has to be stored before its ACK. Some then choose a role, which
//! has to be stored before their script.
//!
//! After each restart every machine that got its lease since the last one asks for it, and some of
//! the older ones do; and all roles are looked at.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use fastrand::Rng;
use indicatif::ProgressBar;

use super::daemon::{Daemon, Network};
use super::kill::Report;
use super::ledger::{Fault, Ledger, Machine, Promise, now};
use super::roles::Roles;
use super::{Kill, interrupted_start, next_reply};
use crate::interrupt;
use crate::lab::Lab;
use crate::lab::server::Server;
use crate::load::fleet;
use crate::load::frame::{Ask, Client, Mac, Sender};
use crate::load::packets::Packets;
use crate::load::reply::{ACK, NAK, OFFER, Reply};

/// 450,000 addresses: nobody waits for one.
const NETWORK: Network =
    Network { own: "10.72.0.1/13", address: [10, 72, 0, 1], range: "10.73.0.0-10.79.254.255" };
/// Where machines come from that choose a role; it is not leased.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 72, 0, 2);
/// One of so many new machines chooses a role.
const CHOOSE: usize = 10;
/// How long a machine waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a restart a machine asks for its lease before the server counts as silent.
const SILENCE: Duration = Duration::from_secs(20);
/// How many machines ask at the same time after a restart.
const WINDOW: usize = 512;
/// How many machines of earlier rounds ask, too.
const SAMPLE: usize = 200;

/// Does it, with so many new machines a second.
///
/// # Errors
/// When a promise is broken, or the daemon does not start again.
pub fn newcomers(options: &Kill, rate: u32) -> Result<Report> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let lab = Lab::new()?;
    let (daemon, far) = Daemon::new(&lab, NETWORK, &options.xdp)?;
    let mut run = Run {
        roles: Roles::new(&daemon, &far, ROUTER)?,
        daemon,
        packets: Packets::open(&far)?,
        asking: HashMap::new(),
        owed: HashMap::new(),
        fresh: Vec::new(),
        machines: 0,
        ledger: Ledger::default(),
        random: Rng::with_seed(seed),
        xid: 0,
        report: Report::default(),
    };
    let bar = ProgressBar::new(options.rounds.into());
    for round in 0..options.rounds {
        run.round(rate).with_context(|| format!("in round {round} of --seed {seed}"))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    run.report.handed_on = run.ledger.handed_on;
    Ok(run.report)
}

/// A request whose answer is awaited.
#[derive(Clone, Copy)]
struct Asking {
    number: Machine,
    ask: Ask,
    xid: u32,
    sent: Duration,
}

/// A run.
struct Run {
    daemon: Daemon,
    roles: Roles,
    packets: Packets,
    asking: HashMap<Mac, Asking>,
    /// Those that still have to ask for their lease after a restart.
    owed: HashMap<Machine, Promise>,
    /// Those that got a lease since the last kill.
    fresh: Vec<Machine>,
    /// How many machines there are so far.
    machines: Machine,
    ledger: Ledger,
    random: Rng,
    xid: u32,
    report: Report,
}

impl Run {
    /// Starts the daemon, checks leases and roles, lets new machines come, and kills it.
    fn round(&mut self, rate: u32) -> Result<()> {
        interrupt::check()?;
        let mut server = interrupted_start(&self.daemon, &mut self.random, &mut self.report)?;
        self.check_leases(&mut server)?;
        let roles = self.roles.check(&self.daemon);
        // If it has ended, its own words say more.
        server.process().check()?;
        self.report.roles = roles?;
        let start = now();
        // The first answer comes after its address was checked, which takes a quarter of a second.
        let time = Duration::from_millis(self.random.u64(300..1200));
        let mut begun = 0;
        while now() < start + time {
            let due = (f64::from(rate) * (now() - start).as_secs_f64()) as u64;
            for _ in begun..due {
                self.ask(self.machines, Ask::Discover)?;
                self.machines += 1;
            }
            begun = due;
            self.take_replies(&mut server)?;
        }
        drop(server);
        self.report.kills += 1;
        // What it sent before its end was promised.
        self.take_what_came()?;
        self.roles.killed()?;
        self.asking.clear();
        Ok(())
    }

    fn check_leases(&mut self, server: &mut Server) -> Result<()> {
        let start = now();
        let older = (0..SAMPLE).map(|_| self.random.usize(..self.machines.max(1)));
        let all: Vec<Machine> = self.fresh.drain(..).chain(older).collect();
        let held = |number| Some((number, self.ledger.of(number, start)?));
        self.owed = all.into_iter().filter_map(held).collect();
        while !self.owed.is_empty() {
            let time = now();
            // A lease that has ended meanwhile is nobody's debt.
            self.owed.retain(|number, _| self.ledger.of(*number, time).is_some());
            self.asking.retain(|_, asking| asking.sent + PATIENCE > time);
            let silent = |(number, _): &(&Machine, _)| {
                !self.asking.contains_key(&fleet::mac(**number as u32))
            };
            let room = WINDOW.saturating_sub(self.asking.len());
            let next: Vec<_> =
                self.owed.iter().filter(silent).take(room).map(|(n, held)| (*n, *held)).collect();
            for (number, held) in next {
                if time > start + SILENCE {
                    return Err(Fault::Silence { held }.into());
                }
                let ask = match self.random.u8(..3) {
                    0 => Ask::Discover,
                    1 => Ask::Reboot(held.address),
                    _ => Ask::Renew(held.address),
                };
                self.ask(number, ask)?;
            }
            self.take_replies(server)?;
        }
        Ok(())
    }

    fn ask(&mut self, number: Machine, ask: Ask) -> Result<()> {
        let mac = fleet::mac(number as u32);
        let sender = Sender { mac, client: Client::Plain, relay: None, target: self.daemon.target };
        self.xid = self.xid.wrapping_add(1);
        self.asking.insert(mac, Asking { number, ask, xid: self.xid, sent: now() });
        self.packets.send(&[sender.ask(ask).with_xid(self.xid)]).context("cannot send")
    }

    fn take_replies(&mut self, server: &mut Server) -> Result<()> {
        interrupt::check()?;
        self.packets.wait(1);
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
        let asking = self.asking.get(&reply.mac).copied();
        let Some(Asking { number, ask, sent, .. }) = asking.filter(|a| a.xid == reply.xid) else {
            return Ok(());
        };
        self.asking.remove(&reply.mac);
        let (time, address) = (now(), reply.address);
        match (reply.kind, ask) {
            (OFFER, Ask::Discover) => {
                self.ledger.offer(number, address, time)?;
                if self.owed.remove(&number).is_none() {
                    return self.ask(number, Ask::Select { address, server: reply.server });
                }
                self.report.checked += 1;
            }
            (ACK, Ask::Select { .. } | Ask::Reboot(_) | Ask::Renew(_)) => {
                let until = sent + Duration::from_secs(reply.lease_time.into());
                self.ledger.promise(Promise { machine: number, address, until }, time)?;
                if self.owed.remove(&number).is_some() {
                    self.report.checked += 1;
                    self.report.renewals += 1;
                } else {
                    self.report.leases += 1;
                    self.fresh.push(number);
                    if number % CHOOSE == 0 {
                        self.roles.choose(number);
                    }
                }
            }
            (NAK, _) => self.ledger.refusal(number, time)?,
            (kind, ask) => return Err(anyhow!("message type {kind} as the answer to {ask:?}")),
        }
        Ok(())
    }
}
