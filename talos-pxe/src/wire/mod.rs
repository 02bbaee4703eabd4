//! Bytes to types and back. Pure: no sockets, no clock, no state.
//!
//! Panic contract: parsing takes any bytes and returns an error or a value, it never panics.

pub mod dhcp;
pub mod frame;
pub mod icmp6;
mod mac;

pub use mac::{InvalidMac, MacAddr};
