//! A ring of an `AF_XDP` socket: memory shared with the kernel, with one producer and one consumer.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// One ring, of which this process is the producer or the consumer. `T` is what the kernel keeps in
/// it: plain numbers.
#[derive(Debug)]
pub struct Ring<T: Copy> {
    memory: *mut u8,
    length: usize,
    layout: libc::xdp_ring_offset,
    entries: u32,
    /// The next entry that is ours to write or to read.
    next: u32,
    of: std::marker::PhantomData<T>,
}

// SAFETY: the memory belongs to this value alone, and none of it to a thread.
#[allow(unsafe_code)]
unsafe impl<T: Copy> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// Maps a ring of `entries`, a power of two, that the socket has.
    ///
    /// # Errors
    /// When the socket has no such ring.
    pub fn map(
        socket: impl AsFd,
        at: u64,
        layout: libc::xdp_ring_offset,
        entries: u32,
    ) -> io::Result<Ring<T>> {
        let length = layout.desc as usize + entries as usize * size_of::<T>();
        let (both, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses where, so no memory of ours is replaced.
        #[allow(unsafe_code)]
        let memory = unsafe {
            mmap(std::ptr::null_mut(), length, both, flags | MapFlags::POPULATE, socket, at)
        }?;
        let of = std::marker::PhantomData;
        Ok(Ring { memory: memory.cast(), length, layout, entries, next: 0, of })
    }

    /// Adds an entry, which the kernel sees after [`Ring::publish`]. False when the ring is full.
    pub fn push(&mut self, entry: T) -> bool {
        let taken = self.index(self.layout.consumer).load(Ordering::Acquire);
        if self.next.wrapping_sub(taken) >= self.entries {
            return false;
        }
        // SAFETY: the kernel has consumed what was there before, and reads it again only once it
        // is published; it lies inside the memory.
        #[allow(unsafe_code)]
        unsafe {
            self.slot().write(entry);
        }
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Lets the kernel see what was pushed.
    pub fn publish(&self) {
        self.index(self.layout.producer).store(self.next, Ordering::Release);
    }

    /// Whether the kernel has consumed all that was published.
    pub fn is_consumed(&self) -> bool {
        self.index(self.layout.consumer).load(Ordering::Acquire) == self.next
    }

    /// Takes an entry, whose place the kernel may use again after [`Ring::release`].
    pub fn pop(&mut self) -> Option<T> {
        if self.index(self.layout.producer).load(Ordering::Acquire) == self.next {
            return None;
        }
        // SAFETY: the kernel has written it, and writes there again only once it is released; it
        // lies inside the memory, and every bit pattern is a number.
        #[allow(unsafe_code)]
        let entry = unsafe { self.slot().read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of what was popped back to the kernel.
    pub fn release(&self) {
        self.index(self.layout.consumer).store(self.next, Ordering::Release);
    }

    fn index(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: the kernel says that an aligned 32-bit index is there, which both sides only
        // access atomically.
        #[allow(unsafe_code)]
        unsafe {
            AtomicU32::from_ptr(self.memory.add(offset as usize).cast())
        }
    }

    fn slot(&self) -> *mut T {
        let number = (self.next & (self.entries - 1)) as usize;
        // SAFETY: the kernel says that the entries begin there; the number is below theirs.
        #[allow(unsafe_code)]
        unsafe {
            self.memory.add(self.layout.desc as usize).cast::<T>().add(number)
        }
    }
}

impl<T: Copy> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and no reference to it outlives the value.
        #[allow(unsafe_code)]
        let _ = unsafe { munmap(self.memory.cast(), self.length) };
    }
}
