//! Requests of real clients, captured from the wire, and the replies that they get, field by field.
//!
//! `frames/README.md` says how the requests were captured and how the replies are written anew.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail

mod render;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use proptest::prelude::*;
use talos_pxe::decisions::boot::loader::{Loaders, Ukis};
use talos_pxe::decisions::boot::origin::Origin;
use talos_pxe::decisions::dhcp::server::{Server, Settings, Step};
use talos_pxe::decisions::dhcp::{Ingress, Reply, Silence, proxy};
use talos_pxe::state::leases::{Leases, Pool};
use talos_pxe::time::BootTime;
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::UdpFrame;

/// The DHCP server's address when the frames were captured.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
/// A proxy beside it.
const PROXY: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 200);
/// Ours.
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// Set to write the expected replies instead of comparing.
const WRITE: &str = "GOLDEN_WRITE";

#[test]
fn each_request_gets_its_reply() {
    let frames = frames();
    assert!(frames.len() >= 14, "only {} frames", frames.len());
    let mut different = Vec::new();
    for path in frames {
        let replies = replies(&fs::read(&path).unwrap());
        let expected = path.with_extension("txt");
        if std::env::var_os(WRITE).is_some() {
            fs::write(&expected, &replies).unwrap();
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(&replies) {
            different.push(format!("{}: expected other than\n{replies}", expected.display()));
        }
    }
    assert!(std::env::var_os(WRITE).is_none(), "replies written: review them, unset {WRITE}");
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// A request is as long as its client made it, and comes back from its parts unchanged.
#[test]
fn each_request_survives_parsing() {
    for path in frames() {
        let bytes = fs::read(&path).unwrap();
        let message = Message::parse(UdpFrame::parse(&bytes).unwrap().payload).unwrap();
        assert_eq!(Message::parse(&message.encode()), Ok(message), "{}", path.display());
    }
}

fn frames() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    paths.sort();
    paths
}

proptest! {
    /// Whatever a broken client or network makes of a request: it is refused, or its answer is
    /// sound, which the text of it is proof of.
    #[test]
    fn a_damaged_request_gets_a_sound_reply_or_none(
        which: prop::sample::Index,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: Option<prop::sample::Index>,
    ) {
        let mut frame = fs::read(which.get(&frames())).unwrap();
        let payload = 42;
        for (place, octet) in damage {
            let place = payload + place.index(frame.len() - payload);
            frame[place] = octet;
        }
        let udp = UdpFrame::parse(&frame).unwrap();
        let length = cut.map_or(udp.payload.len(), |cut| cut.index(udp.payload.len()));
        if let Ok(request) = Message::parse(&udp.payload[..length]) {
            let _ = answers(&udp, &request);
        }
    }
}

/// What each service answers to a frame, as text.
fn replies(frame: &[u8]) -> String {
    let udp = UdpFrame::parse(frame).unwrap();
    answers(&udp, &Message::parse(udp.payload).unwrap())
}

fn answers(udp: &UdpFrame<'_>, request: &Message) -> String {
    let from = Ingress { mac: udp.source_mac, source: udp.source };
    match udp.destination.port() {
        67 => format!(
            "the DHCP server at {SERVER}:\n{}\nthe proxy at {PROXY}:\n{}",
            from_server(from, request),
            written(proxy::answer(from, request, &loaders(PROXY)), PROXY, 67),
        ),
        4011 => {
            let own = *udp.destination.ip();
            let reply = proxy::boot_server(from, request, &loaders(own));
            format!("the boot server at {own}:\n{}", written(reply, own, 4011))
        }
        port => panic!("a request to port {port}"),
    }
}

/// A server whose only address is the one that the client asks for, if it asks.
fn from_server(from: Ingress, request: &Message) -> String {
    let asked = request.options.address(OptionCode::RequestedIpAddress);
    let address = asked.unwrap_or(Ipv4Addr::new(192, 168, 123, 77));
    let settings = Settings {
        subnet: Ipv4Net::new(SERVER, 24).unwrap(),
        router: SERVER,
        dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
        lease_time: Duration::from_secs(300),
        loaders: loaders(SERVER),
    };
    let mut server = Server::new(settings, Leases::new(Pool::new(address, address, &[])));
    let later = BootTime::BOOT + Duration::from_secs(1);
    if request.kind != MessageType::Discover {
        // The offer that it takes up.
        let discover =
            Message::new(Opcode::BootRequest, MessageType::Discover, request.xid, request.chaddr);
        assert_eq!(server.answer(BootTime::BOOT, from, discover), Step::Probe(address));
        assert_eq!(server.expired_probes(later).len(), 1);
    }
    match server.answer(later, from, request.clone()) {
        Step::Reply(reply) => written(Ok(reply), SERVER, 67),
        Step::Silent(reason) => written(Err(reason), SERVER, 67),
        Step::Probe(address) => {
            let offer = server.expired_probes(later + Duration::from_secs(1)).remove(0);
            format!("  asks by ARP for {address}, then\n{}", written(Ok(offer), SERVER, 67))
        }
    }
}

fn loaders(own: Ipv4Addr) -> Loaders {
    Loaders {
        origin: Origin { address: own, port: 8080 },
        bios: "undionly.kpxe".into(),
        uefi: "snponly.efi".into(),
        arm64: None,
        ukis: Ukis::default(),
    }
}

/// The whole frame that goes out, as text.
fn written(reply: Result<Reply, Silence>, own: Ipv4Addr, port: u16) -> String {
    match reply {
        Err(reason) => format!("  no answer: {reason}\n"),
        Ok(Reply { message, mac, destination }) => render::frame(
            &UdpFrame {
                source_mac: MAC,
                destination_mac: mac,
                source: SocketAddrV4::new(own, port),
                destination,
                payload: &message.encode(),
            }
            .encode(),
        ),
    }
}
