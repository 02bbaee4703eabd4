//! Which machine holds which address, and until when.
//!
//! Every promise of an address goes through [`Leases`], and no promise outlives what is stored:
//! [`Leases::bind`] stores, ahead of need, a horizon until which the address is held for its
//! machine. Within the horizon a lease can be extended without storing anything.

mod reservations;

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use reservations::{Reservations, Taken, Upkeep};

use super::store::{Change, Held};
use crate::time::BootTime;
use crate::wire::MacAddr;

/// How long an address waits for the REQUEST that takes an offer up. Boot ROMs collect offers
/// for some seconds and ask again up to a minute later.
pub const OFFER_HOLD: Duration = Duration::from_secs(60);
/// How long an address rests after a machine declined it or another was found to use it.
const QUARANTINE: Duration = Duration::from_secs(600);

/// The horizon lies this many lease times ahead when it is moved, so that of a machine's renewals,
/// two in a lease time, few have to be stored. The price: after its machine has gone silent, an
/// address is held for up to this long.
const HORIZON: u32 = 4;

/// The addresses that may be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    range: RangeInclusive<u32>,
    excluded: BTreeSet<Ipv4Addr>,
}

impl Pool {
    /// The addresses from `first` to `last`, both included, but for `excluded` ones.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr, excluded: &[Ipv4Addr]) -> Self {
        let excluded = excluded.iter().copied().collect();
        Self { range: u32::from(first)..=u32::from(last), excluded }
    }

    /// Whether `address` may be leased.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.range.contains(&u32::from(address)) && !self.excluded.contains(&address)
    }

    /// How many addresses there are.
    pub fn size(&self) -> usize {
        let inside = self.excluded.iter().filter(|a| self.range.contains(&u32::from(**a))).count();
        let span = self.range.end().saturating_sub(*self.range.start()) as usize + 1;
        span - inside
    }
}

/// What became of an address. The order is that in which addresses are given to another machine
/// once their time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    /// Offered and never leased.
    Offer,
    /// Leased; it stays with its machine after its end as long as no other needs it.
    Lease,
    /// In use by someone whom we do not know.
    Quarantine,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    /// None only in quarantine. That machine may have moved on to another address; what it was
    /// promised of this one holds all the same.
    mac: Option<MacAddr>,
    hold: Hold,
    /// Of a lease, the horizon or later.
    until: BootTime,
}

/// An address chosen for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address; held for the machine from now on.
    pub address: Ipv4Addr,
    /// Whether the segment must be asked first if someone else uses the address.
    pub unverified: bool,
}

/// The lease table. Its size is bounded by the pool's, and what is stored and reserved beside it.
#[derive(Debug)]
pub struct Leases {
    pool: Pool,
    bindings: HashMap<Ipv4Addr, Binding>,
    /// The address that each machine had last.
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    /// What the store holds for each machine, once `changes` are in it: one address.
    stored: HashMap<MacAddr, Held>,
    /// The bindings in the order in which their addresses are given away.
    reclaim: BTreeSet<(Hold, BootTime, Ipv4Addr)>,
    /// Every address of the pool below this one has a binding or had one; `None` at the end.
    next_unused: Option<u32>,
    /// What has to be stored before the next reply is sent.
    changes: Vec<Change>,
    /// Whether the XDP program renews leases, too. Then nothing ever brings a horizon nearer.
    renewed_elsewhere: bool,
    reservations: Reservations,
    /// The machines whose reserved address is not free yet.
    waiting: BTreeSet<MacAddr>,
}

impl Leases {
    /// An empty table.
    pub fn new(pool: Pool) -> Self {
        Self {
            next_unused: Some(*pool.range.start()),
            pool,
            bindings: HashMap::new(),
            by_mac: HashMap::new(),
            stored: HashMap::new(),
            reclaim: BTreeSet::new(),
            changes: Vec::new(),
            renewed_elsewhere: false,
            reservations: Reservations::default(),
            waiting: BTreeSet::new(),
        }
    }

    /// The table with the leases that were stored. Those outside the pool are given to nobody
    /// else, and to their machine only if they are reserved for it: the pool may have been another
    /// one, and may be so again.
    pub fn restore(pool: Pool, stored: Vec<Held>) -> Self {
        let mut leases = Self::new(pool);
        for held in stored {
            let Held { mac, address, until } = held;
            leases.stored.insert(mac, held);
            leases.set(address, Binding { mac: Some(mac), hold: Hold::Lease, until });
        }
        leases
    }

    /// The same table, for leases that the XDP program renews within their horizon, too.
    #[must_use]
    pub fn renewed_elsewhere(self, renewed_elsewhere: bool) -> Self {
        Self { renewed_elsewhere, ..self }
    }

    /// Takes what has changed. It must be stored before a reply that was decided after the change
    /// is sent.
    #[must_use]
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The only address that a machine may have now: the one that is reserved for it, or as long
    /// as that is not free, or if there is none, the one that it had last, also after its lease has
    /// ended.
    pub fn address_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        let reserved = self.reservations.address_of(mac).filter(|address| {
            let binding = self.bindings.get(address);
            !self.waiting.contains(&mac) && binding.is_none_or(|b| b.hold != Hold::Quarantine)
        });
        let last = self.by_mac.get(&mac).copied();
        reserved.or_else(|| last.filter(|address| self.may_have(mac, *address)))
    }

    /// Whether an address may be the machine's at all.
    fn may_have(&self, mac: MacAddr, address: Ipv4Addr) -> bool {
        match self.reservations.machine_of(address) {
            Some(owner) => owner == mac,
            None => self.pool.contains(address),
        }
    }

    /// Chooses an address for a machine and holds it until the offer lapses: its own if it has
    /// one, else the `wanted` one if no machine ever had it, else one that no machine ever had,
    /// else the one whose time has been over for longest. `None` when all are taken.
    pub fn choose(
        &mut self,
        now: BootTime,
        mac: MacAddr,
        wanted: Option<Ipv4Addr>,
    ) -> Option<Candidate> {
        if let Some((address, binding)) = self.binding_of(mac) {
            let until = binding.until.max(now + OFFER_HOLD);
            let lapsed = binding.hold == Hold::Offer && binding.until <= now;
            self.set(address, Binding { until, ..binding });
            return Some(Candidate { address, unverified: lapsed });
        }
        if let Some(address) = self.address_of(mac) {
            // No other machine can get it. Until this one takes it up, it keeps what it had.
            return Some(Candidate { address, unverified: true });
        }
        let address = wanted
            .filter(|wanted| self.may_have(mac, *wanted) && !self.bindings.contains_key(wanted))
            .or_else(|| self.never_used(mac))
            .or_else(|| self.longest_over(now, mac))?;
        let until = now + OFFER_HOLD;
        self.set(address, Binding { mac: Some(mac), hold: Hold::Offer, until });
        Some(Candidate { address, unverified: true })
    }

    /// Leases the machine its address, and moves the horizon when the lease does not fit before it.
    pub fn bind(&mut self, now: BootTime, mac: MacAddr, lease_time: Duration) {
        let Some(address) = self.address_of(mac) else { return };
        let until = match self.horizon(mac, address) {
            Some(horizon) if now + lease_time <= horizon => horizon,
            _ => return self.hold(now, mac, address, lease_time),
        };
        self.set(address, Binding { mac: Some(mac), hold: Hold::Lease, until });
    }

    /// Takes a lease over that was granted elsewhere: of an address that no machine has here, for
    /// a machine without one, and no longer than a lease of our own. Returns what is held now.
    pub fn adopt(&mut self, now: BootTime, held: &Held, lease_time: Duration) -> Option<Held> {
        let Held { mac, address, until } = *held;
        let until = until.min(now + lease_time * HORIZON);
        let has_one = self.address_of(mac).is_some() || self.stored.contains_key(&mac);
        let free = !self.bindings.contains_key(&address) && self.may_have(mac, address);
        if has_one || !free || until <= now {
            return None;
        }
        let held = Held { mac, address, until };
        self.set(address, Binding { mac: Some(mac), hold: Hold::Lease, until });
        self.store(held);
        Some(held)
    }

    /// Moves the horizon of a machine that was promised its address by somebody who cannot move it,
    /// ahead of need: when less than two lease times are left.
    pub fn extend(&mut self, now: BootTime, mac: MacAddr, lease_time: Duration) {
        let Some(address) = self.address_of(mac) else { return };
        if self.horizon(mac, address).is_some_and(|horizon| horizon < now + lease_time * 2) {
            self.hold(now, mac, address, lease_time);
        }
    }

    /// Whether this is the latest that was to be stored of the machine, and still its address.
    pub fn holds(&self, held: &Held) -> bool {
        self.stored.get(&held.mac) == Some(held) && self.address_of(held.mac) == Some(held.address)
    }

    /// What is stored of the leases that have not ended.
    pub fn held(&self, now: BootTime) -> impl Iterator<Item = Held> {
        self.stored.values().copied().filter(move |held| held.until > now && self.holds(held))
    }

    /// Ends a machine's offer or lease. The address stays its own until another needs it.
    ///
    /// A lease that others renew, too, is not ended: they may be renewing it at this very moment.
    pub fn release(&mut self, now: BootTime, mac: MacAddr) {
        let Some((address, binding)) = self.binding_of(mac) else { return };
        if binding.until <= now || (binding.hold == Hold::Lease && self.renewed_elsewhere) {
            return;
        }
        if binding.hold == Hold::Lease {
            self.store(Held { mac, address, until: now });
        }
        self.set(address, Binding { until: now, ..binding });
    }

    /// Takes an address that someone unknown uses out of service for a while, and at least until
    /// the horizon of the machine that had it.
    pub fn quarantine(&mut self, now: BootTime, address: Ipv4Addr) {
        if self.pool.contains(address) || self.reservations.machine_of(address).is_some() {
            let until = now + QUARANTINE;
            let until = self.bindings.get(&address).map_or(until, |held| held.until.max(until));
            self.set(address, Binding { mac: None, hold: Hold::Quarantine, until });
        }
    }

    /// Leases an address, with a horizon that is stored anew.
    fn hold(&mut self, now: BootTime, mac: MacAddr, address: Ipv4Addr, lease_time: Duration) {
        let until = now + lease_time * HORIZON;
        self.set(address, Binding { mac: Some(mac), hold: Hold::Lease, until });
        self.store(Held { mac, address, until });
    }

    fn store(&mut self, held: Held) {
        self.stored.insert(held.mac, held);
        self.changes.push(Change::Hold(held));
    }

    /// Until when the store holds the address for the machine.
    fn horizon(&self, mac: MacAddr, address: Ipv4Addr) -> Option<BootTime> {
        self.stored.get(&mac).filter(|held| held.address == address).map(|held| held.until)
    }

    fn binding_of(&self, mac: MacAddr) -> Option<(Ipv4Addr, Binding)> {
        let address = self.address_of(mac)?;
        let binding = self.bindings.get(&address).filter(|binding| binding.mac == Some(mac))?;
        Some((address, *binding))
    }

    /// The addresses that no machine ever had, in the order in which they are given away.
    pub fn unused(&self) -> impl Iterator<Item = Ipv4Addr> {
        let left = self.next_unused.map(|first| first..=*self.pool.range.end());
        left.into_iter().flatten().map(Ipv4Addr::from).filter(|address| {
            let is_ours = self.pool.contains(*address) && !self.bindings.contains_key(address);
            is_ours && self.reservations.machine_of(*address).is_none()
        })
    }

    fn never_used(&mut self, mac: MacAddr) -> Option<Ipv4Addr> {
        while let Some(next) = self.next_unused {
            self.next_unused = match next.cmp(self.pool.range.end()) {
                Ordering::Less => Some(next + 1),
                _ => None,
            };
            let address = Ipv4Addr::from(next);
            let inside = self.pool.contains(address) && self.may_have(mac, address);
            if inside && !self.bindings.contains_key(&address) {
                return Some(address);
            }
        }
        None
    }

    fn longest_over(&self, now: BootTime, mac: MacAddr) -> Option<Ipv4Addr> {
        [Hold::Offer, Hold::Lease, Hold::Quarantine].into_iter().find_map(|hold| {
            let first = (hold, BootTime::BOOT, Ipv4Addr::UNSPECIFIED);
            let over = self.reclaim.range(first..=(hold, now, Ipv4Addr::BROADCAST));
            over.map(|(.., address)| *address).find(|address| self.may_have(mac, *address))
        })
    }

    /// The one place where the tables change, so that they always agree.
    fn set(&mut self, address: Ipv4Addr, binding: Binding) {
        if let Some(old) = self.bindings.insert(address, binding) {
            self.reclaim.remove(&(old.hold, old.until, address));
            if let Some(mac) = old.mac.filter(|mac| binding.mac != Some(*mac)) {
                if self.by_mac.get(&mac) == Some(&address) {
                    self.by_mac.remove(&mac);
                }
                if self.horizon(mac, address).is_some() {
                    self.stored.remove(&mac);
                    self.changes.push(Change::Forget(mac));
                }
            }
        }
        self.reclaim.insert((binding.hold, binding.until, address));
        if let Some(mac) = binding.mac {
            self.by_mac.insert(mac, address);
        }
    }
}

#[cfg(test)]
mod tests;
