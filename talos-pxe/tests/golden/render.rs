//! A frame with a DHCP message as text, one field a line.
//!
//! It reads the bytes by their offsets (RFC 2131 section 2) and shares no code with the parsers,
//! so that the two cannot be wrong in the same way.

use std::fmt::Write;
use std::net::Ipv4Addr;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

/// The text of a frame; panics where it is no sound DHCP frame.
pub fn frame(frame: &[u8]) -> String {
    assert_eq!(frame[12..14], [8, 0], "EtherType");
    let ip = &frame[ETHERNET..];
    assert_eq!((ip[0], ip[9]), (0x45, 17), "IPv4 without options, UDP");
    let udp = &ip[IPV4..];
    let dhcp = &udp[UDP..];
    assert_eq!(usize::from(u16_at(ip, 2)), ip.len(), "IPv4 length");
    assert_eq!(usize::from(u16_at(udp, 4)), udp.len(), "UDP length");
    assert_eq!(dhcp[236..240], [99, 130, 83, 99], "magic cookie");
    assert!(dhcp.len() >= 300, "{} octets are too short for relays", dhcp.len());
    assert!(ip.len() <= 1500, "{} octets do not fit the wire", ip.len());
    assert_eq!(dhcp[34..44], [0; 10], "padding of chaddr");

    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "  {}", format!("{name:<22}{value}").trim_end()).unwrap();
    };
    line("Ethernet", format!("{} to {}", mac(&frame[6..12]), mac(&frame[..6])));
    line("IPv4", format!("{} to {}", address(&ip[12..16]), address(&ip[16..20])));
    line("UDP", format!("{} to {}", u16_at(udp, 0), u16_at(udp, 2)));
    line("length", format!("{}", dhcp.len()));
    line("op", format!("{}", dhcp[0]));
    line("htype, hlen, hops", format!("{}, {}, {}", dhcp[1], dhcp[2], dhcp[3]));
    line("xid", hex(&dhcp[4..8]));
    line("secs", format!("{}", u16_at(dhcp, 8)));
    line("flags", format!("{:#06x}", u16_at(dhcp, 10)));
    for (name, offset) in [("ciaddr", 12), ("yiaddr", 16), ("siaddr", 20), ("giaddr", 24)] {
        line(name, address(&dhcp[offset..offset + 4]));
    }
    line("chaddr", mac(&dhcp[28..34]));
    line("sname", field(&dhcp[44..108]));
    line("file", field(&dhcp[108..236]));
    let mut rest = &dhcp[240..];
    while rest[0] != 255 {
        let (code, length) = (rest[0], usize::from(rest[1]));
        line(&format!("{code} {}", name(code)), value(code, &rest[2..2 + length]));
        rest = &rest[2 + length..];
    }
    assert!(rest[1..].iter().all(|octet| *octet == 0), "padding behind the options");
    text
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}

fn mac(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}

fn address(octets: &[u8]) -> String {
    Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).to_string()
}

/// A name field: text, then NULs only.
fn field(octets: &[u8]) -> String {
    let end = octets.iter().position(|octet| *octet == 0).unwrap();
    assert!(octets[end..].iter().all(|octet| *octet == 0), "padding of a name");
    format!("{:?}", String::from_utf8_lossy(&octets[..end]))
}

fn name(code: u8) -> &'static str {
    match code {
        1 => "subnet mask",
        3 => "router",
        6 => "DNS servers",
        43 => "vendor options",
        51 => "lease time",
        53 => "message type",
        54 => "server identifier",
        58 => "T1",
        59 => "T2",
        60 => "vendor class",
        61 => "client identifier",
        66 => "TFTP server name",
        67 => "boot file",
        82 => "relay information",
        97 => "machine identifier",
        175 => "iPXE",
        _ => "?",
    }
}

fn value(code: u8, octets: &[u8]) -> String {
    match code {
        1 | 3 | 6 | 54 => octets.chunks(4).map(address).collect::<Vec<_>>().join(", "),
        51 | 58 | 59 => format!("{} s", u32::from_be_bytes(octets.try_into().unwrap())),
        53 => match octets {
            [2] => "OFFER".into(),
            [5] => "ACK".into(),
            [6] => "NAK".into(),
            other => format!("{other:?}"),
        },
        60 | 66 | 67 => format!("{:?}", String::from_utf8_lossy(octets)),
        _ => hex(octets),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
