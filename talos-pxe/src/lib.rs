//! talos-pxe: a PXE boot appliance for Talos Linux.
//!
//! The crate is built in layers, and each layer knows only the ones above it in this list:
//!
//! 1. [`wire`]: bytes to types and back. Pure.
//! 2. [`decisions`]: what to answer. Pure functions and small state machines; time is an
//!    argument, a reply is a value that carries its destination.
//! 3. [`state`]: leases, machines and their roles.
//! 4. [`edges`]: sockets, HTTP routes, netlink, XDP. They parse, call a decision, send.
//! 5. [`appliance`]: the one place where the parts are made and joined.

pub mod appliance;
pub mod cli;
pub mod decisions;
pub mod edges;
pub mod state;
pub mod text;
pub mod time;
pub mod wire;
