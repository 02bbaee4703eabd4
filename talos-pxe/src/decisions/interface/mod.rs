//! Which interface to serve, and with which address and mode.

mod choice;
mod plan;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

pub use choice::{ChooseError, candidates, choose};
pub use plan::{Answer, ModeChoice, Plan, PlanError, Settings, answered, plan, unanswered};

use crate::wire::MacAddr;

/// The interface that is served: what of it does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Whether it is a veth device: one end of a cable between containers.
    pub veth: bool,
}

/// A network interface as the kernel describes it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` when it is no Ethernet interface (loopback, tunnels).
    pub mac: Option<MacAddr>,
    /// Its kind when it is virtual (`veth`, `bridge`, ...); `None` for hardware.
    pub kind: Option<String>,
    /// The bridge or bond that it is a port of.
    pub controller: Option<u32>,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is up and has a link partner.
    pub carrier: bool,
    /// Its IPv4 addresses with their prefixes.
    pub addresses: Vec<Ipv4Net>,
    /// Whether IPv6 is enabled on it.
    pub ipv6: bool,
    /// Its IPv6 link-local address, once it is known to be unique.
    pub link_local: Option<Ipv6Addr>,
}

impl fmt::Display for Link {
    /// One line for a person who has to choose: name, address, state, addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(mac) = self.mac {
            write!(f, " {mac}")?;
        }
        f.write_str(match (self.up, self.carrier) {
            (false, _) => " down",
            (true, false) => " up, no carrier",
            (true, true) => " up, carrier",
        })?;
        if let Some(kind) = &self.kind {
            write!(f, ", {kind}")?;
        }
        for (position, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if position == 0 { ", " } else { " " })?;
        }
        Ok(())
    }
}

/// What we are on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The DHCP server.
    Server,
    /// A proxyDHCP server beside the network's DHCP server.
    Proxy,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "DHCP server",
            Self::Proxy => "proxyDHCP server",
        })
    }
}

/// Why we are the DHCP server, or are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `--mode` says so.
    Asked,
    /// The interface is taken as it is, and nobody was asked.
    Kept,
    /// The network has this DHCP server.
    Answered(Ipv4Addr),
    /// No DHCP server answered.
    Unanswered,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as --mode says"),
            Self::Kept => f.write_str("the interface was taken as it is (--skip-ifup)"),
            Self::Answered(server) => write!(f, "the DHCP server {server} answered"),
            Self::Unanswered => f.write_str("no DHCP server answered"),
        }
    }
}

/// How we stand on the network: what the services are built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Server or proxy.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
    /// Our own address and subnet.
    pub address: Ipv4Net,
    /// The router that the network's DHCP server names.
    pub router: Option<Ipv4Addr>,
    /// The DNS servers that the network's DHCP server names.
    pub dns: Vec<Ipv4Addr>,
}
