//! Copies and sums, word by word and without loops.
//!
//! A helper takes as long to call as some forty words to copy, but can be given any offset into
//! the frame; these cannot. The compiler would make calls or loops of anything shorter than this.

use aya_ebpf::bindings::xdp_md;
use talos_pxe_ebpf::frame::{MAGIC_AT, SHORTEST_REPLY};

/// The octets of a tail that [`sum`] can sum.
pub const SUMMED: u64 = 96;
/// The octets of options that [`copy_options`] can copy.
pub const COPIED: u64 = 320;

/// Does something for each number.
macro_rules! each {
    ($what:ident: $($number:literal)*) => { $($what!($number);)* };
}

/// The frame, if it is as long as the shortest reply.
#[inline(always)]
pub fn whole_frame(ctx: *mut xdp_md) -> Option<*mut u8> {
    // SAFETY: the context is the one that the kernel handed over.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        if start + SHORTEST_REPLY > end { None } else { Some(start as *mut u8) }
    }
}

/// Copies a frame of the shortest reply's length.
///
/// # Safety
///
/// Both must have as many octets.
#[inline(always)]
pub unsafe fn copy_frame(from: *const u8, to: *mut u8) {
    let (words, to_words) = (from.cast::<u64>(), to.cast::<u64>());
    macro_rules! word {
        ($word:literal) => {
            // SAFETY: the caller's promise.
            unsafe { to_words.add($word).write_unaligned(words.add($word).read_unaligned()) }
        };
    }
    each!(word: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30
        31 32 33 34 35 36 37 38 39 40 41);
    // SAFETY: the caller's promise.
    unsafe {
        let (from, to) = (from.add(336), to.add(336));
        to.cast::<u32>().write_unaligned(from.cast::<u32>().read_unaligned());
        to.add(4).cast::<u16>().write_unaligned(from.add(4).cast::<u16>().read_unaligned());
    }
}

/// Copies the options from the magic cookie on, as many words as the frame has, up to
/// [`COPIED`] octets.
///
/// # Safety
///
/// There must be room for them.
#[inline(always)]
pub unsafe fn copy_options(ctx: *mut xdp_md, to: *mut u64) {
    // SAFETY: the context is the one that the kernel handed over.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    macro_rules! word {
        ($word:literal) => {
            if start + MAGIC_AT + 8 * $word + 8 > end {
                return;
            }
            // SAFETY: the word is in the frame, and the caller's promise.
            unsafe {
                let from = (start + MAGIC_AT + 8 * $word) as *const u64;
                to.add($word).write(from.read_unaligned());
            }
        };
    }
    each!(word: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30
        31 32 33 34 35 36 37 38 39);
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

/// The sum of `length` octets, of which there is one at least, up to [`SUMMED`].
///
/// # Safety
///
/// There must be as many, and zeros up to a multiple of eight.
#[inline(always)]
pub unsafe fn sum(words: *const u64, length: u64) -> u64 {
    let mut sum = 0;
    macro_rules! word {
        ($word:literal) => {
            // SAFETY: the caller's promise.
            let word = unsafe { words.add($word).read() };
            sum += (word >> 32) + (word & 0xffff_ffff);
            if length <= 8 * $word + 8 {
                return sum;
            }
        };
    }
    each!(word: 0 1 2 3 4 5 6 7 8 9 10 11);
    sum
}
