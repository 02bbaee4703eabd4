//! What to answer: one module a protocol. Pure functions and small state machines over
//! `(now, where it came from, request, state)`; no tokio, no sockets, no clock.

pub mod boot;
pub mod dhcp;
pub mod interface;
pub mod inventory;
pub mod ra;
pub mod tftp;
