//! What the XDP program needs to answer as we do: for each class of client and kind of answer
//! the part of the reply that never differs.
//!
//! Each template is the server's or proxy's own reply to a made-up request of such a client, so
//! the two cannot drift apart.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bytemuck::Zeroable as _;
use ipnet::Ipv4Net;
use talos_pxe_ebpf::class::Class;
use talos_pxe_ebpf::frame::{FIRST_OPTION, Frame, word16, word32};
use talos_pxe_ebpf::machines::Choice;
use talos_pxe_ebpf::maps::{Answer, Config, Mode, Template};

use super::{CLIENT_PORT, Ingress, proxy, server};
use crate::decisions::boot::loader::{Client, IPXE_OPTIONS, Loaders};
use crate::state::leases::OFFER_HOLD;
use crate::wire::MacAddr;
use crate::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use crate::wire::frame::UdpFrame;

/// How far the program's clock may lag behind: it looks once a tick, and a tick may be late.
const CLOCK_LAG: Duration = Duration::from_secs(1);

/// Who sends the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Our Ethernet address.
    pub mac: MacAddr,
    /// Our address in its subnet.
    pub own: Ipv4Net,
    /// UDP port of the DHCP service.
    pub dhcp_port: u16,
    /// UDP port of the boot server.
    pub pxe_port: u16,
}

/// All that the XDP program is told, but for the machines.
#[derive(Clone, Debug)]
pub struct Answers {
    /// What it needs to know of the network.
    pub config: Config,
    /// The templates with their numbers; the others are empty, and what would need one of them
    /// is passed up.
    pub templates: Vec<(u32, Template)>,
}

/// The answers of the DHCP server and, on its own port, the boot server.
pub fn of_server(settings: &server::Settings, sender: &Sender) -> Answers {
    let give = |request: &Message, kind| {
        Some(settings.give(NOWHERE, request, kind, Ipv4Addr::UNSPECIFIED).message)
    };
    let templates = templates(sender, &settings.loaders, |answer, request| match answer {
        Answer::Offer => give(request, MessageType::Offer),
        _ => give(request, MessageType::Ack),
    });
    Answers { config: config(sender, Mode::Server, settings.lease_time), templates }
}

/// The answers of the proxyDHCP server and the boot server.
pub fn of_proxy(loaders: &Loaders, sender: &Sender) -> Answers {
    let templates = templates(sender, loaders, |answer, request| {
        let mut request = request.clone();
        if answer == Answer::Ack {
            request.kind = MessageType::Request;
            let server = [loaders.origin.address];
            request.options.add_addresses(OptionCode::ServerIdentifier, &server);
        }
        Some(proxy::answer(NOWHERE, &request, loaders).ok()?.message)
    });
    Answers { config: config(sender, Mode::Proxy, Duration::ZERO), templates }
}

/// What the program takes the clients of this class for.
pub fn client(class: Class) -> Client {
    Client::of(&discover(class))
}

/// Where a template's made-up request comes from: the template holds no destination.
const NOWHERE: Ingress =
    Ingress { mac: MacAddr::ZERO, source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT) };

fn config(sender: &Sender, mode: Mode, lease_time: Duration) -> Config {
    let span =
        |promise: Duration| u64::try_from((promise + CLOCK_LAG).as_nanos()).unwrap_or(u64::MAX);
    Config {
        offer_span: span(OFFER_HOLD),
        lease_span: span(lease_time),
        // Chosen when the program is loaded.
        choice: Choice::zeroed(),
        address: sender.own.addr().octets(),
        subnet: sender.own.network().octets(),
        netmask: sender.own.netmask().octets(),
        broadcast: sender.own.broadcast().octets(),
        mac: sender.mac.0,
        dhcp_port: sender.dhcp_port.to_be_bytes(),
        boot_server_port: sender.pxe_port.to_be_bytes(),
        mode: mode as u16,
        padding: [0; 4],
    }
}

/// The templates of every class: the boot server's, and on the DHCP port what `answer` says.
fn templates(
    sender: &Sender,
    loaders: &Loaders,
    answer: impl Fn(Answer, &Message) -> Option<Message>,
) -> Vec<(u32, Template)> {
    let classes = (0..Class::COUNT).filter_map(Class::from_index);
    classes
        .flat_map(|class| Answer::ALL.map(|kind| (class, kind)))
        .filter_map(|(class, kind)| {
            let request = discover(class);
            let (message, port) = match kind {
                Answer::BootServer => {
                    let reply = proxy::boot_server(NOWHERE, &request, loaders).ok()?;
                    (reply.message, sender.pxe_port)
                }
                _ => (answer(kind, &request)?, sender.dhcp_port),
            };
            Some((kind.template(class), template(sender, port, &message)?))
        })
        .collect()
}

/// A DISCOVER of a client of this class, as short as such a request can be.
fn discover(class: Class) -> Message {
    let mut request = Message::new(Opcode::BootRequest, MessageType::Discover, 0, MacAddr::ZERO);
    for (code, value) in sample(class) {
        request.options.append(code, &value);
    }
    request
}

/// The options by which a client shows that it is of this class.
fn sample(class: Class) -> Vec<(OptionCode, Vec<u8>)> {
    let user_class = || (OptionCode::UserClass, b"iPXE".to_vec());
    let class_is = |name: &[u8]| (OptionCode::ClassIdentifier, name.to_vec());
    let http = || (IPXE_OPTIONS, vec![0x13, 1, 1]);
    // A code for each architecture, and one that no architecture has.
    for code in [0, 6, 7, 10, 11, u16::MAX] {
        let architecture = || (OptionCode::ClientSystemArchitecture, code.to_be_bytes().to_vec());
        if class == Class::bootp(code) {
            return vec![architecture()];
        } else if class == Class::pxe(code) {
            return vec![class_is(b"PXEClient"), architecture()];
        } else if class == Class::http(code) {
            return vec![class_is(b"HTTPClient"), architecture()];
        }
    }
    match class {
        Class::IPXE_HTTP => vec![user_class(), http()],
        Class::IPXE_TFTP => vec![user_class()],
        _ => Vec::new(),
    }
}

/// The reply in its frame without what differs between two clients; `None` when it is too long.
fn template(sender: &Sender, port: u16, message: &Message) -> Option<Template> {
    let encoded = UdpFrame {
        source_mac: sender.mac,
        destination_mac: MacAddr::ZERO,
        source: SocketAddrV4::new(sender.own.addr(), port),
        destination: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        payload: &message.encode(),
    }
    .encode();
    // The last octet that is not padding is the end mark, which comes after the echoed options.
    let length = encoded.iter().rposition(|octet| *octet != 0)?;
    if length > Template::LONGEST {
        return None;
    }
    let mut frame = [0; Template::FRAME];
    frame.get_mut(..length)?.copy_from_slice(encoded.get(..length)?);

    let fixed: &mut Frame = bytemuck::from_bytes_mut(frame.get_mut(..size_of::<Frame>())?);
    fixed.ip.total_length = [0; 2];
    fixed.ip.checksum = [0; 2];
    fixed.udp_length = [0; 2];
    fixed.udp_checksum = [0; 2];
    let ip_sum = sum(bytemuck::bytes_of(&fixed.ip));
    let pseudo_header = word32(fixed.ip.source) + word16([0, fixed.ip.protocol]);
    let summed = std::mem::offset_of!(Frame, udp_source)..FIRST_OPTION;
    let udp_sum = pseudo_header + sum(frame.get(summed)?);
    Some(Template {
        length: u32::try_from(length).ok()?,
        ip_sum: u32::try_from(ip_sum).ok()?,
        udp_sum: u32::try_from(udp_sum).ok()?,
        padding: 0,
        frame,
    })
}

fn sum(octets: &[u8]) -> u64 {
    octets.as_chunks().0.iter().map(|pair| word16(*pair)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::boot::loader::Architecture;

    #[test]
    fn every_class_has_a_client_of_its_own() {
        let clients: Vec<Client> =
            (0..Class::COUNT).filter_map(Class::from_index).map(client).collect();
        for (index, client) in clients.iter().enumerate() {
            assert!(!clients[..index].contains(client), "{client:?} twice");
        }
    }

    #[test]
    fn both_sides_read_the_same_architecture() {
        for code in 0..=u16::MAX {
            let expected = match Architecture::from(code) {
                Architecture::Other(_) => Architecture::Other(u16::MAX),
                known => known,
            };
            assert_eq!(client(Class::pxe(code)), Client::Pxe(expected));
            assert_eq!(client(Class::http(code)), Client::Http(expected));
            assert_eq!(client(Class::bootp(code)), Client::Bootp(expected));
        }
    }
}
