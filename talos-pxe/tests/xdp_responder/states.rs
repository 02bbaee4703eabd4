//! What the program answers, case by case.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::Message;
use talos_pxe::wire::dhcp::OptionCode;
use talos_pxe::wire::frame::UdpFrame;
use talos_pxe_ebpf::outcome::Outcome;

use super::reference::{ALICES, Network, SERVER, SERVER_MAC, Service, settings};
use super::requests::{Request, clients};

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;

/// Every client, in every state, direct and through a relay, with and without the broadcast flag.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_answers_known_machines_in_every_state() {
    let mut network = Network::new(Service::Server);
    let address = ALICES.octets();
    let renewing = Request {
        ciaddr: ALICES,
        source: SocketAddrV4::new(ALICES, 68),
        destination_mac: SERVER_MAC,
        destination: SocketAddrV4::new(SERVER, 67),
        ..Request::new(REQUEST)
    };
    let states = [
        ("discover", Request::new(DISCOVER)),
        ("selecting", Request::new(REQUEST).with(54, &SERVER.octets()).with(50, &address)),
        ("init-reboot", Request::new(REQUEST).with(50, &address)),
        ("renewing", renewing),
        ("rebinding", Request { ciaddr: ALICES, ..Request::new(REQUEST) }),
    ];
    for (state, request) in states {
        let broadcast = Request { flags: 0x8000, ..request.clone() };
        for request in [request.clone(), request.relayed(), broadcast.clone(), broadcast.relayed()]
        {
            let identified = request.clone().with(97, &[7; 17]).with(61, b"\x01client");
            for request in [request, identified] {
                for client in clients() {
                    let mut request = request.clone();
                    for (code, value) in &client {
                        request = request.with(*code, value);
                    }
                    let answered = network.compare(&request.frame());
                    assert!(answered || is_left_out(&client), "{state}: {client:?}");
                }
            }
        }
    }
    let counters = network.loaded.maps.counters().unwrap();
    assert!(counters.of(Outcome::Acknowledged) == 4 * counters.of(Outcome::Offered));
}

/// Clients that the program leaves to the daemon.
fn is_left_out(client: &[(u8, Vec<u8>)]) -> bool {
    let value = |code| client.iter().find(|(c, _)| *c == code).map(|(_, value)| value);
    let colon = value(60).is_some_and(|class| class.contains(&b':'));
    let bare = value(60).is_some_and(|class| class.starts_with(b"PXEClient"));
    let long = value(55).is_some_and(|list| list.len() > 64);
    value(93).is_none() && (colon || bare || long)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_answers_any_machine_as_proxy_and_boot_server() {
    for service in [Service::Server, Service::Proxy] {
        let mut network = Network::new(service);
        let mut answered = 0;
        for client in clients() {
            for kind in 1..=8 {
                let mut request = Request::new(kind).with(97, &[7; 17]);
                request.chaddr = MacAddr([2, 0, 0, 0, 0, kind]);
                for (code, value) in &client {
                    request = request.with(*code, value);
                }
                let confirming = request.clone().with(54, &SERVER.octets());
                let mut to_boot_server = request.clone();
                to_boot_server.destination.set_port(4011);
                let mut from_address = to_boot_server.clone();
                from_address.source = SocketAddrV4::new(ALICES, 4011);
                from_address.ciaddr = ALICES;
                for request in [request, confirming, to_boot_server, from_address] {
                    answered += usize::from(network.compare(&request.frame()));
                }
            }
        }
        let counters = network.loaded.maps.counters().unwrap();
        assert!(answered > 100, "{answered}");
        assert_eq!(counters.of(Outcome::Offered) > 0, service == Service::Proxy);
        assert_eq!(counters.of(Outcome::Acknowledged) > 0, service == Service::Proxy);
        assert!(counters.of(Outcome::BootServer) > 0);
    }
}

/// Requests of real clients; `frames/README.md` says which.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_answers_real_clients() {
    for (name, frame) in golden() {
        for service in [Service::Server, Service::Proxy] {
            let mut network = network_of(&frame, service);
            let answered = network.compare(&frame);
            let daemon = network.daemon(&frame);
            assert_eq!(answered, daemon.is_some(), "{name}: {service:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn xdp_answers_real_clients_the_same_when_it_logs() {
    for (name, frame) in golden() {
        for service in [Service::Server, Service::Proxy] {
            let (mut network, _log) = network_of(&frame, service).logging();
            let answered = network.compare(&frame);
            let daemon = network.daemon(&frame);
            assert_eq!(answered, daemon.is_some(), "{name}: {service:?}");
        }
    }
}

/// The captured frames with their names.
pub fn golden() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let mut frames: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    frames.sort();
    assert!(frames.len() >= 14, "only {} frames", frames.len());
    frames
}

/// The network that such a frame was captured in, where its client holds the address it asks for.
pub fn network_of(frame: &[u8], service: Service) -> Network {
    let udp = UdpFrame::parse(frame).unwrap();
    let request = Message::parse(udp.payload).unwrap();
    let asked = request.options.address(OptionCode::RequestedIpAddress);
    let address = asked
        .or(Some(request.ciaddr).filter(|address| !address.is_unspecified()))
        .unwrap_or(Ipv4Addr::new(192, 168, 123, 77));
    let own = match *udp.destination.ip() {
        Ipv4Addr::BROADCAST => SERVER,
        own => own,
    };
    let mac = match udp.destination_mac {
        MacAddr::BROADCAST => SERVER_MAC,
        mac => mac,
    };
    Network::with(service, settings(own), mac, (request.chaddr, address))
}
