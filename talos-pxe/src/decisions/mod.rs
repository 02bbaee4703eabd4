//! What to answer: one module a protocol. Pure functions and small state machines over
//! `(now, where it came from, request, state)`; no tokio, no sockets, no clock.

pub mod boot;
pub mod bootstrap;
pub mod config;
pub mod console;
pub mod dhcp;
pub mod dns;
pub mod fetch;
pub mod interface;
pub mod inventory;
pub mod preflight;
pub mod ra;
pub mod tftp;
pub mod transfers;
