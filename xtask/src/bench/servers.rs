//! The DHCP servers that are measured, each on a host of its own at the end of a cable, set up for
//! speed as its manual says.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::report::Way;
use crate::exec;
use crate::lab::process::Process;
use crate::lab::server::Server;
use crate::lab::{Host, Lab};
use crate::load::fleet::Machine;
use crate::load::frame::{Client, Mac, Relay, Sender, Target};

/// The server's address.
pub const ADDRESS: [u8; 4] = [10, 77, 0, 1];
/// Its address and network.
pub const NETWORK: &str = "10.77.0.1/16";
/// The relay agent.
const RELAY: Relay = Relay { address: Ipv4Addr::new(10, 77, 0, 2), mac: [2, 0, 0, 0, 1, 2] };
/// What is leased: 61,000 addresses, for longer than a run takes.
const RANGE: (&str, &str) = ("10.77.16.0", "10.77.254.255");
const LEASE_TIME: u32 = 7200;
const SOON: Duration = Duration::from_secs(20);

/// A server to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// talos-pxe with its XDP program in the driver.
    FastPath,
    /// talos-pxe without XDP.
    Daemon,
    /// Kea, multi-threaded, leases in a file.
    Kea,
    /// dnsmasq.
    Dnsmasq,
}

impl Kind {
    /// All of them: Kea first, for the others are asked at the rate that it can do.
    pub const ALL: [Kind; 4] = [Kind::Kea, Kind::FastPath, Kind::Daemon, Kind::Dnsmasq];

    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::FastPath => "talos-pxe, XDP native",
            Kind::Daemon => "talos-pxe, XDP off",
            Kind::Kea => "Kea",
            Kind::Dnsmasq => "dnsmasq",
        }
    }

    /// How many machines may ask for their first address at a time. We check each address for a
    /// quarter of a second; Kea queues few packets; dnsmasq answers one by one.
    pub fn window(self) -> usize {
        match self {
            Kind::FastPath | Kind::Daemon => 2048,
            Kind::Kea => 32,
            Kind::Dnsmasq => 4,
        }
    }

    /// How many machines it can be asked to know: dnsmasq writes all its leases for each new one.
    pub fn machines(self, wanted: u32) -> u32 {
        if self == Kind::Dnsmasq { wanted.min(500) } else { wanted }
    }
}

/// A running server, and the other end of its cable.
#[derive(Debug)]
pub struct Bed {
    /// The server.
    pub kind: Kind,
    /// Its process.
    pub process: Running,
    /// Its host.
    pub host: Host,
    /// The other end, where the load comes from.
    pub far: Host,
    target: Target,
}

impl Bed {
    /// A machine whose requests take this way; its Ethernet address is still to be set.
    pub fn sender(&self, way: Way) -> Sender {
        let relay = (way == Way::Relayed).then_some(RELAY);
        Sender { mac: [0; 6], client: Client::Pxe, relay, target: self.target }
    }

    /// Makes the server's host know the machines' Ethernet addresses, as if they had answered
    /// ARP. Only a server that sends through the kernel's IP stack needs it.
    ///
    /// # Errors
    /// When iproute2 refuses one.
    pub fn introduce(&self, machines: &[Machine]) -> Result<()> {
        match self.kind {
            Kind::Dnsmasq => neighbours(
                &self.host,
                machines.iter().map(|machine| (machine.mac, machine.address)),
            ),
            Kind::FastPath | Kind::Daemon | Kind::Kea => Ok(()),
        }
    }
}

/// What runs.
#[derive(Debug)]
pub enum Running {
    /// talos-pxe.
    Ours(Server),
    /// Another.
    Peer(Process),
}

impl Running {
    /// The mode in which the kernel runs talos-pxe's XDP program.
    pub fn xdp_mode(&mut self) -> Option<String> {
        let Running::Ours(server) = self else { return None };
        let line = server.process().find("XDP program attached")?.text;
        Some(line.split_once("mode=")?.1.split(' ').next()?.to_owned())
    }

    /// Returns while it runs.
    ///
    /// # Errors
    /// With its last lines, once it ended.
    pub fn check(&mut self) -> Result<()> {
        match self {
            Running::Ours(server) => server.process().check(),
            Running::Peer(process) => process.check(),
        }
    }
}

/// Starts a server. `root` holds the files that talos-pxe serves by HTTP.
///
/// # Errors
/// When it does not start.
pub fn start(lab: &Lab, kind: Kind, daemon: &Path, root: &Path) -> Result<Bed> {
    let [host, far] = lab.cable(["server", "client"])?;
    host.add_address(NETWORK)?;
    files_cable(&host, &far)?;
    let state = tempfile::tempdir_in(lab.dir())?.keep();
    let process = match kind {
        Kind::FastPath => Running::Ours(ours(&host, daemon, root, &state, &["--xdp", "native"])?),
        Kind::Daemon => Running::Ours(ours(&host, daemon, root, &state, &["--xdp", "off"])?),
        Kind::Kea => Running::Peer(kea(&host, &state, None)?),
        Kind::Dnsmasq => Running::Peer(dnsmasq(&host, &state, &["--dhcp-boot=snponly.efi"])?),
    };
    neighbours(&host, [(RELAY.mac, RELAY.address)])?;
    let target = Target { address: ADDRESS.into(), mac: host.mac_bytes()? };
    Ok(Bed { kind, process, host, far, target })
}

/// Files go over a second cable, so that they take the server's CPUs but not the first cable's
/// queues, which are a few hundred frames short.
fn files_cable(host: &Host, far: &Host) -> Result<()> {
    let far_end = far.netns().path();
    let pair = format!("link add eth1 type veth peer name eth1 netns {far_end}");
    let route = format!("route add {} via 10.78.0.1", Ipv4Addr::from(ADDRESS));
    for (host, line) in [
        (host, pair.as_str()),
        (host, "addr add 10.78.0.1/24 dev eth1"),
        (host, "link set eth1 up"),
        (far, "addr add 10.78.0.2/24 dev eth1"),
        (far, "link set eth1 up"),
        (far, &route),
    ] {
        exec::output(host.command("ip").args(line.split_whitespace()))?;
    }
    Ok(())
}

/// Starts talos-pxe on a host, with more flags.
///
/// # Errors
/// When it does not start.
pub fn ours(
    host: &Host,
    daemon: &Path,
    root: &Path,
    state: &Path,
    more: &[&str],
) -> Result<Server> {
    let (first, last) = RANGE;
    let (lease_time, range) = (LEASE_TIME.to_string(), format!("{first}-{last}"));
    let (root, state) = (root.display().to_string(), state.display().to_string());
    // A log line for each lease would be the terminal's benchmark.
    let flags = [
        "--mode",
        "server",
        "--addr",
        NETWORK,
        "--range",
        &range,
        "--lease-time",
        &lease_time,
        "--root",
        &root,
        "--state",
        &state,
        "--ra",
        "off",
    ];
    Server::start(daemon, host, flags.iter().chain(more))
}

/// Starts Kea on a host; `classes` tell the clients apart that start other files.
///
/// Kea's manual names these numbers for memfile (section "Multi-Threading Settings").
///
/// # Errors
/// When it does not start.
pub fn kea(host: &Host, state: &Path, classes: Option<Value>) -> Result<Process> {
    let (first, last) = RANGE;
    let mut config = json!({
        "interfaces-config": { "interfaces": ["eth0"], "dhcp-socket-type": "raw" },
        "lease-database": {
            "type": "memfile", "persist": true, "lfc-interval": 3600,
            "name": state.join("leases.csv"),
        },
        "multi-threading": {
            "enable-multi-threading": true, "thread-pool-size": 4, "packet-queue-size": 28,
        },
        "valid-lifetime": LEASE_TIME,
        "renew-timer": LEASE_TIME / 2,
        // A renewal early in the lease is answered without writing it again.
        "cache-threshold": 0.25,
        "reservations-global": false,
        "reservations-in-subnet": false,
        "reservations-out-of-pool": false,
        "host-reservation-identifiers": ["hw-address"],
        "subnet4": [{
            "subnet": "10.77.0.0/16",
            "pools": [{ "pool": format!("{first} - {last}") }],
            "option-data": [{ "name": "routers", "data": "10.77.0.1" }],
            "next-server": "10.77.0.1",
            "boot-file-name": "snponly.efi",
        }],
        "loggers": [{
            "name": "kea-dhcp4", "severity": "WARN",
            "output_options": [{ "output": "stdout" }],
        }, {
            "name": "kea-dhcp4.dhcp4", "severity": "INFO",
            "output_options": [{ "output": "stdout" }],
        }, {
            "name": "kea-dhcp4.leases", "severity": "WARN",
            "output_options": [{ "output": "stdout" }],
        }],
    });
    // It takes no empty list.
    if let Some((classes, config)) = classes.zip(config.as_object_mut()) {
        config.insert("client-classes".to_owned(), classes);
    }
    let file = state.join("kea.json");
    fs::write(&file, json!({ "Dhcp4": config }).to_string())?;
    let mut command = host.command("kea-dhcp4");
    command.env("KEA_PIDFILE_DIR", state).env("KEA_LOCKFILE_DIR", state);
    command.arg("-c").arg(&file);
    let mut process = host.start(command)?;
    process.wait_for("DHCP4_STARTED", SOON)?;
    Ok(process)
}

/// Starts dnsmasq on a host, with further arguments.
///
/// # Errors
/// When it does not start.
pub fn dnsmasq(host: &Host, state: &Path, more: &[&str]) -> Result<Process> {
    let (first, last) = RANGE;
    let mut command = host.command("dnsmasq");
    command.args(["--conf-file=/dev/null", "--pid-file=", "--keep-in-foreground", "--port=0"]);
    // Giving up root would also give up the parent-death signal.
    command.args(["--user=root", "--group=root", "--interface=eth0", "--bind-interfaces"]);
    command.arg(format!("--dhcp-range={first},{last},255.255.0.0,{LEASE_TIME}"));
    command.args(["--no-ping", "--dhcp-authoritative", "--dhcp-lease-max=100000"]);
    command.args(["--quiet-dhcp", "--log-facility=-"]).args(more);
    command.arg(format!("--dhcp-leasefile={}", state.join("leases").display()));
    let mut process = host.start(command)?;
    process.wait_for("DHCP, sockets bound", SOON)?;
    Ok(process)
}

/// Makes a host know Ethernet addresses that nobody there answers ARP for.
fn neighbours(host: &Host, all: impl IntoIterator<Item = (Mac, Ipv4Addr)>) -> Result<()> {
    let lines: String = all
        .into_iter()
        .map(|([a, b, c, d, e, f], address)| {
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            format!("neigh replace {address} lladdr {mac} dev eth0\n")
        })
        .collect();
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, lines)?;
    exec::output(host.command("ip").arg("-batch").arg(file.path()))?;
    Ok(())
}
