//! Which machine holds which address, and until when.
//!
//! Every promise of an address goes through [`Leases`]: the place where leases become durable.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::BootTime;
use crate::wire::MacAddr;

/// How long an address waits for the REQUEST that takes an offer up. Boot ROMs collect offers
/// for some seconds and ask again up to a minute later.
pub const OFFER_HOLD: Duration = Duration::from_secs(60);
/// How long an address rests after a machine declined it or another was found to use it.
const QUARANTINE: Duration = Duration::from_secs(600);

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
        }
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
        self.set(address, Binding { mac: Some(mac), hold: Hold::Offer, until });
        Some(Candidate { address, unverified: true })
    }

    /// Leases the address that is held for the machine.
    pub fn bind(&mut self, now: BootTime, mac: MacAddr, lease_time: Duration) {
        if let Some((address, binding)) = self.binding_of(mac) {
            let until = now + lease_time;
            self.set(address, Binding { hold: Hold::Lease, until, ..binding });
        }
    }

    /// Ends a machine's lease or offer. The address stays its own until another needs it.
    pub fn release(&mut self, now: BootTime, mac: MacAddr) {
        if let Some((address, binding)) = self.binding_of(mac) {
            self.set(address, Binding { until: binding.until.min(now), ..binding });
        }
    }

    /// Takes an address that someone unknown uses out of service for a while.
    pub fn quarantine(&mut self, now: BootTime, address: Ipv4Addr) {
        if self.pool.contains(address) {
            let until = now + QUARANTINE;
            self.set(address, Binding { mac: None, hold: Hold::Quarantine, until });
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
            }
        }
        self.reclaim.insert((binding.hold, binding.until, address));
        if let Some(mac) = binding.mac {
            self.by_mac.insert(mac, address);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> BootTime {
        BootTime::BOOT + Duration::from_secs(seconds)
    }

    fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    fn ip(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, n)
    }

    /// 10.0.0.2 to 10.0.0.5 without 10.0.0.3.
    fn leases() -> Leases {
        Leases::new(Pool::new(ip(2), ip(5), &[ip(3)]))
    }

    fn lease(leases: &mut Leases, now: BootTime, n: u8) -> Option<Ipv4Addr> {
        let candidate = leases.choose(now, mac(n), None)?;
        leases.bind(now, mac(n), LEASE);
        Some(candidate.address)
    }

    #[test]
    fn machines_keep_their_address_and_others_get_unused_ones_first() {
        let mut leases = leases();
        assert_eq!(lease(&mut leases, at(0), 1), Some(ip(2)));
        // Long after the end of the lease, a new machine still gets a fresh address.
        assert_eq!(lease(&mut leases, at(9000), 2), Some(ip(4)));
        let again = leases.choose(at(9000), mac(1), Some(ip(5)));
        assert_eq!(again, Some(Candidate { address: ip(2), unverified: false }));
    }

    #[test]
    fn an_address_goes_to_another_machine_longest_expired_first() {
        let mut leases = leases();
        for (n, now) in [(1, 100), (2, 0), (3, 50)] {
            lease(&mut leases, at(now), n);
        }
        assert_eq!(leases.choose(at(200), mac(4), None), None);
        let candidate = leases.choose(at(1000), mac(4), None);
        assert_eq!(candidate, Some(Candidate { address: ip(4), unverified: true }));
        assert_eq!(leases.address_of(mac(2)), None);
    }

    #[test]
    fn a_lapsed_offer_is_given_away_before_an_expired_lease() {
        let mut leases = leases();
        lease(&mut leases, at(0), 1);
        lease(&mut leases, at(0), 2);
        leases.choose(at(900), mac(3), None);
        assert_eq!(leases.choose(at(990), mac(4), None).map(|c| c.address), Some(ip(5)));
    }

    #[test]
    fn a_released_address_is_kept_for_its_machine() {
        let mut leases = leases();
        lease(&mut leases, at(0), 1);
        leases.release(at(10), mac(1));
        assert_eq!(leases.choose(at(20), mac(2), None).map(|c| c.address), Some(ip(4)));
        assert_eq!(leases.choose(at(20), mac(1), None).map(|c| c.address), Some(ip(2)));
    }

    #[test]
    fn a_quarantined_address_rests() {
        let mut leases = leases();
        lease(&mut leases, at(0), 1);
        leases.quarantine(at(1), ip(2));
        leases.quarantine(at(1), ip(3));
        assert_eq!(leases.address_of(mac(1)), None);
        for (n, address) in [(1, ip(4)), (2, ip(5))] {
            assert_eq!(lease(&mut leases, at(2), n), Some(address));
        }
        assert_eq!(leases.choose(at(2), mac(3), None), None);
        assert_eq!(leases.choose(at(5000), mac(3), None).map(|c| c.address), Some(ip(4)));
    }

    #[test]
    fn a_wanted_address_is_given_if_it_is_free() {
        let mut leases = leases();
        assert_eq!(leases.choose(at(0), mac(1), Some(ip(5))).map(|c| c.address), Some(ip(5)));
        for taken in [ip(5), ip(3), ip(9)] {
            let candidate = leases.choose(at(0), mac(2), Some(taken));
            assert_eq!(candidate.map(|c| c.address), Some(ip(2)));
        }
    }

    #[test]
    fn the_pool_may_end_at_the_last_address_there_is() {
        let last = Ipv4Addr::BROADCAST;
        let mut leases = Leases::new(Pool::new(last, last, &[]));
        assert_eq!(leases.choose(at(0), mac(1), None).map(|c| c.address), Some(last));
        assert_eq!(leases.choose(at(0), mac(2), None), None);
    }

    proptest! {
        /// Whatever happens, no address is held for two machines at a time, and none outside
        /// the pool is given.
        #[test]
        fn an_address_has_one_holder(
            steps in prop::collection::vec((0u8..5, 0u8..8, 0u64..200, 0u8..9), 0..200),
        ) {
            let mut leases = leases();
            let mut now = at(0);
            let mut valid: HashMap<Ipv4Addr, (MacAddr, BootTime)> = HashMap::new();
            for (action, n, wait, wanted) in steps {
                now = now + Duration::from_secs(wait);
                match action {
                    0 | 1 => {
                        let Some(candidate) = leases.choose(now, mac(n), Some(ip(wanted))) else {
                            continue;
                        };
                        prop_assert!(leases.pool.contains(candidate.address));
                        if let Some((holder, until)) = valid.get(&candidate.address) {
                            prop_assert!(*holder == mac(n) || *until <= now);
                        }
                        if action == 1 {
                            leases.bind(now, mac(n), LEASE);
                            valid.insert(candidate.address, (mac(n), now + LEASE));
                        }
                    }
                    2 => {
                        leases.release(now, mac(n));
                        valid.retain(|_, (holder, _)| *holder != mac(n));
                    }
                    3 => {
                        leases.quarantine(now, ip(wanted));
                        valid.remove(&ip(wanted));
                    }
                    _ => {}
                }
                prop_assert_eq!(leases.bindings.len(), leases.reclaim.len());
                prop_assert!(leases.bindings.len() <= leases.pool.size());
            }
        }
    }
}
