//! The table of machines that the XDP program may answer, from the daemon's side;
//! [`talos_pxe_ebpf::machines`] says how it can be written while the program reads it.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use talos_pxe_ebpf::machines::{Bucket, Choice, Entry};

use super::InsertError;

/// Words of an entry: its owner and its promise.
const ENTRY: usize = 2;
/// Words of a bucket.
const BUCKET: usize = ENTRY * Bucket::ENTRIES;
/// A machine's second bucket is considered when its first holds as many: few enough that nearly
/// all machines stand in their first, where the program looks first, and enough to leave room for
/// those that have no other.
const FILLED: usize = Bucket::ENTRIES - 1;

/// How many buckets a table for `capacity` machines has: enough that there is a place for each,
/// but for one in many millions.
pub fn buckets(capacity: u32) -> u32 {
    capacity.clamp(1, Choice::MOST_BUCKETS).next_power_of_two()
}

/// The words of a table of as many buckets.
pub fn words(buckets: u32) -> usize {
    buckets as usize * BUCKET
}

/// The table.
pub struct Machines<W> {
    words: W,
    choice: Choice,
    count: u32,
    capacity: u32,
}

impl<W: Deref<Target = [AtomicU64]>> Machines<W> {
    /// An empty table for up to `capacity` machines in these words, all zero.
    pub fn new(words: W, choice: Choice, capacity: u32) -> Self {
        Self { words, choice, count: 0, capacity }
    }

    /// Promises the address until the horizon, in nanoseconds, instead of what was promised.
    ///
    /// # Errors
    /// When there is no room for one more machine.
    pub fn insert(
        &mut self,
        mac: [u8; 6],
        address: [u8; 4],
        horizon: u64,
    ) -> Result<(), InsertError> {
        let key = Entry::key(mac);
        let new = Entry::promise(address, horizon);
        if let Some((_, promise)) = self.entry_of(key) {
            promise.store(new, Ordering::Release);
            return Ok(());
        }
        if self.count >= self.capacity {
            return Err(InsertError::Full(self.capacity));
        }
        let (owner, promise) = self.free_entry(key).ok_or(InsertError::Full(self.count))?;
        let next = Entry::next_owner(owner.load(Ordering::Relaxed), key);
        promise.store(new, Ordering::Relaxed);
        owner.store(next, Ordering::Release);
        self.count += 1;
        Ok(())
    }

    /// Promises nothing to the machine any more.
    pub fn remove(&mut self, mac: [u8; 6]) {
        let Some((owner, _)) = self.entry_of(Entry::key(mac)) else { return };
        owner.fetch_and(!Entry::KEY, Ordering::Relaxed);
        // Before any later run, and before another machine's promise to this entry.
        fence(Ordering::SeqCst);
        self.count -= 1;
    }

    /// The entries of the bucket of this number: owner and promise.
    fn bucket(&self, number: u32) -> impl Iterator<Item = (&AtomicU64, &AtomicU64)> {
        let start = number as usize * BUCKET;
        let words = self.words.get(start..start + BUCKET).unwrap_or_default();
        words.as_chunks().0.iter().map(|[owner, promise]| (owner, promise))
    }

    fn entry_of(&self, key: u64) -> Option<(&AtomicU64, &AtomicU64)> {
        let buckets = self.choice.buckets(key);
        let mut entries = buckets.into_iter().flat_map(|number| self.bucket(number));
        entries.find(|(owner, _)| owner.load(Ordering::Relaxed) & Entry::KEY == key)
    }

    fn free_entry(&self, key: u64) -> Option<(&AtomicU64, &AtomicU64)> {
        let is_free = |(owner, _): &(&AtomicU64, _)| {
            owner.load(Ordering::Relaxed) & Entry::KEY == Entry::NOBODY
        };
        let [first, second] = self.choice.buckets(key);
        let taken = |number| self.bucket(number).filter(|entry| !is_free(entry)).count();
        let bucket =
            if taken(first) < FILLED || taken(first) <= taken(second) { first } else { second };
        self.bucket(bucket).find(is_free)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use talos_pxe_ebpf::machines::Machine;

    use super::*;

    type Heap = Box<[AtomicU64]>;

    fn table(capacity: u32, seed: u64) -> Machines<Heap> {
        let buckets = buckets(capacity);
        let choice = Choice { seed, factor: seed | 1, mask: u64::from(buckets) - 1 };
        let words = (0..words(buckets)).map(|_| AtomicU64::new(0)).collect();
        Machines::new(words, choice, capacity)
    }

    impl Machines<Heap> {
        fn promised(&self, mac: [u8; 6]) -> Option<Machine> {
            self.entry_of(Entry::key(mac)).map(|(_, p)| Machine::of(p.load(Ordering::Relaxed)))
        }
    }

    fn machine(number: u32) -> ([u8; 6], [u8; 4]) {
        let [a, b, c, d] = number.to_be_bytes();
        ([0x52, 0x54, a, b, c, d], [10, b, c, d])
    }

    #[test]
    fn there_is_room_for_all_machines() {
        for seed in [1, 0x1234_5678_9abc_def0, u64::MAX / 3] {
            let mut table = table(65_536, seed);
            for (mac, address) in (0..65_536).map(machine) {
                table.insert(mac, address, 0).unwrap();
            }
            let first = (0..65_536u32)
                .filter(|number| {
                    let key = Entry::key(machine(*number).0);
                    let [first, _] = table.choice.buckets(key);
                    table.bucket(first).any(|(o, _)| o.load(Ordering::Relaxed) & Entry::KEY == key)
                })
                .count();
            assert!(first > 60_000, "only {first} in their first bucket");
            assert!(matches!(table.insert([9; 6], [0; 4], 0), Err(InsertError::Full(65_536))));
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(
            steps in prop::collection::vec((0u32..40, any::<Option<u8>>()), 0..400),
            seed in any::<u64>(),
        ) {
            let mut table = table(16, seed);
            let mut map = HashMap::new();
            for (number, address) in steps {
                let (mac, _) = machine(number);
                match address {
                    Some(address) => {
                        let address = [10, 0, 0, address];
                        if map.len() < 16 || map.contains_key(&number) {
                            // Of so few buckets a machine's two may be full.
                            if table.insert(mac, address, 0).is_ok() {
                                map.insert(number, address);
                            }
                        } else {
                            prop_assert!(table.insert(mac, address, 0).is_err());
                        }
                    }
                    None => {
                        table.remove(mac);
                        map.remove(&number);
                    }
                }
                for number in 0..40 {
                    let promised = table.promised(machine(number).0).map(|m| m.address);
                    prop_assert_eq!(promised, map.get(&number).copied());
                }
            }
        }
    }
}
