//! Router advertisements to a neighbour on the same link.

use std::io::Read;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use rtnetlink::MulticastGroup;
use socket2::{Domain, Protocol, Socket, Type};
use talos_pxe::decisions::interface::ModeChoice;
use talos_pxe::decisions::interface::Settings;
use talos_pxe::edges::netlink::{Events, Netlink};
use talos_pxe::edges::{interface, ra};
use talos_pxe::wire::icmp6;
use tokio_util::sync::CancellationToken;

use crate::namespace::{in_namespace, run};
use crate::settings;

/// A neighbour's raw ICMPv6 socket on `theirs`.
fn neighbour(address: Ipv6Addr, index: u32, hop_limit: u8) -> Socket {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
    socket.bind_device(Some(b"theirs")).unwrap();
    socket.bind(&SocketAddrV6::new(address, 0, 0, index).into()).unwrap();
    socket.set_multicast_hops_v6(hop_limit.into()).unwrap();
    socket
}

fn solicit(socket: &Socket, index: u32) {
    let to = SocketAddrV6::new(icmp6::ALL_ROUTERS, 0, 0, index);
    socket.send_to(&[icmp6::ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], &to.into()).unwrap();
}

fn next_advertisement(mut socket: &Socket) -> Vec<u8> {
    loop {
        let mut buffer = [0; 1500];
        let length = socket.read(&mut buffer).unwrap();
        if buffer[0] == icmp6::ROUTER_ADVERTISEMENT {
            // Without the checksum, which the kernel has filled in.
            buffer[2..4].fill(0);
            return buffer[..length].to_vec();
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn answers_router_solicitations_of_the_link() {
    in_namespace(false, async || {
        run("ip link add ours type veth peer theirs");
        run("ip link set theirs up");
        run("ip link set ours up");
        run("ip address add fe80::600d/64 dev theirs nodad");
        run("ip address add fe80::bad/64 dev theirs nodad");
        let netlink = Netlink::connect().unwrap();
        let settings = Settings { skip_ifup: true, ..settings(ModeChoice::Server, None) };
        run("ip address add 10.9.0.1/24 dev ours");
        let network =
            interface::prepare(&settings, &CancellationToken::new()).await.unwrap().unwrap();
        let links = netlink.links().await.unwrap();
        let theirs = links.iter().find(|link| link.name == "theirs").unwrap().index;

        let near = neighbour("fe80::600d".parse().unwrap(), theirs, icmp6::HOP_LIMIT);
        let far = neighbour("fe80::bad".parse().unwrap(), theirs, 64);
        far.set_multicast_all_v6(false).unwrap();
        let expected = icmp6::no_router_advertisement(network.interface.mac);

        let shutdown = CancellationToken::new();
        let exchange = tokio::task::spawn_blocking(move || {
            assert_eq!(next_advertisement(&near), expected, "unsolicited");
            solicit(&far, theirs);
            for _ in 0..3 {
                solicit(&near, theirs);
                assert_eq!(next_advertisement(&near), expected);
            }
            far.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let mut buffer = [0; 1500];
            while let Ok(length) = (&far).read(&mut buffer) {
                assert!(length > 0 && buffer[0] != icmp6::ROUTER_ADVERTISEMENT, "was forwarded");
            }
        });
        let serving = ra::serve(&network.interface, shutdown.clone());
        let checked = async {
            let result = exchange.await;
            shutdown.cancel();
            result
        };
        let (served, checked) = tokio::join!(serving, checked);
        served.unwrap();
        checked.unwrap();
        network.restore().await;
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn goes_without_advertisements_where_ipv6_is_off() {
    in_namespace(false, async || {
        run("ip link add ours type veth peer theirs");
        run("sysctl -qw net.ipv6.conf.ours.disable_ipv6=1");
        run("ip link set ours up");
        run("ip link set theirs up");
        run("ip address add 10.9.0.1/24 dev ours");
        let settings = Settings { skip_ifup: true, ..settings(ModeChoice::Server, None) };
        let shutdown = CancellationToken::new();
        let network = interface::prepare(&settings, &shutdown).await.unwrap().unwrap();
        let mut serving = std::pin::pin!(ra::serve(&network.interface, shutdown.clone()));
        tokio::select! {
            biased;
            ended = &mut serving => panic!("ended: {ended:?}"),
            () = async {
                let mut events = Events::subscribe(&[MulticastGroup::Link]).unwrap();
                run("ip link set theirs down");
                events.next().await.unwrap();
            } => shutdown.cancel(),
        }
        serving.await.unwrap();
    });
}
