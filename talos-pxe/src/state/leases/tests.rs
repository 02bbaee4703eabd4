//! Who holds which address, step by step.

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
    assert_eq!(leases.choose(at(1199), mac(4), None), None);
    let candidate = leases.choose(at(1400), mac(4), None);
    assert_eq!(candidate, Some(Candidate { address: ip(4), unverified: true }));
    assert_eq!(leases.address_of(mac(2)), None);
}

#[test]
fn a_lapsed_offer_is_given_away_before_an_expired_lease() {
    let mut leases = leases();
    lease(&mut leases, at(0), 1);
    lease(&mut leases, at(0), 2);
    leases.choose(at(1900), mac(3), None);
    assert_eq!(leases.choose(at(1990), mac(4), None).map(|c| c.address), Some(ip(5)));
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
fn a_lease_is_stored_before_it_is_promised_and_not_again_within_its_horizon() {
    let hold = |n, until| Change::Hold(Held { mac: mac(n), address: ip(n + 1), until: at(until) });
    let mut leases = leases();
    leases.choose(at(0), mac(1), None);
    assert_eq!(leases.take_changes(), [], "an offer promises nothing");
    for (now, changes) in [(0, vec![hold(1, 1200)]), (150, vec![]), (900, vec![])] {
        leases.bind(at(now), mac(1), LEASE);
        assert_eq!(leases.take_changes(), changes, "at {now} s");
    }
    leases.bind(at(901), mac(1), LEASE);
    assert_eq!(leases.take_changes(), [hold(1, 2101)]);
    leases.release(at(902), mac(1));
    assert_eq!(leases.take_changes(), [hold(1, 902)]);
    leases.bind(at(903), mac(1), LEASE);
    assert_eq!(leases.take_changes(), [hold(1, 2103)]);
    leases.quarantine(at(904), ip(2));
    assert_eq!(leases.take_changes(), [Change::Forget(mac(1))]);
}

#[test]
fn the_horizon_of_a_lease_that_is_renewed_elsewhere_moves_ahead_of_need() {
    let hold = |until| Change::Hold(Held { mac: mac(1), address: ip(2), until: at(until) });
    let mut leases = leases();
    leases.extend(at(0), mac(1), LEASE);
    leases.choose(at(0), mac(1), None);
    leases.extend(at(0), mac(1), LEASE);
    assert_eq!(leases.take_changes(), [], "nothing is leased");
    leases.bind(at(0), mac(1), LEASE);
    assert_eq!(leases.take_changes(), [hold(1200)]);
    leases.extend(at(600), mac(1), LEASE);
    assert_eq!(leases.take_changes(), []);
    leases.extend(at(601), mac(1), LEASE);
    assert_eq!(leases.take_changes(), [hold(1801)]);
    let held = Held { mac: mac(1), address: ip(2), until: at(1801) };
    assert_eq!(leases.held(at(1800)).collect::<Vec<_>>(), [held]);
    assert_eq!(leases.held(at(1801)).count(), 0);
}

#[test]
fn nothing_brings_a_horizon_nearer_that_others_renew_within() {
    let mut leases = leases().renewed_elsewhere(true);
    for n in 1..=3 {
        lease(&mut leases, at(0), n);
    }
    leases.release(at(10), mac(1));
    leases.quarantine(at(10), ip(4));
    assert_eq!(leases.choose(at(1199), mac(4), None), None);
    assert_eq!(leases.choose(at(1200), mac(4), None).map(|c| c.address), Some(ip(2)));
}

#[test]
fn stored_leases_are_held_again() {
    let stored = [(1, ip(4), 500), (2, ip(9), 500)].map(|(n, address, until)| Held {
        mac: mac(n),
        address,
        until: at(until),
    });
    let mut leases = Leases::restore(Pool::new(ip(2), ip(5), &[ip(3)]), stored.to_vec());
    assert_eq!(leases.take_changes(), []);
    assert_eq!((leases.address_of(mac(1)), leases.address_of(mac(2))), (Some(ip(4)), None));
    for (n, address) in [(3, Some(ip(2))), (4, Some(ip(5))), (5, None)] {
        assert_eq!(lease(&mut leases, at(499), n), address);
    }
    assert_eq!(lease(&mut leases, at(500), 5), Some(ip(4)));
    assert!(leases.take_changes().contains(&Change::Forget(mac(1))));
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

/// The table with what surrounds it: the store, and the XDP program if there is one.
struct World {
    leases: Leases,
    reserved: Vec<(u8, u8)>,
    stored: HashMap<MacAddr, Held>,
    xdp: Option<HashMap<MacAddr, Held>>,
    /// The leases that were given and have not ended.
    valid: HashMap<Ipv4Addr, (MacAddr, BootTime)>,
}

impl World {
    fn new(with_xdp: bool) -> Self {
        Self {
            leases: leases().renewed_elsewhere(with_xdp),
            reserved: Vec::new(),
            stored: HashMap::new(),
            xdp: with_xdp.then(HashMap::new),
            valid: HashMap::new(),
        }
    }

    /// A machine is told that it has the address for a lease time from now on. It gives up another
    /// one by that.
    fn promise(&mut self, now: BootTime, mac: MacAddr, address: Ipv4Addr) {
        self.valid.retain(|other, (holder, _)| *holder != mac || *other == address);
        self.valid.insert(address, (mac, now + LEASE));
    }

    fn may_promise(&self, now: BootTime, mac: MacAddr, address: Ipv4Addr) -> bool {
        let reserved = &self.leases.reservations;
        self.valid.get(&address).is_none_or(|(holder, until)| *holder == mac || *until <= now)
            && match reserved.machine_of(address) {
                Some(owner) => owner == mac,
                None => self.leases.pool.contains(address),
            }
    }

    fn reserve(&mut self, now: BootTime, reserved: Vec<(u8, u8)>) {
        let reservations = reserved.iter().map(|(n, address)| (mac(*n), ip(*address))).collect();
        self.reserved = reserved;
        let upkeep = self.leases.reserve(now, reservations, LEASE);
        self.revoke(upkeep);
    }

    fn revoke(&mut self, upkeep: Upkeep) {
        if let Some(xdp) = &mut self.xdp {
            xdp.retain(|mac, _| !upkeep.revoked.contains(mac));
        }
    }

    /// The daemon is killed and started anew.
    fn crash(&mut self, now: BootTime) {
        let stored = self.stored.values().copied().collect();
        let pool = self.leases.pool.clone();
        self.leases = Leases::restore(pool, stored).renewed_elsewhere(self.xdp.is_some());
        self.xdp = self.xdp.is_some().then(HashMap::new);
        self.reserve(now, self.reserved.clone());
        self.store();
        if let Some(xdp) = &mut self.xdp {
            xdp.extend(self.leases.held(now).map(|held| (held.mac, held)));
        }
    }

    /// What the daemon does after each decision.
    fn store(&mut self) {
        let changes = self.leases.take_changes();
        for change in &changes {
            match change {
                Change::Hold(held) => drop(self.stored.insert(held.mac, *held)),
                Change::Forget(mac) => {
                    self.stored.remove(mac);
                    self.xdp.as_mut().map(|xdp| xdp.remove(mac));
                }
            }
        }
        for change in changes {
            if let (Change::Hold(held), Some(xdp)) = (change, &mut self.xdp)
                && self.leases.holds(&held)
            {
                xdp.insert(held.mac, held);
            }
        }
    }
}

proptest! {
    /// Whatever happens, and whatever is reserved meanwhile: no address is held for two machines
    /// at a time, none that is reserved is given to another, none outside the pool is given
    /// otherwise, what is stored reaches as far as every lease that was given, and the XDP program
    /// knows of no address that we would not give.
    #[test]
    fn an_address_has_one_holder(
        with_xdp: bool,
        steps in prop::collection::vec((0u8..12, 0u8..8, 0u64..200, 0u8..9), 0..200),
        plans in prop::collection::vec(prop::collection::vec((0u8..8, 2u8..9), 0..4), 9),
    ) {
        let mut world = World::new(with_xdp);
        let mut now = at(0);
        for (action, n, wait, wanted) in steps {
            now = now + Duration::from_secs(wait);
            match action {
                0..4 => {
                    let Some(candidate) = world.leases.choose(now, mac(n), Some(ip(wanted))) else {
                        continue;
                    };
                    prop_assert!(world.may_promise(now, mac(n), candidate.address));
                    prop_assert_eq!(world.leases.address_of(mac(n)), Some(candidate.address));
                    if action > 1 {
                        world.leases.bind(now, mac(n), LEASE);
                        world.store();
                        world.promise(now, mac(n), candidate.address);
                    }
                }
                4 | 5 => {
                    let held = world.xdp.as_ref().and_then(|xdp| xdp.get(&mac(n)).copied());
                    if let Some(Held { address, until, .. }) = held
                        && now + LEASE <= until
                    {
                        prop_assert!(world.may_promise(now, mac(n), address));
                        world.promise(now, mac(n), address);
                        world.leases.extend(now, mac(n), LEASE);
                    }
                }
                6 => {
                    world.leases.release(now, mac(n));
                    world.valid.retain(|_, (holder, _)| *holder != mac(n));
                }
                7 => {
                    world.leases.quarantine(now, ip(wanted));
                    world.valid.remove(&ip(wanted));
                }
                8 | 9 => {
                    let upkeep = world.leases.uphold(now, LEASE);
                    world.revoke(upkeep);
                }
                10 => world.reserve(now, plans[usize::from(wanted)].clone()),
                _ => world.crash(now),
            }
            world.store();
            for (address, (mac, until)) in world.valid.iter().filter(|(_, (_, end))| *end > now) {
                let held = world.stored.get(mac);
                prop_assert!(held.is_some_and(|h| h.address == *address && h.until >= *until));
            }
            for held in world.xdp.iter().flat_map(HashMap::values).filter(|h| h.until > now) {
                prop_assert_eq!(world.leases.address_of(held.mac), Some(held.address));
            }
            prop_assert_eq!(&world.leases.stored, &world.stored);
            prop_assert_eq!(world.leases.bindings.len(), world.leases.reclaim.len());
            prop_assert!(world.leases.bindings.len() <= (2..9).len(), "pool and reservations");
        }
    }
}
