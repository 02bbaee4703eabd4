//! The machines that the program may answer: a table in memory that the daemon writes and the
//! program reads at the same time, without a lock.
//!
//! A machine has one [`Entry`], in one of two [`Bucket`]s that its MAC address chooses. A bucket
//! is a cache line, so that finding a machine costs one miss, or two for the few that stand in
//! the second one. Since a bucket has room for few, the choice depends on random numbers that
//! differ each time the program is loaded: nobody can aim MAC addresses at one bucket.
//!
//! # Reading while it is written
//!
//! Both sides read and write whole, aligned 64-bit words, which no processor tears. An entry has
//! two: its *owner* (MAC address and generation) and its *promise* (address and horizon). Writing
//! them follows these rules, in this order of the words:
//!
//! 1. Another promise to the same owner is one store: it is seen whole or not at all.
//! 2. To revoke is to store an owner that is nobody, of the same generation, then a full barrier.
//! 3. A free entry is taken by storing the promise and then the owner, of the next generation.
//!
//! Each store is seen only after the one before it. The program reads the owner, the promise, and
//! the owner again, each only after the one before it, and uses the promise only when both owners
//! are the same word and are the machine that asks. Then the promise was made to that owner:
//!
//! - It is not older: the first owner was seen, and its promise was stored before it.
//! - It is not newer: somebody else's promise is stored after nobody was, so the second owner,
//!   read after such a promise, would have been nobody or somebody later. The generation tells an
//!   owner that left and came back from one that never left, unless the entry had 32,768 owners
//!   between two reads of one run, each of which waited for the disk.
//!
//! Once revoking has returned, every run that begins finds nobody: the barrier has put the store
//! before all that the daemon does next. A run that began before may use what it has read.
//!
//! On x86-64 loads and stores keep their order by themselves (but for a load before an earlier
//! store); on arm64 the daemon's stores are releases, and each of the program's loads is from an
//! address that was computed from the word read before it, which orders them.

use bytemuck::{Pod, Zeroable};

/// One machine, or none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Entry {
    /// From the lowest bit: the MAC address with its first octet lowest (48 bits), one, and the
    /// generation (15 bits). The lower 49 bits of a free entry are zero.
    pub owner: u64,
    /// The machine's address as it stands in memory (32 bits), and the horizon in whole seconds
    /// (32 bits): until when the address may be promised.
    pub promise: u64,
}

/// As many machines as a cache line holds.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Bucket {
    /// The entries.
    pub entries: [Entry; Bucket::ENTRIES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// How many entries a bucket has.
    pub const ENTRIES: usize = 4;
}

/// The bit of an owner that is set unless there is none.
const OWNED: u64 = 1 << 48;
const NANOSECONDS: u64 = 1_000_000_000;

impl Entry {
    /// The bits of an owner that are its [`key`](Entry::key).
    pub const KEY: u64 = (OWNED << 1) - 1;
    /// The key of nobody.
    pub const NOBODY: u64 = 0;

    /// What tells this machine's owner word from any other's and from nobody's.
    #[inline(always)]
    pub const fn key(mac: [u8; 6]) -> u64 {
        let [a, b, c, d, e, f] = mac;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) | OWNED
    }

    /// This owner's successor, of the next generation.
    pub const fn next_owner(owner: u64, key: u64) -> u64 {
        (owner & !Self::KEY).wrapping_add(Self::KEY + 1) | key
    }

    /// A promise of this address until the horizon, in nanoseconds: until the whole second before
    /// it.
    pub const fn promise(address: [u8; 4], horizon: u64) -> u64 {
        let seconds = horizon / NANOSECONDS;
        let seconds = if seconds > u32::MAX as u64 { u32::MAX as u64 } else { seconds };
        u32::from_ne_bytes(address) as u64 | seconds << 32
    }
}

/// What is promised to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The machine's address.
    pub address: [u8; 4],
    /// Until when it may be promised, in nanoseconds.
    pub horizon: u64,
}

impl Machine {
    /// What a promise says.
    #[inline(always)]
    pub const fn of(promise: u64) -> Self {
        Self { address: (promise as u32).to_ne_bytes(), horizon: (promise >> 32) * NANOSECONDS }
    }
}

/// Where machines stand.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Choice {
    /// A random number.
    pub seed: u64,
    /// Another, which is odd.
    pub factor: u64,
    /// The number of buckets, less one; that number is a power of two.
    pub mask: u64,
}

/// Odd, with as many ones as zeros (the golden ratio's digits).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Choice {
    /// The most buckets there can be.
    pub const MOST_BUCKETS: u32 = 1 << 22;

    /// The numbers of the two buckets that the machine of this key may stand in.
    #[inline(always)]
    pub const fn buckets(&self, key: u64) -> [u32; 2] {
        let mixed = (key ^ self.seed).wrapping_mul(self.factor);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(MIX);
        [(mixed >> 42 & self.mask) as u32, (mixed >> 20 & self.mask) as u32]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_what_was_put_into_them() {
        assert_ne!(Entry::key([0; 6]), Entry::NOBODY);
        let key = Entry::key([0xff; 6]);
        let mut owner = u64::MAX;
        for _ in 0..3 {
            let next = Entry::next_owner(owner, key);
            assert_eq!(next & Entry::KEY, key);
            assert_ne!(next, owner);
            owner = next & !Entry::KEY;
        }
        for (horizon, kept) in [(0, 0), (NANOSECONDS - 1, 0), (NANOSECONDS * 7 + 1, 7)] {
            let machine = Machine::of(Entry::promise([10, 1, 2, 3], horizon));
            assert_eq!(machine, Machine { address: [10, 1, 2, 3], horizon: kept * NANOSECONDS });
        }
        let forever = Machine::of(Entry::promise([0; 4], u64::MAX));
        assert_eq!(forever.horizon, u64::from(u32::MAX) * NANOSECONDS);
    }

    /// Machines in a row, as a vendor numbers them, spread as random ones would.
    #[test]
    fn machines_in_a_row_are_spread_over_the_buckets() {
        const BUCKETS: usize = 4096;
        for seed in 0..64u64 {
            let choice = Choice {
                seed: seed.wrapping_mul(MIX),
                factor: seed.wrapping_mul(MIX) | 1,
                mask: BUCKETS as u64 - 1,
            };
            for which in 0..2 {
                let mut loads = [0u8; BUCKETS];
                for machine in 0..BUCKETS as u32 {
                    let [.., a, b] = machine.to_be_bytes();
                    let key = Entry::key([0x52, 0x54, 0, 0, a, b]);
                    loads[choice.buckets(key)[which] as usize] += 1;
                }
                // Of a random choice one in 3500 has more than six.
                let crowded = loads.iter().filter(|load| **load > 6).count();
                assert!(crowded < 16, "seed {seed}: {crowded} buckets");
            }
        }
    }
}
