//! How much of the kernel's patience loading the program takes.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use talos_pxe_ebpf::PROGRAM;

use super::reference::{Network, Service};

/// The kernel's limit is a million instructions.
const ROOM: u32 = 500_000;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_leaves_the_verifier_room() {
    let verified = || {
        let mut network = Network::new(Service::Server);
        let info = network.loaded.program(PROGRAM).unwrap().info().unwrap();
        info.verified_instruction_count().unwrap()
    };
    let as_root = verified();
    // The rights of this thread alone.
    let with_two_capabilities = std::thread::spawn(move || {
        let kept = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
        let rights = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, rights).unwrap();
        verified()
    });
    let with_two_capabilities = with_two_capabilities.join().unwrap();
    eprintln!("verified: {as_root} as root, {with_two_capabilities} with two capabilities");
    assert!(as_root < ROOM / 10 && with_two_capabilities < ROOM);
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn xdp_leaves_the_verifier_room_when_it_logs() {
    let (mut network, _log) = Network::new(Service::Server).logging();
    let info = network.loaded.program(PROGRAM).unwrap().info().unwrap();
    let as_root = info.verified_instruction_count().unwrap();
    eprintln!("verified with the log: {as_root} as root");
    assert!(as_root < ROOM);
}
