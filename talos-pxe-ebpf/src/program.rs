//! The entry point that the kernel calls for each received frame.

#![expect(unsafe_code, reason = "packet and map memory are reached through raw pointers")]

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::XdpContext;
use talos_pxe_ebpf::Counters;
use talos_pxe_ebpf::frame::Frame;

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Counts the frame and passes it on.
#[xdp]
pub fn talos_pxe(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel hands over readable packet memory from `data` up to `data_end`, and the
    // verifier holds us to the bounds.
    let frame = unsafe { Frame::from_raw(ctx.data(), ctx.data_end()) };
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own, and the program cannot be interrupted by itself.
        unsafe { (*counters).count(frame.kind()) };
    }
    XDP_PASS
}

/// The kernel reads here that the program may call GPL-only helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier refuses a program that could get here and not end.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
