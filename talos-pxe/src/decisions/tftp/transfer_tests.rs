//! A transfer against a client that follows the RFCs, over a network that loses packets.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn request<'a>(options: &[(&'a str, &'a str)]) -> Request<'a> {
    Request { write: false, name: "x", mode: "octet", options: options.to_vec() }
}

fn at(millis: u64) -> BootTime {
    BootTime::BOOT + Duration::from_millis(millis)
}

#[test]
fn options_are_granted_within_bounds() {
    let asked = [
        ("TSIZE", "0"),
        ("blksize", "65464"),
        ("windowsize", "65535"),
        ("timeout", "255"),
        ("multicast", ""),
        ("blksize", "8"),
    ];
    let terms = Terms::of(&request(&asked), 3000);
    assert_eq!(terms.granted, [("tsize", 3000), ("blksize", 1432), ("windowsize", 8)]);
    for (name, value) in
        [("blksize", "7"), ("blksize", "x"), ("windowsize", "0"), ("tsize", "-1"), ("blksize", "")]
    {
        assert_eq!(Terms::of(&request(&[(name, value)]), 1).granted, [], "{name} {value}");
    }
}

#[test]
fn a_lockstep_transfer() {
    let (mut transfer, first) = Transfer::start(at(0), &Terms::of(&request(&[]), 1024), 1024);
    assert_eq!(first, Step::Blocks(1..=1));
    assert_eq!(transfer.on_ack(at(1), 1), Step::Blocks(2..=2));
    assert_eq!(transfer.on_ack(at(1), 1), Step::Nothing, "repeated");
    assert_eq!(transfer.on_ack(at(2), 7), Step::Nothing, "never sent");
    assert_eq!(transfer.on_ack(at(2), 2), Step::Blocks(3..=3), "an empty block ends it");
    assert_eq!(transfer.on_ack(at(3), 3), Step::Done);
}

#[test]
fn a_request_that_was_repeated_long_ago_ends_no_transfer() {
    let terms = Terms::of(&request(&[("blksize", "1000")]), 5000);
    let (mut transfer, first) = Transfer::start(at(0), &terms, 5000);
    assert_eq!(first, Step::Options);
    assert!(!transfer.is_lively(at(1)), "the options may be lost: begin anew");
    assert_eq!(transfer.on_ack(at(300), 0), Step::Blocks(1..=1));
    assert!(transfer.is_lively(at(301)));
    assert_eq!(transfer.on_ack(at(400), 1), Step::Blocks(2..=2));
    assert!(transfer.is_lively(at(3399)));
    assert!(!transfer.is_lively(at(3400)), "the client may have started again");
}

#[test]
fn a_window_goes_on_behind_the_last_block_that_came() {
    let terms = Terms::of(&request(&[("windowsize", "4")]), 5000);
    let (mut transfer, first) = Transfer::start(at(0), &terms, 5000);
    assert_eq!(first, Step::Options);
    assert_eq!(transfer.on_ack(at(1), 3), Step::Nothing, "nothing was sent yet");
    assert_eq!(transfer.on_ack(at(1), 0), Step::Blocks(1..=4));
    assert_eq!(transfer.on_ack(at(2), 2), Step::Blocks(3..=6));
    assert_eq!(transfer.on_ack(at(3), 6), Step::Blocks(7..=10));
    assert_eq!(transfer.on_ack(at(4), 10), Step::Done);
}

#[test]
fn a_silent_client_is_sent_to_less_and_less_and_then_given_up() {
    let (mut transfer, _) = Transfer::start(at(0), &Terms::of(&request(&[]), 9), 9);
    let mut sent = 0;
    let end = loop {
        let now = transfer.deadline();
        assert_eq!(transfer.on_time(now - Duration::from_nanos(1)), Step::Nothing);
        match transfer.on_time(now) {
            Step::Blocks(_) => sent += 1,
            Step::GivenUp => break now,
            other => panic!("{other:?}"),
        }
    };
    assert!(end >= at(30_000) && end < at(33_000), "{end:?}");
    assert!(sent < 20, "{sent} packets to nobody");
}

/// Block numbers have two octets; files may have more blocks.
#[test]
fn block_numbers_wrap() {
    let length = 70_000 * 512;
    let (mut transfer, _) = Transfer::start(at(0), &Terms::of(&request(&[]), length), length);
    for block in 1..=70_000_u64 {
        assert_eq!(transfer.on_ack(at(block), block as u16), Step::Blocks(block + 1..=block + 1));
    }
}

/// What is under way, in the order of arrival.
#[derive(Default)]
struct Wire(BTreeMap<(u64, u64), Parcel>, u64);

#[derive(Clone, Copy)]
enum Parcel {
    Options,
    Block(u64),
    Ack(u16),
}

impl Wire {
    fn put(&mut self, arrives: u64, parcel: Parcel) {
        self.1 += 1;
        self.0.insert((arrives, self.1), parcel);
    }
}

/// Plays a transfer over a wire that loses one of `loss` packets, or none. Returns how many
/// packets with blocks were sent, and the milliseconds that it took.
fn play(length: u64, window: u64, loss: u64, seed: u64) -> (u64, u64) {
    let (window_text, block_size) = (window.to_string(), 512);
    let terms = Terms::of(&request(&[("windowsize", &window_text)]), length);
    let last = length / block_size + 1;
    let mut random = seed | 1;
    let mut lost = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        loss != 0 && random.is_multiple_of(loss)
    };
    let (mut wire, mut sent) = (Wire::default(), 0);
    let mut send = |step: Step, now: u64, wire: &mut Wire| match step {
        Step::Options if !lost() => wire.put(now + 1, Parcel::Options),
        Step::Blocks(blocks) => {
            for block in blocks {
                sent += 1;
                if !lost() {
                    wire.put(now + 1, Parcel::Block(block));
                }
            }
        }
        Step::Done => panic!("done twice"),
        Step::GivenUp => panic!("given up"),
        _ => {}
    };
    let (mut transfer, first) = Transfer::start(at(0), &terms, length);
    send(first, 0, &mut wire);
    let (mut has, mut in_window, mut gap, mut heard) = (0_u64, 0, false, 0);
    let mut random = !seed | 1;
    let mut ack_lost = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        loss != 0 && random.is_multiple_of(loss)
    };
    for now in 1..1_000_000 {
        while let Some(entry) = wire.0.first_entry().filter(|entry| entry.key().0 <= now) {
            let acknowledge = match entry.remove() {
                Parcel::Ack(block) => {
                    match transfer.on_ack(at(now), block) {
                        Step::Done => return (sent, now),
                        step => send(step, now, &mut wire),
                    }
                    continue;
                }
                Parcel::Options => has == 0,
                Parcel::Block(block) if block == has + 1 => {
                    (has, in_window, gap) = (block, in_window + 1, false);
                    in_window == window || has == last
                }
                // Out of order: once for each gap.
                Parcel::Block(_) => !std::mem::replace(&mut gap, true),
            };
            heard = now;
            if acknowledge {
                in_window = 0;
                if !ack_lost() {
                    wire.put(now + 1, Parcel::Ack(has as u16));
                }
            }
        }
        // The client's own patience.
        if now > heard + 1000 {
            heard = now;
            wire.put(now + 1, Parcel::Ack(has as u16));
        }
        send(transfer.on_time(at(now)), now, &mut wire);
    }
    panic!("never done");
}

#[test]
fn nothing_is_sent_twice_on_a_good_wire() {
    for window in [1, 4, 8] {
        let (sent, took) = play(512 * 1000, window, 0, 1);
        assert_eq!(sent, 1001);
        assert!(took <= 2 * (1001 / window + 3), "{took} ms with window {window}");
    }
}

#[test]
fn one_loss_in_a_hundred_costs_little() {
    for window in [1, 4, 8] {
        let (mut sent, mut blocks) = (0, 0);
        for seed in 1..50 {
            sent += play(512 * 2000, window, 100, seed * 7919).0;
            blocks += 2001;
        }
        assert!(sent * 10 < blocks * 11, "{sent} packets for {blocks} blocks, window {window}");
    }
}

proptest! {
    #[test]
    fn every_transfer_ends(
        length in 0..200_000_u64, window in 1..20_u64, loss in 3..50_u64, seed: u64,
    ) {
        let _ = play(length, window.min(8), loss, seed);
    }

    #[test]
    fn takes_any_acknowledgement(acks: Vec<(u16, bool)>, length in 0..3_000_000_u64) {
        let terms = Terms::of(&request(&[("windowsize", "16")]), length);
        let (mut transfer, _) = Transfer::start(at(0), &terms, length);
        for (millis, (ack, time)) in acks.into_iter().enumerate() {
            let now = at(millis as u64 * 100);
            let step = if time { transfer.on_time(now) } else { transfer.on_ack(now, ack) };
            if let Step::Blocks(blocks) = &step {
                prop_assert!(*blocks.end() <= length / 512 + 1 && blocks.clone().count() <= 8);
            }
            if step == Step::Done {
                break;
            }
        }
    }
}
