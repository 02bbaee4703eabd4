//! The fixed fields of a request.

use aya_ebpf::bindings::xdp_md;
use talos_pxe_ebpf::frame::{
    BOOT_REQUEST, BOOTP, BROADCAST_FLAG, ETHERNET, ETHERTYPE_IPV4, FRAGMENT, Frame, IPV4,
    IPV4_WITHOUT_OPTIONS, Ipv4Header, MAGIC, PROTOCOL_UDP, UDP, fold, word16, word32,
};
use talos_pxe_ebpf::machines::Machine;
use talos_pxe_ebpf::maps::Config;
use talos_pxe_ebpf::outcome::Outcome;

use super::machines;
use super::maps::Scratch;

const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const BROADCAST_IP: [u8; 4] = [0xff; 4];
const ETHERNET_TYPE: u8 = 1;
const ETHERNET_LENGTH: u8 = 6;

/// Which of our ports a request came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Dhcp,
    BootServer,
}

/// What a reply needs of a request: its frame is overwritten.
pub struct Request {
    pub service: Service,
    /// Octets of the magic cookie and the options.
    pub options_length: u64,
    pub source_mac: [u8; 6],
    pub source_ip: [u8; 4],
    pub source_port: [u8; 2],
    pub xid: [u8; 4],
    pub broadcast: u8,
    pub ciaddr: [u8; 4],
    pub giaddr: [u8; 4],
    pub chaddr: [u8; 6],
    /// Whether the client names a file (RFC 2131 section 2, table 1).
    pub names_file: bool,
}

/// The frame's fixed fields, as long as nothing has moved or resized it; none if it is shorter.
#[inline(always)]
pub fn frame<'a>(ctx: *mut xdp_md) -> Option<&'a mut Frame> {
    // Volatile, so that nothing of what the verifier knew of the frame before is left.
    // SAFETY: the kernel hands over the frame from `data` up to `data_end`; the verifier holds
    // us to it.
    unsafe {
        let start = (&raw const (*ctx).data).read_volatile() as usize;
        let end = (&raw const (*ctx).data_end).read_volatile() as usize;
        if start + size_of::<Frame>() > end { None } else { Some(&mut *(start as *mut Frame)) }
    }
}

/// Sees to it that what is no UDP over IPv4 to one of our ports costs little.
#[inline(always)]
pub fn check_ports(ctx: *mut xdp_md, config: &Config) -> Result<(), Outcome> {
    let frame = frame(ctx).ok_or(Outcome::Other)?;
    let to = frame.udp_destination;
    if frame.ethertype != ETHERTYPE_IPV4
        || frame.ip.version_and_length != IPV4_WITHOUT_OPTIONS
        || frame.ip.protocol != PROTOCOL_UDP
        || (to != config.dhcp_port && to != config.boot_server_port)
    {
        return Err(Outcome::Other);
    }
    Ok(())
}

impl Request {
    /// The fixed fields of a request to one of our ports.
    #[inline(always)]
    pub fn parse(ctx: *mut xdp_md, config: &Config) -> Result<Self, Outcome> {
        let frame = frame(ctx).ok_or(Outcome::Other)?;
        let service = if frame.udp_destination == config.dhcp_port {
            Service::Dhcp
        } else {
            Service::BootServer
        };
        if config.mode == 0 {
            return Err(Outcome::Other);
        }
        if u16::from_be_bytes(frame.ip.fragment) & FRAGMENT != 0 {
            return Err(Outcome::Fragment);
        }
        let options_length = options_length(frame)?;
        if header_sum(&frame.ip) != 0xffff {
            return Err(Outcome::BadChecksum);
        }
        if frame.ethernet_destination != BROADCAST_MAC && frame.ethernet_destination != config.mac {
            return Err(Outcome::NotForUs);
        }
        let to = frame.ip.destination;
        if to != BROADCAST_IP && to != config.address && to != config.broadcast {
            return Err(Outcome::NotForUs);
        }
        if frame.op != BOOT_REQUEST
            || frame.htype != ETHERNET_TYPE
            || frame.hlen != ETHERNET_LENGTH
            || frame.magic != MAGIC
        {
            return Err(Outcome::NotARequest);
        }
        let [flags, _] = frame.flags;
        Ok(Self {
            service,
            options_length,
            source_mac: frame.ethernet_source,
            source_ip: frame.ip.source,
            source_port: frame.udp_source,
            xid: frame.xid,
            broadcast: flags & BROADCAST_FLAG,
            ciaddr: frame.ciaddr,
            giaddr: frame.giaddr,
            chaddr: frame.chaddr,
            names_file: frame.file[0][0] != 0,
        })
    }

    /// The machine that asks, if the server may answer it here.
    #[inline(always)]
    pub fn machine(&self, config: &Config) -> Result<Machine, Outcome> {
        if self.is_relayed() {
            let [relay, mask, subnet] =
                [self.giaddr, config.netmask, config.subnet].map(u32::from_ne_bytes);
            if relay & mask != subnet {
                return Err(Outcome::OtherSubnet);
            }
        }
        machines::find(&config.choice, self.chaddr).ok_or(Outcome::UnknownMachine)
    }

    #[inline(always)]
    pub fn is_relayed(&self) -> bool {
        self.giaddr != [0; 4]
    }
}

/// The length of the magic cookie and the options, when the lengths of packet and datagram agree.
#[inline(always)]
fn options_length(frame: &Frame) -> Result<u64, Outcome> {
    let packet = u64::from(u16::from_be_bytes(frame.ip.total_length));
    let datagram = u64::from(u16::from_be_bytes(frame.udp_length));
    if packet != datagram + IPV4 as u64 {
        return Err(Outcome::BadLength);
    }
    let options = datagram.wrapping_sub((UDP + BOOTP) as u64);
    if options < MAGIC.len() as u64 || options > Scratch::COPIED as u64 {
        return Err(Outcome::BadLength);
    }
    Ok(options)
}

/// All ones for a header whose checksum is right.
#[inline(always)]
fn header_sum(ip: &Ipv4Header) -> u16 {
    let [v, s] = [ip.version_and_length, ip.service];
    let [t, p] = [ip.ttl, ip.protocol];
    fold(
        word16([v, s])
            + word16(ip.total_length)
            + word16(ip.identification)
            + word16(ip.fragment)
            + word16([t, p])
            + word16(ip.checksum)
            + word32(ip.source)
            + word32(ip.destination),
    )
}
