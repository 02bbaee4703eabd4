//! The embedded XDP program in the kernel: run on single frames, and attached to interfaces of
//! a network namespace that each test makes for itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities};
use talos_pxe::cli::XdpChoice;
use talos_pxe::edges::xdp::{Attachment, FastPath, Mode, OBJECT, attach};
use talos_pxe_ebpf::{Counters, PROGRAM};

const XDP_PASS: u32 = 2;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_passes_every_frame_untouched() {
    let mut ebpf = Ebpf::load(OBJECT).unwrap();
    let program: &mut Xdp = ebpf.program_mut(PROGRAM).unwrap().try_into().unwrap();
    program.load().unwrap();

    let mut request = vec![0xff; 342];
    request[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    request[20..24].copy_from_slice(&[0, 0, 64, 17]);
    request[36..38].copy_from_slice(&67_u16.to_be_bytes());
    for frame in [&request[..], &request[..14], &[0x4f; 60], &[0; 1500]] {
        let mut after = vec![0; frame.len()];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut after);
        assert_eq!(program.test_run(options).unwrap().return_value, XDP_PASS);
        assert_eq!(after, frame);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_counts_frames_by_their_port_and_detaches_when_dropped() {
    in_network_namespace(async |net| {
        let server = cable(&net).await;
        let fast_path = attached(attach("server", server, XdpChoice::Auto).await.unwrap());
        assert_eq!(fast_path.mode(), Mode::Native);
        assert_eq!(xdp_mode(&net, server).await, XdpAttached::Driver);

        let before = fast_path.counters().unwrap();
        for port in [67, 67, 4011, 69] {
            assert_eq!(exchange(port, b"as it was sent"), b"as it was sent");
        }
        let after = fast_path.counters().unwrap();
        assert_eq!(after.dhcp - before.dhcp, 2);
        assert_eq!(after.boot_server - before.boot_server, 1);
        // The kernel sends frames of its own, for IPv6, at any time.
        assert!(after.other > before.other);
        assert!(after.frames() >= before.frames() + 4);

        drop(fast_path);
        assert_eq!(xdp_mode(&net, server).await, XdpAttached::None);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_is_generic_where_there_is_no_native_mode() {
    in_network_namespace(async |net| {
        net.link().add(LinkBridge::new("br0").build()).execute().await.unwrap();
        let bridge = index(&net, "br0").await;

        let refused = attach("br0", bridge, XdpChoice::Native).await.err().unwrap();
        assert!(refused.to_string().ends_with("try --xdp auto"), "{refused:#}");

        let fast_path = attached(attach("br0", bridge, XdpChoice::Auto).await.unwrap());
        assert_eq!(fast_path.mode(), Mode::Generic);
        assert_eq!(xdp_mode(&net, bridge).await, XdpAttached::SocketBuffer);
        assert_eq!(fast_path.counters().unwrap(), Counters::default());
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_does_what_the_choice_says() {
    in_network_namespace(async |net| {
        let server = cable(&net).await;
        let choose = async |choice| attach("server", server, choice).await;

        assert!(matches!(choose(XdpChoice::Off).await, Ok(Attachment::Off)));
        let generic = attached(choose(XdpChoice::Generic).await.unwrap());
        assert_eq!(generic.mode(), Mode::Generic);

        let busy = choose(XdpChoice::Native).await.err().unwrap();
        assert!(busy.to_string().contains("another program is attached"), "{busy:#}");
        assert!(matches!(choose(XdpChoice::Auto).await, Ok(Attachment::Unavailable(_))));
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_needs_two_capabilities() {
    in_network_namespace(async |net| {
        let server = cable(&net).await;
        let choose = async |choice| attach("server", server, choice).await;

        keep_only(CapabilitySet::BPF | CapabilitySet::NET_ADMIN);
        drop(attached(choose(XdpChoice::Native).await.unwrap()));
        drop(attached(choose(XdpChoice::Generic).await.unwrap()));

        keep_only(CapabilitySet::NET_ADMIN);
        let Ok(Attachment::Unavailable(reason)) = choose(XdpChoice::Auto).await else {
            panic!("attached without a right to");
        };
        assert!(reason.to_string().contains("run as root or with CAP_BPF"), "{reason:#}");
    });
}

/// Gives up this thread's other rights.
fn keep_only(kept: CapabilitySet) {
    let rights =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, rights).unwrap();
}

fn attached(attachment: Attachment) -> FastPath {
    match attachment {
        Attachment::Attached(fast_path) => fast_path,
        Attachment::Unavailable(reason) => panic!("not attached: {reason:#}"),
        Attachment::Off => panic!("not asked to attach"),
    }
}

/// Runs the test on a thread of its own in a new network namespace, which goes when the thread
/// ends.
fn in_network_namespace(test: impl AsyncFnOnce(Handle) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[expect(unsafe_code, reason = "rustix has no safe way to unshare")]
        // SAFETY: the table of file descriptors stays shared, so none of them becomes invalid.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            test(handle).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Makes the interfaces `server` and `client`, joined by a cable, and returns the index of
/// `server`.
async fn cable(net: &Handle) -> u32 {
    net.link().add(LinkVeth::new("server", "client").build()).execute().await.unwrap();
    for name in ["server", "client"] {
        let up = LinkUnspec::new_with_name(name).up().build();
        net.link().set(up).execute().await.unwrap();
    }
    index(net, "server").await
}

async fn index(net: &Handle, name: &str) -> u32 {
    let link: LinkMessage =
        net.link().get().match_name(name).execute().try_next().await.unwrap().unwrap();
    link.header.index
}

/// The mode of the attached program, as the kernel reports it.
async fn xdp_mode(net: &Handle, index: u32) -> XdpAttached {
    let link = net.link().get().match_index(index).execute().try_next().await.unwrap().unwrap();
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|part| match part {
                LinkXdp::Attached(attached) => Some(*attached),
                _ => None,
            }),
            _ => None,
        })
        .unwrap()
}

/// Broadcasts a datagram from `client`, as a machine without an address does, and returns what a
/// socket on `server` receives.
fn exchange(port: u16, payload: &[u8]) -> Vec<u8> {
    let bound = |interface: &[u8], port: u16| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        socket2::SockRef::from(&socket).bind_device(Some(interface)).unwrap();
        socket
    };
    let server = bound(b"server", port);
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let client = bound(b"client", 68);
    client.set_broadcast(true).unwrap();
    client.send_to(payload, (Ipv4Addr::BROADCAST, port)).unwrap();
    let mut received = vec![0; 1500];
    let length = server.recv(&mut received).unwrap();
    received.truncate(length);
    received
}
