//! What the admin API says, as JSON. Nothing of it is secret.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::edges::dhcp::Counters;
use crate::state::machines::Machine;
use crate::wire::{MacAddr, Role};

/// `/api/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// talos-pxe's version.
    pub version: String,
    /// `server` or `proxy`.
    pub mode: String,
    /// Why it is, in words.
    pub reason: String,
    /// The interface that is served.
    pub interface: String,
    /// Our own address there.
    pub address: Ipv4Net,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// How many machines are known.
    pub machines: usize,
    /// How many leases have not ended; none where another server leases.
    pub leases: Option<usize>,
    /// What came of DHCP frames.
    pub dhcp: Counters,
    /// The XDP program; none when it is not attached.
    pub xdp: Option<Xdp>,
    /// Why the XDP program is not attached, or not in the driver, in words.
    pub xdp_reason: Option<String>,
}

/// The XDP program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Xdp {
    /// `native` or `generic`.
    pub mode: String,
    /// How many frames it has answered.
    pub answered: u64,
    /// How many frames had each outcome, by its name.
    pub frames: BTreeMap<String, u64>,
}

/// A machine of `/api/machines`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its MAC address.
    pub mac: MacAddr,
    /// Whether it can be at its address now.
    #[serde(default)]
    pub present: bool,
    /// What is known of it.
    #[serde(flatten)]
    pub machine: Machine,
}

/// The body of `PUT /api/machines/{mac}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The machine's new role.
    pub role: Role,
}

/// `/api/export` and `/api/import`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Export {
    /// The version of this format: [`Export::VERSION`].
    pub version: u32,
    /// The machines with their roles.
    pub machines: Vec<Listed>,
    /// The leases that had not ended.
    pub leases: Vec<Lease>,
}

impl Export {
    /// The version of the format.
    pub const VERSION: u32 = 1;
}

/// A lease. Its end is told from now on, since no clock is common to two computers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// The machine.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// How long the address is held for it.
    pub seconds_left: u64,
}

/// What came of an import.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Imported {
    /// How many machines were taken.
    pub machines: usize,
    /// How many leases were taken: of free addresses in the range that is leased, for machines
    /// without one.
    pub leases: usize,
}

/// The body of an answer that is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong, and what to do.
    pub error: String,
}
