//! An XDP program that passes all frames on, for the other end of a cable.
//!
//! A veth device delivers the frames that an XDP program transmits only when the other end runs a
//! program too; otherwise they stay in a queue that nobody reads. Receive offload (GRO) on the
//! other end does not help.

use std::ffi::CStr;

use anyhow::{Context, Result};

use super::bpf::{Link, Mode, Program};
use super::netns::Netns;

/// The program `return XDP_PASS`: `r0 = 2; exit`.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// Attaches it to an interface of a namespace.
///
/// # Errors
/// Without root, or when the interface already has a program.
pub fn attach(netns: &Netns, interface: &CStr) -> Result<Link> {
    let attach = || Program::load(&PROGRAM)?.attach(interface, Mode::Native);
    netns.inside(|| attach().context("cannot attach an XDP program to a cable of the lab"))
}
