//! The interface with a real kernel and a real DHCP server, in private network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod namespace;
mod router_advertisements;
mod secrecy;

use std::net::Ipv4Addr;

use rtnetlink::MulticastGroup;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use talos_pxe::decisions::interface::ModeChoice;
use talos_pxe::decisions::interface::{ChooseError, Link, Mode, Settings};
use talos_pxe::edges::interface;
use talos_pxe::edges::netlink::{Events, Netlink};
use tokio_util::sync::CancellationToken;

use namespace::{DhcpServer, Peer, in_namespace, run};

fn settings(mode: ModeChoice, address: Option<&str>) -> Settings {
    let address = address.map(|text| text.parse().unwrap());
    Settings { interface: Some("ours".to_owned()), mode, address, skip_ifup: false }
}

async fn ours(netlink: &Netlink) -> Link {
    let links = netlink.links().await.unwrap();
    links.into_iter().find(|link| link.name == "ours").unwrap()
}

fn addresses(link: &Link) -> Vec<String> {
    link.addresses.iter().map(ToString::to_string).collect()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn takes_and_releases_a_lease_and_restores() {
    in_namespace(false, async || {
        let peer = Peer::new();
        let mut dnsmasq = DhcpServer::dnsmasq(&peer);
        run("ip address add 172.31.0.1/24 dev ours");
        let netlink = Netlink::connect().unwrap();
        let mut events = Events::subscribe(&[MulticastGroup::Link]).unwrap();

        // The other end is switched on only once ours is up and waits for it.
        let peer_follows = async {
            while !ours(&netlink).await.up {
                events.next().await.unwrap();
            }
            assert!(!ours(&netlink).await.carrier);
            peer.run("ip link set theirs up");
        };
        let settings = settings(ModeChoice::Auto, None);
        let shutdown = CancellationToken::new();
        let (network, ()) = tokio::join!(interface::prepare(&settings, &shutdown), peer_follows);
        let network = network.unwrap().unwrap();

        assert_eq!(network.interface.name, "ours");
        let uplink = &network.uplink;
        assert_eq!(uplink.mode, Mode::Proxy);
        assert_eq!(uplink.address.network(), Ipv4Addr::new(10, 9, 0, 0));
        assert_eq!(uplink.address.prefix_len(), 24);
        assert!((50..=60).contains(&uplink.address.addr().octets()[3]));
        assert_eq!(uplink.router, Some(Ipv4Addr::new(10, 9, 0, 1)));
        assert_eq!(uplink.dns, [Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 3)]);
        let link = ours(&netlink).await;
        assert_eq!(addresses(&link), ["172.31.0.1/24".to_owned(), uplink.address.to_string()]);
        assert!(netlink.has_default_route().await.unwrap());
        dnsmasq.wait_for("DHCPACK");

        network.restore().await;
        dnsmasq.wait_for("DHCPRELEASE");
        let link = ours(&netlink).await;
        assert!(!link.up);
        assert_eq!(addresses(&link), ["172.31.0.1/24"], "what the user had is still there");
        assert!(!netlink.has_default_route().await.unwrap());
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn puts_back_what_being_set_down_took() {
    in_namespace(false, async || {
        let peer = Peer::new();
        let _dnsmasq = DhcpServer::dnsmasq(&peer);
        peer.run("ip link set theirs up");
        let settings = settings(ModeChoice::Auto, None);
        let network =
            interface::prepare(&settings, &CancellationToken::new()).await.unwrap().unwrap();
        let shutdown = CancellationToken::new();
        let netlink = Netlink::connect().unwrap();
        let mut events =
            Events::subscribe(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route]).unwrap();
        let down_and_up = async {
            for _ in 0..2 {
                run("ip link set ours down");
                run("ip address flush dev ours");
                assert!(!netlink.has_default_route().await.unwrap());
                run("ip link set ours up");
                while !netlink.has_default_route().await.unwrap() {
                    events.next().await.unwrap();
                }
                let address = network.uplink.address.to_string();
                assert_eq!(addresses(&ours(&netlink).await), [address]);
            }
            assert!(!network.is_gone().await.unwrap());
            shutdown.cancel();
        };
        let (kept, ()) = tokio::join!(network.upkeep().serve(shutdown.clone()), down_and_up);
        kept.unwrap();

        run("ip link delete ours");
        run("ip link add ours type veth peer theirs");
        assert!(network.is_gone().await.unwrap(), "this is another one");
        let ended = network.upkeep().serve(CancellationToken::new()).await.unwrap_err();
        assert_eq!(ended.to_string(), "ours is gone, or another interface in its place");
        network.abandon();
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn renews_its_lease() {
    in_namespace(false, async || {
        let peer = Peer::new();
        let mut udhcpd = DhcpServer::udhcpd(&peer);
        peer.run("ip link set theirs up");
        let settings = settings(ModeChoice::Auto, None);
        let network =
            interface::prepare(&settings, &CancellationToken::new()).await.unwrap().unwrap();
        let udhcpd = tokio::task::spawn_blocking(move || {
            // The first lease, and two more that begin when half of the one before is over.
            for _ in 0..3 {
                udhcpd.wait_for("sending ACK to 10.9.0.");
            }
            udhcpd
        });
        let udhcpd = udhcpd.await.unwrap();
        network.restore().await;
        let log = udhcpd.stop();
        assert!(!log.contains("OFFER"), "renewed, not asked for anew: {log}");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_own_address_beside_a_dhcp_server_takes_no_lease() {
    in_namespace(false, async || {
        let peer = Peer::new();
        let dnsmasq = DhcpServer::dnsmasq(&peer);
        peer.run("ip link set theirs up");
        let settings = settings(ModeChoice::Auto, Some("10.9.0.7/24"));
        let network =
            interface::prepare(&settings, &CancellationToken::new()).await.unwrap().unwrap();
        assert_eq!(network.uplink.mode, Mode::Proxy);
        assert_eq!(network.uplink.address.to_string(), "10.9.0.7/24");
        network.restore().await;
        let log = dnsmasq.stop();
        assert!(log.contains("DHCPOFFER") && !log.contains("DHCPREQUEST"), "{log}");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn is_the_server_where_there_is_none_and_restores_only_what_it_changed() {
    in_namespace(true, async || {
        run("ip link add ours type veth peer theirs");
        run("ip link set ours up");
        run("ip link set theirs up");
        let netlink = Netlink::connect().unwrap();
        let settings = settings(ModeChoice::Auto, None);
        for already_there in [false, true] {
            if already_there {
                run("ip address add 192.168.123.1/24 dev ours");
            }
            let network =
                interface::prepare(&settings, &CancellationToken::new()).await.unwrap().unwrap();
            assert_eq!(network.uplink.mode, Mode::Server);
            assert_eq!(addresses(&ours(&netlink).await), ["192.168.123.1/24"]);
            network.restore().await;
            let link = ours(&netlink).await;
            assert!(link.up, "it was up before");
            assert_eq!(link.addresses.is_empty(), !already_there);
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn says_what_is_wrong_and_leaves_nothing_behind() {
    in_namespace(true, async || {
        run("ip link add ours type veth peer theirs");
        let netlink = Netlink::connect().unwrap();
        let shutdown = CancellationToken::new();
        let settings = settings(ModeChoice::Server, None);
        let error = interface::prepare(&settings, &shutdown).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no carrier on ours: no cable, or the switch port is off; connect it, or start without \
             it with --skip-ifup"
        );
        assert!(!ours(&netlink).await.up);

        let unnamed = Settings { interface: None, ..settings.clone() };
        let error = interface::prepare(&unnamed, &shutdown).await.unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(ChooseError::Several(both)) if both.len() == 2)
        );

        shutdown.cancel();
        assert!(interface::prepare(&settings, &shutdown).await.unwrap().is_none());
        assert!(!ours(&netlink).await.up);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn says_which_rights_are_missing() {
    in_namespace(false, async || {
        run("ip link add ours type veth peer theirs");
        run("ip link set theirs up");
        let mut rights = capabilities(None).unwrap();
        rights.effective -= CapabilitySet::NET_ADMIN;
        set_capabilities(None, rights).unwrap();
        let prepare = async |mode| {
            let error = interface::prepare(&settings(mode, None), &CancellationToken::new()).await;
            error.unwrap_err().to_string()
        };
        let needs_rights = "run as root, or give the program the rights once: setcap \
            cap_net_raw,cap_net_admin,cap_net_bind_service,cap_bpf+eip $(command -v talos-pxe)";
        assert_eq!(
            prepare(ModeChoice::Server).await,
            format!("no right to set ours up: {needs_rights}")
        );
        run("ip link set ours up");
        rights.effective -= CapabilitySet::NET_RAW;
        set_capabilities(None, rights).unwrap();
        assert_eq!(
            prepare(ModeChoice::Auto).await,
            format!("no right to ask for a DHCP lease: {needs_rights}")
        );
    });
}
