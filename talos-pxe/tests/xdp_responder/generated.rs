//! Tens of thousands of requests that nobody thought of.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use talos_pxe::wire::dhcp::{Message, MessageType};
use talos_pxe::wire::frame::UdpFrame;
use talos_pxe_ebpf::outcome::Outcome;

use super::reference::{ALICE, Network, Service};
use super::requests::{Request, fault, well_formed};
use super::states::{golden, network_of};

const CASES: u32 = 20_000;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// What the daemon answers with an offer or an acknowledgement, the program answers as well; what
/// it refuses or is silent about, or does more for than to answer, is left to it.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_answers_well_formed_requests_as_the_daemon() {
    for service in [Service::Server, Service::Proxy] {
        let network = RefCell::new(Network::new(service));
        let run = runner(CASES).run(&well_formed(), |request| {
            let frame = request.frame();
            let answered = network.borrow_mut().compare(&frame);
            let daemon = network.borrow().daemon(&frame);
            if answered != daemon.is_some() {
                prop_assert!(is_left_to_the_daemon(&request, &daemon), "not answered");
            }
            Ok(())
        });
        let counters = network.borrow().loaded.maps.counters().unwrap();
        run.unwrap_or_else(|error| panic!("{service:?}: {error}\n{counters:?}"));
        assert!(counters.answered() > u64::from(CASES) / 10, "{service:?}: {counters:?}");
        assert_eq!(counters.of(Outcome::Broken), 0);
    }
}

fn is_left_to_the_daemon(request: &Request, reply: &Option<Vec<u8>>) -> bool {
    let Some(reply) = reply else { return false };
    let Ok(reply) = Message::parse(UdpFrame::parse(reply).unwrap().payload) else { return false };
    let value = |wanted| {
        request.options.iter().find(|(code, ..)| *code == wanted).map(|(_, value, _)| value)
    };
    let kind = value(53).unwrap()[0];
    let echoed: usize =
        [97, 61, 82].into_iter().filter_map(value).map(|value| 2 + value.len()).sum();
    let unusual = value(77).is_none()
        && value(93).is_none()
        && (value(60).is_some() || value(55).is_some_and(|list| list.len() > 64));
    request.chaddr != ALICE
        || reply.kind == MessageType::Nak
        || (kind == 8 && request.destination.port() == 67)
        // How much more than this is copied depends on the template.
        || echoed > 220
        || reply.encode().len() > 1472
        || unusual
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_answers_malformed_requests_as_the_daemon_or_not() {
    for service in [Service::Server, Service::Proxy] {
        let network = RefCell::new(Network::new(service));
        let requests = (well_formed(), prop::collection::vec(fault(), 1..3));
        let run = runner(CASES).run(&requests, |(mut request, faults)| {
            for fault in &faults {
                request.spoil(fault);
            }
            network.borrow_mut().compare(&request.frame());
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{service:?}: {error}"));
    }
}

/// Real requests with octets changed, cut off or added anywhere in the frame. `cargo xtask torture
/// frames` runs it for longer, and with other seeds.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_answers_damaged_frames_as_the_daemon_or_not() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let frames = number("TORTURE_FRAMES").unwrap_or(100_000) as usize;
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("TORTURE_SEED").unwrap_or(0).to_le_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let golden = golden();
    let mut answered = 0;
    for (_, frame) in &golden {
        let mut network = network_of(frame, Service::Server);
        for _ in 0..frames.div_ceil(golden.len()) {
            answered += usize::from(network.compare(&damage(frame, &mut rng)));
        }
    }
    assert!(answered > frames / 20, "only {answered} were still good requests");
    // `cargo xtask torture frames` reads this.
    println!("answered {answered}");
}

fn damage(frame: &[u8], rng: &mut TestRng) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for _ in 0..rng.next_u32() % 4 {
        // Most of a frame is unused fields; half of the damage goes to the headers and options.
        let at = match rng.next_u32() % 4 {
            0 => rng.next_u32() as usize % 76,
            1 => 278 + rng.next_u32() as usize % (frame.len() - 278),
            _ => rng.next_u32() as usize % frame.len(),
        };
        frame[at] = match rng.next_u32() % 3 {
            0 => rng.next_u32() as u8,
            1 => frame[at] ^ (1 << (rng.next_u32() % 8)),
            _ => [0, 1, 255, 53, 52, 82][rng.next_u32() as usize % 6],
        };
    }
    match rng.next_u32() % 16 {
        0 => frame.truncate(14 + rng.next_u32() as usize % (frame.len() - 14)),
        1 => frame.resize(frame.len() + rng.next_u32() as usize % 60, 0),
        _ => {}
    }
    // A wrong IPv4 checksum would hide most of the other damage to that header.
    if rng.next_u32().is_multiple_of(2) {
        repair_checksum(&mut frame);
    }
    frame
}

fn repair_checksum(frame: &mut [u8]) {
    let Some(header) = frame.get_mut(14..34) else { return };
    header[10..12].fill(0);
    let sum: u32 =
        header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = !((sum >> 16) + sum) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
