//! Parsing of an Ethernet frame up to its UDP header.
//!
//! Each read compares with the frame's end right before it reads, in the form that the BPF
//! verifier recognises as a bounds check, and reads at a fixed offset: for offsets that come from
//! the packet the verifier would want `CAP_PERFMON` from the daemon.

#![expect(unsafe_code, reason = "slices carry no bounds that the BPF verifier can follow")]

use core::marker::PhantomData;

/// The UDP port of DHCP servers (RFC 2131 section 4.1).
pub const DHCP_SERVER_PORT: u16 = 67;

/// The UDP port of PXE boot servers (PXE specification 2.1, section 2.2).
pub const BOOT_SERVER_PORT: u16 = 4011;

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_AT: usize = 12;
const ETHERTYPE_IPV4: u16 = 0x0800;

const IPV4_HEADER: usize = 20;
/// Version 4 and a header of five 32-bit words: no options.
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
const IPV4_FRAGMENT_AT: usize = 6;
const IPV4_PROTOCOL_AT: usize = 9;
const PROTOCOL_UDP: u8 = 17;
/// The thirteen bits of the fragment offset; the flags are above them.
const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

const UDP_DESTINATION_AT: usize = 2;

/// What a frame is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UDP over IPv4 to the DHCP server port.
    Dhcp,
    /// UDP over IPv4 to the PXE boot server port.
    BootServer,
    /// Anything else, malformed frames included.
    Other,
}

/// A received frame, from its destination MAC address on.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Address of the first byte.
    start: usize,
    /// Address after the last byte.
    end: usize,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// The frame in the memory from `start` up to, not including, `end`.
    ///
    /// # Safety
    ///
    /// That memory must be readable for as long as the frame lives.
    #[inline(always)]
    pub const unsafe fn from_raw(start: usize, end: usize) -> Self {
        Self { start, end, memory: PhantomData }
    }

    /// What the frame is to us.
    #[inline(always)]
    pub fn kind(&self) -> Kind {
        match self.udp_destination() {
            Some(DHCP_SERVER_PORT) => Kind::Dhcp,
            Some(BOOT_SERVER_PORT) => Kind::BootServer,
            _ => Kind::Other,
        }
    }

    /// The destination port, if this is a whole UDP datagram over IPv4 or the first fragment of
    /// one. Frames with a VLAN tag or IP options count as no datagram: firmware sends none.
    #[inline(always)]
    fn udp_destination(&self) -> Option<u16> {
        if self.u16_at(ETHERTYPE_AT)? != ETHERTYPE_IPV4 {
            return None;
        }
        if self.u8_at(ETHERNET_HEADER)? != IPV4_WITHOUT_OPTIONS {
            return None;
        }
        let fragment = self.u16_at(ETHERNET_HEADER + IPV4_FRAGMENT_AT)?;
        if fragment & FRAGMENT_OFFSET_MASK != 0 {
            return None;
        }
        if self.u8_at(ETHERNET_HEADER + IPV4_PROTOCOL_AT)? != PROTOCOL_UDP {
            return None;
        }
        self.u16_at(ETHERNET_HEADER + IPV4_HEADER + UDP_DESTINATION_AT)
    }

    /// The byte at `offset`.
    #[inline(always)]
    fn u8_at(&self, offset: usize) -> Option<u8> {
        self.bytes_at::<1>(offset).map(|[byte]| byte)
    }

    /// The two bytes at `offset`, in network order.
    #[inline(always)]
    fn u16_at(&self, offset: usize) -> Option<u16> {
        self.bytes_at(offset).map(u16::from_be_bytes)
    }

    #[inline(always)]
    fn bytes_at<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let from = self.start + offset;
        if from + N > self.end {
            return None;
        }
        // SAFETY: the bytes end before the frame does, and a byte array has no alignment.
        Some(unsafe { *(from as *const [u8; N]) })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// What `bytes` are, from memory that ends where they end, so that Miri sees a read beyond.
    fn kind(bytes: &[u8]) -> Kind {
        let bytes: Vec<u8> = bytes.to_vec();
        let range = bytes.as_ptr_range();
        // SAFETY: the vector outlives the frame.
        unsafe { Frame::from_raw(range.start.expose_provenance(), range.end.addr()) }.kind()
    }

    fn udp_frame(port: u16) -> Vec<u8> {
        let mut frame = [0xff; 12].to_vec();
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        let mut ip = [0; IPV4_HEADER];
        ip[0] = IPV4_WITHOUT_OPTIONS;
        ip[IPV4_PROTOCOL_AT] = PROTOCOL_UDP;
        frame.extend(ip);
        frame.extend(68_u16.to_be_bytes());
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        frame
    }

    #[test]
    fn knows_a_request_by_its_port() {
        assert_eq!(kind(&udp_frame(67)), Kind::Dhcp);
        assert_eq!(kind(&udp_frame(4011)), Kind::BootServer);
        assert_eq!(kind(&udp_frame(69)), Kind::Other);
    }

    #[test]
    fn counts_what_is_no_datagram_to_us_as_other() {
        let spoilt = |at: usize, value: u8| {
            let mut frame = udp_frame(67);
            frame[at] = value;
            kind(&frame)
        };
        assert_eq!(spoilt(12, 0x86), Kind::Other, "another protocol than IPv4");
        assert_eq!(spoilt(14, 0x65), Kind::Other, "another version than 4");
        assert_eq!(spoilt(14, 0x46), Kind::Other, "IP options");
        assert_eq!(spoilt(21, 1), Kind::Other, "a fragment that is not the first");
        assert_eq!(spoilt(20, 0x40), Kind::Dhcp, "don't fragment is a flag");
        assert_eq!(spoilt(23, 6), Kind::Other, "TCP");
    }

    #[test]
    fn reads_nothing_beyond_the_end() {
        let frame = udp_frame(67);
        for length in 0..frame.len() {
            let expected = if length < 38 { Kind::Other } else { Kind::Dhcp };
            assert_eq!(kind(&frame[..length]), expected, "{length} bytes");
        }
    }
}
