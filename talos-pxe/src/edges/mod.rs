//! Sockets, HTTP routes, the XDP loader, netlink. They parse, call a decision and send; nothing
//! is decided here.
pub mod dhcp;
pub mod dhcp_client;
pub mod interface;
pub mod netlink;
pub mod packet;
pub mod ra;

pub mod folder;
pub mod http;
pub mod tftp;

pub mod xdp;
