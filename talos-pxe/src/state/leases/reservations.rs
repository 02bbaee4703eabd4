//! Addresses that are reserved for machines before these ask.
//!
//! A reservation is an ordinary lease that we renew ourselves: its horizon is stored, and moved
//! ahead of need, like that of a machine that renews all the time. So it can be promised at any
//! time, also by the XDP program, and once it is no longer reserved it ends as every lease does.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Binding, Hold, Leases};
use crate::state::store::Held;
use crate::time::BootTime;
use crate::wire::MacAddr;

/// Which machine is to have which address: one each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    by_mac: BTreeMap<MacAddr, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, MacAddr>,
}

impl FromIterator<(MacAddr, Ipv4Addr)> for Reservations {
    /// Of two that contradict each other the first counts.
    fn from_iter<I: IntoIterator<Item = (MacAddr, Ipv4Addr)>>(pairs: I) -> Self {
        let mut reservations = Self::default();
        for (mac, address) in pairs {
            let Self { by_mac, by_address } = &mut reservations;
            if !by_mac.contains_key(&mac) && !by_address.contains_key(&address) {
                by_mac.insert(mac, address);
                by_address.insert(address, mac);
            }
        }
        reservations
    }
}

impl Reservations {
    pub(super) fn address_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac).copied()
    }

    pub(super) fn machine_of(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.by_address.get(&address).copied()
    }
}

/// What follows from looking after the reservations.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// The machines that may no longer be promised the address that they had: the XDP program has
    /// to forget them before anything is stored.
    pub revoked: Vec<MacAddr>,
    /// Reserved addresses that turned out not to be free.
    pub taken: Vec<Taken>,
}

/// A reserved address that its machine cannot have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The machine for which it is reserved.
    pub mac: MacAddr,
    /// The address.
    pub address: Ipv4Addr,
    /// The machine to which it was promised; none if somebody unknown uses it.
    pub by: Option<MacAddr>,
    /// When it will be free.
    pub until: BootTime,
}

impl Leases {
    /// Puts other reservations in force.
    pub fn reserve(
        &mut self,
        now: BootTime,
        reservations: Reservations,
        lease_time: Duration,
    ) -> Upkeep {
        self.reservations = reservations;
        self.waiting.clear();
        // An address that was reserved may never have been used.
        self.next_unused = Some(*self.pool.range.start());
        let taken = self.uphold(now, lease_time).taken;
        let elsewhere = |held: &&Held| self.address_of(held.mac) != Some(held.address);
        let revoked = self.stored.values().filter(elsewhere).map(|held| held.mac).collect();
        Upkeep { revoked, taken }
    }

    /// Holds each reserved address for its machine, ahead of need. To be called often: about once
    /// a second.
    ///
    /// An address that is promised to another machine becomes its new owner's after the horizon;
    /// one that somebody unknown uses after its quarantine. Until then the new owner gets another
    /// one. A machine that has moved from one address to another gets the new one when it asks, or
    /// when the old one's horizon has passed: the store holds one address a machine.
    pub fn uphold(&mut self, now: BootTime, lease_time: Duration) -> Upkeep {
        let mut upkeep = Upkeep::default();
        let reservations = self.reservations.by_mac.clone();
        for (mac, address) in reservations {
            if let Some(taken) = self.taken(now, mac, address) {
                if self.waiting.insert(mac) {
                    upkeep.taken.push(taken);
                }
                continue;
            }
            let rested = self.bindings.get(&address).is_some_and(|b| b.hold == Hold::Quarantine);
            if rested {
                self.set(address, Binding { mac: Some(mac), hold: Hold::Offer, until: now });
            }
            if self.waiting.remove(&mac) || rested {
                // What it has had meanwhile is not its address any more.
                upkeep.revoked.push(mac);
            }
            match self.stored.get(&mac) {
                Some(held) if held.address != address && held.until > now => {}
                Some(held) if held.address == address && held.until >= now + lease_time * 2 => {}
                _ => self.hold(now, mac, address, lease_time),
            }
        }
        upkeep
    }

    fn taken(&self, now: BootTime, mac: MacAddr, address: Ipv4Addr) -> Option<Taken> {
        let binding = self.bindings.get(&address)?;
        let (by, until) = (binding.mac, binding.until);
        let promised = binding.hold != Hold::Offer && until > now;
        (promised && by != Some(mac)).then_some(Taken { mac, address, by, until })
    }
}

#[cfg(test)]
#[path = "reservations_tests.rs"]
mod tests;
