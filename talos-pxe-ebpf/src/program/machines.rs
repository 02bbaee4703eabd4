//! Finds the machine that asks, while the daemon may be writing; `talos_pxe_ebpf::machines` says
//! why what is found is never half written.

use core::arch::asm;

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use talos_pxe_ebpf::machines::{Bucket, Choice, Entry, Machine};
use talos_pxe_ebpf::maps::DEFAULT_CAPACITY;

use super::maps::MAPPED;

#[map]
static MACHINES: Array<Bucket> = Array::with_max_entries(DEFAULT_CAPACITY, MAPPED);

/// The machine with this MAC address.
#[inline(always)]
pub fn find(choice: &Choice, mac: [u8; 6]) -> Option<Machine> {
    let key = Entry::key(mac);
    let [first, second] = choice.buckets(key);
    match look_into(first, key) {
        None => look_into(second, key),
        found => found,
    }
}

#[inline(always)]
fn look_into(bucket: u32, key: u64) -> Option<Machine> {
    let bucket = MACHINES.get_ptr(bucket)?.cast::<u64>();
    // Nothing branches on where in the bucket the machine is, which nobody could predict.
    // Sums, because Linux 6.1 knows no bounds of two unknown words that are combined by `|`.
    let at = is_owner(bucket, 1, key) + is_owner(bucket, 2, key) * 2 + is_owner(bucket, 3, key) * 3;
    let at = at & 3;
    // SAFETY: all are words of the bucket.
    unsafe {
        let entry = bucket.add(2 * at as usize);
        let owner = entry.read_volatile();
        let promise = entry.add(1 + after(owner)).read_volatile();
        let still = entry.add(after(promise)).read_volatile();
        (owner & Entry::KEY == key && owner == still).then(|| Machine::of(promise))
    }
}

/// One if the entry of this number is the machine's, or zero.
#[inline(always)]
fn is_owner(bucket: *const u64, entry: usize, key: u64) -> u64 {
    // SAFETY: the word is one of the bucket's.
    let owner = unsafe { bucket.add(2 * entry).read_volatile() };
    let mut differs = (owner ^ key) & Entry::KEY;
    // SAFETY: it changes nothing but its operand. The compiler would make a branch of it.
    unsafe {
        asm!("{0} += -1", "{0} >>= 63", inout(reg) differs, options(pure, nomem, nostack));
    }
    differs
}

/// Zero, which the processor knows only after `value`: what is read at an address that it is part
/// of is read later than `value`, also on processors that read in any order.
#[inline(always)]
fn after(mut value: u64) -> usize {
    // SAFETY: it changes nothing but its operand.
    unsafe { asm!("{0} &= 0", inout(reg) value, options(pure, nomem, nostack)) };
    value as usize
}
