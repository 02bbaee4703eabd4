//! The program that logs.

#![expect(unsafe_code, reason = "packet memory is reached through raw pointers")]

use core::arch::asm;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use talos_pxe_ebpf::LOG_TARGET;
use talos_pxe_ebpf::frame::Frame;
use talos_pxe_ebpf::outcome::Outcome;

use crate::program;

const MESSAGE_TYPE: u8 = 53;
/// As many octets as the longest name has.
const NAME: usize = 16;

/// The outcomes' names, all of one length, so that the compiler writes their copying out; as many
/// as a mask lets through.
static NAMES: [[u8; NAME]; 32] = {
    let mut names = [[b' '; NAME]; 32];
    let mut number = 0;
    while number < Outcome::ALL.len() {
        let name = Outcome::ALL[number].name().as_bytes();
        let mut at = 0;
        while at < name.len() {
            names[number][at] = name[at];
            at += 1;
        }
        number += 1;
    }
    names
};

/// A message and its first option, which nearly always is its type.
#[repr(C)]
struct Message {
    frame: Frame,
    option: [u8; 3],
}

/// The program that is attached when a log is wanted.
#[xdp]
pub fn talos_pxe(ctx: XdpContext) -> u32 {
    let outcome = program::answer(ctx.ctx);
    // What is not for us would fill the log.
    if outcome != Outcome::Other {
        log(&ctx, outcome);
    }
    program::verdict(outcome)
}

/// Logs the outcome, with what the message says that is now in the frame: the answer, or else the
/// request.
#[inline(always)]
fn log(ctx: &XdpContext, outcome: Outcome) {
    // SAFETY: the verifier holds us to the end of the packet.
    let message = unsafe {
        let (start, end) = (ctx.data(), ctx.data_end());
        if start + size_of::<Message>() > end {
            return;
        }
        &*(start as *const Message)
    };
    let [a, b, c, d, e, f] = message.frame.chaddr;
    let mac = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
    let kind = match message.option {
        [MESSAGE_TYPE, 1, kind] => kind,
        _ => 0,
    };
    let address = match message.frame.yiaddr {
        [0, 0, 0, 0] => message.frame.ciaddr,
        address => address,
    };
    write_line(outcome as u32, mac, kind.into(), u32::from_ne_bytes(address));
}

/// A function by itself, which the verifier looks at once, whatever its caller has been through.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_line(outcome: u32, mac: u64, kind: u32, address: u32) -> u32 {
    let mut number = u64::from(outcome);
    // SAFETY: the mask, which the compiler cannot take away, keeps the number within the names, and
    // those are ASCII.
    let name = unsafe {
        asm!("{0} &= 31", inout(reg) number, options(pure, nomem, nostack));
        core::str::from_utf8_unchecked(NAMES.get_unchecked(number as usize))
    };
    let [a, b, c, d, e, f, ..] = mac.to_ne_bytes();
    aya_log_ebpf::trace!(
        (),
        target: LOG_TARGET,
        "{} chaddr={:mac} type={} address={:i}",
        name,
        [a, b, c, d, e, f],
        kind,
        address.to_ne_bytes(),
    );
    1
}
