//! What a machine reads in a server's reply.

use std::net::Ipv4Addr;

use super::frame::Mac;
use super::sum;

/// Message types (RFC 2132 section 9.6).
pub const OFFER: u8 = 2;
/// See [`OFFER`].
pub const ACK: u8 = 5;
/// See [`OFFER`].
pub const NAK: u8 = 6;

/// Ethernet, IPv4 without options, and UDP.
const HEADERS: usize = 42;
const OPTIONS: usize = HEADERS + 240;

/// A DHCP reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Transaction identifier.
    pub xid: u32,
    /// The machine that it is for.
    pub mac: Mac,
    /// Message type.
    pub kind: u8,
    /// The address given.
    pub address: Ipv4Addr,
    /// The server's identifier.
    pub server: Ipv4Addr,
    /// Seconds.
    pub lease_time: u32,
}

impl Reply {
    /// Reads a frame; none when it is no whole DHCP reply.
    pub fn parse(frame: &[u8]) -> Option<Reply> {
        let field = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let from_server = frame.get(34..36)? == [0, 67];
        if frame.get(12..15)? != [8, 0, 0x45] || !from_server || *frame.get(HEADERS)? != 2 {
            return None;
        }
        let mut reply = Reply {
            xid: field(HEADERS + 4)?,
            mac: frame.get(HEADERS + 28..HEADERS + 34)?.try_into().ok()?,
            kind: 0,
            address: field(HEADERS + 16)?.into(),
            server: Ipv4Addr::UNSPECIFIED,
            lease_time: 0,
        };
        let mut rest = frame.get(OPTIONS..)?;
        loop {
            match rest {
                [0, tail @ ..] => rest = tail,
                [255, ..] => return (reply.kind != 0).then_some(reply),
                [code, length, tail @ ..] => {
                    let (value, tail) = tail.split_at_checked(usize::from(*length))?;
                    match (*code, value) {
                        (53, [kind]) => reply.kind = *kind,
                        (51, value) => {
                            reply.lease_time = u32::from_be_bytes(value.try_into().ok()?);
                        }
                        (54, [a, b, c, d]) => reply.server = Ipv4Addr::new(*a, *b, *c, *d),
                        _ => {}
                    }
                    rest = tail;
                }
                _ => return None,
            }
        }
    }
}

/// The file that a DHCP reply tells a machine to start: the server of it (BOOTP's `siaddr`), and
/// its name or URL, from option 67 or else BOOTP's `file`.
pub fn boot_file(frame: &[u8]) -> Option<(Ipv4Addr, String)> {
    let server: [u8; 4] = frame.get(HEADERS + 20..HEADERS + 24)?.try_into().ok()?;
    let field = frame.get(HEADERS + 108..HEADERS + 236)?;
    let mut name = field.split(|octet| *octet == 0).next()?;
    let mut rest = frame.get(OPTIONS..)?;
    while let [code, tail @ ..] = rest {
        rest = match (code, tail) {
            (0, tail) => tail,
            (255, _) => break,
            (code, tail) => {
                let (length, tail) = tail.split_first()?;
                let (value, tail) = tail.split_at_checked(usize::from(*length))?;
                if *code == 67 {
                    name = value.strip_suffix(&[0]).unwrap_or(value);
                }
                tail
            }
        };
    }
    let name = String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())?;
    Some((server.into(), name))
}

/// Whether the checksums of a frame with an IPv4 header of 20 octets are right: that of the
/// header, and that of the UDP datagram. On a cable between namespaces the network stack leaves the
/// latter to hardware that is not there, and only sums up the pseudo-header, which is right, too.
pub fn sums_are_right(frame: &[u8]) -> bool {
    let check = || {
        let (ip, udp) = (frame.get(14..34)?, frame.get(34..)?);
        let length = frame.get(38..40)?;
        let udp = udp.get(..usize::from(u16::from_be_bytes(length.try_into().ok()?)))?;
        let addresses = sum::add(sum::add(0, frame.get(26..34)?), &[0, 17]);
        let pseudo_header = sum::add(addresses, length);
        let field = u16::from_be_bytes(frame.get(40..42)?.try_into().ok()?);
        let udp_is_right = sum::fold(sum::add(pseudo_header, udp)) == 0xffff
            || [0, sum::fold(pseudo_header)].contains(&field);
        Some(sum::fold(sum::add(0, ip)) == 0xffff && udp_is_right)
    };
    check().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Ask, Client, Relay, Sender, Target};
    use super::*;

    fn sender(relay: Option<Relay>) -> Sender {
        let target = Target { address: Ipv4Addr::new(10, 0, 0, 1), mac: [2; 6] };
        Sender { mac: [4, 0, 0, 0, 0, 1], client: Client::Pxe, relay, target }
    }

    #[test]
    fn requests_have_right_sums_whatever_their_identifier() {
        let relay = Relay { address: Ipv4Addr::new(10, 0, 0, 2), mac: [6; 6] };
        for relay in [None, Some(relay)] {
            for ask in [Ask::Discover, Ask::Renew(Ipv4Addr::new(10, 0, 0, 9))] {
                let mut frame = sender(relay).ask(ask);
                for xid in [0, 1, 0xffff, 0xffff_0000, 0xdead_beef, u32::MAX] {
                    assert!(sums_are_right(frame.with_xid(xid)), "{ask:?} {xid:x}");
                }
            }
        }
    }

    #[test]
    fn the_file_to_start_is_in_an_option_or_in_the_head() {
        for client in [Client::BiosPxe, Client::Ipxe { bios: false }] {
            let mut frame = Sender { client, ..sender(None) }.ask(Ask::Discover);
            let mut frame = frame.with_xid(1).to_vec();
            assert!(sums_are_right(&frame));
            assert_eq!(boot_file(&frame), None);
            frame[HEADERS + 20..HEADERS + 24].copy_from_slice(&[10, 0, 0, 1]);
            frame[HEADERS + 108..HEADERS + 110].copy_from_slice(b"a\0");
            let server = Ipv4Addr::new(10, 0, 0, 1);
            assert_eq!(boot_file(&frame), Some((server, "a".to_owned())));
            // In place of the message type.
            frame[OPTIONS..OPTIONS + 3].copy_from_slice(&[67, 1, b'b']);
            assert_eq!(boot_file(&frame), Some((server, "b".to_owned())));
            for length in 0..frame.len() {
                let _ = boot_file(&frame[..length]);
            }
        }
    }

    #[test]
    fn a_reply_is_read_and_a_request_is_none() {
        let mut frame = sender(None).ask(Ask::Reboot(Ipv4Addr::new(10, 0, 0, 9)));
        let mut frame = frame.with_xid(7).to_vec();
        assert_eq!(Reply::parse(&frame), None);
        frame[HEADERS] = 2;
        frame[34..36].copy_from_slice(&[0, 67]);
        let reply = Reply::parse(&frame).unwrap();
        assert_eq!((reply.xid, reply.mac, reply.kind), (7, [4, 0, 0, 0, 0, 1], 3));
        for length in 0..frame.len() {
            frame.truncate(frame.len() - length.min(frame.len()));
            let _ = Reply::parse(&frame);
        }
    }
}
