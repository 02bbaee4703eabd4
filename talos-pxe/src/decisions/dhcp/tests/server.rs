//! Leases: who gets which address, and how the reply travels.

use super::*;

#[test]
fn a_new_client_is_offered_an_address_once_nobody_claims_it() {
    let mut server = server();
    let discover = message(MessageType::Discover, ALICE, &[(61, b"\x01client")]);
    assert_eq!(send(&mut server, 0, discover.clone()), Step::Probe(FIRST));
    // A repeated DISCOVER waits for the same probe.
    assert_eq!(send(&mut server, 100, discover), Step::Silent(Silence::Checking));
    assert_eq!(server.next_deadline(), Some(at(250)));
    assert!(server.expired_probes(at(249)).is_empty());
    let offers = server.expired_probes(at(250));
    assert_eq!(server.next_deadline(), None);

    let [Reply { message, mac, destination }] = &offers[..] else { panic!("{offers:?}") };
    assert_eq!((*mac, *destination), (ALICE, SocketAddrV4::new(FIRST, 68)));
    assert_eq!((message.op, message.kind), (Opcode::BootReply, MessageType::Offer));
    assert_eq!((message.yiaddr, message.ciaddr), (FIRST, Ipv4Addr::UNSPECIFIED));
    let options: Vec<_> = message.options.iter().map(|(c, v)| (u8::from(c), v.to_vec())).collect();
    let expected = [
        (54, SERVER.octets().to_vec()),
        (51, 300u32.to_be_bytes().to_vec()),
        (58, 150u32.to_be_bytes().to_vec()),
        (59, 263u32.to_be_bytes().to_vec()),
        (1, vec![255, 255, 255, 0]),
        (3, SERVER.octets().to_vec()),
        (6, vec![9, 9, 9, 9]),
        (61, b"\x01client".to_vec()),
    ];
    assert_eq!(options, expected);
}

#[test]
fn an_address_in_use_is_skipped() {
    let mut server = server();
    let discover = message(MessageType::Discover, ALICE, &[]);
    assert_eq!(send(&mut server, 0, discover), Step::Probe(FIRST));
    // The client's own ARP is no conflict, nor is one about another address.
    assert_eq!(server.in_use(at(10), FIRST, ALICE), None);
    assert_eq!(server.in_use(at(10), SECOND, BOB), None);
    assert_eq!(server.in_use(at(10), FIRST, BOB), Some((ALICE, Step::Probe(SECOND))));
    let offers = server.expired_probes(at(260));
    assert_eq!(offers.iter().map(|o| o.message.yiaddr).collect::<Vec<_>>(), [SECOND]);
}

#[test]
fn the_broadcast_flag_is_honoured() {
    let mut server = server();
    lease(&mut server, 0, ALICE, &[]);
    let discover = Message { broadcast: true, ..message(MessageType::Discover, ALICE, &[]) };
    let offer = reply(send(&mut server, 1000, discover));
    assert_eq!(offer.mac, MacAddr::BROADCAST);
    assert_eq!(offer.destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    assert!(offer.message.broadcast);
}

#[test]
fn a_relayed_request_is_answered_to_the_relay() {
    let mut server = server();
    let relayed = |giaddr| Message {
        giaddr,
        ..message(MessageType::Discover, ALICE, &[(82, b"\x01\x04port")])
    };
    let from = Ingress { mac: BOB, source: SocketAddrV4::new(RELAY, 67) };
    assert_eq!(server.answer(at(0), from, relayed(RELAY)), Step::Probe(FIRST));
    let offer = server.expired_probes(at(250)).remove(0);
    assert_eq!((offer.mac, offer.destination), (BOB, SocketAddrV4::new(RELAY, 67)));
    let (last, value) = offer.message.options.iter().last().unwrap();
    assert_eq!((last, value), (OptionCode::RelayAgentInformation, &b"\x01\x04port"[..]));

    let foreign = Ipv4Addr::new(10, 1, 1, 1);
    let step = server.answer(at(1), from, relayed(foreign));
    assert_eq!(step, Step::Silent(Silence::OtherSubnet(foreign)));
}

#[test]
fn a_request_is_answered_according_to_the_clients_state() {
    let server_id = (54, &SERVER.octets()[..]);
    let other_id = (54, &[10, 0, 0, 9][..]);
    let right = (50, &FIRST.octets()[..]);
    let wrong = (50, &SECOND.octets()[..]);
    let elsewhere = (50, &[10, 0, 0, 7][..]);
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let foreign = Ipv4Addr::new(10, 0, 0, 7);
    let ack = Ok(MessageType::Ack);
    let nak = Ok(MessageType::Nak);
    // (machine, options, ciaddr, answer)
    let cases = [
        ("selecting", ALICE, vec![server_id, right], unspecified, ack),
        ("selecting, wrong address", ALICE, vec![server_id, wrong], unspecified, nak),
        ("selecting, never offered", BOB, vec![server_id, right], unspecified, nak),
        ("selecting, no address", ALICE, vec![server_id], unspecified, nak),
        (
            "selecting another server",
            ALICE,
            vec![other_id, right],
            unspecified,
            Err(Silence::OtherServer(Ipv4Addr::new(10, 0, 0, 9))),
        ),
        ("init-reboot", ALICE, vec![right], unspecified, ack),
        ("init-reboot, wrong address", ALICE, vec![wrong], unspecified, nak),
        ("init-reboot, other network", ALICE, vec![elsewhere], unspecified, nak),
        ("init-reboot, unknown", BOB, vec![right], unspecified, Err(Silence::NoRecord)),
        ("init-reboot, unknown from elsewhere", BOB, vec![elsewhere], unspecified, nak),
        ("renewing", ALICE, vec![], FIRST, ack),
        ("renewing, wrong address", ALICE, vec![], SECOND, nak),
        ("renewing, unknown", BOB, vec![], FIRST, Err(Silence::NoRecord)),
        ("renewing from elsewhere", BOB, vec![], foreign, nak),
    ];
    for (state, mac, options, ciaddr, expected) in cases {
        let mut server = server();
        lease(&mut server, 0, ALICE, &[]);
        let request = Message { ciaddr, ..message(MessageType::Request, mac, &options) };
        let from = Ingress { mac, source: SocketAddrV4::new(ciaddr, 68) };
        match (server.answer(at(100_000), from, request), expected) {
            (Step::Silent(reason), Err(expected)) => assert_eq!(reason, expected, "{state}"),
            (Step::Reply(reply), Ok(kind)) => {
                assert_eq!(reply.message.kind, kind, "{state}");
                let renewing = !ciaddr.is_unspecified() && kind == MessageType::Ack;
                let ip = match kind {
                    MessageType::Nak => Ipv4Addr::BROADCAST,
                    _ => FIRST,
                };
                assert_eq!(reply.destination, SocketAddrV4::new(ip, 68), "{state}");
                let yiaddr = if kind == MessageType::Nak { unspecified } else { FIRST };
                assert_eq!(reply.message.yiaddr, yiaddr, "{state}");
                assert_eq!(reply.message.ciaddr, if renewing { ciaddr } else { unspecified });
            }
            (step, expected) => panic!("{state}: {step:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn a_nak_through_a_relay_is_to_be_broadcast() {
    let mut server = server();
    let request = Message {
        giaddr: RELAY,
        ..message(MessageType::Request, BOB, &[(54, &SERVER.octets()), (50, &FIRST.octets())])
    };
    let nak = reply(send(&mut server, 0, request));
    assert_eq!(nak.destination, SocketAddrV4::new(RELAY, 67));
    assert!(nak.message.broadcast);
    assert_eq!(nak.message.options.seconds(OptionCode::AddressLeaseTime), None);
}

#[test]
fn declined_addresses_rest_and_released_ones_stay_with_their_machine() {
    let mut server = server_with(SECOND);
    lease(&mut server, 0, ALICE, &[]);
    let decline = message(MessageType::Decline, ALICE, &[(50, &FIRST.octets())]);
    assert_eq!(send(&mut server, 1000, decline.clone()), Step::Silent(Silence::Declined(FIRST)));
    assert_eq!(send(&mut server, 1000, decline), Step::Silent(Silence::NoRecord));
    assert_eq!(lease(&mut server, 2000, ALICE, &[]).yiaddr, SECOND);
    let discover = message(MessageType::Discover, BOB, &[]);
    assert_eq!(send(&mut server, 3000, discover.clone()), Step::Silent(Silence::PoolExhausted));

    let release = Message { ciaddr: SECOND, ..message(MessageType::Release, ALICE, &[]) };
    assert_eq!(send(&mut server, 4000, release), Step::Silent(Silence::Released(SECOND)));
    assert_eq!(send(&mut server, 5000, discover), Step::Probe(SECOND));
}

#[test]
fn inform_gets_the_configuration_without_a_lease() {
    let inform = Message { ciaddr: SECOND, ..message(MessageType::Inform, BOB, &[]) };
    let ack = reply(send(&mut server(), 0, inform));
    assert_eq!(ack.destination, SocketAddrV4::new(SECOND, 68));
    assert_eq!(ack.message.yiaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(ack.message.options.seconds(OptionCode::AddressLeaseTime), None);
    assert_eq!(ack.message.options.addresses(OptionCode::Router), [SERVER]);
}

fn reserve(server: &mut Server, now: u64, address: Ipv4Addr) -> Upkeep {
    server.reserve(at(now), [(ALICE, address)].into_iter().collect())
}

#[test]
fn a_reserved_address_is_offered_at_once() {
    let mut server = server_with(SECOND);
    let outside = Ipv4Addr::new(192, 168, 123, 99);
    assert_eq!(reserve(&mut server, 0, outside), Upkeep::default());
    assert_eq!(lease(&mut server, 10, ALICE, &[]).yiaddr, outside);
    let wish = message(MessageType::Discover, BOB, &[(50, &outside.octets())]);
    assert_eq!(send(&mut server, 20, wish), Step::Probe(FIRST));
}

#[test]
fn a_machine_whose_address_was_changed_is_refused_the_old_one_and_moves() {
    let mut server = server();
    lease(&mut server, 0, ALICE, &[]);
    assert_eq!(reserve(&mut server, 1000, SECOND).revoked, [ALICE]);
    let from = Ingress { mac: ALICE, source: SocketAddrV4::new(FIRST, 68) };
    let renewal = Message { ciaddr: FIRST, ..message(MessageType::Request, ALICE, &[]) };
    let nak = reply(server.answer(at(2000), from, renewal));
    assert_eq!(nak.message.kind, MessageType::Nak);
    // The segment is asked about an address that is not held yet.
    let discover = message(MessageType::Discover, ALICE, &[]);
    assert_eq!(send(&mut server, 3000, discover), Step::Probe(SECOND));
    assert_eq!(server.expired_probes(at(3250)).remove(0).message.yiaddr, SECOND);
    assert_eq!(lease(&mut server, 4000, ALICE, &[]).yiaddr, SECOND);
}

#[test]
fn a_reserved_address_that_is_declined_rests() {
    let mut server = server();
    assert_eq!(reserve(&mut server, 0, SECOND), Upkeep::default());
    lease(&mut server, 0, ALICE, &[]);
    let decline = message(MessageType::Decline, ALICE, &[(50, &SECOND.octets())]);
    assert_eq!(send(&mut server, 1000, decline), Step::Silent(Silence::Declined(SECOND)));
    let taken = server.uphold(at(2000)).taken;
    assert_eq!(taken.iter().map(|t| (t.mac, t.by)).collect::<Vec<_>>(), [(ALICE, None)]);
    assert_eq!(lease(&mut server, 3000, ALICE, &[]).yiaddr, FIRST);
}

#[test]
fn an_address_that_becomes_reserved_while_it_is_checked_goes_to_its_machine() {
    let mut server = server();
    // Alice has another one, so hers is not held for her yet.
    lease(&mut server, 0, ALICE, &[]);
    let discover = |mac| message(MessageType::Discover, mac, &[]);
    assert_eq!(send(&mut server, 1000, discover(BOB)), Step::Probe(SECOND));
    assert_eq!(reserve(&mut server, 1100, SECOND).revoked, [ALICE]);
    assert_eq!(send(&mut server, 1200, discover(ALICE)), Step::Probe(SECOND));
    assert!(server.expired_probes(at(1300)).is_empty(), "Bob's check is over, hers is not");
    let offers = server.expired_probes(at(1500));
    let offered: Vec<_> = offers.iter().map(|o| (o.message.chaddr, o.message.yiaddr)).collect();
    assert_eq!(offered, [(ALICE, SECOND)]);
    assert_eq!(server.next_deadline(), None);
}

#[test]
fn an_address_that_was_checked_ahead_is_offered_soon() {
    // When its check began, whether somebody was heard to use it, when it is asked for, and
    // when it is offered.
    for (asked, heard, discover, offered) in [
        (0, false, 1000, 1003),
        (0, false, 100, 250),
        (0, false, 599_999, 600_002),
        (0, false, 600_000, 600_250),
        (0, true, 1000, 1250),
    ] {
        let mut server = server_with(SECOND);
        assert_eq!(server.look_ahead(at(asked)), [FIRST, SECOND]);
        if heard {
            assert_eq!(server.in_use(at(asked), FIRST, BOB), None);
        }
        let request = message(MessageType::Discover, ALICE, &[]);
        assert_eq!(send(&mut server, discover, request), Step::Probe(FIRST));
        assert_eq!(server.next_deadline(), Some(at(offered)), "{asked} {heard} {discover}");
        // The host that uses it is asked all the same.
        let next = server.in_use(at(discover + 1), FIRST, BOB);
        assert_eq!(next, Some((ALICE, Step::Probe(SECOND))));
    }
}

#[test]
fn the_segment_is_asked_about_as_many_addresses_as_a_rack_needs_and_seldom_again() {
    let mut server = server_with(Ipv4Addr::new(192, 168, 126, 254));
    let asked = server.look_ahead(at(0));
    assert_eq!(
        (asked.len(), asked.first(), server.should_look_ahead()),
        (512, Some(&FIRST), false)
    );
    assert!(server.look_ahead(at(599_999)).is_empty());
    // Who uses an address is not asked every second.
    assert_eq!(server.in_use(at(599_999), SECOND, BOB), None);
    assert!(server.look_ahead(at(599_999)).is_empty());
    for number in 0..65u16 {
        let [high, low] = number.to_be_bytes();
        let mac = MacAddr([0x52, 0x54, 0, 0, high, low]);
        assert!(!server.should_look_ahead(), "after {number}");
        let step = send(&mut server, 599_999, message(MessageType::Discover, mac, &[]));
        assert!(matches!(step, Step::Probe(_)), "{step:?}");
    }
    assert!(server.should_look_ahead());
    assert_eq!(server.look_ahead(at(599_999)).len(), 65);
    assert!(!server.should_look_ahead());
    assert_eq!(server.look_ahead(at(600_000)).len(), 512 - 65, "those of the beginning");
}
