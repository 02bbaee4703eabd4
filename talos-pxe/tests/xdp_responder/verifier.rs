//! How much of the kernel's patience loading the program takes.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use talos_pxe_ebpf::PROGRAM;

use super::reference::{Network, Service};

/// The kernel's limit is a million instructions.
const ROOM: u32 = 500_000;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_leaves_the_verifier_room() {
    for logs in [false, true] {
        let as_root = verified(logs);
        // The rights of this thread alone.
        let with_two_capabilities = std::thread::spawn(move || {
            let kept = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
            let rights = CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, rights).unwrap();
            verified(logs)
        });
        let with_two_capabilities = with_two_capabilities.join().unwrap();
        let what = if logs { "verified with the log" } else { "verified" };
        eprintln!("{what}: {as_root} as root, {with_two_capabilities} with two capabilities");
        assert!(as_root < ROOM / 10 && with_two_capabilities < ROOM);
    }
}

fn verified(logs: bool) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _in_runtime = runtime.enter();
    let mut network = Network::new(Service::Server);
    let mut log = None;
    if logs {
        let (logging, forwarder) = network.logging();
        network = logging;
        log = Some(forwarder);
    }
    let info = network.loaded.program(PROGRAM).unwrap().info().unwrap();
    drop(log);
    info.verified_instruction_count().unwrap()
}
