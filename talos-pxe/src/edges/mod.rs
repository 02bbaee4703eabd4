//! Sockets, HTTP routes, the XDP loader, netlink. They parse, call a decision and send; nothing
//! is decided here.
pub mod admin;
pub mod bootstrap;
pub mod configs;
pub mod console;
pub mod dhcp;
pub mod dhcp_client;
pub mod dns;
pub mod ethtool;
pub mod fetch;
pub mod interface;
pub mod journal;
pub mod log;
pub mod neighbours;
pub mod netlink;
pub mod notify;
pub mod packet;
pub mod ra;
pub mod thread;

pub mod folder;
pub mod http;
pub mod rules;
pub mod tftp;

pub mod xdp;

use std::io;
use std::net::SocketAddr;

use anyhow::anyhow;

/// Why a port cannot be had, and what to do.
pub(crate) fn port_error(protocol: &str, address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let port = address.port();
    let next_step = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let list = if protocol == "TCP" { "-ltnp" } else { "-lunp" };
            format!("it is in use; stop the server that `ss {list} sport = :{port}` shows")
        }
        io::ErrorKind::PermissionDenied => {
            "no right to; run as root, or give the binary cap_net_bind_service".to_owned()
        }
        _ => error.to_string(),
    };
    anyhow!("cannot take {protocol} port {port}: {next_step}")
}
