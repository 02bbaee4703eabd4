//! A network of its own, with hosts and virtual machines on one switch.
//!
//! All of it is held by this process: namespaces by file descriptors, links by their namespace,
//! programs by the kernel's parent-death signal. So nothing stays, even after `kill -9`, but for
//! the folder of temporary files in that one case. What is deliberately absent: `ip netns`,
//! mounts, and daemons that outlive the command.

pub mod accel;
pub mod bpf;
pub mod capture;
pub mod dnsmasq;
pub mod guest;
pub mod netns;
pub mod pass;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod root;
pub mod server;
pub mod transcript;

use std::ffi::{CString, OsStr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use tempfile::TempDir;

use crate::exec;
use bpf::{Link, Program};
use netns::Netns;
use process::Process;

/// The switch that all hosts and machines of a lab are on.
const BRIDGE: &str = "br0";

/// A switched Ethernet network; gone on drop.
#[derive(Debug)]
pub struct Lab {
    netns: Netns,
    dir: TempDir,
    /// Hosts so far.
    hosts: AtomicU8,
    /// Machines so far.
    /// Names of the machines that were ever powered on: their places are their numbers.
    machines: Mutex<Vec<String>>,
}

/// A host of the lab: a namespace whose `eth0` is on the switch, up and without an address.
#[derive(Debug)]
pub struct Host {
    name: String,
    mac: String,
    netns: Netns,
    /// Lets XDP programs on `eth0` transmit: a program on the other end of its cable.
    far_end: Option<Link>,
}

impl Lab {
    /// An empty network.
    ///
    /// # Errors
    /// Without root or iproute2.
    pub fn new() -> Result<Lab> {
        let dir = tempfile::Builder::new().prefix("talos-pxe-lab-").tempdir();
        let dir = dir.context("cannot make a temporary folder")?;
        let netns = Netns::new()?;
        let lab = Lab { netns, dir, hosts: AtomicU8::new(0), machines: Mutex::default() };
        // No IPv6 of the switch's own: its packets would be in every capture.
        lab.ip(&format!(
            "link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             link set {BRIDGE} addrgenmode none
             link set {BRIDGE} up"
        ))?;
        Ok(lab)
    }

    /// A new host on the switch's port of the same name, which has at most 15 characters.
    ///
    /// # Errors
    /// When there is a port of this name.
    pub fn host(&self, name: &str) -> Result<Host> {
        let netns = Netns::new()?;
        // The same in every run, so that captures compare.
        let mac = format!("02:00:00:00:00:{:02x}", next(&self.hosts));
        let mut host = Host { name: name.to_owned(), mac, netns, far_end: None };
        self.plug(&mut host)?;
        Ok(host)
    }

    /// Gives a host that has no `eth0` (any more) one on the switch.
    ///
    /// # Errors
    /// When it has one.
    pub fn plug(&self, host: &mut Host) -> Result<()> {
        let Host { name, mac, netns, .. } = &*host;
        self.ip(&format!(
            "link add {name} type veth peer name eth0 address {mac} netns {}
             link set {name} addrgenmode none
             link set {name} master {BRIDGE} up",
            netns.path()
        ))?;
        host.far_end = Some(pass::attach(&self.netns, &CString::new(name.as_str())?)?);
        exec::output(host.command("ip").args(["link", "set", "eth0", "up"]))?;
        Ok(())
    }

    /// Two new hosts with a cable of their own between them: no switch. XDP programs can transmit
    /// on the first one's end.
    ///
    /// # Errors
    /// Without root or iproute2.
    pub fn cable(&self, names: [&str; 2]) -> Result<[Host; 2]> {
        let [mut near, far] = self.cable_with(names, &[])?;
        near.far_end = Some(pass::attach(&far.netns, c"eth0")?);
        Ok([near, far])
    }

    /// As [`Lab::cable`], with what network cards have and cables do not, for loads that fill it:
    /// segmentation offload, senders that wait (since Linux 6.16) instead of losing all beyond 256
    /// frames, and for packet sockets queues of their own, which nobody else can fill. XDP programs
    /// transmit in generic mode only: the program that a driver's needs on the other end would cost
    /// the offload, and a copy of every frame.
    ///
    /// # Errors
    /// As [`Lab::cable`].
    pub fn wide_cable(&self, names: [&str; 2]) -> Result<[Host; 2]> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(32);
        let queues = (2 * cpus).to_string();
        let hosts = self.cable_with(names, &["numtxqueues", &queues, "numrxqueues", &queues])?;
        for host in &hosts {
            host.divide_queues(cpus)?;
        }
        Ok(hosts)
    }

    fn cable_with(&self, names: [&str; 2], options: &[&str]) -> Result<[Host; 2]> {
        let [near, far] = names.map(|name| {
            let mac = format!("02:00:00:00:00:{:02x}", next(&self.hosts));
            let netns = Netns::new()?;
            Ok::<Host, anyhow::Error>(Host { name: name.to_owned(), mac, netns, far_end: None })
        });
        let (near, far) = (near?, far?);
        let mut add = near.command("ip");
        add.args(["link", "add", "eth0", "address", near.mac()]).args(options);
        add.args(["type", "veth", "peer", "name", "eth0", "address", far.mac()]).args(options);
        add.args(["netns", &far.netns.path()]);
        exec::output(&mut add)?;
        for host in [&near, &far] {
            exec::output(host.command("ip").args(["link", "set", "eth0", "addrgenmode", "none"]))?;
            exec::output(host.command("ip").args(["link", "set", "eth0", "up"]))?;
        }
        Ok([near, far])
    }

    /// The number of the machine of this name, from 1, and whether it has been on before.
    fn number(&self, machine: &str) -> (usize, bool) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = machines.iter().position(|known| known == machine) {
            return (place + 1, true);
        }
        machines.push(machine.to_owned());
        (machines.len(), false)
    }

    /// A new tap device on the switch.
    fn tap(&self, name: &str) -> Result<()> {
        self.ip(&format!(
            "tuntap add {name} mode tap vnet_hdr
             link set {name} addrgenmode none
             link set {name} master {BRIDGE} up"
        ))
    }

    /// The namespace of the switch.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A folder for files of the lab; gone with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command that will run beside the switch.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.netns.command(program)
    }

    /// Runs lines of `ip`.
    fn ip(&self, lines: &str) -> Result<()> {
        for line in lines.lines() {
            exec::output(self.command("ip").args(line.split_whitespace()))?;
        }
        Ok(())
    }
}

impl Host {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The MAC address of its `eth0`.
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// The same, as bytes.
    ///
    /// # Errors
    /// Never: it is one.
    pub fn mac_bytes(&self) -> Result<[u8; 6]> {
        let bytes = self.mac.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        bytes.try_into().ok().with_context(|| format!("{} is no MAC address", self.mac))
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A command that will run on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.netns.command(program)
    }

    /// Starts a command of [`Host::command`] in the background.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, command: Command) -> Result<Process> {
        let program = command.get_program().to_string_lossy();
        let name = format!("{} on {}", program.rsplit('/').next().unwrap_or(&program), self.name);
        Process::start(&name, command, None)
    }

    /// Puts a program in place of the one on the other end of its cable, which passes all frames
    /// on.
    ///
    /// # Errors
    /// When the cable is gone.
    pub fn replace_far_end(&self, program: &Program) -> Result<()> {
        let far_end = self.far_end.as_ref().context("no program is on the other end")?;
        far_end.replace(program).context("cannot replace the program on a cable of the lab")
    }

    /// Makes the first half of `eth0`'s queues those of packet sockets without a queue, a queue for
    /// each CPU; everything else takes the second half, and waits there.
    fn divide_queues(&self, cpus: usize) -> Result<()> {
        // As many packets as in fq_codel's queue, which most systems have.
        let queue = "ip link set eth0 txqueuelen 10240 && tc qdisc replace dev eth0 root mq";
        // Otherwise an end without a program receives by way of a queue that is not its own, and
        // loses what that has no room for.
        let receive = "ethtool -K eth0 gro on";
        // sysfs shows the interfaces of the namespace that mounts it.
        let mut lines = format!("mount -t sysfs none /sys && {queue} && {receive}");
        for cpu in 0..cpus {
            let (queue, mask) = (cpus + cpu, 1_u64 << (cpu % 32));
            let file = format!("/sys/class/net/eth0/queues/tx-{queue}/xps_cpus");
            lines.push_str(&format!(" && echo {mask:x} > {file}"));
        }
        exec::output(self.command("unshare").args(["--mount", "sh", "-c", &lines]))?;
        Ok(())
    }

    /// Gives `eth0` an address, such as 10.77.0.1/16, from which TCP sends as Linux does by default,
    /// whatever this machine prefers: that is no difference between servers.
    ///
    /// # Errors
    /// When it is none.
    pub fn add_sender(&self, address: &str) -> Result<()> {
        self.add_address(address)?;
        let own: Ipv4Net = address.parse()?;
        let (network, own) = (own.trunc(), own.addr());
        let route = format!("route replace {network} dev eth0 src {own} congctl cubic");
        exec::output(self.command("ip").args(route.split(' ')))?;
        Ok(())
    }

    /// Gives `eth0` an address, such as `10.77.0.1/24`.
    ///
    /// # Errors
    /// When it is none.
    pub fn add_address(&self, address: &str) -> Result<()> {
        exec::output(self.command("ip").args(["addr", "add", address, "dev", "eth0"]))?;
        Ok(())
    }
}

/// Counts from 1.
fn next(counter: &AtomicU8) -> u8 {
    counter.fetch_add(1, Ordering::Relaxed).saturating_add(1)
}
