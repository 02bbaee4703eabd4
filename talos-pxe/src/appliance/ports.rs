//! The ports that services listen on.

use std::net::{SocketAddr, SocketAddrV4};

use anyhow::anyhow;
use tokio::net::{TcpListener, UdpSocket};
use tracing::warn;

use crate::edges::port_error;

pub(super) fn udp(address: SocketAddrV4) -> anyhow::Result<std::net::UdpSocket> {
    std::net::UdpSocket::bind(address).map_err(|error| port_error("UDP", address.into(), &error))
}

pub(super) async fn dns(address: SocketAddrV4) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(address).await;
    let udp = udp.map_err(|error| port_error("UDP", address.into(), &error))?;
    Ok((udp, tcp(address.into()).await?))
}

pub(super) async fn admin(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        warn!("the admin API is open to everyone who can reach {address}, without encryption");
    }
    let taken = tcp(address).await;
    taken.map_err(|error| anyhow!("{error}; or name another address with --admin"))
}

pub(super) async fn tcp(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| port_error("TCP", address, &error))
}
