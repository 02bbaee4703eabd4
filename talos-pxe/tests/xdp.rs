//! The embedded XDP program attached to interfaces of a network namespace that each test makes for
//! itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use bytemuck::Zeroable;
use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities};
use talos_pxe::cli::XdpChoice;
use talos_pxe::decisions::boot::loader::{Loaders, Ukis};
use talos_pxe::decisions::boot::origin::Origin;
use talos_pxe::decisions::dhcp::server::Settings;
use talos_pxe::decisions::dhcp::templates::{self, Answers, Sender};
use talos_pxe::decisions::interface::Interface;
use talos_pxe::edges::packet::{Filter, PacketSocket};
use talos_pxe::edges::xdp::{Attachment, FastPath, Mode, attach};
use talos_pxe::time::BootTime;
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::{MAX_FRAME, UdpFrame};
use talos_pxe_ebpf::outcome::{Counters, Outcome};
use tracing_subscriber::util::SubscriberInitExt as _;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
const MACHINE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
/// A reply that has not come by then was lost.
const PATIENCE: Duration = Duration::from_secs(10);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 2);

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_counts_what_it_passes_on_and_detaches_when_dropped() {
    in_network_namespace(async |net| {
        let server = cable(&net).await;
        let fast_path = attached(choose(server, XdpChoice::Native).await.unwrap());
        assert_eq!(fast_path.mode(), Mode::Native);
        assert_eq!(xdp_mode(&net, server).await, XdpAttached::Driver);

        let before = fast_path.maps.counters().unwrap();
        for port in [67, 67, 4011, 69] {
            let payload = [b'x'; 300];
            assert_eq!(exchange(port, &payload), payload);
        }
        let after = fast_path.maps.counters().unwrap();
        assert_eq!(after.of(Outcome::NotARequest) - before.of(Outcome::NotARequest), 3);
        // The kernel sends frames of its own, for IPv6, at any time.
        assert!(after.of(Outcome::Other) > before.of(Outcome::Other));
        assert_eq!(after.answered(), 0);

        drop(fast_path);
        assert_eq!(xdp_mode(&net, server).await, XdpAttached::None);
    });
}

/// The reply is longer than its request by less and by more than a veth leaves room for at a
/// frame's end.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_makes_room_for_long_replies() {
    for choice in [XdpChoice::Native, XdpChoice::Generic] {
        in_network_namespace(async move |net| {
            let server = cable(&net).await;
            let mut fast_path = attached(choose(server, choice).await.unwrap());
            // A veth takes what its peer sends back natively only while it runs a program itself.
            let client = index(&net, "client").await;
            let answers = Answers { config: Zeroable::zeroed(), templates: Vec::new() };
            let _peer = attach(&interface("client", client), choice, &answers, 16).await.unwrap();
            let horizon = BootTime::now() + Duration::from_secs(3600);
            fast_path.maps.insert(MACHINE, ADDRESS, horizon).unwrap();

            let socket = PacketSocket::open(client, Filter::UdpPort(68)).unwrap();
            for length in [0, 10, 30, 60, 100, 150, 200, 251] {
                let mut discover =
                    Message::new(Opcode::BootRequest, MessageType::Discover, 1, MACHINE);
                discover.options.append(OptionCode::ParameterRequestList, &[67]);
                discover.options.append(OptionCode::ClientIdentifier, &vec![1; 1 + length]);
                let request = UdpFrame {
                    source_mac: MACHINE,
                    destination_mac: MacAddr::BROADCAST,
                    source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
                    destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
                    payload: &discover.encode(),
                };
                socket.send(&request.encode()).await.unwrap();
                let mut frame = [0; MAX_FRAME];
                let answer = tokio::time::timeout(PATIENCE, socket.receive(&mut frame)).await;
                let reply = answer.unwrap_or_else(|_| panic!("no reply of {length}")).unwrap();
                let reply = Message::parse(UdpFrame::parse(reply).unwrap().payload).unwrap();
                assert_eq!((reply.kind, reply.yiaddr), (MessageType::Offer, ADDRESS));
                let echoed = reply.options.get(OptionCode::ClientIdentifier).unwrap();
                assert_eq!(echoed.len(), 1 + length);
            }
            let counters = fast_path.maps.counters().unwrap();
            assert_eq!(counters.of(Outcome::Offered), 8);
            assert_eq!(fast_path.maps.events(100).len(), 8);
        });
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_is_generic_where_there_is_no_native_mode() {
    in_network_namespace(async |net| {
        net.link().add(LinkBridge::new("br0").build()).execute().await.unwrap();
        let bridge = index(&net, "br0").await;

        let bridged = Interface { veth: false, ..interface("br0", bridge) };
        let refused = attach(&bridged, XdpChoice::Native, &answers(), 16).await.err().unwrap();
        assert!(refused.to_string().ends_with("try --xdp auto"), "{refused:#}");

        let fast_path = attached(attach(&bridged, XdpChoice::Auto, &answers(), 16).await.unwrap());
        assert_eq!(fast_path.mode(), Mode::Generic);
        assert_eq!(xdp_mode(&net, bridge).await, XdpAttached::SocketBuffer);
        assert_eq!(fast_path.maps.counters().unwrap(), Counters::default());
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_does_what_the_choice_says() {
    in_network_namespace(async |net| {
        let server = cable(&net).await;
        let choose = async |choice| choose(server, choice).await;

        assert!(matches!(choose(XdpChoice::Off).await, Ok(Attachment::Off)));
        let auto = attached(choose(XdpChoice::Auto).await.unwrap());
        assert_eq!(auto.mode(), Mode::Generic, "the other end might run no program");
        drop(auto);
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
        let choose = async |choice| choose(server, choice).await;

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

/// A machine that it knows, one that it does not, and traffic that is not for us.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_logs_each_request_when_the_filter_lets_it() {
    for (filter, logs) in [("talos_pxe::xdp=trace", true), ("trace,talos_pxe::xdp=debug", false)] {
        in_network_namespace(async move |net| {
            let (writer, mut lines) = tokio::sync::mpsc::unbounded_channel();
            let _log = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .with_writer(move || Lines(writer.clone()))
                .set_default();
            let server = cable(&net).await;
            let mut fast_path = attached(choose(server, XdpChoice::Generic).await.unwrap());
            assert_eq!(fast_path.logs(), logs);
            let horizon = BootTime::now() + Duration::from_secs(3600);
            fast_path.maps.insert(MACHINE, ADDRESS, horizon).unwrap();

            let client = index(&net, "client").await;
            let socket = PacketSocket::open(client, Filter::UdpPort(68)).unwrap();
            let stranger = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
            for (mac, port) in [(MACHINE, 69), (stranger, 67), (MACHINE, 67)] {
                socket.send(&discover(mac, port)).await.unwrap();
            }
            let mut frame = [0; MAX_FRAME];
            let answer = tokio::time::timeout(PATIENCE, socket.receive(&mut frame)).await;
            answer.expect("no reply").unwrap();

            let mut next = async || {
                while let Some(line) = lines.recv().await {
                    if line.contains("talos_pxe::xdp:") {
                        return line;
                    }
                }
                panic!("the log has ended");
            };
            if logs {
                let expected = [
                    "unknown_machine  chaddr=52:54:00:00:00:02 type=1 address=0.0.0.0",
                    "offered          chaddr=52:54:00:00:00:01 type=2 address=192.168.123.2",
                ];
                for expected in expected {
                    let line = tokio::time::timeout(PATIENCE, next()).await.expect(expected);
                    assert!(line.trim_end().ends_with(expected), "{line}");
                }
            } else {
                drop(fast_path);
                while let Ok(line) = lines.try_recv() {
                    assert!(!line.contains("chaddr="), "{line}");
                }
            }
        });
    }
}

/// Where each log line is sent.
struct Lines(tokio::sync::mpsc::UnboundedSender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A DISCOVER to this port.
fn discover(mac: MacAddr, port: u16) -> Vec<u8> {
    let message = Message::new(Opcode::BootRequest, MessageType::Discover, 1, mac);
    UdpFrame {
        source_mac: mac,
        destination_mac: MacAddr::BROADCAST,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, port),
        payload: &message.encode(),
    }
    .encode()
}

async fn choose(server: u32, choice: XdpChoice) -> anyhow::Result<Attachment> {
    attach(&interface("server", server), choice, &answers(), 16).await
}

fn interface(name: &str, index: u32) -> Interface {
    Interface { index, name: name.to_owned(), mac: MacAddr::ZERO, veth: true }
}

/// What a DHCP server answers.
fn answers() -> Answers {
    let settings = Settings {
        subnet: Ipv4Net::new(SERVER, 24).unwrap(),
        router: SERVER,
        dns: vec![],
        lease_time: Duration::from_secs(300),
        loaders: Loaders {
            origin: Origin { address: SERVER, port: 8080 },
            bios: "undionly.kpxe".into(),
            uefi: "snponly.efi".into(),
            arm64: None,
            ukis: Ukis::default(),
        },
    };
    let sender = Sender {
        mac: MacAddr([0x52, 0x54, 0, 0, 0, 0xfe]),
        own: settings.subnet,
        dhcp_port: 67,
        pxe_port: 4011,
    };
    templates::of_server(&settings, &sender)
}

/// Gives up this thread's other rights.
fn keep_only(kept: CapabilitySet) {
    let rights =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, rights).unwrap();
}

fn attached(attachment: Attachment) -> Box<FastPath> {
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
