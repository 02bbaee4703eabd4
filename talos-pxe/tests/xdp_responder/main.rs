//! The XDP program answers as the daemon does, and nothing that the daemon would not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod reference;

use std::net::{Ipv4Addr, SocketAddrV4};

use reference::{ALICE, Network, Service, Verdict};
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::UdpFrame;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_answers_a_known_machine() {
    let mut network = Network::new(Service::Server);
    let mut discover = Message::new(Opcode::BootRequest, MessageType::Discover, 0xc0ffee, ALICE);
    discover.options.append(OptionCode::ClassIdentifier, b"PXEClient:Arch:00007:UNDI:003000");
    discover.options.append(OptionCode::ClientSystemArchitecture, &[0, 7]);
    discover.options.append(OptionCode::ClientMachineIdentifier, &[7; 17]);
    let frame = UdpFrame {
        source_mac: ALICE,
        destination_mac: MacAddr::BROADCAST,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
        payload: &discover.encode(),
    }
    .encode();
    let program = network.loaded.program().unwrap();
    eprintln!("verified {:?}", program.info().unwrap().verified_instruction_count());
    let expected = network.daemon(&frame).unwrap();
    let verdict = network.kernel(&frame);
    eprintln!("{:?}", network.loaded.maps.counters());
    assert_eq!(verdict, Verdict::Answered(expected));
}
