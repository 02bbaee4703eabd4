//! The layout of a DHCP request or reply, from its Ethernet header up to its options.
//!
//! Every field is an array of octets as they stand on the wire, so the layout has neither
//! alignment nor byte order of its own.

use bytemuck::{Pod, Zeroable};

/// Octets of the Ethernet header.
pub const ETHERNET: usize = 14;
/// Octets of an IPv4 header without options.
pub const IPV4: usize = 20;
/// Octets of the UDP header.
pub const UDP: usize = 8;
/// Octets of a DHCP message before its magic cookie (RFC 2131 section 2).
pub const BOOTP: usize = 236;
/// Where the magic cookie is in a frame; the options follow it.
pub const MAGIC_AT: usize = ETHERNET + IPV4 + UDP + BOOTP;
/// Where the first option is in a frame.
pub const FIRST_OPTION: usize = MAGIC_AT + MAGIC.len();
/// The shortest reply in a frame: its message has 300 octets (RFC 1542 section 2.1).
pub const SHORTEST_REPLY: usize = ETHERNET + IPV4 + UDP + 300;

/// The magic cookie (RFC 2131 section 3).
pub const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// IP version 4 and a header of five 32-bit words: no options.
pub const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// The bits of the fragment field that make a packet a fragment: more fragments, and the offset.
pub const FRAGMENT: u16 = 0x3fff;
/// The `op` of a request.
pub const BOOT_REQUEST: u8 = 1;
/// The bit of `flags` by which a client asks for a broadcast (RFC 2131 section 2).
pub const BROADCAST_FLAG: u8 = 0x80;
/// UDP port of DHCP servers and relay agents.
pub const SERVER_PORT: u16 = 67;
/// UDP port of DHCP clients.
pub const CLIENT_PORT: u16 = 68;

/// A DHCP message in a frame, up to and including the magic cookie.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
#[expect(missing_docs, reason = "the protocols' own field names (RFC 791, 768, 2131)")]
pub struct Frame {
    pub ethernet_destination: [u8; 6],
    pub ethernet_source: [u8; 6],
    pub ethertype: [u8; 2],
    pub ip: Ipv4Header,
    pub udp_source: [u8; 2],
    pub udp_destination: [u8; 2],
    pub udp_length: [u8; 2],
    pub udp_checksum: [u8; 2],
    pub op: u8,
    pub htype: u8,
    pub hlen: u8,
    pub hops: u8,
    pub xid: [u8; 4],
    pub secs: [u8; 2],
    pub flags: [u8; 2],
    pub ciaddr: [u8; 4],
    pub yiaddr: [u8; 4],
    pub siaddr: [u8; 4],
    pub giaddr: [u8; 4],
    pub chaddr: [u8; 6],
    pub chaddr_padding: [u8; 10],
    pub sname: [u8; 64],
    pub file: [[u8; 64]; 2],
    pub magic: [u8; 4],
}

/// An IPv4 header without options (RFC 791 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
#[expect(missing_docs, reason = "the protocol's own field names")]
pub struct Ipv4Header {
    pub version_and_length: u8,
    pub service: u8,
    pub total_length: [u8; 2],
    pub identification: [u8; 2],
    pub fragment: [u8; 2],
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: [u8; 2],
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

const _: () = assert!(size_of::<Ipv4Header>() == IPV4);
const _: () = assert!(size_of::<Frame>() == FIRST_OPTION);
const _: () = assert!(core::mem::offset_of!(Frame, chaddr) == 70);

/// Folds a ones' complement sum to 16 bits (RFC 1071). Words are added as they stand in memory:
/// the sum is the same in either byte order, only its own bytes are swapped.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The word `bytes` as it stands in memory, to be added to a sum.
#[inline(always)]
pub fn word16(bytes: [u8; 2]) -> u64 {
    u16::from_ne_bytes(bytes).into()
}

/// The double word `bytes` as it stands in memory, to be added to a sum.
#[inline(always)]
pub fn word32(bytes: [u8; 4]) -> u64 {
    u32::from_ne_bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_keeps_the_remainder_and_never_turns_all_ones_to_zero() {
        for sum in [1, 0xffff, 0x1_0000, 0xffff_ffff, 0xffff_ffff_ffff_ffff, 0x1234_5678_9abc] {
            let folded = u64::from(fold(sum));
            assert_eq!(folded % 0xffff, sum % 0xffff);
            assert_ne!(folded, 0);
        }
        assert_eq!(fold(0), 0);
    }
}
