//! The program that is attached when no log is wanted.

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::program;

/// Answers the frame or passes it on.
#[xdp]
pub fn talos_pxe(ctx: XdpContext) -> u32 {
    program::verdict(program::answer(ctx.ctx))
}
