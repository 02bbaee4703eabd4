//! The machines in memory: by MAC, by address, and by who makes room first.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::record::{Machine, Observation};
use crate::time::BootTime;
use crate::wire::{MacAddr, Role};

/// A record is stored anew when only the time has changed since, by this many seconds.
const SEEN_STEP: u64 = 60;

/// A record to store; none when the machine's is to be removed.
pub(super) type Unstored = (MacAddr, Option<Arc<Machine>>);

/// The table. What it says of a role is stored already.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<MacAddr, Entry>,
    /// Whose address it is. A machine that takes another's address takes it from its record.
    by_address: HashMap<IpAddr, MacAddr>,
    /// The machines without a role, in the order in which they make room.
    idle: BTreeSet<(u64, MacAddr)>,
    /// Counts what was heard, to tell what came later.
    heard: u64,
    /// The machines whose records differ from those that are stored.
    unstored: HashSet<MacAddr>,
    /// Counts changes.
    generation: u64,
}

#[derive(Debug)]
struct Entry {
    /// Shared, so that a look at all machines takes no longer than to count them.
    machine: Arc<Machine>,
    heard: u64,
    /// When it was last seen, as it is stored; none when it is not stored at all.
    stored_seen: Option<u64>,
}

impl Entry {
    fn about_to_be_stored(&mut self) -> Arc<Machine> {
        self.stored_seen = Some(self.machine.last_seen.map_or(0, |seen| seen.0));
        Arc::clone(&self.machine)
    }
}

impl Table {
    /// The most machines without a role. MAC addresses are free to invent, so memory must not
    /// grow with them.
    pub(super) const UNKNOWN: usize = 4096;
    /// The most machines with a role: anybody on the network can choose one in the menu.
    pub(super) const ASSIGNED: usize = 65_536;

    pub(super) fn get(&self, mac: MacAddr) -> Option<&Arc<Machine>> {
        self.entries.get(&mac).map(|entry| &entry.machine)
    }

    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = (MacAddr, &Arc<Machine>)> {
        self.entries.iter().map(|(mac, entry)| (*mac, &entry.machine))
    }

    pub(super) fn at(&self, address: IpAddr) -> Option<MacAddr> {
        self.by_address.get(&address).copied()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// How many more machines can be given a role.
    pub(super) fn room(&self) -> usize {
        Self::ASSIGNED.saturating_sub(self.entries.len() - self.idle.len())
    }

    /// Whether the machine has a role.
    pub(super) fn has_role(&self, mac: MacAddr) -> bool {
        self.get(mac).is_some_and(|machine| machine.role.is_some())
    }

    /// Takes in what was seen of a machine, a new one included.
    pub(super) fn observe(&mut self, mac: MacAddr, mut seen: Observation) {
        let time = seen.time;
        seen.address = seen
            .address
            .filter(|address| seen.lease.is_some() || self.can_be_claimed(*address, mac));
        self.change(mac, |machine| machine.take(seen));
        let entry = self.entries.get(&mac);
        if let Some(stored) = entry.and_then(|entry| entry.stored_seen)
            && stored.abs_diff(time.0) >= SEEN_STEP
        {
            self.unstored.insert(mac);
        }
    }

    /// Notes until when a known machine's lease lasts, and of which address.
    pub(super) fn set_lease(&mut self, mac: MacAddr, address: Option<IpAddr>, end: BootTime) {
        if self.entries.contains_key(&mac) {
            self.change(mac, |machine| {
                machine.address = address.or(machine.address);
                machine.lease = Some(end);
                false
            });
        }
    }

    /// Notes the role of a machine, which is stored.
    pub(super) fn assign(&mut self, mac: MacAddr, role: Role) {
        self.change(mac, |machine| {
            machine.role = Some(role);
            true
        });
    }

    /// Puts a record in the place of what is known of the machine.
    pub(super) fn put(&mut self, mac: MacAddr, record: Machine) {
        let address = record.address.filter(|address| self.can_be_claimed(*address, mac));
        self.change(mac, |machine| {
            // What we lease it now counts before what it once had elsewhere.
            let leased = machine.lease.map(|lease| (machine.address, Some(lease)));
            let (address, lease) = leased.unwrap_or((address, record.lease));
            *machine = Machine { address, lease, ..record };
            true
        });
    }

    /// Forgets a machine.
    pub(super) fn remove(&mut self, mac: MacAddr) {
        let Some(entry) = self.entries.remove(&mac) else { return };
        self.idle.remove(&(entry.heard, mac));
        self.leave(mac, entry.machine.address);
        match entry.stored_seen {
            Some(_) => self.unstored.insert(mac),
            None => self.unstored.remove(&mac),
        };
        self.generation += 1;
    }

    /// How many records have to be stored.
    pub(super) fn unstored(&self) -> usize {
        self.unstored.len()
    }

    /// Takes up to `limit` machines whose records have to be stored; those that are gone have to
    /// be removed from the store.
    pub(super) fn take_unstored(&mut self, limit: usize) -> Vec<Unstored> {
        let macs: Vec<MacAddr> = self.unstored.iter().copied().take(limit).collect();
        let take = |mac: MacAddr| {
            self.unstored.remove(&mac);
            let entry = self.entries.get_mut(&mac);
            (mac, entry.map(|entry| entry.about_to_be_stored()))
        };
        macs.into_iter().map(take).collect()
    }

    /// Notes that all records are stored as they are.
    pub(super) fn set_stored(&mut self) {
        self.unstored.clear();
        for entry in self.entries.values_mut() {
            let _ = entry.about_to_be_stored();
        }
    }

    /// The one place where a record changes, so that the tables always agree. `change` returns
    /// whether the record says more than before.
    fn change(&mut self, mac: MacAddr, change: impl FnOnce(&mut Machine) -> bool) {
        self.heard += 1;
        let heard = self.heard;
        let entry = self.entries.entry(mac).or_insert_with(|| {
            self.unstored.insert(mac);
            Entry { machine: Arc::default(), heard, stored_seen: None }
        });
        let before = entry.machine.address;
        self.idle.remove(&(entry.heard, mac));
        entry.heard = heard;
        if change(Arc::make_mut(&mut entry.machine)) {
            self.generation += 1;
            self.unstored.insert(mac);
        }
        let address = entry.machine.address;
        if entry.machine.role.is_none() {
            self.idle.insert((heard, mac));
        }
        if before != address {
            self.leave(mac, before);
        }
        if let Some(address) = address {
            self.settle(mac, address);
        }
        self.make_room();
    }

    /// Without a lease nobody takes an address from a machine that got it by one.
    fn can_be_claimed(&self, address: IpAddr, by: MacAddr) -> bool {
        let owner = self.at(address).filter(|owner| *owner != by);
        owner.and_then(|owner| self.get(owner)).is_none_or(|owner| owner.lease.is_none())
    }

    fn settle(&mut self, mac: MacAddr, address: IpAddr) {
        let before = self.by_address.insert(address, mac).filter(|owner| *owner != mac);
        if let Some(entry) = before.and_then(|owner| self.entries.get_mut(&owner)) {
            Arc::make_mut(&mut entry.machine).address = None;
            self.generation += 1;
            self.unstored.extend(before);
        }
    }

    /// The machine that was not heard of for longest makes room.
    fn make_room(&mut self) {
        while self.idle.len() > Self::UNKNOWN
            && let Some((_, mac)) = self.idle.first().copied()
        {
            self.remove(mac);
        }
    }

    fn leave(&mut self, mac: MacAddr, address: Option<IpAddr>) {
        if let Some(address) = address
            && self.by_address.get(&address) == Some(&mac)
        {
            self.by_address.remove(&address);
        }
    }
}
