//! What of a reply depends on the request's options: its template, and its tail, which is what is
//! left of the template, the options that are echoed and the end mark.

use core::ptr::null_mut;

use aya_ebpf::helpers::generated::bpf_csum_diff;
use talos_pxe_ebpf::frame::{SHORTEST_REPLY, fold};
use talos_pxe_ebpf::maps::{Answer, Template};
use talos_pxe_ebpf::outcome::Outcome;

use super::client;
use super::maps::{self, Scratch, launder};
use super::options::{Options, Slot};
use super::words;

const END: u64 = 255;

/// What of a reply depends on the request's options.
pub struct Composed {
    /// The class of the client.
    pub class: u8,
    /// Octets of the tail, which has been written to the scratch.
    pub length: u64,
    /// What the tail adds to the sum of the datagram.
    pub sum: u64,
}

/// Finds the template for this answer to the options in the scratch, and writes the tail.
#[inline(always)]
pub fn compose(answer: Answer, names_file: bool) -> Result<Composed, Outcome> {
    let composed = compose_packed(answer as u32, names_file.into());
    let length = composed & 0xffff;
    let (sum, class) = (composed >> 16 & 0xffff, (composed >> 32) as u8);
    // The verifier knows nothing of what a function returns.
    if length == 0 || length > Scratch::TAIL as u64 {
        return Err(match sum {
            sum if sum == Outcome::UnusualClient as u64 => Outcome::UnusualClient,
            sum if sum == Outcome::NoTemplate as u64 => Outcome::NoTemplate,
            _ => Outcome::TooLong,
        });
    }
    Ok(Composed { class, length, sum })
}

/// The tail's length, its sum and the class, from the lowest bits; without a length the reason
/// is in place of the sum.
///
/// A function by itself, which the verifier looks at once, whatever its caller has been through.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn compose_packed(answer: u32, names_file: u32) -> u64 {
    match try_compose(answer, names_file != 0) {
        Ok(Composed { class, length, sum }) => length | sum << 16 | u64::from(class) << 32,
        Err(outcome) => (outcome as u64) << 16,
    }
}

#[inline(always)]
fn try_compose(answer: u32, names_file: bool) -> Result<Composed, Outcome> {
    let scratch = maps::scratch().ok_or(Outcome::NoTemplate)?;
    let class = client::class(&Options(scratch), names_file)?;
    let template = maps::template(Answer::template_of(answer, class)).ok_or(Outcome::NoTemplate)?;
    let fixed = u64::from(template.length);
    if fixed == 0 || fixed > Template::LONGEST as u64 {
        return Err(Outcome::NoTemplate);
    }
    let length = copy(scratch, template, fixed).ok_or(Outcome::TooLong)?;
    let sum = sum(scratch, length);
    let odd = fixed < SHORTEST_REPLY as u64 && fixed % 2 != 0;
    let sum = if odd { sum.swap_bytes() } else { sum };
    Ok(Composed { class: class.index() as u8, length, sum: sum.into() })
}

#[inline(always)]
fn copy(scratch: *mut Scratch, template: &Template, fixed: u64) -> Option<u64> {
    let rest = fixed.saturating_sub(SHORTEST_REPLY as u64);
    if rest != 0 {
        // SAFETY: the template has room for the pieces, and so has the tail.
        unsafe {
            let from = template.frame.as_ptr().add(SHORTEST_REPLY);
            words::copy_option(from, (&raw mut (*scratch).tail).cast(), rest);
        }
    }
    let options = Options(scratch);
    let length = checked(scratch, rest)?;
    let length = echo(scratch, options, Slot::MachineIdentifier, length)?;
    let length = echo(scratch, options, Slot::ClientIdentifier, length)?;
    let length = echo(scratch, options, Slot::RelayInformation, length)?;
    // SAFETY: the length has been checked.
    unsafe {
        let to = (&raw mut (*scratch).tail).cast::<u8>().add(length as usize);
        to.cast::<u64>().write_unaligned(END.to_le());
    }
    Some(length + 1)
}

/// Appends an option, if it is there, to the tail of this length, and returns the new length.
#[inline(always)]
fn echo(scratch: *mut Scratch, options: Options, slot: Slot, length: u64) -> Option<u64> {
    let at = options.place(slot);
    if at == 0 {
        return Some(length);
    }
    let whole = 2 + u64::from(options.octet(at + 1));
    // SAFETY: there is room for the longest option in whole pieces behind the longest tail.
    unsafe {
        let from = (&raw const (*scratch).options).cast::<u8>().add(at as usize);
        let to = (&raw mut (*scratch).tail).cast::<u8>().add(length as usize);
        words::copy_option(from, to, whole);
    }
    checked(scratch, length + whole)
}

/// Checks a tail's length, of which the verifier then knows no more than that it is checked.
#[inline(always)]
fn checked(scratch: *mut Scratch, length: u64) -> Option<u64> {
    let length = launder(scratch, length);
    if length > (Scratch::TAIL - 8) as u64 { None } else { Some(length) }
}

#[inline(always)]
fn sum(scratch: *mut Scratch, length: u64) -> u16 {
    // The end mark is followed by zeros up to a multiple of eight.
    // SAFETY: the tail is longer than that.
    let sum = unsafe {
        let tail = (&raw mut (*scratch).tail).cast::<u64>();
        // Of this length the comparisons tell the verifier nothing about the other one.
        let summed = launder(scratch, length);
        if summed <= words::SUMMED {
            words::sum(tail, summed)
        } else {
            let words = (length + 3) & !3;
            bpf_csum_diff(null_mut(), 0, tail.cast(), words as u32, 0) as u64 & 0xffff_ffff
        }
    };
    fold(sum)
}
