//! The programs that are measured.

#![expect(unsafe_code, reason = "packet and map memory are reached through raw pointers")]

use core::ffi::c_void;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_store_bytes,
};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use talos_pxe_ebpf::frame::Frame;
use talos_pxe_ebpf::maps::Sample;

use crate::program;

#[map]
static SAMPLE: Array<Sample> = Array::with_max_entries(1, 0);
#[map]
static RUNS: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Only makes the packet a request.
#[xdp]
pub fn restore(ctx: XdpContext) -> u32 {
    match restored(ctx.ctx) {
        Some(()) => XDP_PASS,
        None => XDP_ABORTED,
    }
}

/// Makes the packet a request and answers it.
#[xdp]
pub fn restore_and_answer(ctx: XdpContext) -> u32 {
    match restored(ctx.ctx) {
        Some(()) => program::verdict(program::answer(ctx.ctx)),
        None => XDP_ABORTED,
    }
}

/// The least that a program can do to send a packet back: it swaps the Ethernet addresses.
#[xdp]
pub fn swap(ctx: XdpContext) -> u32 {
    match fixed_fields(ctx.ctx) {
        Some(frame) => {
            (frame.ethernet_destination, frame.ethernet_source) =
                (frame.ethernet_source, frame.ethernet_destination);
            XDP_TX
        }
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn restored(ctx: *mut xdp_md) -> Option<()> {
    let sample = SAMPLE.get(0)?;
    let runs = RUNS.get_ptr_mut(0)?;
    // SAFETY: the context is the kernel's, and the counter is this CPU's own.
    let run = unsafe {
        let more = sample.length as i32 - bpf_xdp_get_buff_len(ctx) as i32;
        let frame = sample.frame.as_ptr().cast_mut().cast::<c_void>();
        let length = sample.length;
        if length == 0
            || length > Sample::FRAME as u32
            || bpf_xdp_adjust_tail(ctx, more) != 0
            || bpf_xdp_store_bytes(ctx, 0, frame, length) != 0
        {
            return None;
        }
        *runs = (*runs).wrapping_add(1);
        *runs
    };
    let frame = fixed_fields(ctx)?;
    // Odd, so that every machine has its turn, in an order that looks random.
    let machine = run.wrapping_mul(40_503) & sample.machines;
    let [.., a, b] = machine.to_be_bytes();
    frame.chaddr[4] = a;
    frame.chaddr[5] = b;
    Some(())
}

#[inline(always)]
fn fixed_fields<'a>(ctx: *mut xdp_md) -> Option<&'a mut Frame> {
    // SAFETY: the verifier holds us to the end of the packet.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        if start + size_of::<Frame>() > end { None } else { Some(&mut *(start as *mut Frame)) }
    }
}
