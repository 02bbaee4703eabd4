//! Reserved addresses, step by step.

use super::*;
use crate::state::leases::{Candidate, Pool};
use crate::state::store::Change;

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

/// 10.0.0.2 to 10.0.0.5.
fn leases() -> Leases {
    Leases::new(Pool::new(ip(2), ip(5), &[])).renewed_elsewhere(true)
}

fn reserve(leases: &mut Leases, now: u64, pairs: &[(u8, u8)]) -> Upkeep {
    let reservations = pairs.iter().map(|(n, address)| (mac(*n), ip(*address))).collect();
    leases.reserve(at(now), reservations, LEASE)
}

fn choose(leases: &mut Leases, now: u64, n: u8, wanted: u8) -> Candidate {
    leases.choose(at(now), mac(n), Some(ip(wanted))).unwrap()
}

fn lease(leases: &mut Leases, now: u64, n: u8) -> Ipv4Addr {
    let Candidate { address, .. } = choose(leases, now, n, 2);
    leases.bind(at(now), mac(n), LEASE);
    address
}

fn hold(n: u8, address: u8, until: u64) -> Change {
    Change::Hold(Held { mac: mac(n), address: ip(address), until: at(until) })
}

fn held(leases: &Leases, now: u64) -> Vec<(MacAddr, Ipv4Addr)> {
    let mut held: Vec<_> = leases.held(at(now)).map(|held| (held.mac, held.address)).collect();
    held.sort();
    held
}

#[test]
fn a_reserved_address_is_held_before_its_machine_asks_and_for_nobody_else() {
    let mut leases = leases();
    assert_eq!(reserve(&mut leases, 0, &[(1, 2), (2, 99)]), Upkeep::default());
    assert_eq!(leases.take_changes(), [hold(1, 2, 1200), hold(2, 99, 1200)]);
    assert_eq!(held(&leases, 0), [(mac(1), ip(2)), (mac(2), ip(99))]);
    assert_eq!(lease(&mut leases, 1, 3), ip(3), "wanted the reserved one");
    let own = |n| Candidate { address: ip(n), unverified: false };
    assert_eq!(choose(&mut leases, 1, 1, 5), own(2));
    assert_eq!(choose(&mut leases, 1, 2, 5), own(99), "outside the pool");
}

#[test]
fn a_reservation_is_renewed_ahead_of_need() {
    let mut leases = leases();
    assert_eq!(reserve(&mut leases, 0, &[(1, 2)]), Upkeep::default());
    assert_eq!(leases.take_changes(), [hold(1, 2, 1200)]);
    for (now, changes) in [(600, vec![]), (601, vec![hold(1, 2, 1801)]), (602, vec![])] {
        assert_eq!(leases.uphold(at(now), LEASE), Upkeep::default());
        assert_eq!(leases.take_changes(), changes, "at {now} s");
    }
}

#[test]
fn an_address_that_is_no_longer_reserved_ends_as_every_lease_does() {
    let mut leases = leases();
    assert_eq!(reserve(&mut leases, 0, &[(1, 2), (2, 99)]), Upkeep::default());
    // The one in the pool becomes an ordinary lease, the other cannot be renewed.
    let revoked = vec![mac(2)];
    assert_eq!(reserve(&mut leases, 10, &[]), Upkeep { revoked, taken: vec![] });
    assert_eq!(held(&leases, 10), [(mac(1), ip(2))]);
    assert_eq!(lease(&mut leases, 10, 2), ip(3));
    // Both are held until their horizon, whoever is to have them.
    let taken = |mac, address, by| Taken { mac, address, by: Some(by), until: at(1200) };
    let upkeep = Upkeep {
        revoked: vec![mac(1)],
        taken: vec![taken(mac(3), ip(99), mac(2)), taken(mac(4), ip(2), mac(1))],
    };
    assert_eq!(reserve(&mut leases, 20, &[(3, 99), (4, 2)]), upkeep);
    let _ = leases.take_changes();
    assert_eq!(leases.uphold(at(1199), LEASE), Upkeep::default());
    assert_eq!(leases.take_changes(), []);
    assert_eq!(leases.uphold(at(1200), LEASE).revoked, [mac(3), mac(4)]);
    let changes = [hold(3, 99, 2400), Change::Forget(mac(1)), hold(4, 2, 2400)];
    assert_eq!(leases.take_changes(), changes);
}

#[test]
fn a_machine_whose_address_is_promised_to_another_gets_a_second_one_meanwhile() {
    let mut leases = leases();
    assert_eq!(lease(&mut leases, 0, 1), ip(2));
    let upkeep = reserve(&mut leases, 10, &[(2, 2)]);
    let taken = Taken { mac: mac(2), address: ip(2), by: Some(mac(1)), until: at(1200) };
    assert_eq!(upkeep, Upkeep { revoked: vec![mac(1)], taken: vec![taken] });
    assert_eq!(leases.uphold(at(11), LEASE), Upkeep::default(), "told once");
    assert_eq!(leases.address_of(mac(1)), None, "no more renewals");
    assert_eq!(lease(&mut leases, 12, 1), ip(3));
    assert_eq!(lease(&mut leases, 12, 2), ip(4));
    // Its own is free from now on, and it keeps the other until it asks.
    assert_eq!(leases.uphold(at(1200), LEASE).revoked, [mac(2)]);
    assert_eq!(leases.address_of(mac(2)), Some(ip(2)));
    assert_eq!(lease(&mut leases, 1200, 2), ip(2));
    assert_eq!(leases.address_of(mac(1)), Some(ip(3)));
}

#[test]
fn a_machine_moves_to_another_address_when_it_asks() {
    let mut leases = leases();
    assert_eq!(reserve(&mut leases, 0, &[(1, 2)]), Upkeep::default());
    let _ = leases.take_changes();
    let revoked = vec![mac(1)];
    assert_eq!(reserve(&mut leases, 10, &[(1, 3)]), Upkeep { revoked, taken: vec![] });
    assert_eq!(leases.take_changes(), [], "the first one is still promised");
    assert_eq!(held(&leases, 10), []);
    let offered = choose(&mut leases, 20, 1, 2);
    assert_eq!(offered, Candidate { address: ip(3), unverified: true });
    assert_eq!(leases.take_changes(), []);
    leases.bind(at(20), mac(1), LEASE);
    assert_eq!(leases.take_changes(), [hold(1, 3, 1220)]);
    // Whoever is next waits until the end of what was promised of the first one.
    assert_eq!(reserve(&mut leases, 30, &[(1, 3), (2, 2)]).taken.len(), 1);
    assert_eq!(leases.uphold(at(1200), LEASE).revoked, [mac(2)]);
    assert_eq!(leases.address_of(mac(1)), Some(ip(3)));
}

#[test]
fn a_machine_that_never_asks_is_moved_at_the_horizon() {
    let mut leases = leases();
    assert_eq!(reserve(&mut leases, 0, &[(1, 2)]), Upkeep::default());
    let _ = reserve(&mut leases, 10, &[(1, 3)]);
    let _ = leases.take_changes();
    for (now, changes) in [(1199, vec![]), (1200, vec![hold(1, 3, 2400)])] {
        assert_eq!(leases.uphold(at(now), LEASE), Upkeep::default());
        assert_eq!(leases.take_changes(), changes, "at {now} s");
    }
}

#[test]
fn a_reserved_address_that_somebody_uses_rests() {
    let mut leases = leases();
    assert_eq!(reserve(&mut leases, 0, &[(1, 99)]), Upkeep::default());
    let _ = leases.take_changes();
    leases.quarantine(at(1), ip(99));
    assert_eq!(leases.take_changes(), [Change::Forget(mac(1))]);
    assert_eq!(lease(&mut leases, 1, 1), ip(2));
    let taken = Taken { mac: mac(1), address: ip(99), by: None, until: at(1200) };
    assert_eq!(leases.uphold(at(2), LEASE).taken, [taken]);
    assert_eq!(leases.uphold(at(1199), LEASE), Upkeep::default());
    assert_eq!(leases.uphold(at(1200), LEASE).revoked, [mac(1)]);
    assert_eq!(lease(&mut leases, 1200, 1), ip(99));
}

#[test]
fn an_address_that_was_never_used_is_leased_again_after_its_reservation() {
    let mut leases = leases();
    // Machine 1 has another address, so 10.0.0.3 is not held for it yet.
    assert_eq!(lease(&mut leases, 0, 1), ip(2));
    let _ = reserve(&mut leases, 0, &[(1, 3)]);
    assert_eq!([lease(&mut leases, 0, 2), lease(&mut leases, 0, 3)], [ip(4), ip(5)]);
    assert_eq!(reserve(&mut leases, 1, &[]), Upkeep::default());
    assert_eq!(lease(&mut leases, 1, 4), ip(3));
}

#[test]
fn stored_reservations_come_back() {
    let stored = vec![Held { mac: mac(1), address: ip(99), until: at(1200) }];
    let mut leases = Leases::restore(Pool::new(ip(2), ip(5), &[]), stored);
    assert_eq!(leases.address_of(mac(1)), None);
    assert_eq!(reserve(&mut leases, 700, &[(1, 99)]), Upkeep::default());
    assert_eq!(leases.take_changes(), [hold(1, 99, 1900)]);
    assert_eq!(held(&leases, 700), [(mac(1), ip(99))]);
}
