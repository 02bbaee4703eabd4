//! One machine, from the power button to a system with its config.

mod downloads;

use std::collections::BTreeMap;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::epoll;

use super::dhcp::{self, Exchange};
use super::fetch::Connection;
use super::network::Arrival;
use super::{Boot, Plan, Stage, World};
use crate::load::fleet;
use crate::load::frame::{Client, Mac, Sender};
use crate::load::tftp::Load;
use crate::load::tftp_client::{self, State};

/// How long a machine waits for an answer by ARP before it asks again, and how often it does.
const ARP_WAIT: Duration = Duration::from_secs(1);
const ARP_RETRIES: u32 = 4;
/// When a machine gives up a download that gets nothing. iPXE itself waits for as long as the
/// connection stands, a user does not.
const PATIENCE: Duration = Duration::from_secs(60);
/// One in so many machines has a BIOS.
const BIOS: u32 = 4;
const TFTP_PORT: u16 = 69;

/// A machine of the rack.
#[derive(Debug)]
pub struct Machine {
    number: u32,
    mac: Mac,
    bios: bool,
    address: Ipv4Addr,
    /// When it is switched on.
    on: Instant,
    up: Option<Instant>,
    /// When its stage began, and when something came last.
    began: Instant,
    heard: Instant,
    step: Step,
    connection: Option<Connection>,
    /// What its script says, once it has one.
    system: Option<System>,
    stages: BTreeMap<Stage, Duration>,
    retries: BTreeMap<Stage, u32>,
    failure: Option<(Stage, String)>,
}

/// What a machine does.
#[derive(Debug)]
enum Step {
    Off,
    /// It gets an address, at first for its firmware and then for iPXE.
    Dhcp(Stage, Exchange),
    /// It asks for the server's Ethernet address, to load this file.
    Arp(BootFile, u32),
    /// It loads iPXE, or asks for its size.
    Tftp(BootFile, tftp_client::Client, Purpose),
    /// It downloads this by HTTP.
    Http(Stage, String),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Size,
    Content,
}

#[derive(Clone, Debug)]
struct BootFile {
    server: Ipv4Addr,
    name: String,
}

/// The URLs of what a script starts.
#[derive(Debug)]
struct System {
    initramfs: String,
    config: String,
}

impl Machine {
    /// A machine that is switched on at this time.
    pub fn new(number: u32, on: Instant) -> Machine {
        Machine {
            number,
            mac: fleet::mac(number),
            bios: number.is_multiple_of(BIOS),
            address: Ipv4Addr::UNSPECIFIED,
            on,
            up: None,
            began: on,
            heard: on,
            step: Step::Off,
            connection: None,
            system: None,
            stages: BTreeMap::new(),
            retries: BTreeMap::new(),
            failure: None,
        }
    }

    /// Whether it is up or has given up.
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// How it booted; `start` is when the first machine was switched on.
    pub fn into_boot(self, start: Instant) -> Boot {
        let Machine { stages, retries, failure, .. } = self;
        let since = |time: Instant| time.duration_since(start);
        Boot { stages, retries, on: since(self.on), up: self.up.map(since), failure }
    }

    /// Takes a frame for it.
    pub(super) fn on_frame(
        &mut self,
        world: &mut World<'_>,
        arrival: Arrival,
        now: Instant,
    ) -> Result<()> {
        match (&mut self.step, arrival) {
            (Step::Dhcp(_, exchange), Arrival::Reply { reply, file, at }) => {
                let progress = exchange.take(world.network, (&reply, at), now)?;
                self.on_lease(world, progress, file, now)
            }
            (Step::Arp(file, _), Arrival::ServerIsThere) => {
                let file = file.clone();
                let purpose = if self.bios { Purpose::Content } else { Purpose::Size };
                self.load(world, file, purpose, now)
            }
            _ => Ok(()),
        }
    }

    /// Goes on with what its socket has.
    pub(super) fn on_socket(&mut self, world: &mut World<'_>, now: Instant) -> Result<()> {
        match &mut self.step {
            Step::Tftp(file, client, _) => {
                let Some(load) = load(self.bios, world.plan, file) else { return Ok(()) };
                client.take(&load, &mut world.rng, now)?;
                self.after_tftp(world, now)
            }
            Step::Http(..) => self.on_connection(world, now),
            _ => Ok(()),
        }
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, world: &mut World<'_>, now: Instant) -> Result<()> {
        match &mut self.step {
            Step::Off if self.on <= now => {
                (self.on, self.began) = (now, now);
                let client = if self.bios { Client::BiosPxe } else { Client::Pxe };
                self.discover(world, Stage::Dhcp, client, now)
            }
            Step::Dhcp(stage, exchange) => {
                let stage = *stage;
                let (again, progress) = exchange.look(world.network, now)?;
                self.count(stage, again.into());
                self.on_lease(world, progress, None, now)
            }
            Step::Arp(_, asked) if now.duration_since(self.heard) >= ARP_WAIT => {
                *asked += 1;
                let given_up = *asked > ARP_RETRIES;
                self.heard = now;
                self.count(Stage::Tftp, 1);
                if given_up {
                    self.fail(Stage::Tftp, "the server does not answer ARP");
                    return Ok(());
                }
                world.network.ask_for_server((self.mac, self.address))
            }
            Step::Tftp(file, client, _) => {
                if let Some(load) = load(self.bios, world.plan, file) {
                    client.look(&load, &mut world.rng, now);
                }
                self.after_tftp(world, now)
            }
            Step::Http(stage, _) if now.duration_since(self.heard) >= PATIENCE => {
                let stage = *stage;
                self.fail(stage, "nothing came for a minute");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Begins an exchange with the DHCP server.
    fn discover(
        &mut self,
        world: &mut World<'_>,
        stage: Stage,
        client: Client,
        now: Instant,
    ) -> Result<()> {
        let target = world.network.server();
        let sender = Sender { mac: self.mac, client, relay: None, target };
        let xid = self.number << 3 | stage as u32;
        let exchange = Exchange::start(world.network, sender, xid, now)?;
        self.step = Step::Dhcp(stage, exchange);
        Ok(())
    }

    /// Goes on with what came of an exchange; `file` is what the last reply tells to start.
    fn on_lease(
        &mut self,
        world: &mut World<'_>,
        progress: dhcp::Progress,
        file: Option<(Ipv4Addr, String)>,
        now: Instant,
    ) -> Result<()> {
        let Step::Dhcp(stage, _) = self.step else { return Ok(()) };
        let (address, waited) = match progress {
            dhcp::Progress::Pending => return Ok(()),
            dhcp::Progress::Failed(why) => {
                self.fail(stage, why);
                return Ok(());
            }
            dhcp::Progress::Leased(address, waited) => (address, waited),
        };
        let Some((server, name)) = file else {
            self.fail(stage, "the server names no file to start");
            return Ok(());
        };
        self.address = address;
        world.network.hold(address, self.mac);
        // Not the time since it began: a machine has no others that it must wait for here.
        self.finish_after(stage, waited, now);
        if stage == Stage::IpxeDhcp {
            return self.fetch(world, Stage::Script, &name, now);
        }
        self.step = Step::Arp(BootFile { server, name }, 0);
        world.network.ask_for_server((self.mac, address))
    }

    /// Begins to load a file by TFTP.
    fn load(
        &mut self,
        world: &mut World<'_>,
        file: BootFile,
        purpose: Purpose,
        now: Instant,
    ) -> Result<()> {
        let Some(load) = load(self.bios, world.plan, &file) else {
            self.fail(Stage::Tftp, &format!("told to start {}", file.name));
            return Ok(());
        };
        let client = tftp_client::Client::start(self.address, &load, now)?;
        let client = if purpose == Purpose::Size { client.for_the_size() } else { client };
        let data = epoll::EventData::new_u64(self.number.into());
        epoll::add(&world.ready, &client, data, epoll::EventFlags::IN)?;
        self.step = Step::Tftp(file, client, purpose);
        Ok(())
    }

    fn after_tftp(&mut self, world: &mut World<'_>, now: Instant) -> Result<()> {
        let Step::Tftp(file, client, purpose) = &self.step else { return Ok(()) };
        let (file, purpose, resent) = (file.clone(), *purpose, client.resent());
        match client.state() {
            State::Asking | State::Receiving => return Ok(()),
            State::Failed(why) => {
                let why = why.clone();
                self.fail(Stage::Tftp, &why);
                return Ok(());
            }
            State::Done => self.count(Stage::Tftp, resent),
        }
        if purpose == Purpose::Size {
            return self.load(world, file, Purpose::Content, now);
        }
        self.finish(Stage::Tftp, now);
        // The firmware's network stack is gone: iPXE has no address yet.
        world.network.let_go(self.address);
        self.discover(world, Stage::IpxeDhcp, Client::Ipxe { bios: self.bios }, now)
    }

    /// A stage is done, and the next begins.
    fn finish(&mut self, stage: Stage, now: Instant) {
        self.finish_after(stage, now.duration_since(self.began), now);
    }

    fn finish_after(&mut self, stage: Stage, took: Duration, now: Instant) {
        self.stages.insert(stage, took);
        (self.began, self.heard) = (now, now);
    }

    fn count(&mut self, stage: Stage, retries: u32) {
        *self.retries.entry(stage).or_default() += retries;
    }

    fn fail(&mut self, stage: Stage, why: &str) {
        self.failure = Some((stage, why.to_owned()));
        self.end();
    }

    fn end(&mut self) {
        self.connection = None;
        drop(mem::replace(&mut self.step, Step::Over));
    }
}

/// The download of a boot file, as UEFI's and a BIOS's firmware do it; none of a file that there
/// should not be.
fn load<'a>(bios: bool, plan: &'a Plan, file: &'a BootFile) -> Option<Load<'a>> {
    let content = plan.boot_files.get(&file.name)?;
    let (block_size, window) = if bios { (1456, 1) } else { (1468, 4) };
    let server = SocketAddr::from((file.server, TFTP_PORT));
    let file = &file.name;
    Some(Load { server, file, content, block_size, clients: 1, window, loss: 0.0 })
}
