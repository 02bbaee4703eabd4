//! The ports that services listen on.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use anyhow::anyhow;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tracing::warn;

use crate::edges::port_error;

/// How many connections may wait to be taken: those of a whole rack. The kernel drops what is over
/// it, and the client tries again after a second.
const BACKLOG: u32 = 4096;

pub(super) fn udp(address: SocketAddrV4) -> anyhow::Result<std::net::UdpSocket> {
    std::net::UdpSocket::bind(address).map_err(|error| port_error("UDP", address.into(), &error))
}

pub(super) async fn dns(address: SocketAddrV4) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(address).await;
    let udp = udp.map_err(|error| port_error("UDP", address.into(), &error))?;
    Ok((udp, tcp(address.into())?))
}

pub(super) fn admin(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        warn!("the admin API is open to everyone who can reach {address}, without encryption");
    }
    tcp(address).map_err(|error| anyhow!("{error}; or name another address with --admin"))
}

pub(super) fn tcp(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen(address).map_err(|error| port_error("TCP", address, &error))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A connection of an earlier run that the kernel still closes keeps nobody from the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
