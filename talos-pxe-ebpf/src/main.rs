//! The XDP program: it answers the DHCP requests of machines that the daemon has told it of, and
//! passes every other frame on, untouched.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod program;

#[cfg(target_arch = "bpf")]
#[path = "program/attached.rs"]
mod attached;

/// On the host there is nothing to run; cargo still wants a `main` for `clippy` and `test`.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
