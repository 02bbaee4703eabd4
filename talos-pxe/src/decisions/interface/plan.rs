//! With which mode and address to serve.

use std::net::Ipv4Addr;

use clap::ValueEnum;
use ipnet::Ipv4Net;

use super::{Link, Mode, Reason, Uplink};
use crate::decisions::dhcp::client::Lease;

/// Our own address where nothing else says one: 192.168.123.1/24.
const DEFAULT_ADDRESS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 123, 1), 24);

/// The DHCP mode asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    /// Ask the network for a DHCP server, then choose.
    Auto,
    /// Be the DHCP server.
    Server,
    /// Be a proxyDHCP server beside the network's DHCP server.
    Proxy,
}

/// What the command line says about the interface.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The interface's name; the only candidate when `None`.
    pub interface: Option<String>,
    /// Server, proxy, or what the network asks for.
    pub mode: ModeChoice,
    /// Our own address.
    pub address: Option<Ipv4Net>,
    /// Use the interface as it is and change nothing on it.
    pub skip_ifup: bool,
}

/// How to get to our address and mode.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The interface is as it should be.
    Keep(Uplink),
    /// Bring it up and give it this address.
    Set(Uplink),
    /// Bring it up and look for a DHCP server; go on with [`answered`] or [`unanswered`].
    Ask,
}

/// What an offer means for us.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Give the interface this address; the offer is left to expire.
    Set(Uplink),
    /// Take the lease; this is what it comes to.
    Lease(Uplink),
}

/// The interface and the command line do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `--addr` names a subnet and not a host in it.
    #[error("--addr {0} is no host's address; it takes one with its prefix, {DEFAULT_ADDRESS}")]
    NoHost(Ipv4Net),
    /// `--skip-ifup` on an interface that is down.
    #[error("{0} is down: `ip link set {0} up`, or leave out --skip-ifup")]
    Down(String),
    /// `--skip-ifup` on an interface without IPv4 address.
    #[error(
        "{0} has no IPv4 address: `ip address add {DEFAULT_ADDRESS} dev {0}`, or leave out --skip-ifup"
    )]
    NoAddress(String),
    /// `--skip-ifup` with an address that is not there.
    #[error(
        "{name} does not have the address {wanted}: `ip address add {wanted} dev {name}`, or leave out --skip-ifup"
    )]
    OtherAddress {
        /// The interface.
        name: String,
        /// What `--addr` says.
        wanted: Ipv4Net,
    },
    /// `--mode proxy`, no DHCP server, and no address of our own.
    #[error(
        "no DHCP server answered on {0}: give our own address with --addr, or be the DHCP server with --mode server"
    )]
    NoServer(String),
}

/// Says how to get from `link` as it is to an address and a mode.
pub fn plan(settings: &Settings, link: &Link) -> Result<Plan, PlanError> {
    if let Some(address) = settings.address
        && (address.prefix_len() > 30
            || address.addr() == address.network()
            || address.addr() == address.broadcast())
    {
        return Err(PlanError::NoHost(address));
    }
    if settings.skip_ifup {
        return keep(settings, link).map(Plan::Keep);
    }
    Ok(match (settings.mode, settings.address) {
        (ModeChoice::Server, address) => {
            let address = address.unwrap_or(DEFAULT_ADDRESS);
            Plan::Set(without_server(Mode::Server, Reason::Asked, address))
        }
        (ModeChoice::Proxy, Some(address)) => {
            Plan::Set(without_server(Mode::Proxy, Reason::Asked, address))
        }
        (ModeChoice::Proxy, None) | (ModeChoice::Auto, _) => Plan::Ask,
    })
}

fn keep(settings: &Settings, link: &Link) -> Result<Uplink, PlanError> {
    let name = || link.name.clone();
    if !link.up {
        return Err(PlanError::Down(name()));
    }
    let address = match settings.address {
        Some(wanted) if link.addresses.contains(&wanted) => wanted,
        Some(wanted) => return Err(PlanError::OtherAddress { name: name(), wanted }),
        None => own_address(link).ok_or_else(|| PlanError::NoAddress(name()))?,
    };
    let (mode, reason) = match settings.mode {
        ModeChoice::Server => (Mode::Server, Reason::Asked),
        ModeChoice::Proxy => (Mode::Proxy, Reason::Asked),
        // Who configured the interface has most likely got its address from a DHCP server, and
        // a second one does more harm than none.
        ModeChoice::Auto => (Mode::Proxy, Reason::Kept),
    };
    Ok(without_server(mode, reason, address))
}

/// A DHCP server made an offer.
///
/// No lease is taken when `--addr` says the address, nor when the interface already has one in
/// the server's subnet: that one is most likely a lease of the system's own DHCP client, and two
/// clients on one lease would take it away from each other.
pub fn answered(settings: &Settings, link: &Link, offer: &Lease) -> Answer {
    let present = || link.addresses.iter().find(|own| offer.address.contains(&own.addr()));
    let own = settings.address.or_else(|| present().copied());
    let uplink = Uplink {
        mode: Mode::Proxy,
        reason: Reason::Answered(offer.server),
        address: own.unwrap_or(offer.address),
        router: offer.router,
        dns: offer.dns.clone(),
    };
    if own.is_some() { Answer::Set(uplink) } else { Answer::Lease(uplink) }
}

/// No DHCP server made an offer.
pub fn unanswered(settings: &Settings, link: &Link) -> Result<Uplink, PlanError> {
    match settings.mode {
        ModeChoice::Auto | ModeChoice::Server => {
            let address = settings.address.unwrap_or(DEFAULT_ADDRESS);
            Ok(without_server(Mode::Server, Reason::Unanswered, address))
        }
        ModeChoice::Proxy => settings
            .address
            .or_else(|| own_address(link))
            .map(|address| without_server(Mode::Proxy, Reason::Asked, address))
            .ok_or_else(|| PlanError::NoServer(link.name.clone())),
    }
}

fn without_server(mode: Mode, reason: Reason, address: Ipv4Net) -> Uplink {
    Uplink { mode, reason, address, router: None, dns: vec![] }
}

/// The interface's first address that reaches further than the link (169.254.0.0/16 does not).
fn own_address(link: &Link) -> Option<Ipv4Net> {
    link.addresses.iter().find(|own| !own.addr().is_link_local()).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::BootTime;
    use crate::wire::MacAddr;

    fn settings(mode: ModeChoice, address: Option<&str>, skip_ifup: bool) -> Settings {
        let address = address.map(|text| text.parse().unwrap());
        Settings { interface: None, mode, address, skip_ifup }
    }

    fn link(addresses: &[&str]) -> Link {
        Link {
            index: 2,
            name: "eth1".to_owned(),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            kind: None,
            controller: None,
            up: true,
            carrier: true,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ipv6: true,
            link_local: None,
        }
    }

    fn uplink(mode: Mode, reason: Reason, address: &str) -> Uplink {
        without_server(mode, reason, address.parse().unwrap())
    }

    fn offer() -> Lease {
        Lease {
            address: "10.0.0.50/24".parse().unwrap(),
            server: Ipv4Addr::new(10, 0, 0, 1),
            server_mac: MacAddr([2, 0, 0, 0, 0, 9]),
            renew_at: BootTime::BOOT + Duration::from_secs(100),
            rebind_at: BootTime::BOOT + Duration::from_secs(200),
            ends_at: BootTime::BOOT + Duration::from_secs(300),
            router: Some(Ipv4Addr::new(10, 0, 0, 1)),
            dns: vec![Ipv4Addr::new(10, 0, 0, 2)],
        }
    }

    #[test]
    fn each_mode_with_and_without_address() {
        use ModeChoice::{Auto, Proxy, Server};
        let set = |mode, address| Ok(Plan::Set(uplink(mode, Reason::Asked, address)));
        for (mode, address, expected) in [
            (Auto, None, Ok(Plan::Ask)),
            (Auto, Some("10.0.0.1/24"), Ok(Plan::Ask)),
            (Server, None, set(Mode::Server, "192.168.123.1/24")),
            (Server, Some("10.0.0.1/24"), set(Mode::Server, "10.0.0.1/24")),
            (Proxy, None, Ok(Plan::Ask)),
            (Proxy, Some("10.0.0.1/24"), set(Mode::Proxy, "10.0.0.1/24")),
        ] {
            let settings = settings(mode, address, false);
            assert_eq!(plan(&settings, &link(&["10.0.0.9/24"])), expected, "{settings:?}");
        }
    }

    #[test]
    fn skip_ifup_takes_what_is_there() {
        use ModeChoice::{Auto, Proxy, Server};
        let there = link(&["169.254.7.7/16", "10.0.0.9/24", "10.1.0.9/24"]);
        for (mode, address, expected) in [
            (Auto, None, uplink(Mode::Proxy, Reason::Kept, "10.0.0.9/24")),
            (Proxy, None, uplink(Mode::Proxy, Reason::Asked, "10.0.0.9/24")),
            (Server, None, uplink(Mode::Server, Reason::Asked, "10.0.0.9/24")),
            (Server, Some("10.1.0.9/24"), uplink(Mode::Server, Reason::Asked, "10.1.0.9/24")),
        ] {
            assert_eq!(plan(&settings(mode, address, true), &there), Ok(Plan::Keep(expected)));
        }
        let error = |settings, link: &Link| plan(&settings, link).unwrap_err().to_string();
        assert_eq!(
            error(settings(Server, Some("10.2.0.9/24"), true), &there),
            "eth1 does not have the address 10.2.0.9/24: \
             `ip address add 10.2.0.9/24 dev eth1`, or leave out --skip-ifup"
        );
        assert_eq!(
            error(settings(Auto, None, true), &link(&[])),
            "eth1 has no IPv4 address: \
             `ip address add 192.168.123.1/24 dev eth1`, or leave out --skip-ifup"
        );
        assert_eq!(
            error(settings(Auto, None, true), &Link { up: false, ..there }),
            "eth1 is down: `ip link set eth1 up`, or leave out --skip-ifup"
        );
    }

    #[test]
    fn an_offer_makes_us_a_proxy() {
        let auto = |address| settings(ModeChoice::Auto, address, false);
        let with = |address: &str| Uplink {
            address: address.parse().unwrap(),
            router: offer().router,
            dns: offer().dns,
            mode: Mode::Proxy,
            reason: Reason::Answered(offer().server),
        };
        assert_eq!(
            answered(&auto(None), &link(&["172.16.0.1/24"]), &offer()),
            Answer::Lease(with("10.0.0.50/24"))
        );
        assert_eq!(
            answered(&auto(None), &link(&["10.0.0.9/16"]), &offer()),
            Answer::Set(with("10.0.0.9/16")),
            "the system's own lease is kept"
        );
        assert_eq!(
            answered(&auto(Some("10.0.0.7/24")), &link(&["10.0.0.9/24"]), &offer()),
            Answer::Set(with("10.0.0.7/24"))
        );
    }

    #[test]
    fn silence_makes_us_the_server_unless_asked_to_be_a_proxy() {
        use ModeChoice::{Auto, Proxy};
        for (mode, address, there, expected) in [
            (Auto, None, link(&[]), uplink(Mode::Server, Reason::Unanswered, "192.168.123.1/24")),
            (
                Auto,
                Some("10.0.0.7/24"),
                link(&[]),
                uplink(Mode::Server, Reason::Unanswered, "10.0.0.7/24"),
            ),
            (
                Proxy,
                None,
                link(&["10.0.0.9/24"]),
                uplink(Mode::Proxy, Reason::Asked, "10.0.0.9/24"),
            ),
        ] {
            assert_eq!(unanswered(&settings(mode, address, false), &there), Ok(expected));
        }
        assert_eq!(
            unanswered(&settings(Proxy, None, false), &link(&[])),
            Err(PlanError::NoServer("eth1".to_owned()))
        );
    }

    #[test]
    fn refuses_an_address_that_no_host_can_have() {
        for address in ["10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/32", "10.0.0.1/31"] {
            let settings = settings(ModeChoice::Server, Some(address), false);
            assert!(matches!(plan(&settings, &link(&[])), Err(PlanError::NoHost(_))), "{address}");
        }
    }
}
