//! Which interface to serve.

use super::{Interface, Link};

/// No interface could be chosen: the command line has to name one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// The named interface does not exist.
    #[error("no interface {name}; there is: {}", names(.there))]
    Missing {
        /// What was asked for.
        name: String,
        /// What there is.
        there: Vec<Link>,
    },
    /// The named interface carries no Ethernet frames.
    #[error("{name} is no Ethernet interface; name another one with --if: {}", names(.others))]
    NotEthernet {
        /// What was asked for.
        name: String,
        /// What could be served.
        others: Vec<Link>,
    },
    /// The named interface hands its frames to a bridge or bond.
    #[error("{name} is a port of {controller}: serve that one, --if {controller}")]
    Port {
        /// What was asked for.
        name: String,
        /// What it is a port of.
        controller: String,
    },
    /// There is nothing to serve.
    #[error("no Ethernet interface found: connect one, or name it with --if")]
    None,
    /// There is more than one, and nothing tells which.
    #[error("several interfaces could be served, name one with --if:{}", lines(.0))]
    Several(Vec<Link>),
}

/// Finds the interface to serve: the one called `wanted`, or the only candidate.
///
/// The candidates are of the best class that has any: wired network cards and the bridges and
/// bonds over them, then wireless ones, then virtual ones (in a container there are no others).
/// Of several, the only one with carrier is taken if all others are known to have none; one that
/// is down might have a cable as well, so it stays a candidate.
pub fn choose(wanted: Option<&str>, links: &[Link]) -> Result<Interface, ChooseError> {
    if let Some(name) = wanted {
        return named(name, links);
    }
    let candidates = candidates(links);
    let mut plausible = candidates.iter().filter(|link| link.carrier || !link.up);
    let chosen = match (candidates.as_slice(), plausible.next(), plausible.next()) {
        ([], ..) => return Err(ChooseError::None),
        (_, Some(only), None) | ([only], None, _) => interface(only),
        _ => None,
    };
    chosen.ok_or_else(|| ChooseError::Several(candidates.into_iter().cloned().collect()))
}

/// The interfaces that could be served when none is named: those of the best class that has any.
pub fn candidates(links: &[Link]) -> Vec<&Link> {
    let best = links.iter().filter_map(|link| class(link, links)).min();
    links.iter().filter(|link| best.is_some() && class(link, links) == best).collect()
}

fn named(name: &str, links: &[Link]) -> Result<Interface, ChooseError> {
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return Err(ChooseError::Missing { name: name.to_owned(), there: links.to_vec() });
    };
    if let Some(controller) = controller(link, links) {
        return Err(ChooseError::Port {
            name: name.to_owned(),
            controller: controller.name.clone(),
        });
    }
    interface(link).ok_or_else(|| ChooseError::NotEthernet {
        name: name.to_owned(),
        others: links.iter().filter(|link| class(link, links).is_some()).cloned().collect(),
    })
}

fn interface(link: &Link) -> Option<Interface> {
    let veth = link.kind.as_deref() == Some("veth");
    Some(Interface { index: link.index, name: link.name.clone(), mac: link.mac?, veth })
}

/// How likely an interface is the one that the machines to boot are on; the least is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Wired,
    Wireless,
    Virtual,
}

fn class(link: &Link, links: &[Link]) -> Option<Class> {
    link.mac?;
    if controller(link, links).is_some() {
        return None;
    }
    Some(match link.kind.as_deref() {
        None if is_wireless(link) => Class::Wireless,
        None => Class::Wired,
        Some("bridge" | "bond" | "team") if has_wired_port(link, links) => Class::Wired,
        Some(_) => Class::Virtual,
    })
}

/// The bridge or bond that gets this link's frames. A VRF is a controller too, but takes none.
fn controller<'a>(link: &Link, links: &'a [Link]) -> Option<&'a Link> {
    let controller = links.iter().find(|other| Some(other.index) == link.controller)?;
    (controller.kind.as_deref() != Some("vrf")).then_some(controller)
}

/// Tells a bridge over network cards from one that only holds containers or virtual machines.
fn has_wired_port(link: &Link, links: &[Link]) -> bool {
    links.iter().any(|port| {
        port.controller == Some(link.index)
            && match port.kind.as_deref() {
                None => true,
                Some("bond" | "team") => has_wired_port(port, links),
                Some(_) => false,
            }
    })
}

/// Goes by the names that the kernel (`wlan0`, `wwan0`) and systemd (`wlp3s0`, `wwp0s20`) give:
/// rtnetlink does not tell.
fn is_wireless(link: &Link) -> bool {
    link.name.starts_with("wl") || link.name.starts_with("ww")
}

fn names(links: &[Link]) -> String {
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    names.join(", ")
}

fn lines(links: &[Link]) -> String {
    links.iter().map(|link| format!("\n  {link}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddr;

    fn ethernet(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: Some(MacAddr([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])),
            kind: None,
            controller: None,
            up: true,
            carrier: true,
            addresses: vec![],
            ipv6: true,
            link_local: None,
        }
    }

    fn of_kind(kind: &str, index: u32, name: &str) -> Link {
        Link { kind: Some(kind.to_owned()), ..ethernet(index, name) }
    }

    fn loopback() -> Link {
        Link { mac: None, ..ethernet(1, "lo") }
    }

    fn chosen(wanted: Option<&str>, links: &[Link]) -> Result<String, ChooseError> {
        choose(wanted, links).map(|interface| interface.name)
    }

    #[test]
    fn a_laptop_serves_its_wired_card() {
        let links = [
            loopback(),
            Link { carrier: false, ..ethernet(2, "enp0s31f6") },
            ethernet(3, "wlp2s0"),
            of_kind("bridge", 4, "docker0"),
            Link { controller: Some(4), ..of_kind("veth", 5, "veth12ab") },
            Link { mac: None, ..of_kind("tun", 6, "tun0") },
        ];
        assert_eq!(chosen(None, &links), Ok("enp0s31f6".to_owned()));
    }

    #[test]
    fn a_server_with_four_cards_has_to_be_told() {
        let mut links: Vec<Link> = (1..=4).map(|i| ethernet(i, &format!("eno{i}"))).collect();
        links[2].up = false;
        links[2].carrier = false;
        links[0].addresses = vec!["10.0.0.5/24".parse().unwrap()];
        let error = choose(None, &links).unwrap_err();
        assert_eq!(
            error.to_string(),
            "several interfaces could be served, name one with --if:\n  \
             eno1 02:00:00:00:00:01 up, carrier, 10.0.0.5/24\n  \
             eno2 02:00:00:00:00:02 up, carrier\n  \
             eno3 02:00:00:00:00:03 down\n  \
             eno4 02:00:00:00:00:04 up, carrier"
        );
        for link in &mut links[1..] {
            link.up = true;
            link.carrier = false;
        }
        assert_eq!(
            chosen(None, &links),
            Ok("eno1".to_owned()),
            "the others have no cable for certain"
        );
        links[0].carrier = false;
        assert!(matches!(choose(None, &links), Err(ChooseError::Several(all)) if all.len() == 4));
    }

    #[test]
    fn a_bridge_stands_for_its_cards() {
        let links = [
            Link { controller: Some(4), ..ethernet(2, "eth0") },
            of_kind("bridge", 4, "br0"),
            of_kind("bridge", 5, "virbr0"),
        ];
        assert_eq!(chosen(None, &links), Ok("br0".to_owned()));
        assert_eq!(
            choose(Some("eth0"), &links).unwrap_err().to_string(),
            "eth0 is a port of br0: serve that one, --if br0"
        );
        assert_eq!(
            chosen(Some("virbr0"), &links),
            Ok("virbr0".to_owned()),
            "what is named is served"
        );
    }

    #[test]
    fn a_container_serves_its_virtual_interface() {
        assert_eq!(chosen(None, &[loopback(), of_kind("veth", 2, "eth0")]), Ok("eth0".to_owned()));
    }

    #[test]
    fn says_what_there_is() {
        let links = [loopback(), ethernet(2, "eth0")];
        assert_eq!(
            choose(Some("eth7"), &links).unwrap_err().to_string(),
            "no interface eth7; there is: lo, eth0"
        );
        assert_eq!(
            choose(Some("lo"), &links).unwrap_err().to_string(),
            "lo is no Ethernet interface; name another one with --if: eth0"
        );
        assert_eq!(choose(None, &[loopback()]), Err(ChooseError::None));
    }
}
