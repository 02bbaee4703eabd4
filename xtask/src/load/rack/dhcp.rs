//! One exchange of a machine with a DHCP server: DISCOVER, OFFER, REQUEST, ACK.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use super::network::Network;
use crate::load::frame::{Ask, Client, Sender};
use crate::load::reply::{ACK, NAK, OFFER, Reply};

/// How long firmware waits for an answer before it asks again, and in the end gives up (PXE
/// specification 2.1, section 2.2.2); for iPXE see `dhcp.h`.
const FIRMWARE_WAITS: [u64; 4] = [4, 8, 16, 32];
const IPXE_WAITS: [u64; 5] = [1, 2, 4, 8, 10];

/// An exchange that goes on.
#[derive(Debug)]
pub struct Exchange {
    sender: Sender,
    ask: Ask,
    xid: u32,
    asked_at: Instant,
    /// How often this was sent again.
    resent: usize,
    /// When it was sent first.
    first_at: SystemTime,
    /// How long the machine has waited for answers to what it had asked before.
    waited: Duration,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing yet.
    Pending,
    /// It has this address, and has waited so long for the server's answers in all.
    Leased(Ipv4Addr, Duration),
    /// The machine gives up.
    Failed(&'static str),
}

impl Exchange {
    /// Sends the first DISCOVER.
    ///
    /// # Errors
    /// When the interface is down.
    pub fn start(network: &Network, sender: Sender, xid: u32, now: Instant) -> Result<Exchange> {
        let (ask, first_at, waited) = (Ask::Discover, SystemTime::now(), Duration::ZERO);
        network.ask(&sender, ask, xid)?;
        Ok(Exchange { sender, ask, xid, asked_at: now, resent: 0, first_at, waited })
    }

    /// Goes on with what a reply says that came `at` a time.
    ///
    /// # Errors
    /// When the interface is down.
    pub fn take(
        &mut self,
        network: &Network,
        (reply, at): (&Reply, SystemTime),
        now: Instant,
    ) -> Result<Progress> {
        let Reply { address, server, .. } = *reply;
        if reply.xid != self.xid {
            return Ok(Progress::Pending);
        }
        let waited = self.waited + at.duration_since(self.first_at).unwrap_or_default();
        match (reply.kind, self.ask) {
            (OFFER, Ask::Discover) => {
                self.ask = Ask::Select { address, server };
                (self.asked_at, self.resent) = (now, 0);
                (self.first_at, self.waited) = (SystemTime::now(), waited);
                network.ask(&self.sender, self.ask, self.xid)?;
                Ok(Progress::Pending)
            }
            (ACK, Ask::Select { .. }) => Ok(Progress::Leased(address, waited)),
            (NAK, Ask::Select { .. }) => Ok(Progress::Failed("the server takes its offer back")),
            _ => Ok(Progress::Pending),
        }
    }

    /// Asks again, or gives up, when no answer has come for too long; whether it did the former.
    ///
    /// # Errors
    /// When the interface is down.
    pub fn look(&mut self, network: &Network, now: Instant) -> Result<(bool, Progress)> {
        let waits: &[u64] = match self.sender.client {
            Client::Ipxe { .. } => &IPXE_WAITS,
            Client::Plain | Client::Pxe | Client::BiosPxe => &FIRMWARE_WAITS,
        };
        let wait = waits.get(self.resent).copied().unwrap_or_default();
        if now.duration_since(self.asked_at) < Duration::from_secs(wait) {
            return Ok((false, Progress::Pending));
        }
        if self.resent + 1 >= waits.len() {
            return Ok((false, Progress::Failed("no answer")));
        }
        (self.asked_at, self.resent) = (now, self.resent + 1);
        network.ask(&self.sender, self.ask, self.xid)?;
        Ok((true, Progress::Pending))
    }
}
