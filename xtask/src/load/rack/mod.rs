//! A rack of machines that are switched on and boot over the network, played in one thread: DHCP
//! and ARP in frames of their own, TFTP and HTTP by the kernel, each machine at its own address.

mod dhcp;
mod fetch;
pub mod files;
mod machine;
mod network;
mod script;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{Timespec, epoll};

use super::fleet;
use crate::interrupt;
use machine::Machine;
pub use network::Network;

/// How often the machines look at the time.
const TICK: Duration = Duration::from_millis(10);
/// The number by which epoll names the packet socket; machines have theirs.
const PACKETS: u64 = u64::MAX;

/// Which machines there are, and what they must get.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many machines there are.
    pub machines: u32,
    /// The time in which they are switched on, evenly.
    pub spread: Duration,
    /// The files that firmware starts, by name.
    pub boot_files: BTreeMap<String, Vec<u8>>,
    /// The kernel's size in octets.
    pub kernel: u64,
    /// The initramfs's.
    pub initramfs: u64,
    /// Every machine's config.
    pub config: Vec<u8>,
}

/// The steps of a boot, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The firmware gets an address.
    Dhcp,
    /// It loads iPXE.
    Tftp,
    /// iPXE gets an address.
    IpxeDhcp,
    /// It gets its script.
    Script,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
    /// The system gets its config.
    Config,
}

impl Stage {
    /// All of them.
    pub const ALL: [Stage; 7] = [
        Stage::Dhcp,
        Stage::Tftp,
        Stage::IpxeDhcp,
        Stage::Script,
        Stage::Kernel,
        Stage::Initramfs,
        Stage::Config,
    ];

    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Dhcp => "DHCP, firmware",
            Stage::Tftp => "TFTP",
            Stage::IpxeDhcp => "DHCP, iPXE",
            Stage::Script => "script",
            Stage::Kernel => "kernel",
            Stage::Initramfs => "initramfs",
            Stage::Config => "config",
        }
    }
}

/// How one machine booted.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The stages that it has come through: how long each took.
    pub stages: BTreeMap<Stage, Duration>,
    /// How often it had to ask again, by stage.
    pub retries: BTreeMap<Stage, u32>,
    /// When it was switched on, since the first one was.
    pub on: Duration,
    /// When it was up, since the first one was switched on.
    pub up: Option<Duration>,
    /// Where and why it gave up.
    pub failure: Option<(Stage, String)>,
}

/// Switches the machines on and waits until each is up or has given up.
///
/// # Errors
/// When a server sends what it should not, the network fails, or the user interrupts it.
pub fn boot(network: &mut Network, plan: &Plan) -> Result<Vec<Boot>> {
    let netns = network.netns().clone();
    netns.inside(|| {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(PACKETS);
        epoll::add(&ready, network.packets(), data, epoll::EventFlags::IN)?;
        let scratch = vec![0; fetch::AT_ONCE];
        let (start, rng) = (Instant::now(), fastrand::Rng::with_seed(1350));
        let world = World { network, plan, ready, start, scratch, rng };
        run(world)
    })
}

/// What all machines share.
struct World<'a> {
    network: &'a mut Network,
    plan: &'a Plan,
    ready: std::os::fd::OwnedFd,
    start: Instant,
    /// For packets that are lost on purpose: none here.
    rng: fastrand::Rng,
    /// Room for what is received and thrown away.
    scratch: Vec<u8>,
}

fn run(mut world: World<'_>) -> Result<Vec<Boot>> {
    let plan = world.plan;
    let gap = plan.spread / plan.machines.max(1);
    let mut machines: Vec<Machine> =
        (0..plan.machines).map(|number| Machine::new(number, world.start + gap * number)).collect();
    let mut events = Vec::with_capacity(256);
    let mut looked = world.start;
    while machines.iter().any(|machine| !machine.is_over()) {
        interrupt::check()?;
        events.clear();
        let patience = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as _ };
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&world.ready, room, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for sockets"),
        }
        for event in &events {
            // First, for no machine waits until the others have taken their images.
            take_frames(&mut world, &mut machines)?;
            if let Some(machine) = machines.get_mut(event.data.u64() as usize) {
                machine.on_socket(&mut world, Instant::now())?;
            }
        }
        if looked.elapsed() >= TICK {
            looked = Instant::now();
            for machine in machines.iter_mut().filter(|machine| !machine.is_over()) {
                machine.on_time(&mut world, looked)?;
            }
        }
    }
    Ok(machines.into_iter().map(|machine| machine.into_boot(world.start)).collect())
}

/// Hands out the frames that have come.
fn take_frames(world: &mut World<'_>, machines: &mut [Machine]) -> Result<()> {
    while let Some((mac, arrival)) = world.network.receive()? {
        let number = fleet::number(mac).map(|number| number as usize);
        if let Some(machine) = number.and_then(|number| machines.get_mut(number)) {
            machine.on_frame(world, arrival, Instant::now())?;
        }
    }
    Ok(())
}
