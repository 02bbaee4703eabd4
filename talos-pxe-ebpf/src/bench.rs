//! The XDP program with what measuring it needs: the kernel's test run repeats a program on the
//! packet that the last run left, so it has to be made a request again before each run.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod program;

#[cfg(target_arch = "bpf")]
#[path = "program/bench.rs"]
mod bench;

/// On the host there is nothing to run; cargo still wants a `main` for `clippy` and `test`.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
