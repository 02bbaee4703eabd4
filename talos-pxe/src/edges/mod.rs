//! Sockets, HTTP routes, the XDP loader, netlink. They parse, call a decision and send; nothing
//! is decided here.

pub mod xdp;
