//! Ethernet frames that carry UDP over IPv4, and ARP (RFC 826).

use std::net::{Ipv4Addr, SocketAddrV4};

use super::MacAddr;

/// The longest frame that is read, in octets; DHCP messages are far shorter.
pub const MAX_FRAME: usize = 2048;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const PROTOCOL_UDP: u8 = 17;
/// Time to live of what we send: the value that IANA recommends for IP.
const TTL: u8 = 64;

/// Why a frame was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A header or length field reaches past the end of the frame.
    #[error("frame cut short")]
    Truncated,
    /// Another protocol, a fragment, or a header that no sender writes.
    #[error("not the protocol that was asked for")]
    OtherProtocol,
    /// The IPv4 header checksum is wrong.
    #[error("wrong IPv4 header checksum")]
    Checksum,
}

/// One UDP datagram over IPv4 in an Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// Ethernet source.
    pub source_mac: MacAddr,
    /// Ethernet destination.
    pub destination_mac: MacAddr,
    /// IPv4 source and UDP source port.
    pub source: SocketAddrV4,
    /// IPv4 destination and UDP destination port.
    pub destination: SocketAddrV4,
    /// What the datagram carries.
    pub payload: &'a [u8],
}

impl<'a> UdpFrame<'a> {
    /// Parses a whole Ethernet frame; padding behind the datagram is cut off.
    ///
    /// The UDP checksum is not looked at: a frame that a virtual machine or a veth peer hands
    /// over often carries only its partial sum (checksum offload), and the Ethernet checksum
    /// has protected the frame on a real wire.
    pub fn parse(frame: &'a [u8]) -> Result<Self, BadFrame> {
        let (ethernet, packet) =
            frame.split_first_chunk::<ETHERNET>().ok_or(BadFrame::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, type_high, type_low] = *ethernet;
        if u16::from_be_bytes([type_high, type_low]) != ETHERTYPE_IPV4 {
            return Err(BadFrame::OtherProtocol);
        }
        let (source_ip, destination_ip, datagram) = parse_ipv4(packet)?;
        let (udp, _) = datagram.split_first_chunk::<UDP>().ok_or(BadFrame::Truncated)?;
        let [sp0, sp1, dp0, dp1, len0, len1, ..] = *udp;
        let length = usize::from(u16::from_be_bytes([len0, len1]));
        Ok(Self {
            source_mac: MacAddr([s0, s1, s2, s3, s4, s5]),
            destination_mac: MacAddr([d0, d1, d2, d3, d4, d5]),
            source: SocketAddrV4::new(source_ip, u16::from_be_bytes([sp0, sp1])),
            destination: SocketAddrV4::new(destination_ip, u16::from_be_bytes([dp0, dp1])),
            payload: datagram.get(UDP..length).ok_or(BadFrame::Truncated)?,
        })
    }

    /// The whole frame, with checksums. Identification is 0 and "don't fragment" is set, as
    /// RFC 6864 section 4 allows for datagrams that are never fragmented.
    pub fn encode(&self) -> Vec<u8> {
        let udp_length = clamp_u16(UDP + self.payload.len());
        let mut frame = Vec::with_capacity(ETHERNET + IPV4 + UDP + self.payload.len());
        frame.extend(self.destination_mac.0);
        frame.extend(self.source_mac.0);
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        frame.extend(self.ipv4_header(udp_length));
        frame.extend(self.source.port().to_be_bytes());
        frame.extend(self.destination.port().to_be_bytes());
        frame.extend(udp_length.to_be_bytes());
        frame.extend(self.udp_checksum(udp_length).to_be_bytes());
        frame.extend(self.payload);
        frame
    }

    fn ipv4_header(&self, udp_length: u16) -> [u8; IPV4] {
        let [l0, l1] = udp_length.saturating_add(IPV4 as u16).to_be_bytes();
        let [s0, s1, s2, s3] = self.source.ip().octets();
        let [d0, d1, d2, d3] = self.destination.ip().octets();
        let header = |c0, c1| {
            [
                0x45,
                0,
                l0,
                l1,
                0,
                0,
                0x40,
                0,
                TTL,
                PROTOCOL_UDP,
                c0,
                c1,
                s0,
                s1,
                s2,
                s3,
                d0,
                d1,
                d2,
                d3,
            ]
        };
        let [c0, c1] = (!ones_complement_sum(0, &header(0, 0))).to_be_bytes();
        header(c0, c1)
    }

    /// The checksum over the pseudo header and the datagram (RFC 768); zero is sent as all ones.
    fn udp_checksum(&self, udp_length: u16) -> u16 {
        let mut sum = ones_complement_sum(0, &self.source.ip().octets());
        sum = ones_complement_sum(sum, &self.destination.ip().octets());
        for word in [
            u16::from(PROTOCOL_UDP),
            udp_length,
            self.source.port(),
            self.destination.port(),
            udp_length,
        ] {
            sum = ones_complement_sum(sum, &word.to_be_bytes());
        }
        match !ones_complement_sum(sum, self.payload) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Source, destination and UDP datagram of an unfragmented IPv4 packet.
fn parse_ipv4(packet: &[u8]) -> Result<(Ipv4Addr, Ipv4Addr, &[u8]), BadFrame> {
    let (fixed, _) = packet.split_first_chunk::<IPV4>().ok_or(BadFrame::Truncated)?;
    let [version_ihl, _, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *fixed;
    let header_length = usize::from(version_ihl & 0x0f) * 4;
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff;
    if version_ihl >> 4 != 4 || header_length < IPV4 || protocol != PROTOCOL_UDP || fragment != 0 {
        return Err(BadFrame::OtherProtocol);
    }
    let total_length = usize::from(u16::from_be_bytes([l0, l1]));
    let packet = packet.get(..total_length).ok_or(BadFrame::Truncated)?;
    let (header, datagram) = packet.split_at_checked(header_length).ok_or(BadFrame::Truncated)?;
    if ones_complement_sum(0, header) != 0xffff {
        return Err(BadFrame::Checksum);
    }
    Ok((Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3), datagram))
}

/// Adds `bytes` to a running ones' complement sum (RFC 1071).
fn ones_complement_sum(start: u16, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    let mut sum = u64::from(start) + words.sum::<u64>();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

fn clamp_u16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// True for a reply, false for a request.
    pub reply: bool,
    /// Who speaks.
    pub sender_mac: MacAddr,
    /// The speaker's address; 0.0.0.0 in a probe (RFC 5227 section 1.1).
    pub sender_ip: Ipv4Addr,
    /// The address spoken of.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Asks whether anyone uses `target_ip`, without claiming an address (RFC 5227 section 2.1.1).
    pub fn probe(sender_mac: MacAddr, target_ip: Ipv4Addr) -> Self {
        Self { reply: false, sender_mac, sender_ip: Ipv4Addr::UNSPECIFIED, target_ip }
    }

    /// Parses a whole Ethernet frame.
    pub fn parse(frame: &[u8]) -> Result<Self, BadFrame> {
        let (ethernet, packet) =
            frame.split_first_chunk::<ETHERNET>().ok_or(BadFrame::Truncated)?;
        let [.., type_high, type_low] = *ethernet;
        let (packet, _) = packet.split_first_chunk::<28>().ok_or(BadFrame::Truncated)?;
        let [
            hw0,
            hw1,
            proto0,
            proto1,
            6,
            4,
            op0,
            op1,
            m0,
            m1,
            m2,
            m3,
            m4,
            m5,
            s0,
            s1,
            s2,
            s3,
            _,
            _,
            _,
            _,
            _,
            _,
            t0,
            t1,
            t2,
            t3,
        ] = *packet
        else {
            return Err(BadFrame::OtherProtocol);
        };
        let words = [[type_high, type_low], [hw0, hw1], [proto0, proto1]].map(u16::from_be_bytes);
        if words != [ETHERTYPE_ARP, 1, ETHERTYPE_IPV4] {
            return Err(BadFrame::OtherProtocol);
        }
        let reply = match u16::from_be_bytes([op0, op1]) {
            1 => false,
            2 => true,
            _ => return Err(BadFrame::OtherProtocol),
        };
        Ok(Self {
            reply,
            sender_mac: MacAddr([m0, m1, m2, m3, m4, m5]),
            sender_ip: Ipv4Addr::new(s0, s1, s2, s3),
            target_ip: Ipv4Addr::new(t0, t1, t2, t3),
        })
    }

    /// The whole frame, broadcast.
    pub fn encode(&self) -> Vec<u8> {
        let operation: u16 = if self.reply { 2 } else { 1 };
        let mut frame = Vec::with_capacity(ETHERNET + 28);
        frame.extend(MacAddr::BROADCAST.0);
        frame.extend(self.sender_mac.0);
        frame.extend(ETHERTYPE_ARP.to_be_bytes());
        frame.extend(1u16.to_be_bytes());
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        frame.extend([6, 4]);
        frame.extend(operation.to_be_bytes());
        frame.extend(self.sender_mac.0);
        frame.extend(self.sender_ip.octets());
        frame.extend(MacAddr::ZERO.0);
        frame.extend(self.target_ip.octets());
        frame
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const BOB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

    fn frame(payload: &[u8]) -> UdpFrame<'_> {
        UdpFrame {
            source_mac: ALICE,
            destination_mac: BOB,
            source: "192.168.123.1:67".parse().unwrap(),
            destination: "192.168.123.50:68".parse().unwrap(),
            payload,
        }
    }

    #[test]
    fn the_receiver_sums_the_datagram_to_all_ones() {
        for payload in [&b"even"[..], b"odd", b""] {
            let bytes = frame(payload).encode();
            let mut sum = ones_complement_sum(0, &bytes[26..34]);
            sum = ones_complement_sum(sum, &17u16.to_be_bytes());
            sum = ones_complement_sum(sum, &bytes[38..40]);
            assert_eq!(ones_complement_sum(sum, &bytes[34..]), 0xffff);
        }
    }

    #[test]
    fn refuses_fragments_other_protocols_and_wrong_checksums() {
        let good = frame(b"payload").encode();
        for (offset, value, error) in [
            (12, 0x86, BadFrame::OtherProtocol),
            (14, 0x65, BadFrame::OtherProtocol),
            (20, 0x60, BadFrame::OtherProtocol),
            (23, 6, BadFrame::OtherProtocol),
            (26, 1, BadFrame::Checksum),
            (17, 0xff, BadFrame::Truncated),
            (39, 0xff, BadFrame::Truncated),
        ] {
            let mut bytes = good.clone();
            bytes[offset] = value;
            assert_eq!(UdpFrame::parse(&bytes), Err(error), "byte {offset}");
        }
    }

    #[test]
    fn arp_round_trips() {
        let probe = Arp::probe(ALICE, Ipv4Addr::new(192, 168, 123, 9));
        assert_eq!(Arp::parse(&probe.encode()), Ok(probe));
        let reply = Arp { reply: true, sender_ip: probe.target_ip, ..probe };
        assert_eq!(Arp::parse(&reply.encode()), Ok(reply));
    }

    proptest! {
        #[test]
        fn udp_round_trips_with_ethernet_padding(
            payload in prop::collection::vec(any::<u8>(), 0..1400),
            padding in 0usize..46,
        ) {
            let mut bytes = frame(&payload).encode();
            bytes.resize(bytes.len() + padding, 0);
            prop_assert_eq!(UdpFrame::parse(&bytes), Ok(frame(&payload)));
        }

        #[test]
        fn any_bytes_are_refused_or_parsed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = UdpFrame::parse(&bytes);
            let _ = Arp::parse(&bytes);
        }

        #[test]
        fn any_change_to_a_good_frame_is_refused_or_parsed(
            offset in 0usize..49, value in any::<u8>(), cut in 0usize..49,
        ) {
            let mut bytes = frame(b"payload").encode();
            bytes[offset] = value;
            let _ = UdpFrame::parse(&bytes);
            let _ = UdpFrame::parse(&bytes[..cut]);
        }
    }
}
