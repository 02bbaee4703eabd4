//! The interface with a real kernel and a real DHCP server, in private network namespaces.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rtnetlink::MulticastGroup;
use socket2::{Domain, Protocol, Socket, Type};
use talos_pxe::cli::ModeChoice;
use talos_pxe::decisions::interface::{ChooseError, Link, Mode, Settings};
use talos_pxe::edges::netlink::{Events, Netlink};
use talos_pxe::edges::{interface, ra};
use talos_pxe::wire::icmp6;
use tokio_util::sync::CancellationToken;

/// Runs a test in a network namespace of its own, which is gone with the thread. With
/// `virtual_time`, waits end as soon as nothing else is left to do.
fn in_namespace(virtual_time: bool, test: impl AsyncFnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only the namespace of this thread changes; no file descriptors are unshared.
            #[allow(unsafe_code)]
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .expect("a network namespace (needs root)");
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(virtual_time)
                .build()
                .unwrap()
                .block_on(test());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A process that ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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

/// A second namespace, at the other end of the cable: `theirs` there, `ours` here.
struct Peer {
    holder: Guard,
}

impl Peer {
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What comes back shows that cat runs, hence that its namespace exists.
        holder.stdin.as_mut().unwrap().write_all(b".").unwrap();
        holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let peer = Self { holder: Guard(holder) };
        run("ip link add ours type veth peer theirs");
        run(&format!("ip link set theirs netns {}", peer.holder.0.id()));
        peer
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.0.id()));
        command
    }

    fn run(&self, command: &str) {
        let status = self.command().args(command.split_whitespace()).status().unwrap();
        assert!(status.success(), "{command}");
    }
}

/// A real DHCP server on `theirs`, 10.9.0.1, that wants its leases renewed after 2 s.
struct Dnsmasq {
    _process: Guard,
    log: BufReader<ChildStderr>,
}

impl Dnsmasq {
    fn start(peer: &Peer, leases: &std::path::Path) -> Self {
        peer.run("ip address add 10.9.0.1/24 dev theirs");
        let mut process = peer
            .command()
            .args(["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root"])
            .args(["--interface=theirs", "--bind-dynamic", "--no-ping", "--dhcp-authoritative"])
            .arg("--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m")
            .args(["--dhcp-option=option:router,10.9.0.1", "--dhcp-option=option:T1,2"])
            .arg("--dhcp-option=option:dns-server,10.9.0.2,10.9.0.3")
            .arg(format!("--dhcp-leasefile={}", leases.display()))
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut dnsmasq = Self { _process: Guard(process), log };
        dnsmasq.wait_for("IP range");
        dnsmasq
    }

    /// Reads the log up to a line with `text`.
    fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        while self.log.read_line(&mut seen).unwrap() > 0 {
            if seen.lines().last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
        panic!("dnsmasq ended before it logged {text:?}:\n{seen}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn takes_renews_and_releases_a_lease_and_restores() {
    in_namespace(false, async || {
        let peer = Peer::new();
        let leases = tempfile::NamedTempFile::new().unwrap();
        let mut dnsmasq = Dnsmasq::start(&peer, leases.path());
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

        let mut dnsmasq = tokio::task::spawn_blocking(move || {
            dnsmasq.wait_for("DHCPREQUEST");
            dnsmasq.wait_for("DHCPACK");
            dnsmasq
        })
        .await
        .unwrap();

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
fn an_own_address_beside_a_dhcp_server_takes_no_lease() {
    in_namespace(false, async || {
        let peer = Peer::new();
        let leases = tempfile::NamedTempFile::new().unwrap();
        let dnsmasq = Dnsmasq::start(&peer, leases.path());
        peer.run("ip link set theirs up");
        let settings = settings(ModeChoice::Auto, Some("10.9.0.7/24"));
        let network =
            interface::prepare(&settings, &CancellationToken::new()).await.unwrap().unwrap();
        assert_eq!(network.uplink.mode, Mode::Proxy);
        assert_eq!(network.uplink.address.to_string(), "10.9.0.7/24");
        network.restore().await;
        drop(dnsmasq);
        assert_eq!(std::fs::read_to_string(leases.path()).unwrap(), "");
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
        assert!(matches!(error.downcast_ref(), Some(ChooseError::Several(both)) if both.len() == 2));

        shutdown.cancel();
        assert!(interface::prepare(&settings, &shutdown).await.unwrap().is_none());
        assert!(!ours(&netlink).await.up);
    });
}

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
