//! The XDP program. In this version it counts frames by kind and passes every one of them,
//! untouched, to the kernel's network stack.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program;

/// On the host there is nothing to run; cargo still wants a `main` for `clippy` and `test`.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
