//! The XDP program with a line in the log for each frame to one of our ports. Another object than
//! the one that usually runs, so that what is not asked for costs nothing.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod program;

#[cfg(target_arch = "bpf")]
#[path = "program/log.rs"]
mod log;

/// On the host there is nothing to run; cargo still wants a `main` for `clippy` and `test`.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
