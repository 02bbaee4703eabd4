//! Half a million frames a second and more in and out of an interface (`AF_XDP`).
//!
//! What comes in is taken before the network stack sees it, with the kernel's note of when it came
//! ([`stamp`](super::stamp)). The two halves belong to one thread each.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::net::{AddressFamily, SocketType, socket};

use super::ring::Ring;
use super::stamp::{self, STAMP};
use crate::lab::Host;
use crate::lab::bpf::Sockets;

/// What one frame takes: the least that the kernel allows.
const CHUNK: usize = 2048;
/// How many frames may wait for us, and for the kernel.
const INCOMING: u32 = 8192;
const OUTGOING: u32 = 256;
const CHUNKS: usize = (INCOMING + OUTGOING) as usize;

/// A moment: nanoseconds of the monotonic clock.
pub type Nanos = u64;

/// Now.
pub fn now() -> Nanos {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Makes the far end of a host's cable receive, on `eth0` of `far`, what DHCP servers send, and
/// nobody else there.
///
/// # Errors
/// Without root.
pub fn open(host: &Host, far: &Host) -> Result<(Outgoing, Incoming)> {
    let sockets = Sockets::new().context("cannot make a map of sockets")?;
    let halves = far.netns().inside(|| halves().context("cannot open an AF_XDP socket on eth0"))?;
    sockets.set(&halves.0.shared.socket).context("cannot use the AF_XDP socket")?;
    let program = stamp::program(&sockets).context("cannot load the program that receives")?;
    host.replace_far_end(&program)?;
    Ok(halves)
}

/// What both halves need.
#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    /// `CHUNKS` chunks: first those for frames that come.
    memory: *mut u8,
}

// SAFETY: each half only touches chunks of its own, and the kernel those that it was given.
#[allow(unsafe_code)]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

/// The half that sends.
#[derive(Debug)]
pub struct Outgoing {
    shared: Arc<Shared>,
    to_send: Ring<libc::xdp_desc>,
    sent: Ring<u64>,
    /// Chunks that are not the kernel's.
    free: Vec<u64>,
}

/// The half that receives.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
    came: Ring<libc::xdp_desc>,
    free: Ring<u64>,
}

impl Outgoing {
    /// Adds a frame that `write` writes, returning its length; it is sent by [`Outgoing::flush`].
    ///
    /// # Errors
    /// When the interface is down.
    pub fn add(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> io::Result<()> {
        let chunk = loop {
            match self.free.pop() {
                Some(chunk) => break chunk,
                None => self.flush()?,
            }
        };
        // SAFETY: the chunk is ours until it is published, and lies inside the memory.
        #[allow(unsafe_code)]
        let room = unsafe {
            std::slice::from_raw_parts_mut(self.shared.memory.add(chunk as usize), CHUNK)
        };
        let len = write(room).min(CHUNK) as u32;
        // There are as many places as chunks.
        self.to_send.push(libc::xdp_desc { addr: chunk, len, options: 0 });
        Ok(())
    }

    /// Sends what was added.
    ///
    /// # Errors
    /// When the interface is down.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to_send.publish();
        while !self.to_send.is_consumed() {
            // SAFETY: there is no data and no address.
            #[allow(unsafe_code)]
            let result = unsafe {
                let socket = self.shared.socket.as_raw_fd();
                libc::sendto(socket, null_mut(), 0, libc::MSG_DONTWAIT, null_mut(), 0)
            };
            let error = io::Error::last_os_error();
            // The kernel sends some at a time, and asks to come again while the interface is busy.
            let again = [libc::EAGAIN, libc::EBUSY, libc::ENOBUFS, libc::EINTR];
            if result < 0 && !error.raw_os_error().is_some_and(|error| again.contains(&error)) {
                return Err(error);
            }
            self.reclaim();
        }
        self.reclaim();
        Ok(())
    }

    fn reclaim(&mut self) {
        while let Some(chunk) = self.sent.pop() {
            self.free.push(chunk);
        }
        self.sent.release();
    }
}

impl Incoming {
    /// Gives `take` each frame that has come, with the moment when the kernel got it; returns how
    /// many there were.
    pub fn take_all(&mut self, mut take: impl FnMut(&[u8], Nanos)) -> usize {
        let mut taken = 0;
        while let Some(libc::xdp_desc { addr, len, .. }) = self.came.pop() {
            // SAFETY: the kernel has written a stamp and a frame there, inside one of the chunks
            // that were given to it; it is ours until it is given back.
            #[allow(unsafe_code)]
            let (stamp, frame) = unsafe {
                let frame = self.shared.memory.add(addr as usize);
                (frame.sub(STAMP).cast::<u64>(), std::slice::from_raw_parts(frame, len as usize))
            };
            // SAFETY: as above; it need not be aligned.
            #[allow(unsafe_code)]
            let at = unsafe { stamp.read_unaligned() };
            take(frame, at);
            // There are as many places as chunks.
            self.free.push(addr & !(CHUNK as u64 - 1));
            taken += 1;
            if taken % 64 == 0 {
                self.give_back();
            }
        }
        self.give_back();
        taken
    }

    fn give_back(&self) {
        self.free.publish();
        self.came.release();
    }

    /// How many frames found no room since the socket was opened.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn lost(&self) -> io::Result<u64> {
        let statistics: libc::xdp_statistics = get(&self.shared.socket, libc::XDP_STATISTICS)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }
}

fn halves() -> io::Result<(Outgoing, Incoming)> {
    let socket = socket(AddressFamily::XDP, SocketType::RAW, None)?;
    let (length, both) = (CHUNKS * CHUNK, ProtFlags::READ | ProtFlags::WRITE);
    let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
    // SAFETY: the kernel chooses where, so no memory of ours is replaced.
    #[allow(unsafe_code)]
    let memory = unsafe { mmap_anonymous(null_mut(), length, both, flags) }?.cast::<u8>();
    let shared = Arc::new(Shared { socket, memory });
    let socket = &shared.socket;
    let memory = libc::xdp_umem_reg {
        addr: memory as u64,
        len: length as u64,
        chunk_size: CHUNK as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(socket, libc::XDP_UMEM_REG, &memory)?;
    for (ring, entries) in [
        (libc::XDP_UMEM_FILL_RING, INCOMING),
        (libc::XDP_UMEM_COMPLETION_RING, OUTGOING),
        (libc::XDP_RX_RING, INCOMING),
        (libc::XDP_TX_RING, OUTGOING),
    ] {
        set(socket, ring, &entries)?;
    }
    let layout: libc::xdp_mmap_offsets = get(socket, libc::XDP_MMAP_OFFSETS)?;
    let (receive, send) = (libc::XDP_PGOFF_RX_RING as u64, libc::XDP_PGOFF_TX_RING as u64);
    let mut incoming = Incoming {
        came: Ring::map(socket, receive, layout.rx, INCOMING)?,
        free: Ring::map(socket, libc::XDP_UMEM_PGOFF_FILL_RING, layout.fr, INCOMING)?,
        shared: Arc::clone(&shared),
    };
    let chunks = |range: std::ops::Range<usize>| range.map(|number| (number * CHUNK) as u64);
    for chunk in chunks(0..INCOMING as usize) {
        incoming.free.push(chunk);
    }
    incoming.free.publish();
    let outgoing = Outgoing {
        to_send: Ring::map(socket, send, layout.tx, OUTGOING)?,
        sent: Ring::map(socket, libc::XDP_UMEM_PGOFF_COMPLETION_RING, layout.cr, OUTGOING)?,
        free: chunks(INCOMING as usize..CHUNKS).collect(),
        shared: Arc::clone(&shared),
    };
    bind(socket)?;
    Ok((outgoing, incoming))
}

/// Binds to the first queue of `eth0`. A veth device knows no other way than copying.
fn bind(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: the name ends with a zero and outlives the call.
    #[allow(unsafe_code)]
    let interface = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: interface,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: pointer and length describe `address`, which outlives the call.
    #[allow(unsafe_code)]
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(value), size_of::<T>() as libc::socklen_t);
    // SAFETY: pointer and length describe the value, which outlives the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, value.cast::<c_void>(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An option whose value is a structure of numbers.
fn get<T: Copy>(socket: &OwnedFd, name: libc::c_int) -> io::Result<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: all zeros is a value of numbers; pointer and length describe it, and it outlives the
    // call.
    #[allow(unsafe_code)]
    let (result, value) = unsafe {
        let mut value: T = std::mem::zeroed();
        let to = (&raw mut value).cast::<c_void>();
        let length = &raw mut length;
        (libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, to, length), value)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped; both halves are gone, and the kernel keeps the pages for
        // as long as it needs them.
        #[allow(unsafe_code)]
        let _ = unsafe { munmap(self.memory.cast(), CHUNKS * CHUNK) };
    }
}
