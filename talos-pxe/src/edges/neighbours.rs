//! Where a client of ours is, by the kernel's routes and its neighbour table.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use rustix::io::Errno;

use crate::decisions::boot::asker::{Asker, Place};
use crate::wire::MacAddr;

/// Tells the clients on one interface apart.
#[derive(Clone, Debug)]
pub struct Neighbours {
    handle: Handle,
    interface: u32,
}

impl Neighbours {
    /// Connects to the kernel's rtnetlink, for the interface with this index; works within a
    /// Tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn connect(interface: u32) -> anyhow::Result<Self> {
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle, interface })
    }

    /// Who has a connection with us from this address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn asker(&self, address: IpAddr) -> anyhow::Result<Asker> {
        let place = if !self.is_reached_over_interface(address).await? {
            Place::Elsewhere
        } else {
            // Whoever has a connection with us from the same link is in the table.
            self.mac(address).await?.map_or(Place::Routed, Place::Neighbour)
        };
        Ok(Asker { address, place })
    }

    /// Whether our packets to this address leave by the interface.
    async fn is_reached_over_interface(&self, address: IpAddr) -> anyhow::Result<bool> {
        let IpAddr::V4(address) = address else { return Ok(false) };
        // With a destination the kernel looks up one route instead of listing all.
        let to = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let routes: Result<Vec<RouteMessage>, _> =
            self.handle.route().get(to).execute().try_collect().await;
        let leaves_here = |route: &RouteMessage| {
            route.header.kind == RouteType::Unicast
                && route.attributes.contains(&RouteAttribute::Oif(self.interface))
        };
        match routes {
            Ok(routes) => Ok(routes.iter().any(leaves_here)),
            Err(error) => Err(anyhow!("cannot look up the route to {address}: {error}")),
        }
    }

    /// The MAC address of a neighbour on the interface; `None` when there is none.
    async fn mac(&self, address: IpAddr) -> anyhow::Result<Option<MacAddr>> {
        let mut entry = NeighbourMessage::default();
        (entry.header.family, entry.header.ifindex) = (AddressFamily::Inet, self.interface);
        let IpAddr::V4(ip) = address else { return Ok(None) };
        entry.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(entry));
        // Without NLM_F_DUMP: this one entry, however many there are.
        request.header.flags = NLM_F_REQUEST;

        let failed = || format!("cannot look up the neighbour {address}");
        let mut answers = self.handle.clone().request(request).with_context(failed)?;
        match answers.next().await.with_context(failed)?.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => {
                Ok(found.attributes.iter().find_map(ethernet_address))
            }
            NetlinkPayload::Error(error)
                if Errno::from_io_error(&error.to_io()) == Some(Errno::NOENT) =>
            {
                Ok(None)
            }
            NetlinkPayload::Error(error) => Err(error.to_io()).with_context(failed),
            _ => Err(anyhow!("{}: the kernel answered something else", failed())),
        }
    }
}

/// What the kernel could not resolve has no address, or an empty one.
fn ethernet_address(attribute: &NeighbourAttribute) -> Option<MacAddr> {
    let NeighbourAttribute::LinkLayerAddress(octets) = attribute else { return None };
    octets.as_slice().try_into().ok().map(MacAddr).filter(|mac| *mac != MacAddr::ZERO)
}
