//! Tests of [`super`].

use super::*;

const OWN: &str = "10.9.0.1/24";

fn own(subnet: &str) -> Ipv4Net {
    subnet.parse().unwrap()
}

fn host(name: &str) -> Hostname {
    name.parse().unwrap()
}

/// A machine by hostname and last octet.
fn machine(hostname: &str, last: u8, in_control_plane: bool) -> Machine {
    let hostname = (!hostname.is_empty()).then(|| host(hostname));
    (hostname, Ipv4Addr::new(10, 9, 0, last), in_control_plane)
}

fn zone(machines: impl IntoIterator<Item = Machine>) -> Zone {
    Zone::new(own(OWN), &host("controlplane.talos"), machines)
}

/// The data of the answers, as text; else `NODATA` or `NXDOMAIN` with the apex, or `foreign`.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> Vec<String> {
    let asked = Name::from_ascii(name).unwrap();
    let Some(records) = zone.lookup(&asked, kind) else { return vec!["foreign".to_owned()] };
    if let [soa] = &records.authorities[..] {
        assert_eq!((soa.record_type(), soa.ttl), (RecordType::SOA, NEGATIVE_TTL));
        assert!(records.answers.is_empty());
        let none = if records.name_exists { "NODATA" } else { "NXDOMAIN" };
        return vec![format!("{none} {}", soa.name)];
    }
    assert!(records.name_exists && !records.answers.is_empty());
    let data = records.answers.iter().map(|answer| {
        assert_eq!((answer.name.to_ascii().as_str(), answer.ttl), (name, TTL));
        assert_eq!(answer.dns_class, hickory_proto::rr::DNSClass::IN);
        answer.data.to_string()
    });
    data.collect()
}

#[test]
fn machines_have_their_hostnames() {
    let zone = zone([
        machine("n1", 11, false),
        machine("n2.rack1", 12, false),
        machine("n3.talos", 13, false),
        machine("", 14, false),
    ]);
    for (name, address) in
        [("n1.talos.", "10.9.0.11"), ("n2.rack1.talos.", "10.9.0.12"), ("n3.talos.", "10.9.0.13")]
    {
        assert_eq!(ask(&zone, name, RecordType::A), [address]);
        let reverse = Name::from(address.parse::<Ipv4Addr>().unwrap()).to_ascii();
        assert_eq!(ask(&zone, &reverse, RecordType::PTR), [name]);
        assert_eq!(ask(&zone, name, RecordType::AAAA), ["NODATA talos."]);
        assert_eq!(ask(&zone, &reverse, RecordType::A), ["NODATA 0.9.10.in-addr.arpa."]);
    }
    assert_eq!(ask(&zone, "N1.TaLoS.", RecordType::A), ["10.9.0.11"], "in any case");
    assert_eq!(ask(&zone, "n4.talos.", RecordType::A), ["NXDOMAIN talos."]);
    assert_eq!(ask(&zone, "x.n1.talos.", RecordType::A), ["NXDOMAIN talos."]);
    assert_eq!(
        ask(&zone, "14.0.9.10.in-addr.arpa.", RecordType::PTR),
        ["NXDOMAIN 0.9.10.in-addr.arpa."]
    );
}

#[test]
fn a_name_above_others_exists() {
    let zone = zone([machine("n2.row3.rack1", 12, false)]);
    for name in ["row3.rack1.talos.", "rack1.talos.", "talos."] {
        assert_eq!(ask(&zone, name, RecordType::A), ["NODATA talos."], "{name}");
    }
    assert_eq!(ask(&zone, "row4.rack1.talos.", RecordType::A), ["NXDOMAIN talos."]);
    let wide = Zone::new(
        own("10.9.0.1/16"),
        &host("controlplane.talos"),
        [(Some(host("n1")), Ipv4Addr::new(10, 9, 3, 4), false)],
    );
    assert_eq!(ask(&wide, "4.3.9.10.in-addr.arpa.", RecordType::PTR), ["n1.talos."]);
    assert_eq!(ask(&wide, "3.9.10.in-addr.arpa.", RecordType::PTR), ["NODATA 9.10.in-addr.arpa."]);
    assert_eq!(
        ask(&wide, "5.9.10.in-addr.arpa.", RecordType::PTR),
        ["NXDOMAIN 9.10.in-addr.arpa."]
    );
}

#[test]
fn the_control_plane_has_all_its_machines() {
    let name = "controlplane.talos.";
    assert_eq!(ask(&zone([]), name, RecordType::A), ["NODATA talos."], "it will have some");
    let zone = zone([
        machine("n1", 11, true),
        machine("", 12, true),
        machine("n3", 13, false),
        machine("n4", 14, true),
    ]);
    assert_eq!(ask(&zone, name, RecordType::A), ["10.9.0.11", "10.9.0.12", "10.9.0.14"]);
    assert_eq!(ask(&zone, name, RecordType::AAAA), ["NODATA talos."]);
    assert_eq!(ask(&zone, "11.0.9.10.in-addr.arpa.", RecordType::PTR), ["n1.talos."]);
    let unnamed = ask(&zone, "12.0.9.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(unnamed, [name], "it has no other name");
}

#[test]
fn the_control_plane_may_have_a_name_elsewhere() {
    let zone = Zone::new(own(OWN), &host("api.example.com"), [machine("n1", 11, true)]);
    assert_eq!(ask(&zone, "api.example.com.", RecordType::A), ["10.9.0.11"]);
    assert_eq!(ask(&zone, "api.example.com.", RecordType::NS), ["ns.talos."]);
    assert_eq!(ask(&zone, "api.example.com.", RecordType::AAAA), ["NODATA api.example.com."]);
    assert_eq!(ask(&zone, "x.api.example.com.", RecordType::A), ["NXDOMAIN api.example.com."]);
    for name in ["example.com.", "www.example.com.", "com.", "."] {
        assert_eq!(ask(&zone, name, RecordType::A), ["foreign"], "{name}");
    }
    assert_eq!(ask(&zone, "controlplane.talos.", RecordType::A), ["NXDOMAIN talos."]);
    let apex = Zone::new(own(OWN), &host("talos"), [machine("", 11, true)]);
    assert_eq!(ask(&apex, "talos.", RecordType::A), ["10.9.0.11"]);
}

#[test]
fn machines_cannot_take_our_names() {
    let long = ["a".repeat(63).as_str(); 3].join(".") + "." + &"b".repeat(60);
    let machines = ["controlplane", "controlplane.talos", "ns", &long];
    let zone = zone((20..).zip(machines).map(|(last, name)| machine(name, last, false)));
    assert_eq!(ask(&zone, "controlplane.talos.", RecordType::A), ["NODATA talos."]);
    assert_eq!(ask(&zone, "ns.talos.", RecordType::A), ["10.9.0.1"]);
    for last in 20..24 {
        let reverse = format!("{last}.0.9.10.in-addr.arpa.");
        assert_eq!(ask(&zone, &reverse, RecordType::PTR), ["NXDOMAIN 0.9.10.in-addr.arpa."]);
    }
}

#[test]
fn machines_with_one_hostname_share_it() {
    let zone = zone([machine("n1", 12, false), machine("N1", 11, false)]);
    assert_eq!(ask(&zone, "n1.talos.", RecordType::A), ["10.9.0.11", "10.9.0.12"]);
    for last in [11, 12] {
        let reverse = format!("{last}.0.9.10.in-addr.arpa.");
        assert_eq!(ask(&zone, &reverse, RecordType::PTR), ["n1.talos."]);
    }
}

#[test]
fn every_zone_has_its_authority() {
    let zone = zone([]);
    let soa = "ns.talos. hostmaster.talos. 1 3600 600 86400 5";
    for apex in ["talos.", "0.9.10.in-addr.arpa."] {
        assert_eq!(ask(&zone, apex, RecordType::SOA), [soa]);
        assert_eq!(ask(&zone, apex, RecordType::NS), ["ns.talos."]);
    }
    assert_eq!(ask(&zone, "ns.talos.", RecordType::A), ["10.9.0.1"]);
    assert_eq!(ask(&zone, "1.0.9.10.in-addr.arpa.", RecordType::PTR), ["ns.talos."]);
    assert_eq!(ask(&zone, "ns.talos.", RecordType::SOA), ["NODATA talos."]);
    let ns = zone.lookup(&Name::from_ascii("talos.").unwrap(), RecordType::NS);
    let additionals = ns.unwrap().additionals;
    assert_eq!(additionals.len(), 1);
    assert_eq!(additionals[0].to_string(), "ns.talos. 60 IN A 10.9.0.1");
}

#[test]
fn any_is_one_type() {
    let zone = zone([machine("n1.rack1", 11, false)]);
    assert_eq!(ask(&zone, "n1.rack1.talos.", RecordType::ANY), ["10.9.0.11"]);
    assert_eq!(ask(&zone, "11.0.9.10.in-addr.arpa.", RecordType::ANY), ["n1.rack1.talos."]);
    assert_eq!(ask(&zone, "talos.", RecordType::ANY).len(), 1);
    assert_eq!(ask(&zone, "rack1.talos.", RecordType::ANY), ["NODATA talos."]);
    assert_eq!(ask(&zone, "n2.talos.", RecordType::ANY), ["NXDOMAIN talos."]);
}

#[test]
fn reverse_zones_are_those_that_the_subnet_fills() {
    for (subnet, inside, outside) in [
        ("10.9.0.1/24", &["1.0.9.10", "255.0.9.10"][..], &["1.1.9.10", "9.10"][..]),
        ("10.9.0.1/22", &["1.0.9.10", "1.3.9.10"], &["1.4.9.10", "9.10"]),
        ("10.9.0.1/16", &["1.0.9.10", "1.255.9.10", "255.9.10"], &["1.0.8.10", "10"]),
        ("10.9.0.1/8", &["1.0.9.10", "1.0.99.10"], &["1.0.9.11"]),
        ("10.9.0.1/25", &["1.0.9.10", "11.0.9.10"], &["2.0.9.10", "200.0.9.10", "0.9.10"]),
    ] {
        let zone = Zone::new(own(subnet), &host("controlplane.talos"), [machine("n1", 11, false)]);
        let is_foreign = |name: &&str| {
            let name = format!("{name}.in-addr.arpa.");
            ask(&zone, &name, RecordType::PTR) == ["foreign"]
        };
        assert!(!inside.iter().any(is_foreign), "{subnet}");
        assert!(outside.iter().all(is_foreign), "{subnet}");
    }
    let elsewhere = (Some(host("n1")), Ipv4Addr::new(10, 8, 0, 11), false);
    let zone = zone([elsewhere]);
    assert_eq!(ask(&zone, "11.0.8.10.in-addr.arpa.", RecordType::PTR), ["n1.talos."]);
    assert_eq!(ask(&zone, "12.0.8.10.in-addr.arpa.", RecordType::PTR), ["foreign"]);
}
