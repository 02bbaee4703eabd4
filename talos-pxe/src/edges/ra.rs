//! Router advertisements that say "no router here": they spare every iPXE boot the 13 s that it
//! would wait for one.

use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::{io, net::Ipv6Addr};

use anyhow::Context;
use rtnetlink::MulticastGroup;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::netlink::{Events, NEEDS_RIGHTS, Netlink};
use crate::decisions::interface::Interface;
use crate::decisions::ra::{Advertise, Schedule};
use crate::time::BootTime;
use crate::wire::icmp6::{
    ALL_NODES, ALL_ROUTERS, HOP_LIMIT, ROUTER_SOLICITATION, RouterSolicitation,
    no_router_advertisement,
};

/// Answers router solicitations on the interface, and advertises now and then, until `shutdown`.
///
/// Without IPv6 on the interface it warns once and only waits for `shutdown`.
///
/// # Errors
/// Without `CAP_NET_RAW`, or when the interface is gone.
pub async fn serve(interface: &Interface, shutdown: CancellationToken) -> anyhow::Result<()> {
    let advertising = advertise(interface);
    shutdown.run_until_cancelled(advertising).await.unwrap_or(Ok(()))
}

/// Runs until it fails.
async fn advertise(interface: &Interface) -> anyhow::Result<()> {
    if !wait_for_source(interface.index).await? {
        warn!(
            "IPv6 is off on {0}, so iPXE waits 13 s for a router in every boot; to spare them: \
             sysctl -w net.ipv6.conf.{0}.disable_ipv6=0",
            interface.name
        );
        return std::future::pending().await;
    }
    let socket = open(interface).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("no right to send router advertisements: {NEEDS_RIGHTS}")
        }
        _ => anyhow::anyhow!("cannot send router advertisements on {}: {error}", interface.name),
    })?;
    info!(interface = %interface.name, "advertising that there is no IPv6 router");

    let mut schedule = Schedule::new(BootTime::now());
    let mut buffer = [0; 1500];
    loop {
        let wait = schedule.due().since(BootTime::now());
        let to = tokio::select! {
            () = tokio::time::sleep(wait) => ALL_NODES,
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, source)) => {
                    let message = buffer.get(..length).unwrap_or_default();
                    match answer(&mut schedule, message, source) {
                        Some(to) => to,
                        None => continue,
                    }
                }
                // The interface went down; it may come back.
                Err(error) => {
                    debug!("receiving router solicitations: {error}");
                    continue;
                }
            },
        };
        if to == ALL_NODES {
            schedule.sent(BootTime::now(), getrandom::u32().context("no random numbers")?);
        }
        let advertisement = no_router_advertisement(interface.mac);
        match socket.send_to(&advertisement, SocketAddrV6::new(to, 0, 0, interface.index)).await {
            Ok(_) => debug!(%to, "sent a router advertisement"),
            Err(error) => debug!(%to, "sending a router advertisement: {error}"),
        }
    }
}

/// Where an advertisement goes because of this message.
fn answer(schedule: &mut Schedule, message: &[u8], source: SocketAddr) -> Option<Ipv6Addr> {
    let SocketAddr::V6(source) = source else { return None };
    match RouterSolicitation::parse(*source.ip(), message) {
        Ok(solicitation) => match schedule.solicited(BootTime::now(), solicitation) {
            Advertise::Multicast => Some(ALL_NODES),
            Advertise::Unicast(to) => Some(to),
            Advertise::Later => None,
        },
        Err(reason) => {
            debug!(source = %source.ip(), %reason, "ignored a router solicitation");
            None
        }
    }
}

/// Waits for a link-local address that is known to be unique: until then the kernel refuses to
/// send from it. `false` when IPv6 is off on the interface.
async fn wait_for_source(index: u32) -> anyhow::Result<bool> {
    let netlink = Netlink::connect()?;
    let mut events = Events::subscribe(&[MulticastGroup::Ipv6Ifaddr, MulticastGroup::Link])?;
    loop {
        let link = netlink.link(index).await?;
        if !link.ipv6 || link.link_local.is_some() {
            return Ok(link.ipv6);
        }
        events.next().await?;
    }
}

fn open(interface: &Interface) -> io::Result<tokio::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.attach_filter(&solicitations_from_the_link())?;
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.set_multicast_if_v6(interface.index)?;
    socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
    socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, interface.index)?;
    socket.set_nonblocking(true)?;
    // Receiving and sending are the same calls for a raw socket as for a UDP one.
    tokio::net::UdpSocket::from_std(UdpSocket::from(socket))
}

/// A classic BPF program that takes only router solicitations that no router forwarded. On a raw
/// ICMPv6 socket offset 0 is the ICMPv6 type; the IPv6 header is at the network offset.
fn solicitations_from_the_link() -> [SockFilter; 6] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const IPV6_HOP_LIMIT: u32 = (libc::SKF_NET_OFF + 7) as u32;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, IPV6_HOP_LIMIT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, HOP_LIMIT.into()),
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, ROUTER_SOLICITATION.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
