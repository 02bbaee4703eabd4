//! The proxyDHCP server, which adds boot options beside the network's DHCP server, and the boot
//! server on UDP 4011 (PXE 2.1, sections 2.2.3 and 2.2.4). Neither gives an address.

use super::reply::{self, Service};
use super::{Ingress, Reply, Silence};
use crate::decisions::boot::loader::{Client, Loaders};
use crate::wire::dhcp::{Message, MessageType, Opcode, OptionCode};

/// Answers a request to the DHCP port.
///
/// A DISCOVER is answered by an offer without an address. A REQUEST is the DHCP server's business
/// unless it names us as the server: some firmware confirms the proxy's offer, too, and gives
/// up (PXE-E55) when that gets no answer.
pub fn answer(from: Ingress, request: &Message, loaders: &Loaders) -> Result<Reply, Silence> {
    if request.op != Opcode::BootRequest {
        return Err(Silence::NotARequest);
    }
    match request.kind {
        MessageType::Discover => offer(from, request, loaders, MessageType::Offer),
        MessageType::Request => match request.options.address(OptionCode::ServerIdentifier) {
            Some(server) if server == loaders.origin.address => {
                offer(from, request, loaders, MessageType::Ack)
            }
            Some(server) => Err(Silence::OtherServer(server)),
            None => Err(Silence::NoAnswer(request.kind)),
        },
        kind => Err(Silence::NoAnswer(kind)),
    }
}

/// Answers a request to the boot server's port: an ACK with the boot file, sent back to where
/// the request came from.
pub fn boot_server(from: Ingress, request: &Message, loaders: &Loaders) -> Result<Reply, Silence> {
    if request.op != Opcode::BootRequest {
        return Err(Silence::NotARequest);
    }
    match request.kind {
        MessageType::Discover | MessageType::Request | MessageType::Inform => {}
        kind => return Err(Silence::NoAnswer(kind)),
    }
    let reply = offer(from, request, loaders, MessageType::Ack)?;
    if from.source.ip().is_unspecified() {
        return Ok(reply);
    }
    Ok(Reply { mac: from.mac, destination: from.source, ..reply })
}

fn offer(
    from: Ingress,
    request: &Message,
    loaders: &Loaders,
    kind: MessageType,
) -> Result<Reply, Silence> {
    let client = Client::of(request);
    let file = match (client, loaders.file_for(client)) {
        (Client::Plain | Client::Bootp(_), _) => return Err(Silence::NotBooting),
        (_, Some(file)) => file,
        (Client::Pxe(architecture) | Client::Http(architecture), None) => {
            return Err(Silence::NoBootFile(architecture));
        }
        (Client::Ipxe { .. }, None) => return Err(Silence::NotBooting),
    };
    let mut message = reply::reply_to(request, kind, loaders.origin.address);
    message.ciaddr = request.ciaddr;
    reply::add_boot(&mut message, client, file, loaders.origin.address, Service::Proxy);
    reply::echo(&mut message, request);
    Ok(reply::address(message, from))
}
