//! The parts that replies are made of.
//!
//! The order of options is fixed: what the server says, what to boot, then what is echoed from
//! the request. So replies to one kind of client differ only in a few fields and in their tail.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{CLIENT_PORT, Ingress, Reply, SERVER_PORT};
use crate::decisions::boot::loader::{Architecture, Client, IPXE_OPTIONS};
use crate::wire::MacAddr;
use crate::wire::dhcp::{FILE, Message, MessageType, Opcode, OptionCode};

/// PXE_DISCOVERY_CONTROL (option 43, sub-option 6) with bit 3 set: load the boot file of this
/// offer, without a menu or discovery (PXE 2.1, table 2-5).
const USE_BOOT_FILE: [u8; 4] = [6, 1, 8, 255];
/// iPXE's `no-pxedhcp`: do not wait for a proxyDHCP offer.
const NO_PROXY: [u8; 3] = [176, 1, 1];

/// A reply of this type to `request`, with the server identifier and nothing else yet.
pub fn reply_to(request: &Message, kind: MessageType, server: Ipv4Addr) -> Message {
    let mut reply = Message {
        broadcast: request.broadcast,
        giaddr: request.giaddr,
        ..Message::new(Opcode::BootReply, kind, request.xid, request.chaddr)
    };
    reply.options.add_addresses(OptionCode::ServerIdentifier, &[server]);
    reply
}

/// Who answers: it decides how a boot file is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The DHCP server.
    Server,
    /// The proxyDHCP server or the boot server.
    Proxy,
}

/// Adds the boot file for a client.
///
/// Firmware differs in which of the fields it reads, so every field is filled: EDK2 prefers
/// option 67, U-Boot reads `file` and `siaddr`.
pub fn add_boot(
    reply: &mut Message,
    client: Client,
    file: String,
    server: Ipv4Addr,
    service: Service,
) {
    if let Some(class) = boot_class(client, service) {
        reply.options.append(OptionCode::ClassIdentifier, class);
    }
    // Some UEFI firmware ignores an offer that has discovery bypass set.
    if client == Client::Pxe(Architecture::Bios) {
        reply.options.append(OptionCode::VendorExtensions, &USE_BOOT_FILE);
    }
    let server_name = server.to_string();
    reply.options.append(OptionCode::TFTPServerName, &with_nul(&server_name));
    reply.options.append(OptionCode::BootfileName, &with_nul(&file));
    if matches!(client, Client::Ipxe { .. }) && service == Service::Server {
        reply.options.append(IPXE_OPTIONS, &NO_PROXY);
    }
    reply.siaddr = server;
    reply.sname = server_name.into_bytes();
    if file.len() < FILE {
        reply.file = file.into_bytes();
    }
}

/// The class (option 60) that makes the client take this offer for a boot server's. The DHCP
/// server leaves it out for UEFI: without it EDK2 loads the boot file at once, with it (and
/// without option 43) it asks port 4011 first.
fn boot_class(client: Client, service: Service) -> Option<&'static [u8]> {
    match (client, service) {
        (Client::Http(_), _) => Some(b"HTTPClient"),
        (Client::Pxe(Architecture::Bios), _) => Some(b"PXEClient"),
        (Client::Pxe(_) | Client::Ipxe { .. }, Service::Proxy) => Some(b"PXEClient"),
        _ => None,
    }
}

/// Buggy ROMs read on behind a name that does not end in NUL.
fn with_nul(name: &str) -> Vec<u8> {
    let mut octets = name.as_bytes().to_vec();
    octets.push(0);
    octets
}

/// Echoes what must come back: the client machine identifier (RFC 4578 section 2.3), the client
/// identifier (RFC 6842) and, last, the relay agent information (RFC 3046 section 2.2).
pub fn echo(reply: &mut Message, request: &Message) {
    for code in [
        OptionCode::ClientMachineIdentifier,
        OptionCode::ClientIdentifier,
        OptionCode::RelayAgentInformation,
    ] {
        if let Some(value) = request.options.get(code) {
            reply.options.append(code, value);
        }
    }
}

/// Sends a reply the way that RFC 2131 section 4.1 says: to the relay, to the client's own
/// address, to everyone, or to the address that it is given.
pub fn address(message: Message, from: Ingress) -> Reply {
    let to = |mac, ip, port| (mac, SocketAddrV4::new(ip, port));
    let (mac, destination) = if !message.giaddr.is_unspecified() {
        to(from.mac, message.giaddr, SERVER_PORT)
    } else if message.kind == MessageType::Nak {
        to(MacAddr::BROADCAST, Ipv4Addr::BROADCAST, CLIENT_PORT)
    } else if !message.ciaddr.is_unspecified() {
        to(from.mac, message.ciaddr, CLIENT_PORT)
    } else if message.broadcast || message.yiaddr.is_unspecified() {
        to(MacAddr::BROADCAST, Ipv4Addr::BROADCAST, CLIENT_PORT)
    } else {
        to(message.chaddr, message.yiaddr, CLIENT_PORT)
    };
    Reply { message, mac, destination }
}
