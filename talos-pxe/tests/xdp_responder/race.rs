//! The program reads the table of machines while the daemon writes it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use talos_pxe::decisions::dhcp::templates::{self, Sender};
use talos_pxe::edges::xdp::Loaded;
use talos_pxe::time::BootTime;
use talos_pxe::wire::dhcp::Message;
use talos_pxe::wire::frame::UdpFrame;
use talos_pxe_ebpf::PROGRAM;

use super::reference::{ALICE, ALICES, BOB, LEASE, SERVER, SERVER_MAC, XDP_TX, settings};
use super::requests::Request;

const BOBS: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 3);
const RUNS: u32 = 100_000;

/// Two machines that take each other's entry in turn never get each other's address.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_never_reads_half_an_entry() {
    let settings = settings(SERVER);
    let sender = Sender { mac: SERVER_MAC, own: settings.subnet, dhcp_port: 67, pxe_port: 4011 };
    let answers = templates::of_server(&settings, &sender);
    // One bucket: both machines get its first entry.
    let mut loaded = Loaded::new(&answers, 1).unwrap();
    // So that one thread can have the program and another its maps.
    let mut other = Loaded::new(&answers, 1).unwrap();
    std::mem::swap(&mut loaded.maps, &mut other.maps);
    let Loaded { maps, .. } = &mut other;
    let program = loaded.program(PROGRAM).unwrap();
    let horizon = BootTime::now() + 100 * LEASE;
    let done = AtomicBool::new(false);

    let answered = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (mac, address) in [(ALICE, ALICES), (BOB, BOBS)] {
                    maps.insert(mac, address, horizon).unwrap();
                    maps.remove(mac);
                }
                let _ = maps.events(usize::MAX);
            }
        });
        let frames = [(ALICE, ALICES), (BOB, BOBS)]
            .map(|(chaddr, address)| (Request { chaddr, ..Request::new(1) }.frame(), address));
        let mut answered = [0; 2];
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..RUNS {
                for ((frame, address), answered) in frames.iter().zip(&mut answered) {
                    if let Some(offered) = offer(program, frame) {
                        assert_eq!(offered, *address);
                        *answered += 1;
                    }
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        result.map(|()| answered).unwrap()
    });
    assert!(answered.iter().all(|count| *count > 0), "{answered:?}");
}

/// The address that the program offers to the machine that sent the frame.
fn offer(program: &Xdp, frame: &[u8]) -> Option<Ipv4Addr> {
    let mut after = vec![0; 2048];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut after);
    let run = program.test_run(options).unwrap();
    let reply = UdpFrame::parse(after.get(..run.data_size_out as usize).unwrap()).ok()?;
    (run.return_value == XDP_TX).then(|| Message::parse(reply.payload).unwrap().yiaddr)
}
