//! What the program passes on, and the reason that it counts.

use std::net::Ipv4Addr;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use talos_pxe::edges::xdp::InsertError;
use talos_pxe::time::BootTime;
use talos_pxe::wire::MacAddr;
use talos_pxe_ebpf::maps::EVENTS_PER_CPU;
use talos_pxe_ebpf::outcome::Outcome;

use super::reference::{ALICE, ALICES, BOB, LEASE, Network, Service};
use super::requests::{OTHER_SERVER, RELAY, Request};

/// Runs the frame and returns the one outcome that was counted.
fn outcome(network: &mut Network, frame: &[u8]) -> Outcome {
    let before = network.loaded.maps.counters().unwrap();
    network.compare(frame);
    let after = network.loaded.maps.counters().unwrap();
    let changed: Vec<Outcome> =
        after.iter().filter(|(o, count)| before.of(*o) != *count).map(|(o, _)| o).collect();
    let [outcome] = changed[..] else { panic!("{changed:?}") };
    outcome
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_counts_why_it_passes_a_frame_on() {
    let mut network = Network::new(Service::Server);
    let discover = Request::new(1);
    let request = Request::new(3);
    let with = |code, value: &[u8]| discover.clone().with(code, value).frame();
    let changed = |change: fn(&mut Request)| {
        let mut request = Request::new(1);
        change(&mut request);
        request.frame()
    };
    let spoilt = |at: usize, octets: &[u8]| {
        let mut frame = discover.frame();
        frame.splice(at..at + octets.len(), octets.iter().copied());
        frame
    };
    let mut tagged = discover.frame();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let cases = [
        ("good", discover.frame(), Outcome::Offered),
        ("VLAN tag", tagged, Outcome::Other),
        ("IP options", spoilt(14, &[0x46]), Outcome::Other),
        ("TCP", spoilt(23, &[6]), Outcome::Other),
        ("another port", spoilt(36, &[0, 69]), Outcome::Other),
        ("short", discover.frame()[..280].to_vec(), Outcome::Other),
        ("fragment", spoilt(20, &[0x20]), Outcome::Fragment),
        ("cut off", discover.frame()[..330].to_vec(), Outcome::BadLength),
        ("UDP length", spoilt(38, &[1, 0]), Outcome::BadLength),
        ("checksum", spoilt(24, &[0, 0]), Outcome::BadChecksum),
        ("to another machine", spoilt(0, &BOB.0), Outcome::NotForUs),
        (
            "to another address",
            changed(|request| request.destination.set_ip(OTHER_SERVER)),
            Outcome::NotForUs,
        ),
        ("a reply", changed(|request| request.head[0] = 2), Outcome::NotARequest),
        ("not Ethernet", changed(|request| request.head[1] = 6), Outcome::NotARequest),
        ("no magic cookie", spoilt(278, &[0]), Outcome::NotARequest),
        ("overload", with(52, &[1]), Outcome::Overload),
        ("twice", with(53, &[1]), Outcome::DuplicateOption),
        ("wrong length", with(50, &[1, 2, 3]), Outcome::OptionLength),
        ("odd length", with(93, &[0, 0, 0]), Outcome::OptionLength),
        (
            "no end mark",
            changed(|request| {
                request.ended = false;
                request.length = 0;
            }),
            Outcome::UnendedOptions,
        ),
        ("pads", changed(|request| request.options[0].2 = 900), Outcome::Offered),
        ("no type", changed(|request| request.options.clear()), Outcome::OtherKind),
        ("decline", Request::new(4).frame(), Outcome::OtherKind),
        ("release", Request::new(7).frame(), Outcome::OtherKind),
        ("inform", Request::new(8).frame(), Outcome::OtherKind),
        (
            "foreign relay",
            changed(|request| request.giaddr = Ipv4Addr::new(10, 0, 0, 1)),
            Outcome::OtherSubnet,
        ),
        (
            "another server",
            request.clone().with(54, &OTHER_SERVER.octets()).frame(),
            Outcome::OtherServer,
        ),
        (
            "another address",
            request.clone().with(50, &RELAY.octets()).frame(),
            Outcome::OtherAddress,
        ),
        ("no address", request.frame(), Outcome::OtherAddress),
        ("unknown", changed(|request| request.chaddr = BOB), Outcome::UnknownMachine),
        ("class with colons", with(60, b"a:b"), Outcome::UnusualClient),
        (
            "echoes too long",
            discover.clone().with(61, &[1; 255]).with(82, &[1; 255]).frame(),
            Outcome::TooLong,
        ),
    ];
    for (name, frame, expected) in cases {
        assert_eq!(outcome(&mut network, &frame), expected, "{name}");
    }
    let mut proxy = Network::new(Service::Proxy);
    assert_eq!(outcome(&mut proxy, &discover.frame()), Outcome::NoTemplate);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_promises_nothing_beyond_the_horizon() {
    let mut network = Network::new(Service::Server);
    let discover = Request::new(1).frame();
    let request = Request::new(3).with(50, &ALICES.octets()).frame();
    let minute = Duration::from_secs(60);
    for (horizon, offer, ack) in [
        (LEASE + minute, Outcome::Offered, Outcome::Acknowledged),
        (LEASE, Outcome::Offered, Outcome::Horizon),
        (2 * minute, Outcome::Offered, Outcome::Horizon),
        (minute, Outcome::Horizon, Outcome::Horizon),
    ] {
        network.loaded.maps.insert(ALICE, ALICES, BootTime::now() + horizon).unwrap();
        assert_eq!(outcome(&mut network, &discover), offer, "{horizon:?}");
        assert_eq!(outcome(&mut network, &request), ack, "{horizon:?}");
    }
    network.loaded.maps.insert(ALICE, ALICES, BootTime::BOOT).unwrap();
    assert_eq!(outcome(&mut network, &discover), Outcome::Horizon);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_promises_nothing_that_it_cannot_record() {
    // Each CPU records for itself, and a test run runs where its caller does.
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here).unwrap();
    let mut network = Network::new(Service::Server);
    let discover = Request::new(1).frame();
    let mut recorded = 0;
    while network.loaded.maps.counters().unwrap().of(Outcome::EventsFull) == 0 {
        let _ = network.kernel(&discover);
        recorded += 1;
    }
    assert_eq!(recorded, EVENTS_PER_CPU as usize + 1);
    assert_eq!(network.loaded.maps.events(10).len(), 10);
    assert_eq!(network.loaded.maps.events(usize::MAX).len(), recorded - 11);
    assert_eq!(outcome(&mut network, &discover), Outcome::Offered);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_forgets_machines_and_refuses_more_than_it_was_loaded_for() {
    let mut network = Network::new(Service::Server);
    let maps = &mut network.loaded.maps;
    let horizon = BootTime::now() + 10 * LEASE;
    let machine = |n: u8| MacAddr([2, 0, 0, 0, 0, n]);
    for n in 1..16 {
        maps.insert(machine(n), ALICES, horizon).unwrap();
    }
    let full = maps.insert(machine(16), ALICES, horizon);
    assert!(matches!(full, Err(InsertError::Full(16))), "{full:?}");
    maps.insert(ALICE, ALICES, horizon).unwrap();
    for _ in 0..2 {
        maps.remove(machine(1));
    }
    maps.insert(machine(16), ALICES, horizon).unwrap();
    maps.remove(ALICE);
    let discover = Request::new(1).frame();
    assert_eq!(outcome(&mut network, &discover), Outcome::UnknownMachine);
}
