//! Addresses that the segment is asked about before they are offered.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::Ingress;
use crate::time::BootTime;
use crate::wire::MacAddr;
use crate::wire::dhcp::Message;

/// How long a host has to answer. ARP answers take a few milliseconds on a local network; the
/// client repeats its DISCOVER after a second at the earliest.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// More clients than this at a time have to ask again: each one's request is kept.
const CAPACITY: usize = 4096;

/// The requests that wait for their address to be checked.
#[derive(Debug, Default)]
pub struct Probes {
    waiting: HashMap<Ipv4Addr, Waiting>,
    by_deadline: BTreeSet<(BootTime, Ipv4Addr)>,
}

#[derive(Debug)]
struct Waiting {
    deadline: BootTime,
    from: Ingress,
    request: Message,
}

impl Probes {
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= CAPACITY
    }

    /// Notes that `address` is asked about until `deadline` for this request, and no longer for
    /// another one.
    pub fn start(
        &mut self,
        deadline: BootTime,
        address: Ipv4Addr,
        from: Ingress,
        request: Message,
    ) {
        let waiting = Waiting { deadline, from, request };
        if let Some(old) = self.waiting.insert(address, waiting) {
            self.by_deadline.remove(&(old.deadline, address));
        }
        self.by_deadline.insert((deadline, address));
    }

    /// Replaces a waiting request by the same client's newer one; false when none waits.
    pub fn update(&mut self, address: Ipv4Addr, from: Ingress, request: &Message) -> bool {
        match self.waiting.get_mut(&address) {
            Some(waiting) if waiting.request.chaddr == request.chaddr => {
                waiting.from = from;
                waiting.request = request.clone();
                true
            }
            _ => false,
        }
    }

    /// Takes out the request that waits for `address`, if `condition` holds for its client.
    pub fn take_if(
        &mut self,
        address: Ipv4Addr,
        condition: impl FnOnce(MacAddr) -> bool,
    ) -> Option<(Ingress, Message)> {
        if !condition(self.waiting.get(&address)?.request.chaddr) {
            return None;
        }
        let waiting = self.waiting.remove(&address)?;
        self.by_deadline.remove(&(waiting.deadline, address));
        Some((waiting.from, waiting.request))
    }

    pub fn next_deadline(&self) -> Option<BootTime> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out the requests whose address nobody claimed in time.
    pub fn take_expired(&mut self, now: BootTime) -> Vec<(Ingress, Message)> {
        let mut expired = Vec::new();
        while let Some((deadline, address)) = self.by_deadline.first().copied()
            && deadline <= now
        {
            expired.extend(self.take_if(address, |_| true));
        }
        expired
    }
}
