//! Copies and sums, word by word and without loops.
//!
//! A helper takes as long to call as some forty words to copy, but can be given any offset into
//! the frame; these cannot. The compiler would make calls or loops of anything shorter than this.

use aya_ebpf::bindings::xdp_md;
use talos_pxe_ebpf::frame::{FIRST_OPTION, MAGIC_AT, SHORTEST_REPLY};
use talos_pxe_ebpf::maps::Template;

/// The octets of options that [`write_reply`] can write.
pub const WRITTEN: usize = 384;
/// The octets of options that [`copy_options`] can copy.
pub const COPIED: u64 = 320;
/// What [`copy_options`] says of a frame that has more.
pub const MORE: u64 = u64::MAX;

/// The octets that [`contain`] can search.
pub const SEARCHED: u64 = 64;

/// Does something for each number.
macro_rules! each {
    ($what:ident: $($number:literal)*) => { $($what!($number);)* };
}

/// Writes a reply over a frame that has been resized for it: the fixed fields from the template,
/// then the options, as many as fit. Returns the options' sum; none when the frame is too short.
///
/// # Safety
///
/// There must be [`WRITTEN`] octets of options.
#[inline(always)]
pub unsafe fn write_reply(
    ctx: *mut xdp_md,
    template: &Template,
    options: *const u8,
    result: *mut u64,
) -> Option<()> {
    // SAFETY: the context is the one that the kernel handed over.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    if start + SHORTEST_REPLY > end {
        return None;
    }
    let (from, to) = (template.frame.as_ptr().cast::<u64>(), start as *mut u64);
    macro_rules! fixed {
        ($word:literal) => {
            // SAFETY: the word is in both frames.
            unsafe { to.add($word).write_unaligned(from.add($word).read_unaligned()) }
        };
    }
    each!(fixed: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29
        30 31 32 33 34);
    // SAFETY: the last two octets of the magic cookie are in both frames.
    unsafe {
        let (from, to) = (from.add(35).cast::<u16>(), to.add(35).cast::<u16>());
        to.write_unaligned(from.read_unaligned());
    }

    let mut sum = 0;
    macro_rules! option {
        ($word:literal) => {
            // SAFETY: the word is in the frame, and the caller's promise.
            unsafe {
                let word = options.cast::<u64>().add($word).read();
                ((start + FIRST_OPTION + 8 * $word) as *mut u64).write_unaligned(word);
                sum += (word & 0xffff_ffff) + (word >> 32);
            }
        };
    }
    macro_rules! option_if_it_fits {
        ($word:literal) => {
            if start + FIRST_OPTION + 8 * $word + 8 > end {
                // A frame ends with a word or half a word: `SHORTEST_REPLY` does, and all are
                // longer by a multiple of four.
                if start + FIRST_OPTION + 8 * $word + 4 <= end {
                    // SAFETY: the half is in the frame, and the caller's promise.
                    unsafe {
                        let half = options.cast::<u32>().add(2 * $word).read();
                        ((start + FIRST_OPTION + 8 * $word) as *mut u32).write_unaligned(half);
                        sum += u64::from(half);
                    }
                }
                // SAFETY: the caller's promise.
                unsafe { result.write_volatile(sum) };
                return Some(());
            }
            option!($word);
        };
    }
    each!(option: 0 1 2 3 4 5 6);
    each!(option_if_it_fits: 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47);
    unsafe { result.write_volatile(sum) };
    Some(())
}

/// A word at any address.
#[repr(C, packed)]
struct Unaligned(u64);

/// Writes the end mark, and zeros up to where the shortest reply ends at the latest.
///
/// # Safety
///
/// There must be room for 64 octets.
#[inline(always)]
pub unsafe fn end_options(to: *mut u8) {
    let to = to.cast::<Unaligned>();
    macro_rules! word {
        ($word:literal) => {
            // Volatile, or the compiler would call a function that does it octet by octet.
            // SAFETY: the caller's promise.
            unsafe {
                let octets = [if $word == 0 { 255 } else { 0 }, 0, 0, 0, 0, 0, 0, 0];
                to.add($word).write_volatile(Unaligned(u64::from_ne_bytes(octets)));
            }
        };
    }
    each!(word: 0 1 2 3 4 5 6 7);
}

/// Copies what the frame has from the magic cookie on, up to [`COPIED`] octets, and writes to
/// `result` how many it has, or [`MORE`].
///
/// # Safety
///
/// There must be room for them.
#[inline(always)]
pub unsafe fn copy_options(ctx: *mut xdp_md, to: *mut u64, result: *mut u64) {
    // SAFETY: the context is the one that the kernel handed over.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    let to = to.cast::<u8>();
    macro_rules! has {
        ($octets:expr) => {
            start + MAGIC_AT + $octets <= end
        };
    }
    macro_rules! copy {
        ($type:ty, $at:expr) => {
            // SAFETY: it has been checked that the frame has it, and the caller's promise.
            unsafe {
                let from = (start + MAGIC_AT + $at) as *const $type;
                to.add($at).cast::<$type>().write_unaligned(from.read_unaligned());
            }
        };
    }
    // Written out, since the verifier knows the frame's length only from comparisons, and each
    // for itself, so that it forgets which of them the length came from.
    macro_rules! done {
        ($octets:expr) => {{
            // SAFETY: the caller's promise.
            unsafe { result.write_volatile($octets as u64) };
            return;
        }};
    }
    macro_rules! odd_octet {
        ($at:expr) => {
            if has!($at + 1) {
                copy!(u8, $at);
                done!($at + 1);
            }
            done!($at)
        };
    }
    macro_rules! two_octets {
        ($at:expr) => {
            if has!($at + 2) {
                copy!(u16, $at);
                odd_octet!($at + 2);
            }
            odd_octet!($at)
        };
    }
    macro_rules! word {
        ($at:expr) => {
            if !has!($at + 8) {
                if has!($at + 4) {
                    copy!(u32, $at);
                    two_octets!($at + 4);
                }
                two_octets!($at);
            }
            copy!(u64, $at);
        };
    }
    macro_rules! four_words {
        ($number:literal) => {
            if has!(32 * $number + 32) {
                copy!(u64, 32 * $number);
                copy!(u64, 32 * $number + 8);
                copy!(u64, 32 * $number + 16);
                copy!(u64, 32 * $number + 24);
            } else {
                word!(32 * $number);
                word!(32 * $number + 8);
                word!(32 * $number + 16);
                word!(32 * $number + 24);
            }
        };
    }
    each!(four_words: 0 1 2 3 4 5 6 7 8 9);
    done!(if has!(COPIED as usize + 1) { MORE } else { COPIED });
}

/// Copies `octets` octets, no more than an option has, and some that follow.
///
/// # Safety
///
/// Both must have room for 288 octets.
#[inline(always)]
pub unsafe fn copy_option(from: *const u8, to: *mut u8, octets: u64) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    macro_rules! piece {
        ($word:literal) => {
            // SAFETY: the caller's promise.
            unsafe {
                to.add($word).write_unaligned(from.add($word).read_unaligned());
                to.add($word + 1).write_unaligned(from.add($word + 1).read_unaligned());
                to.add($word + 2).write_unaligned(from.add($word + 2).read_unaligned());
                to.add($word + 3).write_unaligned(from.add($word + 3).read_unaligned());
            }
            if octets <= 8 * $word + 32 {
                return;
            }
        };
    }
    each!(piece: 0 4 8 12 16 20 24 28 32);
}

/// Whether `length` octets, up to [`SEARCHED`], contain `wanted`.
///
/// # Safety
///
/// There must be room to read [`SEARCHED`] octets.
#[inline(always)]
pub unsafe fn contain(octets: *const u8, length: u64, wanted: u8) -> bool {
    let (ones, pattern) = (u64::from_le_bytes([1; 8]), u64::from_le_bytes([wanted; 8]));
    macro_rules! word {
        ($word:literal) => {
            if length <= 8 * $word {
                return false;
            }
            // SAFETY: the caller's promise.
            let word = unsafe { octets.cast::<u64>().add($word).read_unaligned() };
            // Octets that are wanted become zero, and those behind the last one all ones.
            let mut word = u64::from_le(word) ^ pattern;
            if length < 8 * $word + 8 {
                word |= u64::MAX << (8 * (length - 8 * $word));
            }
            if word.wrapping_sub(ones) & !word & (ones << 7) != 0 {
                return true;
            }
        };
    }
    each!(word: 0 1 2 3 4 5 6 7);
    false
}
