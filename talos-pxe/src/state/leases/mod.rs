//! Which machine holds which address, and until when.
//!
//! Every promise of an address goes through [`Leases`], and no promise outlives what is stored:
//! [`Leases::bind`] stores, ahead of need, a horizon until which the address is held for its
//! machine. Within the horizon a lease can be extended without storing anything.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

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
    /// None only in quarantine.
    mac: Option<MacAddr>,
    hold: Hold,
    until: BootTime,
    /// The horizon: until when the store holds the address for the machine.
    stored: BootTime,
}

/// An address chosen for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address; held for the machine from now on.
    pub address: Ipv4Addr,
    /// Whether the segment must be asked first if someone else uses the address.
    pub unverified: bool,
}

/// The lease table. Its size is bounded by the pool's.
#[derive(Debug)]
pub struct Leases {
    pool: Pool,
    bindings: HashMap<Ipv4Addr, Binding>,
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    /// The bindings in the order in which their addresses are given away.
    reclaim: BTreeSet<(Hold, BootTime, Ipv4Addr)>,
    /// Every address of the pool below this one has a binding or had one; `None` at the end.
    next_unused: Option<u32>,
    /// What has to be stored before the next reply is sent.
    changes: Vec<Change>,
    /// Whether the XDP program renews leases, too. Then nothing ever brings a horizon nearer.
    renewed_elsewhere: bool,
}

impl Leases {
    /// An empty table.
    pub fn new(pool: Pool) -> Self {
        Self {
            next_unused: Some(*pool.range.start()),
            pool,
            bindings: HashMap::new(),
            by_mac: HashMap::new(),
            reclaim: BTreeSet::new(),
            changes: Vec::new(),
            renewed_elsewhere: false,
        }
    }

    /// The table with the leases that were stored. Those outside the pool are left alone: the
    /// pool may have been another one, and may be so again.
    pub fn restore(pool: Pool, stored: Vec<Held>) -> Self {
        let mut leases = Self::new(pool);
        for Held { mac, address, until } in stored {
            if leases.pool.contains(address) {
                let hold = Hold::Lease;
                leases.set(address, Binding { mac: Some(mac), hold, until, stored: until });
            }
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

    /// The address that is held for a machine, also after its lease has ended.
    pub fn address_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac).copied()
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
        let address = wanted
            .filter(|address| self.pool.contains(*address) && !self.bindings.contains_key(address))
            .or_else(|| self.never_used())
            .or_else(|| self.longest_over(now))?;
        let until = now + OFFER_HOLD;
        let stored = BootTime::BOOT;
        self.set(address, Binding { mac: Some(mac), hold: Hold::Offer, until, stored });
        Some(Candidate { address, unverified: true })
    }

    /// Leases the address that is held for the machine, and moves the horizon when the lease does
    /// not fit before it.
    pub fn bind(&mut self, now: BootTime, mac: MacAddr, lease_time: Duration) {
        let Some((address, binding)) = self.binding_of(mac) else { return };
        let until = match binding.stored {
            stored if now + lease_time <= stored => stored,
            _ => self.move_horizon(now, mac, address, lease_time),
        };
        self.set(address, Binding { hold: Hold::Lease, until, stored: until, ..binding });
    }

    /// Takes a lease over that was granted elsewhere: of an address that no machine has here, for
    /// a machine without one, and no longer than a lease of our own. Returns what is held now.
    pub fn adopt(&mut self, now: BootTime, held: &Held, lease_time: Duration) -> Option<Held> {
        let Held { mac, address, until } = *held;
        let until = until.min(now + lease_time * HORIZON);
        let free = !self.bindings.contains_key(&address) && self.address_of(mac).is_none();
        if !free || until <= now || !self.pool.contains(address) {
            return None;
        }
        let held = Held { mac, address, until };
        self.changes.push(Change::Hold(held));
        self.set(address, Binding { mac: Some(mac), hold: Hold::Lease, until, stored: until });
        Some(held)
    }

    /// Moves the horizon of a machine that was promised its address by somebody who cannot move it,
    /// ahead of need: when less than two lease times are left.
    pub fn extend(&mut self, now: BootTime, mac: MacAddr, lease_time: Duration) {
        let Some((address, binding)) = self.binding_of(mac) else { return };
        if binding.hold == Hold::Lease && binding.stored < now + lease_time * 2 {
            let until = self.move_horizon(now, mac, address, lease_time);
            self.set(address, Binding { until, stored: until, ..binding });
        }
    }

    /// Whether this is the latest that was to be stored of the machine.
    pub fn holds(&self, held: &Held) -> bool {
        self.binding_of(held.mac).is_some_and(|(address, binding)| {
            address == held.address && binding.stored == held.until
        })
    }

    /// What is stored of the leases that have not ended.
    pub fn held(&self, now: BootTime) -> impl Iterator<Item = Held> {
        self.by_mac.iter().filter_map(move |(mac, address)| {
            let binding = self.bindings.get(address)?;
            let until = binding.stored;
            (until > now).then_some(Held { mac: *mac, address: *address, until })
        })
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
            self.changes.push(Change::Hold(Held { mac, address, until: now }));
        }
        self.set(address, Binding { until: now, stored: binding.stored.min(now), ..binding });
    }

    fn move_horizon(
        &mut self,
        now: BootTime,
        mac: MacAddr,
        address: Ipv4Addr,
        lease_time: Duration,
    ) -> BootTime {
        let until = now + lease_time * HORIZON;
        self.changes.push(Change::Hold(Held { mac, address, until }));
        until
    }

    /// Takes an address that someone unknown uses out of service for a while, and at least until
    /// the horizon of the machine that had it.
    pub fn quarantine(&mut self, now: BootTime, address: Ipv4Addr) {
        if self.pool.contains(address) {
            let stored = BootTime::BOOT;
            let horizon = self.bindings.get(&address).map_or(stored, |binding| binding.stored);
            let until = horizon.max(now + QUARANTINE);
            self.set(address, Binding { mac: None, hold: Hold::Quarantine, until, stored });
        }
    }

    fn binding_of(&self, mac: MacAddr) -> Option<(Ipv4Addr, Binding)> {
        let address = self.address_of(mac)?;
        Some((address, *self.bindings.get(&address)?))
    }

    fn never_used(&mut self) -> Option<Ipv4Addr> {
        while let Some(next) = self.next_unused {
            self.next_unused = match next.cmp(self.pool.range.end()) {
                Ordering::Less => Some(next + 1),
                _ => None,
            };
            let address = Ipv4Addr::from(next);
            if self.pool.contains(address) && !self.bindings.contains_key(&address) {
                return Some(address);
            }
        }
        None
    }

    fn longest_over(&self, now: BootTime) -> Option<Ipv4Addr> {
        [Hold::Offer, Hold::Lease, Hold::Quarantine].into_iter().find_map(|hold| {
            let first = (hold, BootTime::BOOT, Ipv4Addr::UNSPECIFIED);
            let (found, until, address) = self.reclaim.range(first..).next()?;
            (*found == hold && *until <= now).then_some(*address)
        })
    }

    /// The one place where the three tables change, so that they always agree.
    fn set(&mut self, address: Ipv4Addr, binding: Binding) {
        if let Some(old) = self.bindings.insert(address, binding) {
            self.reclaim.remove(&(old.hold, old.until, address));
            if let Some(mac) = old.mac.filter(|mac| binding.mac != Some(*mac)) {
                self.by_mac.remove(&mac);
                if old.hold == Hold::Lease {
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
