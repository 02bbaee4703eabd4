//! The DHCP server and the proxy, case by case.

mod boot;
mod server;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use proptest::prelude::*;

use super::server::{Server, Settings, Step};
use super::{Ingress, Reply, Silence, proxy};
use crate::decisions::boot::loader::{Architecture, IPXE_OPTIONS, Loaders, Ukis};
use crate::decisions::boot::origin::Origin;
use crate::state::leases::{Leases, Pool, Upkeep};
use crate::time::BootTime;
use crate::wire::MacAddr;
use crate::wire::dhcp::{Message, MessageType, Opcode, OptionCode};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 3);
const ALICE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const BOB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const RELAY: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 254);

const BIOS: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
const UEFI: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])];
const HTTP: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003000"), (93, &[0, 16])];
const IPXE: &[(u8, &[u8])] =
    &[(60, b"PXEClient:Arch:00000"), (93, &[0, 0]), (77, b"iPXE"), (175, &[0x13, 1, 1])];

fn loaders() -> Loaders {
    Loaders {
        origin: Origin { address: SERVER, port: 8080 },
        bios: "undionly.kpxe".into(),
        uefi: "snponly.efi".into(),
        arm64: None,
        ukis: Ukis::default(),
    }
}

fn server_with(last: Ipv4Addr) -> Server {
    let settings = Settings {
        subnet: "192.168.123.1/24".parse().unwrap(),
        router: SERVER,
        dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
        lease_time: Duration::from_secs(300),
        loaders: loaders(),
    };
    Server::new(settings, Leases::new(Pool::new(FIRST, last, &[])))
}

fn server() -> Server {
    server_with(Ipv4Addr::new(192, 168, 123, 254))
}

fn at(millis: u64) -> BootTime {
    BootTime::BOOT + Duration::from_millis(millis)
}

fn message(kind: MessageType, mac: MacAddr, options: &[(u8, &[u8])]) -> Message {
    let mut message = Message::new(Opcode::BootRequest, kind, 0xc0ffee, mac);
    for (code, value) in options {
        message.options.append(OptionCode::from(*code), value);
    }
    message
}

fn ingress(mac: MacAddr) -> Ingress {
    Ingress { mac, source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68) }
}

fn send(server: &mut Server, now: u64, message: Message) -> Step {
    server.answer(at(now), ingress(message.chaddr), message)
}

fn reply(step: Step) -> Reply {
    match step {
        Step::Reply(reply) => reply,
        other => panic!("no reply but {other:?}"),
    }
}

/// DISCOVER to ACK; the offer follows its probe after 250 ms.
fn lease(server: &mut Server, now: u64, mac: MacAddr, options: &[(u8, &[u8])]) -> Message {
    let offer = match send(server, now, message(MessageType::Discover, mac, options)) {
        Step::Probe(_) => server.expired_probes(at(now + 250)).remove(0),
        step => reply(step),
    };
    let address = offer.message.yiaddr.octets();
    let mut request = message(MessageType::Request, mac, options);
    request.options.append(OptionCode::ServerIdentifier, &SERVER.octets());
    request.options.append(OptionCode::RequestedIpAddress, &address);
    let ack = reply(send(server, now + 300, request));
    assert_eq!(ack.message.kind, MessageType::Ack);
    assert_eq!(ack.message.yiaddr.octets(), address);
    ack.message
}

#[test]
fn replies_of_other_servers_are_ignored() {
    let offer = Message { op: Opcode::BootReply, ..message(MessageType::Offer, ALICE, BIOS) };
    let silence = Step::Silent(Silence::NotARequest);
    assert_eq!(send(&mut server(), 0, offer.clone()), silence);
    let ignored = Err(Silence::NotARequest);
    assert_eq!(proxy::answer(ingress(ALICE), &offer, &loaders()), ignored);
    assert_eq!(proxy::boot_server(ingress(ALICE), &offer, &loaders()), ignored);
}

proptest! {
    /// Any message at any time: no panic, and what is answered is a reply to this client.
    #[test]
    fn any_message_is_answered_or_not(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..20),
        kinds in prop::collection::vec(0u8..20, 20),
    ) {
        let mut server = server_with(Ipv4Addr::new(192, 168, 123, 5));
        let mut now = 0;
        for (tail, kind) in messages.iter().zip(kinds) {
            now += 100;
            let mut bytes = message(MessageType::from(kind), ALICE, &[]).encode();
            bytes.truncate(crate::wire::dhcp::FIXED + 3);
            bytes.extend(tail);
            // Addresses and flags are arbitrary, too; the machine is one of four.
            for (field, octet) in bytes[8..28].iter_mut().zip(tail.iter().rev()) {
                *field = *octet;
            }
            bytes[33] = tail.first().copied().unwrap_or(0) % 4;
            let Ok(request) = Message::parse(&bytes) else { continue };
            let chaddr = request.chaddr;
            let _ = proxy::answer(ingress(ALICE), &request, &loaders());
            let _ = proxy::boot_server(ingress(ALICE), &request, &loaders());
            if let Step::Reply(reply) = send(&mut server, now, request) {
                prop_assert_eq!(reply.message.chaddr, chaddr);
                prop_assert_eq!(reply.message.op, Opcode::BootReply);
                prop_assert!(reply.message.encode().len() <= 1472);
            }
            let _ = server.in_use(at(now), FIRST, BOB);
            let _ = server.expired_probes(at(now + 50));
        }
    }
}
