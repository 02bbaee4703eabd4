//! Memory that the daemon and the running XDP program share: that of an array map.

use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The words of an array map, for as long as it is mapped.
pub struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
    /// Keeps the map; its memory lives as long as the mapping all the same.
    _map: MapData,
}

#[expect(unsafe_code, reason = "a mapping is a pointer")]
// SAFETY: it is memory that belongs to no thread.
unsafe impl Send for Words {}

impl Words {
    /// Maps an array map of this many words.
    ///
    /// # Errors
    /// For another kind of map, and when the kernel refuses.
    #[expect(unsafe_code, reason = "a mapping is a pointer")]
    pub fn map(map: Map, count: usize) -> Result<Self> {
        let Map::Array(map) = map else { anyhow::bail!("the map is no array") };
        ensure!(count > 0, "the map is empty");
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let length = count * size_of::<AtomicU64>();
        // SAFETY: a new mapping, where the kernel likes.
        let start = unsafe { mmap(ptr::null_mut(), length, rights, MapFlags::SHARED, map.fd(), 0) };
        let start = start.context("cannot map the memory of an XDP map")?;
        let start = NonNull::new(start.cast()).context("the kernel mapped nothing")?;
        Ok(Self { start, count, _map: map })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[expect(unsafe_code, reason = "a mapping is a pointer")]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has as many words, at the start of a page, and lives as long as
        // `self`. Every bit pattern is a value, and whoever else writes to it writes whole words.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Words {
    #[expect(unsafe_code, reason = "a mapping is a pointer")]
    fn drop(&mut self) {
        // SAFETY: nothing borrows it any more. It cannot fail for what `mmap` returned.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}
