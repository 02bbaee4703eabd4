//! The requests of a machine, as whole Ethernet frames.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::sum;

/// An Ethernet address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const UDP_CHECKSUM: Range<usize> = 40..42;
const XID: Range<usize> = 46..50;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// The broadcast bit of BOOTP's flags.
const BROADCAST_FLAG: u16 = 0x8000;

/// What iPXE says of itself in option 175 (<https://ipxe.org/howto/dhcpd>), among others: PXE
/// extensions, HTTP, DNS, TFTP, bzImage.
const IPXE_FEATURES: [u8; 15] = [0x10, 1, 2, 0x13, 1, 1, 0x17, 1, 1, 0x11, 1, 1, 0x18, 1, 1];

/// What a machine asks, with what it has to say for that (RFC 2131 section 4.3.2, table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// DISCOVER.
    Discover,
    /// REQUEST of an offer.
    Select {
        /// The offered address.
        address: Ipv4Addr,
        /// The identifier of the server that offered it.
        server: Ipv4Addr,
    },
    /// REQUEST of the address that it had before it was switched off.
    Reboot(Ipv4Addr),
    /// REQUEST for more time.
    Renew(Ipv4Addr),
    /// RELEASE.
    Release {
        /// The address that it gives back.
        address: Ipv4Addr,
        /// The identifier of the server that leased it.
        server: Ipv4Addr,
    },
}

/// Which client the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// One that only wants an address: messages of 300 octets, BOOTP's least.
    Plain,
    /// UEFI's PXE client for x86-64: messages of 548 octets.
    Pxe,
    /// A PXE client in a BIOS.
    BiosPxe,
    /// iPXE, started by one of the two.
    Ipxe {
        /// Whether it was BIOS.
        bios: bool,
    },
}

/// A relay agent between the machine and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Its address on the machine's side, which is also where it gets its answers.
    pub address: Ipv4Addr,
    /// Its Ethernet address on the server's side.
    pub mac: Mac,
}

/// The server that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// A machine, and how its requests reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The machine's Ethernet address.
    pub mac: Mac,
    /// Its client.
    pub client: Client,
    /// The relay agent, if the machine is not on the server's segment.
    pub relay: Option<Relay>,
    /// The server.
    pub target: Target,
}

/// A whole request that is sent again and again, each time with another transaction identifier.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    /// The sum for the UDP checksum, with an identifier of 0.
    sum: u64,
}

impl Frame {
    /// The frame with this transaction identifier.
    pub fn with_xid(&mut self, xid: u32) -> &[u8] {
        identify(&mut self.bytes, self.sum, xid);
        &self.bytes
    }

    /// Writes the frame with this transaction identifier to the front of `to`, which has room for
    /// it; returns its length.
    pub fn write(&self, xid: u32, to: &mut [u8]) -> usize {
        let length = self.bytes.len();
        if let Some(to) = to.get_mut(..length) {
            to.copy_from_slice(&self.bytes);
            identify(to, self.sum, xid);
        }
        length
    }
}

/// Puts the transaction identifier and the UDP checksum into a frame.
fn identify(frame: &mut [u8], sum: u64, xid: u32) {
    let xid = xid.to_be_bytes();
    let checksum = match !sum::fold(sum::add(sum, &xid)) {
        0 => 0xffff,
        checksum => checksum,
    };
    // Both ranges lie in headers that every frame has.
    if let Some(field) = frame.get_mut(XID) {
        field.copy_from_slice(&xid);
    }
    if let Some(field) = frame.get_mut(UDP_CHECKSUM) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

impl Sender {
    /// The frame that asks `ask`.
    pub fn ask(&self, ask: Ask) -> Frame {
        let message = self.message(ask);
        let broadcast = (BROADCAST, Ipv4Addr::BROADCAST);
        let unicast = (self.target.mac, self.target.address);
        let ((source_mac, source, port), (destination_mac, destination)) = match (self.relay, ask) {
            (Some(relay), _) => ((relay.mac, relay.address, 67_u16), unicast),
            (None, Ask::Renew(address) | Ask::Release { address, .. }) => {
                ((self.mac, address, 68), unicast)
            }
            (None, _) => ((self.mac, Ipv4Addr::UNSPECIFIED, 68), broadcast),
        };
        let udp_length = ((UDP + message.len()) as u16).to_be_bytes();
        let ip_length = ((IPV4 + UDP + message.len()) as u16).to_be_bytes();

        let mut bytes = Vec::with_capacity(ETHERNET + IPV4 + UDP + message.len());
        bytes.extend(destination_mac);
        bytes.extend(source_mac);
        bytes.extend([8, 0]);
        let mut ip = [0x45, 0, ip_length[0], ip_length[1], 0, 0, 0, 0, 64, 17, 0, 0].to_vec();
        ip.extend(source.octets());
        ip.extend(destination.octets());
        let [high, low] = (!sum::fold(sum::add(0, &ip))).to_be_bytes();
        ip.splice(10..12, [high, low]);
        bytes.extend(ip);
        let mut udp = Vec::from(port.to_be_bytes());
        udp.extend(67_u16.to_be_bytes());
        udp.extend(udp_length);
        udp.extend([0, 0]);
        udp.extend(message);
        let addresses = sum::add(sum::add(0, &source.octets()), &destination.octets());
        let sum = sum::add(sum::add(sum::add(addresses, &[0, 17]), &udp_length), &udp);
        bytes.extend(udp);
        Frame { bytes, sum }
    }

    fn message(&self, ask: Ask) -> Vec<u8> {
        // iPXE takes unicast before it has an address.
        let broadcast = if matches!(self.client, Client::Ipxe { .. }) { 0 } else { BROADCAST_FLAG };
        let (kind, ciaddr, flags) = match ask {
            Ask::Discover => (1, Ipv4Addr::UNSPECIFIED, broadcast),
            Ask::Select { .. } | Ask::Reboot(_) => (3, Ipv4Addr::UNSPECIFIED, broadcast),
            Ask::Renew(address) => (3, address, 0),
            Ask::Release { address, .. } => (7, address, 0),
        };
        let hops = u8::from(self.relay.is_some());
        let giaddr = self.relay.map_or(Ipv4Addr::UNSPECIFIED, |relay| relay.address);
        let mut message = vec![1, 1, 6, hops, 0, 0, 0, 0, 0, 0];
        message.extend(flags.to_be_bytes());
        message.extend(ciaddr.octets());
        message.extend([0; 8]);
        message.extend(giaddr.octets());
        message.extend(self.mac);
        message.extend([0; 10 + 64 + 128]);
        message.extend(MAGIC);
        message.extend([53, 1, kind]);
        match ask {
            Ask::Select { address, server } => {
                push(&mut message, 50, &address.octets());
                push(&mut message, 54, &server.octets());
            }
            Ask::Reboot(address) => push(&mut message, 50, &address.octets()),
            Ask::Release { server, .. } => push(&mut message, 54, &server.octets()),
            Ask::Discover | Ask::Renew(_) => {}
        }
        let length = match self.client {
            Client::Plain => {
                push(&mut message, 55, &[1, 3, 6, 51, 54]);
                300
            }
            Client::Pxe => {
                self.push_pxe(&mut message, false);
                548
            }
            Client::BiosPxe => {
                self.push_pxe(&mut message, true);
                548
            }
            Client::Ipxe { bios } => {
                self.push_pxe(&mut message, bios);
                push(&mut message, 77, b"iPXE");
                push(&mut message, 175, &IPXE_FEATURES);
                300
            }
        };
        if self.relay.is_some() {
            push(&mut message, 82, &[1, 4, b'l', b'a', b'b', b'0']);
        }
        message.push(255);
        message.resize(length.max(message.len()), 0);
        message
    }

    /// The options of a PXE client for x86-64 (RFC 4578).
    fn push_pxe(&self, message: &mut Vec<u8>, bios: bool) {
        push(message, 57, &1472_u16.to_be_bytes());
        push(message, 55, &[1, 2, 3, 6, 12, 13, 15, 43, 51, 54, 60, 66, 67, 97]);
        // An identifier that begins with the Ethernet address.
        let mut uuid = [0; 17];
        for (to, from) in uuid.iter_mut().skip(1).zip(self.mac) {
            *to = from;
        }
        push(message, 97, &uuid);
        if bios {
            push(message, 94, &[1, 2, 1]);
            push(message, 93, &[0, 0]);
            push(message, 60, b"PXEClient:Arch:00000:UNDI:002001");
        } else {
            push(message, 94, &[1, 3, 16]);
            push(message, 93, &[0, 7]);
            push(message, 60, b"PXEClient:Arch:00007:UNDI:003016");
        }
    }
}

fn push(message: &mut Vec<u8>, code: u8, value: &[u8]) {
    message.extend([code, value.len() as u8]);
    message.extend(value);
}
