//! Tests of the DHCP client, with virtual time.

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
/// Random numbers in the middle, where the spread of waiting times is none.
const MIDDLE: u32 = u32::MAX / 2;

fn at(seconds: u64) -> BootTime {
    BootTime::BOOT + Duration::from_secs(seconds)
}

fn reply(kind: MessageType, xid: u32) -> Message {
    let mut message = Message::new(Opcode::BootReply, kind, xid, MAC);
    message.yiaddr = ADDRESS;
    message.options.append(OptionCode::ServerIdentifier, &SERVER.octets());
    message.options.append(OptionCode::SubnetMask, &[255, 255, 255, 0]);
    message.options.append(OptionCode::AddressLeaseTime, &1000_u32.to_be_bytes());
    message.options.append(OptionCode::Router, &[10, 0, 0, 254]);
    message.options.append(OptionCode::DomainNameServer, &[10, 0, 0, 2, 10, 0, 0, 3]);
    message
}

fn nak(xid: u32) -> Message {
    let mut message = Message::new(Opcode::BootReply, MessageType::Nak, xid, MAC);
    message.options.append(OptionCode::ServerIdentifier, &SERVER.octets());
    message
}

/// A client that asked at 100 s and got its lease, for 1000 s, at once.
fn bound() -> Client {
    let mut client = Client::new(MAC, at(100));
    let discover = client.tick(at(100), 7).unwrap().message;
    client.receive(at(100), SERVER_MAC, &reply(MessageType::Offer, discover.xid));
    client.accept(at(100));
    let request = client.tick(at(100), 8).unwrap().message;
    client.receive(at(100), SERVER_MAC, &reply(MessageType::Ack, request.xid));
    assert!(client.lease().is_some());
    client
}

#[test]
fn discovers_again_after_ever_longer_waits() {
    let mut client = Client::new(MAC, at(0));
    let mut waits = vec![];
    for _ in 0..8 {
        let now = client.due();
        let sent = client.tick(now, MIDDLE).unwrap();
        assert_eq!(sent.message.kind, MessageType::Discover);
        assert_eq!(u64::from(sent.message.secs), now.since(at(0)).as_secs());
        assert_eq!(sent.source, Ipv4Addr::UNSPECIFIED);
        assert_eq!(sent.destination, Ipv4Addr::BROADCAST);
        waits.push(client.due().since(now).as_secs_f64().round());
        assert_eq!(client.tick(now, MIDDLE), None, "not due yet");
    }
    assert_eq!(waits, [1., 2., 4., 8., 16., 32., 64., 64.]);
}

#[test]
fn takes_an_offer_in_the_same_transaction() {
    let mut client = Client::new(MAC, at(100));
    let discover = client.tick(at(100), 7).unwrap().message;
    assert_eq!(discover.xid, 7);
    client.receive(at(103), SERVER_MAC, &reply(MessageType::Offer, 7));
    let offer = client.offer().unwrap();
    assert_eq!(offer.address.to_string(), "10.0.0.50/24");
    assert_eq!(client.tick(at(1000), 1), None, "it waits until it is accepted");

    client.accept(at(103));
    let request = client.tick(at(103), 8).unwrap();
    assert_eq!(request.message.kind, MessageType::Request);
    assert_eq!(request.message.xid, 7);
    assert_eq!(request.message.ciaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(request.destination, Ipv4Addr::BROADCAST);
    let options = &request.message.options;
    assert_eq!(options.address(OptionCode::RequestedIpAddress), Some(ADDRESS));
    assert_eq!(options.address(OptionCode::ServerIdentifier), Some(SERVER));

    client.receive(at(104), SERVER_MAC, &reply(MessageType::Ack, 7));
    let expected = Lease {
        address: "10.0.0.50/24".parse().unwrap(),
        server: SERVER,
        server_mac: SERVER_MAC,
        router: Some(Ipv4Addr::new(10, 0, 0, 254)),
        dns: vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)],
        renew_at: at(603),
        rebind_at: at(978),
        ends_at: at(1103),
    };
    assert_eq!(client.lease(), Some(&expected));
    assert_eq!(client.due(), at(603));
}

#[test]
fn ignores_what_is_not_for_it() {
    let mut client = Client::new(MAC, at(0));
    let _ = client.tick(at(0), 7);
    let good = reply(MessageType::Offer, 7);
    let mut without_server = good.clone();
    without_server.options = Default::default();
    for (what, message) in [
        ("another transaction", Message { xid: 8, ..good.clone() }),
        ("another client", Message { chaddr: SERVER_MAC, ..good.clone() }),
        ("a request", Message { op: Opcode::BootRequest, ..good.clone() }),
        ("a proxyDHCP offer", Message { yiaddr: Ipv4Addr::UNSPECIFIED, ..good.clone() }),
        ("an ACK before the request", Message { kind: MessageType::Ack, ..good.clone() }),
        ("no server identifier", without_server),
    ] {
        client.receive(at(1), SERVER_MAC, &message);
        assert_eq!(client.offer(), None, "{what}");
        assert_eq!(client.lease(), None, "{what}");
    }
    client.receive(at(1), SERVER_MAC, &good);
    assert!(client.offer().is_some());
}

#[test]
fn looks_again_when_the_server_takes_its_offer_back_or_falls_silent() {
    let mut refused = Client::new(MAC, at(0));
    let _ = refused.tick(at(0), 7);
    refused.receive(at(0), SERVER_MAC, &reply(MessageType::Offer, 7));
    refused.accept(at(0));
    let _ = refused.tick(at(0), 8);
    refused.receive(at(1), SERVER_MAC, &nak(7));
    assert_eq!(refused.tick(at(1), 9).unwrap().message.kind, MessageType::Discover);

    let mut silent = Client::new(MAC, at(0));
    let _ = silent.tick(at(0), 7);
    silent.receive(at(0), SERVER_MAC, &reply(MessageType::Offer, 7));
    silent.accept(at(0));
    let kinds: Vec<MessageType> =
        (0..5).map(|_| silent.tick(silent.due(), 8).unwrap().message.kind).collect();
    use MessageType::{Discover, Request};
    assert_eq!(kinds, [Request, Request, Request, Request, Discover]);
}

#[test]
fn renews_at_the_server_then_rebinds_anywhere_then_starts_over() {
    let mut client = bound();
    let mut sent = vec![];
    while client.due() <= at(1100) {
        let now = client.due();
        let outgoing = client.tick(now, 9).unwrap();
        sent.push((now.since(at(0)).as_secs(), outgoing.message.kind, outgoing.destination));
        if client.lease().is_some() {
            assert_eq!(outgoing.message.ciaddr, ADDRESS);
            assert_eq!(outgoing.source, ADDRESS);
            assert_eq!(outgoing.message.options.get(OptionCode::ServerIdentifier), None);
            assert_eq!(outgoing.message.options.get(OptionCode::RequestedIpAddress), None);
        }
    }
    use MessageType::{Discover, Request};
    let all = Ipv4Addr::BROADCAST;
    assert_eq!(
        sent,
        [
            (600, Request, SERVER),
            (787, Request, SERVER),
            (881, Request, SERVER),
            (941, Request, SERVER),
            (975, Request, all),
            (1037, Request, all),
            (1097, Request, all),
            (1100, Discover, all),
        ]
    );
    assert_eq!(client.lease(), None);
}

#[test]
fn a_renewed_lease_counts_from_the_request() {
    let mut client = bound();
    let xid = client.tick(at(600), 9).unwrap().message.xid;
    assert_eq!(xid, 9);
    let mut stranger = reply(MessageType::Ack, xid);
    stranger.options = Default::default();
    stranger.options.append(OptionCode::ServerIdentifier, &[10, 0, 0, 99]);
    client.receive(at(601), SERVER_MAC, &stranger);
    assert_eq!(client.lease().unwrap().ends_at, at(1100), "another server does not renew");
    client.receive(at(601), SERVER_MAC, &reply(MessageType::Ack, xid));
    assert_eq!(client.lease().unwrap().ends_at, at(1600));
    assert_eq!(client.due(), at(1100));
}

#[test]
fn after_a_loss_only_the_same_address_will_do() {
    let mut client = bound();
    let renewal = client.tick(at(600), 9).unwrap().message;
    client.receive(at(600), SERVER_MAC, &nak(renewal.xid));
    assert_eq!(client.lease(), None);
    let discover = client.tick(at(600), 10).unwrap().message;
    assert_eq!(discover.options.address(OptionCode::RequestedIpAddress), Some(ADDRESS));

    let other = Message { yiaddr: Ipv4Addr::new(10, 0, 0, 51), ..reply(MessageType::Offer, 10) };
    client.receive(at(601), SERVER_MAC, &other);
    assert_eq!(client.tick(client.due(), 10).unwrap().message.kind, MessageType::Discover);
    client.receive(at(602), SERVER_MAC, &reply(MessageType::Offer, 10));
    let request = client.tick(at(602), 11).unwrap().message;
    assert_eq!(request.kind, MessageType::Request);
    client.receive(at(602), SERVER_MAC, &reply(MessageType::Ack, 10));
    assert!(client.lease().is_some());
}

#[test]
fn releases_only_what_it_holds() {
    assert_eq!(Client::new(MAC, at(0)).release(1), None);
    let release = bound().release(11).unwrap();
    assert_eq!(release.message.kind, MessageType::Release);
    assert_eq!(release.message.ciaddr, ADDRESS);
    assert_eq!((release.destination, release.destination_mac), (SERVER, SERVER_MAC));
    assert_eq!(release.message.options.address(OptionCode::ServerIdentifier), Some(SERVER));
}

#[test]
fn mends_lease_times_that_make_no_sense() {
    let read = |renewal: u32, rebinding: u32| {
        let mut message = reply(MessageType::Ack, 1);
        message.options.append(OptionCode::Renewal, &renewal.to_be_bytes());
        message.options.append(OptionCode::Rebinding, &rebinding.to_be_bytes());
        let lease = Lease::read(&message, SERVER_MAC, at(0)).unwrap();
        [lease.renew_at, lease.rebind_at].map(|moment| moment.since(at(0)).as_secs())
    };
    assert_eq!(read(100, 200), [100, 200]);
    assert_eq!(read(2000, 3000), [500, 875]);
    assert_eq!(read(400, 300), [300, 300]);
}

#[test]
fn an_offer_without_a_mask_or_a_time_still_counts() {
    let mut message = Message::new(Opcode::BootReply, MessageType::Offer, 1, MAC);
    message.yiaddr = Ipv4Addr::new(172, 16, 0, 9);
    message.options.append(OptionCode::ServerIdentifier, &SERVER.octets());
    let lease = Lease::read(&message, SERVER_MAC, at(0)).unwrap();
    assert_eq!(lease.address.to_string(), "172.16.0.9/16");
    assert!(lease.ends_at > at(100 * 365 * 86_400));
}
