//! Bytes to types and back. Pure: no sockets, no clock, no state.
//!
//! Panic contract: parsing takes any bytes and returns an error or a value, it never panics.

mod asset_path;
pub mod dhcp;
pub mod dns;
pub mod frame;
pub mod icmp6;
mod mac;
mod name;
pub mod talosconfig;
pub mod tftp;

pub use asset_path::{AssetPath, InvalidPath};
pub use mac::{InvalidMac, MacAddr};
pub use name::{Hostname, NameError, Role};
