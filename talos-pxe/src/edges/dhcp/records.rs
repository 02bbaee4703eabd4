//! What DHCP tells of machines, for their records.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use talos_pxe_ebpf::maps::Answer;

use crate::decisions::boot::loader::{Architecture, Client};
use crate::decisions::dhcp::templates;
use crate::edges::xdp::Sent;
use crate::state::machines::{Machines, Observation, Stage};
use crate::time::{BootTime, WallTime};
use crate::wire::MacAddr;
use crate::wire::dhcp::{Message, MessageType, Opcode, OptionCode};

/// The most answers of the XDP program that are noted at a time: 25,000 a second, more than any
/// fleet renews. A flood must not keep the daemon from moving horizons.
const NOTED: usize = 512;

/// Notes what becomes of machines. Only those that boot from the network get a record; of others
/// on the network, such as phones, none is kept.
pub(super) struct Records {
    pub(super) machines: Arc<Machines>,
    /// How long addresses are leased; none where another server leases them.
    pub(super) lease_time: Option<Duration>,
}

impl Records {
    /// A machine sent a request.
    pub(super) fn asked(&self, request: &Message) {
        if request.op != Opcode::BootRequest {
            return;
        }
        let client = Client::of(request);
        let discovers = request.kind == MessageType::Discover && client != Client::Plain;
        let name = request.options.get(OptionCode::Hostname);
        let seen = Observation {
            stage: discovers.then_some(Stage::Discovered),
            client: Some(client),
            architecture: Architecture::of(request),
            hostname: name.and_then(|name| std::str::from_utf8(name).ok()?.parse().ok()),
            address: self.address_of(request),
            ..Observation::at(WallTime::now())
        };
        match client {
            Client::Plain => self.machines.observe_known(request.chaddr, seen),
            _ => self.machines.observe(request.chaddr, seen),
        }
    }

    /// Beside another DHCP server, the address that a machine has or is about to be given.
    fn address_of(&self, request: &Message) -> Option<IpAddr> {
        let wanted = match request.kind {
            MessageType::Request => request.options.address(OptionCode::RequestedIpAddress),
            _ => None,
        };
        let has = Some(request.ciaddr).filter(|address| !address.is_unspecified());
        has.or(wanted).filter(|_| self.lease_time.is_none()).map(IpAddr::V4)
    }

    /// A reply was sent.
    pub(super) fn answered(&self, reply: &Message) {
        match reply.kind {
            MessageType::Offer => self.offered(reply.chaddr),
            MessageType::Ack if reply.yiaddr.is_unspecified() => self.offered(reply.chaddr),
            MessageType::Ack => self.leased(BootTime::now(), reply.chaddr, reply.yiaddr),
            _ => {}
        }
    }

    /// The machine gave its address back, or found somebody else using it.
    pub(super) fn left(&self, mac: MacAddr) {
        let gone = Observation { lease: Some(BootTime::now()), ..Observation::at(WallTime::now()) };
        self.machines.observe_known(mac, gone);
    }

    /// The XDP program sent replies.
    pub(super) fn sent(&self, replies: &[Sent]) {
        for sent in replies.iter().take(NOTED) {
            let client = templates::client(sent.class);
            if client != Client::Plain {
                let discovers = sent.answer == Answer::Offer;
                let seen = Observation {
                    stage: discovers.then_some(Stage::Discovered),
                    client: Some(client),
                    ..Observation::at(WallTime::now())
                };
                self.machines.observe(sent.mac, seen);
            }
            match sent.address {
                Some(address) if sent.answer == Answer::Ack => {
                    self.leased(sent.time, sent.mac, address);
                }
                _ => self.offered(sent.mac),
            }
        }
    }

    fn offered(&self, mac: MacAddr) {
        self.machines.observe_known(mac, Observation::stage(WallTime::now(), Stage::Offered));
    }

    fn leased(&self, now: BootTime, mac: MacAddr, address: Ipv4Addr) {
        let leased = Observation {
            address: Some(address.into()),
            lease: self.lease_time.map(|time| now + time),
            ..Observation::at(WallTime::now())
        };
        self.machines.observe_known(mac, leased);
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
