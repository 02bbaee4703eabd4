//! DHCP: the server, the proxyDHCP server, the boot server and the client.
//!
//! Each server takes a request and where it came from, and returns a [`Reply`] with where it goes, or
//! why there is none.

mod ahead;
pub mod client;
pub mod pool;
mod probes;
pub mod proxy;
mod reply;
pub mod server;
pub mod templates;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::decisions::boot::loader::Architecture;
use crate::wire::MacAddr;
use crate::wire::dhcp::{Message, MessageType};

/// UDP port of DHCP servers and relay agents.
pub const SERVER_PORT: u16 = 67;
/// UDP port of DHCP clients.
pub const CLIENT_PORT: u16 = 68;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Ethernet source of the frame: the client, or the relay or router before it.
    pub mac: MacAddr,
    /// IPv4 source and UDP source port.
    pub source: SocketAddrV4,
}

/// A reply and where it goes.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub message: Message,
    /// Ethernet destination.
    pub mac: MacAddr,
    /// IPv4 destination and UDP destination port.
    pub destination: SocketAddrV4,
}

/// Why a request got no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Silence {
    /// The message is a reply: another server's.
    #[error("not a request")]
    NotARequest,
    /// A message type that a server does not answer.
    #[error("{0:?} wants no answer")]
    NoAnswer(MessageType),
    /// The client deals with another DHCP server.
    #[error("meant for the DHCP server {0}")]
    OtherServer(Ipv4Addr),
    /// The relay agent is outside the subnet that we serve.
    #[error("relayed from {0}, outside the subnet that is served")]
    OtherSubnet(Ipv4Addr),
    /// A client that renews or reboots with an address of which we have no record
    /// (RFC 2131 section 4.3.2).
    #[error("no record of this client")]
    NoRecord,
    /// All addresses are taken.
    #[error("no address is free: widen --range")]
    PoolExhausted,
    /// Too many addresses are being checked; the client asks again.
    #[error("too many new clients at once")]
    Busy,
    /// The client's address is being checked; the offer follows.
    #[error("address is being checked")]
    Checking,
    /// The client found this address in use and declined it.
    #[error("{0} declined: someone else uses it")]
    Declined(Ipv4Addr),
    /// The client gave this address back.
    #[error("{0} released")]
    Released(Ipv4Addr),
    /// In proxy mode, a client that boots nothing from us.
    #[error("not a network boot client")]
    NotBooting,
    /// No loader fits.
    #[error("no boot file for {0:?}")]
    NoBootFile(Architecture),
}
