//! Frames put on a cable many at a time and without a packet buffer each, as a network card hands
//! them to its driver: by a test run of an XDP program whose frames are really transmitted.
//!
//! They arrive only where the other end runs an XDP program in the driver.

use std::io;
use std::ptr::null_mut;
use std::slice::from_raw_parts_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::instruction::*;
use super::xsk::Nanos;
use crate::lab::bpf::{Link, Mode, Program, Shared};

/// The most frames at a time.
pub const MOST: usize = 64;

// What we share with the program: the number of the next frame and the length of all; then for each
// frame when it was sent, and itself.
const NEXT: i16 = 0;
const LENGTH: i16 = 8;
const FRAMES: i16 = 64;
const STAMP: usize = size_of::<Nanos>();
/// A power of two.
const SLOT: usize = 2048;
const SHARED: usize = FRAMES as usize + (MOST + 1) * SLOT;

const STORE_BYTES: i32 = 190;
const XDP_DROP: i32 = 1;
const XDP_TX: i32 = 3;
/// The place of the last two instructions, which send nothing.
const DROP: i16 = 25;

/// Puts frames on the cable of `eth0`.
#[derive(Debug)]
pub struct Injector {
    program: Program,
    /// The kernel takes milliseconds to prepare for a program that is attached nowhere, in every
    /// test run.
    _prepared: Link,
    memory: *mut u8,
    interface: u32,
    /// How many frames wait, and how long each is.
    waiting: usize,
    length: usize,
}

// SAFETY: the memory belongs to this value alone, and none of it to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Injector {}

impl Injector {
    /// Prepares it, in the thread's namespace.
    ///
    /// # Errors
    /// Without root.
    pub fn open() -> io::Result<Injector> {
        let shared = Shared::new(SHARED)?;
        let program = Program::load(&program(&shared)?)?;
        let prepared = program.attach(c"lo", Mode::Generic)?;
        let (both, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses where, so no memory of ours is replaced.
        #[allow(unsafe_code)]
        let memory = unsafe { mmap(null_mut(), SHARED, both, flags, &shared, 0) }?.cast();
        // SAFETY: the name ends with a zero and outlives the call.
        #[allow(unsafe_code)]
        let interface = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
        Ok(Injector { program, _prepared: prepared, memory, interface, waiting: 0, length: 0 })
    }

    /// Adds a frame that `write` writes, returning its length; it is sent by [`Injector::flush`].
    ///
    /// # Errors
    /// When there are [`MOST`] already, or the frame is not as long as the others.
    pub fn add(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> io::Result<()> {
        if self.waiting >= MOST {
            return Err(io::Error::other("too many frames at a time"));
        }
        // SAFETY: the slot lies inside the memory, and the program does not run.
        #[allow(unsafe_code)]
        let room = unsafe {
            let slot = self.memory.add(FRAMES as usize + self.waiting * SLOT);
            from_raw_parts_mut(slot.add(STAMP), SLOT - STAMP)
        };
        let length = write(room);
        if self.waiting > 0 && length != self.length {
            return Err(io::Error::other("frames of different lengths"));
        }
        self.length = length;
        self.waiting += 1;
        Ok(())
    }

    /// Sends what was added, and calls `sent` with each frame's number among them and the moment
    /// when the kernel sent it. The thread has to be in the namespace where this was opened.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn flush(&mut self, mut sent: impl FnMut(usize, Nanos)) -> io::Result<()> {
        // SAFETY: both fields lie inside the memory, aligned, and the program does not run.
        #[allow(unsafe_code)]
        unsafe {
            self.memory.offset(NEXT.into()).cast::<u64>().write_volatile(0);
            self.memory.offset(LENGTH.into()).cast::<u32>().write_volatile(self.length as u32);
        }
        self.program.run_live(self.interface, self.length, self.waiting as u32)?;
        for number in 0..std::mem::take(&mut self.waiting) {
            // SAFETY: the stamp lies inside the memory, aligned, and the program has ended.
            #[allow(unsafe_code)]
            let at = unsafe {
                let slot = self.memory.add(FRAMES as usize + number * SLOT);
                slot.cast::<Nanos>().read_volatile()
            };
            sent(number, at);
        }
        Ok(())
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and no reference to it outlives the value.
        #[allow(unsafe_code)]
        let _ = unsafe { munmap(self.memory.cast(), SHARED) };
    }
}

/// Makes the frame the next one of those that are shared, notes when, and transmits it.
fn program(shared: &Shared) -> io::Result<[u64; 27]> {
    let map = i32::try_from(shared.number()).map_err(io::Error::other)?;
    let to_drop = |from: i16| DROP - from - 1;
    Ok([
        instruction(MOVE, 6, 1, 0, 0),
        // The map's value, by the file descriptor of the map.
        instruction(LOAD_64_BITS, 7, 2, 0, map),
        0,
        instruction(LOAD_DOUBLE, 8, 7, NEXT, 0),
        instruction(MOVE, 1, 8, 0, 0),
        instruction(ADD, 1, 0, 0, 1),
        instruction(STORE_DOUBLE, 7, 1, NEXT, 0),
        instruction(AND, 8, 0, 0, MOST as i32 - 1),
        instruction(SHIFT, 8, 0, 0, SLOT.trailing_zeros() as i32),
        instruction(MOVE, 9, 7, 0, 0),
        instruction(ADD_REGISTER, 9, 8, 0, 0),
        instruction(LOAD_WORD, 8, 7, LENGTH, 0),
        instruction(CALL, 0, 0, 0, KTIME_GET_NS),
        instruction(STORE_DOUBLE, 9, 0, FRAMES, 0),
        instruction(MOVE, 1, 6, 0, 0),
        instruction(SET, 2, 0, 0, 0),
        instruction(MOVE, 3, 9, 0, 0),
        instruction(ADD, 3, 0, 0, i32::from(FRAMES) + STAMP as i32),
        instruction(MOVE, 4, 8, 0, 0),
        instruction(AND, 4, 0, 0, SLOT as i32 - 1),
        instruction(IF_LESS, 4, 0, to_drop(20), 1),
        instruction(CALL, 0, 0, 0, STORE_BYTES),
        instruction(UNLESS_EQUAL, 0, 0, to_drop(22), 0),
        instruction(SET, 0, 0, 0, XDP_TX),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(SET, 0, 0, 0, XDP_DROP),
        instruction(EXIT, 0, 0, 0, 0),
    ])
}
