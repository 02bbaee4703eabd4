//! Interfaces, addresses and routes, by rtnetlink.
//!
//! Everything is asked of the kernel over netlink and nothing read from /sys, which may show the
//! devices of another network namespace.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt};
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder, new_connection,
    new_multicast_connection,
};
use rustix::io::Errno;

use crate::decisions::interface::{Interface, Link};
use crate::wire::MacAddr;

/// What to do when the kernel refuses for lack of rights.
pub const NEEDS_RIGHTS: &str = "run as root, or give the program the rights once: \
    setcap cap_net_raw,cap_net_admin,cap_net_bind_service,cap_bpf+eip $(command -v talos-pxe)";

/// A connection to the kernel's rtnetlink.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Connects; works within a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn connect() -> anyhow::Result<Self> {
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All interfaces with their addresses.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn links(&self) -> anyhow::Result<Vec<Link>> {
        let links: Vec<LinkMessage> = (self.handle.link().get().execute().try_collect().await)
            .map_err(|error| failed("list the interfaces", error))?;
        let addresses: Vec<AddressMessage> =
            (self.handle.address().get().execute().try_collect().await)
                .map_err(|error| failed("list the addresses", error))?;
        let mut links: Vec<Link> = links.iter().map(read_link).collect();
        for address in &addresses {
            if let Some(link) = links.iter_mut().find(|link| link.index == address.header.index) {
                add_to(link, address);
            }
        }
        Ok(links)
    }

    /// The interface with this index.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn link(&self, index: u32) -> anyhow::Result<Link> {
        let links = self.links().await?;
        links.into_iter().find(|link| link.index == index).context("the interface is gone")
    }

    /// Sets the interface up or down.
    ///
    /// # Errors
    /// Without rights, or when it is gone.
    pub async fn set_up(&self, interface: &Interface, up: bool) -> anyhow::Result<()> {
        let builder = LinkUnspec::new_with_index(interface.index);
        let message = if up { builder.up() } else { builder.down() }.build();
        let state = if up { "up" } else { "down" };
        (self.handle.link().change(message).execute().await)
            .map_err(|error| failed(&format!("set {} {state}", interface.name), error))
    }

    /// Waits until the interface has a link partner, and returns it as it then is; `None` when it
    /// has none within `limit`.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn wait_for_carrier(
        &self,
        index: u32,
        limit: Duration,
    ) -> anyhow::Result<Option<Link>> {
        // Subscribed before the state is read, so that no change is missed between the two.
        let mut events = Events::subscribe(&[MulticastGroup::Link])?;
        let carrier = async {
            loop {
                let link = self.link(index).await?;
                if link.carrier {
                    return Ok(link);
                }
                events.next().await?;
            }
        };
        tokio::time::timeout(limit, carrier).await.ok().transpose()
    }

    /// Gives the interface an address; says whether it is new on it.
    ///
    /// # Errors
    /// Without rights, or when the interface is gone.
    pub async fn add_address(
        &self,
        interface: &Interface,
        address: Ipv4Net,
    ) -> anyhow::Result<bool> {
        let (ip, prefix) = (address.addr().into(), address.prefix_len());
        let added = self.handle.address().add(interface.index, ip, prefix).execute().await;
        is_new(added).map_err(|error| failed(&format!("give {} {address}", interface.name), error))
    }

    /// Takes an address off the interface.
    ///
    /// # Errors
    /// Without rights, or when the address or the interface is gone.
    pub async fn remove_address(
        &self,
        interface: &Interface,
        address: Ipv4Net,
    ) -> anyhow::Result<()> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(interface.index)
            .address(address.addr(), address.prefix_len())
            .build();
        (self.handle.address().del(message).execute().await)
            .map_err(|error| failed(&format!("take {address} off {}", interface.name), error))
    }

    /// Whether there is an IPv4 default route, over any interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn has_default_route(&self) -> anyhow::Result<bool> {
        let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<RouteMessage> =
            (self.handle.route().get(every).execute().try_collect().await)
                .map_err(|error| failed("list the routes", error))?;
        Ok(routes.iter().any(|route| {
            route.header.destination_prefix_length == 0
                && route.header.table == RouteHeader::RT_TABLE_MAIN
                && route.header.kind == RouteType::Unicast
        }))
    }

    /// Adds the default route over `gateway`; says whether it is new.
    ///
    /// # Errors
    /// Without rights, or when the gateway is not within an address's subnet.
    pub async fn add_default_route(
        &self,
        interface: &Interface,
        gateway: Ipv4Addr,
    ) -> anyhow::Result<bool> {
        let added = self.handle.route().add(default_route(interface, gateway)).execute().await;
        is_new(added)
            .map_err(|error| failed(&format!("add the default route over {gateway}"), error))
    }

    /// Removes the default route over `gateway`.
    ///
    /// # Errors
    /// Without rights, or when it is gone.
    pub async fn remove_default_route(
        &self,
        interface: &Interface,
        gateway: Ipv4Addr,
    ) -> anyhow::Result<()> {
        (self.handle.route().del(default_route(interface, gateway)).execute().await)
            .map_err(|error| failed(&format!("remove the default route over {gateway}"), error))
    }
}

/// What the kernel tells unasked.
pub struct Events {
    messages: Box<dyn futures_util::Stream<Item = ()> + Send + Unpin>,
    /// The connection lasts as long as its handle.
    _handle: Handle,
}

impl Events {
    /// Subscribes to changes of interfaces (`MulticastGroup::Link`), addresses and so on.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn subscribe(groups: &[MulticastGroup]) -> anyhow::Result<Self> {
        let (connection, handle, messages) =
            new_multicast_connection(groups).context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { messages: Box::new(messages.map(drop)), _handle: handle })
    }

    /// Waits for a change. It does not say which: asking for the state anew is right even when
    /// events were lost.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn next(&mut self) -> anyhow::Result<()> {
        self.messages.next().await.context("the kernel closed the netlink socket")
    }
}

fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        kind: None,
        controller: None,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        addresses: Vec::new(),
        ipv6: false,
        link_local: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(octets)
                if message.header.link_layer_type == LinkLayerType::Ether =>
            {
                link.mac = octets.as_slice().try_into().ok().map(MacAddr);
            }
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::AfSpecUnspec(families) => {
                link.ipv6 = families.iter().any(has_ipv6);
            }
            _ => {}
        }
    }
    link
}

fn has_ipv6(family: &AfSpecUnspec) -> bool {
    let AfSpecUnspec::Inet6(attributes) = family else { return false };
    attributes.iter().any(|attribute| {
        matches!(attribute, AfSpecInet6::DevConf(settings) if settings.disable_ipv6 == 0)
    })
}

fn add_to(link: &mut Link, message: &AddressMessage) {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the peer's; `Local` is always ours.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(any) if address.is_none() => address = Some(*any),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    match address {
        Some(IpAddr::V4(ip)) => link.addresses.extend(Ipv4Net::new(ip, message.header.prefix_len)),
        Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() && !flags.intersects(unusable) => {
            link.link_local = Some(ip);
        }
        _ => {}
    }
}

fn default_route(interface: &Interface, gateway: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .output_interface(interface.index)
        .gateway(gateway)
        .protocol(RouteProtocol::Dhcp)
        .build()
}

/// Whether the thing was added; what was there before is not ours to remove later.
fn is_new(added: Result<(), rtnetlink::Error>) -> Result<bool, rtnetlink::Error> {
    match added {
        Ok(()) => Ok(true),
        Err(error) if errno(&error) == Some(Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Errno::from_io_error(&message.to_io()),
        _ => None,
    }
}

fn failed(what: &str, error: rtnetlink::Error) -> anyhow::Error {
    match errno(&error) {
        Some(Errno::PERM | Errno::ACCESS) => anyhow!("no right to {what}: {NEEDS_RIGHTS}"),
        Some(Errno::NODEV) => anyhow!("cannot {what}: the interface is gone"),
        Some(errno) => anyhow!("cannot {what}: {errno}"),
        None => anyhow!("cannot {what}: {error}"),
    }
}
