//! The interface, its address, the ports, XDP, and other DHCP servers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::cli::check::Check;
use crate::cli::{Serve, XdpChoice};
use crate::decisions::interface::{
    Interface, Link, ModeChoice, Plan, Settings, choose, plan, unanswered,
};
use crate::decisions::preflight::{Finding, runs_xdp};
use crate::edges::dhcp::own_port;
use crate::edges::dhcp_client::DhcpClient;
use crate::edges::netlink::Netlink;
use crate::edges::{ethtool, port_error, xdp};

/// How long a DHCP server has to make an offer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// All of them; without an interface only that finding.
pub(super) async fn checks(check: &Check) -> Vec<Finding> {
    let serve = &check.serve;
    let settings = Settings::from(serve);
    let (interface, link) = match find(&settings).await {
        Ok(found) => found,
        Err(error) => return vec![Finding::failed("interface", format!("{error:#}"))],
    };
    let driver = ethtool::driver(&interface.name);
    let mut found = vec![
        describe(&link, driver.as_deref(), serve.skip_ifup),
        address(&settings, &link),
        neighbours(check, &interface, &link).await,
    ];
    found.extend(ports(serve, &interface, own_address(&settings, &link)));
    found.push(fast_path(serve, &interface, driver.as_deref()));
    found
}

async fn find(settings: &Settings) -> anyhow::Result<(Interface, Link)> {
    let netlink = Netlink::connect()?;
    let interface = choose(settings.interface.as_deref(), &netlink.links().await?)?;
    let link = netlink.link(interface.index).await?;
    Ok((interface, link))
}

fn describe(link: &Link, driver: Option<&str>, skip_ifup: bool) -> Finding {
    let mut text = link.to_string();
    if let Some(driver) = driver {
        text.push_str(&format!("; driver {driver}"));
    }
    if let Some(speed) = ethtool::speed(&link.name) {
        text.push_str(&format!(", {speed} Mb/s"));
    }
    match (link.up, link.carrier) {
        (true, false) if !skip_ifup => Finding::failed(
            "interface",
            format!("{text}: connect a cable, or start without it with --skip-ifup"),
        ),
        (true, false) => Finding::warning("interface", format!("{text}: connect a cable")),
        // It is brought up at start; only then can a cable be seen.
        (false, _) | (true, true) => Finding::ok("interface", text),
    }
}

fn address(settings: &Settings, link: &Link) -> Finding {
    match plan(settings, link) {
        Ok(Plan::Keep(uplink)) => {
            Finding::ok("address", format!("{}, {}, as it is", uplink.address, uplink.mode))
        }
        Ok(Plan::Set(uplink)) => {
            Finding::ok("address", format!("{}, {}", uplink.address, uplink.mode))
        }
        Ok(Plan::Ask) => Finding::ok("address", "by what the network answers at start"),
        Err(error) => Finding::failed("address", error),
    }
}

/// The address that we will have, as far as that can be known before asking the network.
fn own_address(settings: &Settings, link: &Link) -> Ipv4Addr {
    let planned = match plan(settings, link) {
        Ok(Plan::Keep(uplink) | Plan::Set(uplink)) => Some(uplink.address),
        Ok(Plan::Ask) => unanswered(settings, link).ok().map(|uplink| uplink.address),
        Err(_) => None,
    };
    planned.or(link.addresses.first().copied()).map_or(Ipv4Addr::LOCALHOST, |own| own.addr())
}

/// Another DHCP server on the network.
async fn neighbours(check: &Check, interface: &Interface, link: &Link) -> Finding {
    const NAME: &str = "DHCP server";
    if !check.probe {
        return Finding::ok(NAME, "not looked for; --probe asks the network");
    }
    if !link.carrier {
        return Finding::warning(NAME, "cannot be looked for: the interface has no carrier");
    }
    let offer = match DhcpClient::open(interface) {
        Ok(mut client) => client.offer(ANSWER_LIMIT).await,
        Err(error) => Err(error),
    };
    match (offer, check.serve.mode) {
        (Err(error), _) => Finding::failed(NAME, format!("{error:#}")),
        (Ok(Some(offer)), ModeChoice::Server) => Finding::warning(
            NAME,
            format!(
                "{} is one: two on a network get in each other's way; leave out --mode server",
                offer.server
            ),
        ),
        (Ok(Some(offer)), _) => Finding::ok(NAME, format!("{}; we help it", offer.server)),
        (Ok(None), ModeChoice::Proxy) if check.serve.addr.is_none() => Finding::failed(
            NAME,
            "none answers: give our own address with --addr, or leave out --mode proxy",
        ),
        (Ok(None), ModeChoice::Proxy) => Finding::warning(
            NAME,
            "none answers: machines get no address from a proxy; leave out --mode proxy",
        ),
        (Ok(None), _) => Finding::ok(NAME, "none answers; we are it"),
    }
}

/// Takes each port for a moment.
fn ports(serve: &Serve, interface: &Interface, address: Ipv4Addr) -> Vec<Finding> {
    let ports = serve.ports;
    let on_interface = |port| {
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        finding("UDP", any.into(), own_port(interface, any))
    };
    let on_address = |protocol, kind, port| {
        let own = SocketAddrV4::new(address, port);
        finding(protocol, own.into(), bind(kind, own.into()))
    };
    vec![
        on_interface(ports.dhcp_port),
        on_interface(ports.pxe_port),
        on_address("UDP", Type::DGRAM, ports.tftp_port),
        on_address("TCP", Type::STREAM, ports.http_port),
        on_address("UDP", Type::DGRAM, ports.dns_port),
        on_address("TCP", Type::STREAM, ports.dns_port),
        finding("TCP", serve.admin, bind(Type::STREAM, serve.admin)),
    ]
}

fn finding(protocol: &str, address: SocketAddr, bound: io::Result<Socket>) -> Finding {
    let name = format!("{protocol} port {}", address.port());
    match bound {
        Ok(_) => Finding::ok(name, "free"),
        Err(error) => Finding::failed(name, port_error(protocol, address, &error)),
    }
}

/// Takes the port on an address that the machine may not have yet.
fn bind(kind: Type, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    }
    // As a listener has it: connections that are over keep no port.
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Where the XDP program could run.
fn fast_path(serve: &Serve, interface: &Interface, driver: Option<&str>) -> Finding {
    const NAME: &str = "XDP";
    let choice = serve.xdp;
    if choice == XdpChoice::Off {
        return Finding::ok(NAME, "off, as asked for");
    }
    if let Err(error) = xdp::try_load(serve.xdp_machines) {
        return match choice {
            XdpChoice::Auto => {
                Finding::warning(NAME, format!("{error:#}; the daemon answers everything"))
            }
            _ => Finding::failed(NAME, format!("{error:#}")),
        };
    }
    let native = driver.is_some_and(runs_xdp);
    let driver = driver.unwrap_or("of this interface");
    match choice {
        XdpChoice::Generic => Finding::ok(NAME, "the kernel takes the program; generic"),
        XdpChoice::Native if !native => Finding::warning(
            NAME,
            format!("the driver {driver} is not known to run it natively; try --xdp auto"),
        ),
        XdpChoice::Native if interface.veth => Finding::warning(
            NAME,
            "the kernel takes the program; its answers arrive only if the other end of the veth \
             device runs a program as well",
        ),
        XdpChoice::Auto if interface.veth => {
            Finding::ok(NAME, "the kernel takes the program; generic, as on every veth device")
        }
        _ if native => {
            Finding::ok(NAME, format!("the kernel takes the program; native, by driver {driver}"))
        }
        _ => Finding::ok(
            NAME,
            format!(
                "the kernel takes the program; most likely generic, the driver {driver} is not \
                 known to run it"
            ),
        ),
    }
}
