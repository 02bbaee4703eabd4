//! The names that we are the authority for: `talos.`, the control plane's name, and the reverse
//! names of the subnet.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::{A, NS, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::Ipv4Net;

use crate::wire::Hostname;

/// The zone of the machines.
const ORIGIN: &str = "talos.";
/// How long a record may be kept, in seconds.
const TTL: u32 = 60;
/// How long it may be kept that there is no such record, in seconds: machines that wait for the
/// control plane ask again and again, and should soon see it.
const NEGATIVE_TTL: u32 = 5;

/// A machine, as the zone sees it: its hostname, its address, and whether it belongs to the
/// control plane.
pub type Machine = (Option<Hostname>, Ipv4Addr, bool);

/// All names and their records. It never changes; a new one takes its place.
#[derive(Clone, Debug)]
pub struct Zone {
    name_server: Name,
    /// The uppermost names that are ours. Each has SOA and NS records.
    apexes: HashSet<Name>,
    /// Each name that exists, also those that only have others below them (RFC 4592 section
    /// 2.2.2).
    nodes: HashMap<Name, Node>,
}

/// The records of one name, without SOA and NS.
#[derive(Clone, Debug, Default)]
struct Node {
    addresses: BTreeSet<Ipv4Addr>,
    /// Of a reverse name: which names the address has.
    names: BTreeSet<Name>,
}

/// What the zone has for a question.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// Whether the name has records of any type, or names below it.
    pub name_exists: bool,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// Where there is no answer: the proof that we have the say, with the time to remember it
    /// (RFC 2308 section 3).
    pub authorities: Vec<Record>,
    /// What the asker will need next.
    pub additionals: Vec<Record>,
}

impl Zone {
    /// The zone of a server with the address and subnet `own`, for `machines`.
    ///
    /// Machines that share a hostname share its name, with all their addresses: which of them is
    /// meant cannot be told here. The names of the control plane and of the name server are no
    /// machine's, whatever it calls itself. A hostname that is too long for the zone is left out.
    pub fn new(
        own: Ipv4Net,
        control_plane: &Hostname,
        machines: impl IntoIterator<Item = Machine>,
    ) -> Self {
        let origin = fixed(ORIGIN);
        let control_plane = fixed(control_plane.as_str());
        let name_server = fixed("ns.talos.");
        let mut zone = Self {
            name_server: name_server.clone(),
            apexes: HashSet::from([origin.clone()]),
            nodes: HashMap::new(),
        };
        if !origin.zone_of(&control_plane) {
            zone.apexes.insert(control_plane.clone());
        }
        zone.apexes.extend(reverse_apexes(own));
        for apex in zone.apexes.clone() {
            zone.node(&apex);
        }
        // It exists from the start: who asks for it too early must not hear that it never will.
        zone.node(&control_plane);
        zone.add(&name_server, own.addr(), own);
        for (hostname, address, in_control_plane) in machines {
            let name = hostname
                .and_then(|hostname| machine_name(&hostname, &origin))
                .filter(|name| ![&name_server, &control_plane].contains(&name));
            if in_control_plane {
                zone.node(&control_plane).addresses.insert(address);
            }
            if let Some(name) = name {
                zone.add(&name, address, own);
            } else if in_control_plane {
                zone.add(&control_plane, address, own);
            }
        }
        zone
    }

    /// Gives `name` an address, and the address this name.
    fn add(&mut self, name: &Name, address: Ipv4Addr, own: Ipv4Net) {
        self.node(name).addresses.insert(address);
        let reverse = Name::from(address);
        if own.prefix_len() > 24 || !own.contains(&address) {
            // There is no whole zone to be the authority for, so only this name is ours.
            self.apexes.insert(reverse.clone());
        }
        self.node(&reverse).names.insert(name.clone());
    }

    /// The node of a name of ours, new if need be, as are those above it.
    fn node(&mut self, name: &Name) -> &mut Node {
        let mut above = name.clone();
        while !self.nodes.contains_key(&above) {
            self.nodes.insert(above.clone(), Node::default());
            if self.apexes.contains(&above) {
                break;
            }
            above = above.base_name();
        }
        self.nodes.entry(name.clone()).or_default()
    }

    /// Finds the records of a type; `None` when the name is not ours. For ANY it is one type that
    /// there is (RFC 8482 section 4.1).
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Option<Records> {
        let apex = self.apex_of(name)?;
        let node = self.nodes.get(name);
        let kinds: &[RecordType] = match &kind {
            RecordType::ANY => &[RecordType::A, RecordType::PTR, RecordType::SOA],
            kind => std::slice::from_ref(kind),
        };
        let mut by_kind = kinds.iter().map(|kind| self.records(name, node, &apex, *kind));
        let answers = by_kind.find(|records| !records.is_empty()).unwrap_or_default();
        let absent = answers.is_empty();
        let soa = absent.then(|| Record::from_rdata(apex, NEGATIVE_TTL, self.soa()));
        Some(Records {
            name_exists: node.is_some(),
            answers,
            authorities: soa.into_iter().collect(),
            additionals: if absent { vec![] } else { self.glue(kind) },
        })
    }

    fn apex_of(&self, name: &Name) -> Option<Name> {
        let mut candidate = name.clone();
        loop {
            if let Some(apex) = self.apexes.get(&candidate) {
                return Some(apex.clone());
            }
            if candidate.is_root() {
                return None;
            }
            candidate = candidate.base_name();
        }
    }

    /// The records of one type, with the name in the case in which it was asked for.
    fn records(
        &self,
        name: &Name,
        node: Option<&Node>,
        apex: &Name,
        kind: RecordType,
    ) -> Vec<Record> {
        let data: Vec<RData> = match (kind, node) {
            (RecordType::SOA, _) if name == apex => vec![self.soa()],
            (RecordType::NS, _) if name == apex => vec![RData::NS(NS(self.name_server.clone()))],
            (RecordType::A, Some(node)) => {
                node.addresses.iter().map(|address| RData::A(A(*address))).collect()
            }
            (RecordType::PTR, Some(node)) => {
                node.names.iter().map(|name| RData::PTR(PTR(name.clone()))).collect()
            }
            _ => vec![],
        };
        data.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)).collect()
    }

    /// The name server's address goes with its name.
    fn glue(&self, kind: RecordType) -> Vec<Record> {
        let node = self.nodes.get(&self.name_server).filter(|_| kind == RecordType::NS);
        let addresses = node.into_iter().flat_map(|node| &node.addresses);
        let record = |address: &Ipv4Addr| {
            Record::from_rdata(self.name_server.clone(), TTL, RData::A(A(*address)))
        };
        addresses.map(record).collect()
    }

    /// Nobody copies the zone, so the serial and the times for that are of no use.
    fn soa(&self) -> RData {
        let (serial, refresh, retry, expire) = (1, 3600, 600, 86400);
        let contact = fixed("hostmaster.talos.");
        let name_server = self.name_server.clone();
        RData::SOA(SOA::new(name_server, contact, serial, refresh, retry, expire, NEGATIVE_TTL))
    }
}

/// A name that is known to be one.
fn fixed(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap_or_default();
    name.set_fqdn(true);
    name
}

/// The name of a machine; a hostname may already say that it is in the zone.
fn machine_name(hostname: &Hostname, origin: &Name) -> Option<Name> {
    let name = Name::from_ascii(hostname.as_str()).ok()?;
    let mut qualified = name.clone();
    qualified.set_fqdn(true);
    if origin.zone_of(&qualified) && qualified != *origin {
        return Some(qualified);
    }
    name.append_domain(origin).ok()
}

/// The reverse zones that the subnet fills: one, or up to 128 where it ends inside an octet. A
/// subnet of fewer than 256 addresses fills none.
fn reverse_apexes(subnet: Ipv4Net) -> impl Iterator<Item = Name> {
    let octets = subnet.prefix_len().div_ceil(8).max(1);
    let zones = (octets <= 3).then(|| subnet.subnets(octets * 8)).and_then(Result::ok);
    zones.into_iter().flatten().map(move |zone| {
        // The address's own octets, and `in-addr` and `arpa`.
        Name::from(zone.network()).trim_to(usize::from(octets) + 2)
    })
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
