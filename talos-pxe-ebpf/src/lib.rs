//! What the XDP program and the daemon share: the maps' names, keys and values.
//!
//! The library never names `aya_ebpf`: linked into host code, that crate's byte-loop `memcpy`
//! would replace the C library's.

#![no_std]

pub mod class;
pub mod frame;
pub mod machines;
pub mod maps;
pub mod outcome;

/// The name of the XDP program in the object file.
pub const PROGRAM: &str = "talos_pxe";

/// The target of the log lines that the XDP program writes when it is told to.
pub const LOG_TARGET: &str = "talos_pxe::xdp";
