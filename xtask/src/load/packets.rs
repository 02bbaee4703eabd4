//! Thousands of frames a second in and out of an interface (packet(7)), whatever else is on it.
//!
//! They are sent many at a time, and received into a ring of memory that the kernel shares with
//! us.

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use crate::lab::Host;

/// What a frame takes in the ring; longer ones are cut short.
const SLOT: usize = 1024;
const BLOCK: usize = 1 << 16;
const BLOCKS: usize = 128;
const SLOTS: usize = BLOCKS * BLOCK / SLOT;

/// A packet socket on `eth0` of a host that receives what DHCP servers send.
#[derive(Debug)]
pub struct Packets {
    socket: Socket,
    ring: Ring,
    /// The slot that the next frame comes in.
    next: usize,
}

impl Packets {
    /// Opens it.
    ///
    /// # Errors
    /// Without root.
    pub fn open(host: &Host) -> Result<Packets> {
        Packets::open_by(host, libc::ETH_P_IP, &replies())
    }

    /// As [`Packets::open`]; it receives ARP, too.
    ///
    /// # Errors
    /// Without root.
    pub fn open_with_arp(host: &Host) -> Result<Packets> {
        let filter: Vec<SockFilter> = arp().into_iter().chain(replies()).collect();
        Packets::open_by(host, libc::ETH_P_ALL, &filter)
    }

    fn open_by(host: &Host, protocol: i32, filter: &[SockFilter]) -> Result<Packets> {
        let open = || open(protocol, filter).context("cannot open a packet socket on eth0");
        host.netns().inside(open)
    }

    /// Sends frames, in order.
    ///
    /// # Errors
    /// When the interface is down.
    pub fn send(&self, frames: &[&[u8]]) -> io::Result<()> {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast::<c_void>().cast_mut(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all zeros is a message without a name and without control data.
                #[allow(unsafe_code)]
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let mut rest = messages.as_mut_slice();
        while !rest.is_empty() {
            // SAFETY: each message points to a part, and each part to a frame; all outlive the
            // call, which only reads the frames.
            #[allow(unsafe_code)]
            let sent = unsafe {
                libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0)
            };
            match usize::try_from(sent) {
                Ok(sent) => rest = rest.split_at_mut_checked(sent).unwrap_or_default().1,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    let full = error.raw_os_error() == Some(libc::ENOBUFS);
                    if !full && error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the next frame that came, if one did.
    pub fn receive<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.receive_timed(|frame, _| take(frame))
    }

    /// As [`Packets::receive`], with the time at which the kernel got the frame.
    pub fn receive_timed<T>(&mut self, take: impl FnOnce(&[u8], SystemTime) -> T) -> Option<T> {
        let (frame, time) = self.ring.frame(self.next)?;
        let taken = take(frame, time);
        self.ring.give_back(self.next);
        self.next = (self.next + 1) % SLOTS;
        Some(taken)
    }

    /// Waits until a frame comes or `milliseconds` have passed.
    pub fn wait(&self, milliseconds: u16) {
        let mut poll =
            libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: there is one entry, and it outlives the call.
        #[allow(unsafe_code)]
        unsafe {
            libc::poll(&raw mut poll, 1, i32::from(milliseconds))
        };
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(protocol: i32, filter: &[SockFilter]) -> io::Result<Packets> {
    // No protocol yet: nothing is received before the filter and the ring are in place.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.attach_filter(filter)?;
    set(&socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as libc::c_int))?;
    // Frames that we send are not for us, and need no queue on their way.
    set(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    set(&socket, libc::PACKET_QDISC_BYPASS, &1_i32)?;
    let request = libc::tpacket_req {
        tp_block_size: BLOCK as u32,
        tp_block_nr: BLOCKS as u32,
        tp_frame_size: SLOT as u32,
        tp_frame_nr: SLOTS as u32,
    };
    set(&socket, libc::PACKET_RX_RING, &request)?;
    let ring = Ring::map(&socket)?;
    let name = CString::new("eth0")?;
    // SAFETY: the name ends with a zero and outlives the call.
    #[allow(unsafe_code)]
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    socket.bind(&address(index, protocol)?)?;
    Ok(Packets { socket, ring, next: 0 })
}

/// The instruction that loads what is in the frame at `at`.
fn load(how: u32, at: u32) -> SockFilter {
    SockFilter::new((libc::BPF_LD | libc::BPF_ABS | how) as u16, 0, 0, at)
}

/// What stands before [`replies`] to take ARP, too: it jumps to where a frame is taken.
fn arp() -> [SockFilter; 2] {
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    [load(libc::BPF_H, 12), SockFilter::new(equal, 4, 0, libc::ETH_P_ARP as u32)]
}

/// The filter that takes UDP from port 67 behind an IPv4 header of 20 octets.
fn replies() -> [SockFilter; 6] {
    let must_be = |value, otherwise| {
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, otherwise, value)
    };
    let end = |take| SockFilter::new(libc::BPF_RET as u16, 0, 0, take);
    [
        load(libc::BPF_B, 23),
        must_be(17, 3),
        load(libc::BPF_H, 34),
        must_be(67, 1),
        end(SLOT as u32),
        end(0),
    ]
}

fn address(interface: u32, protocol: i32) -> io::Result<SockAddr> {
    // SAFETY: `try_init` hands over zeroed storage that is large and aligned enough for every
    // address family; all bit patterns are valid for `sockaddr_ll`, and the length that is
    // reported is that of what was written.
    #[allow(unsafe_code)]
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<libc::sockaddr_ll>();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (protocol as u16).to_be();
            address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

fn set<T>(socket: &Socket, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which outlives the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The memory shared with the kernel: slots that belong to one side at a time, by their status.
#[derive(Debug)]
struct Ring {
    memory: *mut u8,
}

// SAFETY: the memory belongs to this value alone, and none of it to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Ring {}

impl Ring {
    fn map(socket: &Socket) -> io::Result<Ring> {
        let (both, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses where, so no memory of ours is replaced.
        #[allow(unsafe_code)]
        let memory = unsafe { mmap(std::ptr::null_mut(), SLOTS * SLOT, both, flags, socket, 0) }?;
        Ok(Ring { memory: memory.cast() })
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        // SAFETY: `slot` is below `SLOTS`, so its header lies in the memory, aligned; the status
        // is its first field, and both sides only access it atomically.
        #[allow(unsafe_code)]
        unsafe {
            AtomicU32::from_ptr(self.memory.add(slot * SLOT).cast())
        }
    }

    fn frame(&self, slot: usize) -> Option<(&[u8], SystemTime)> {
        let status = self.status(slot).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot is ours until its status is set back. The kernel has written a header
        // there, and the frame at the offset and of the length that it says, inside the slot.
        #[allow(unsafe_code)]
        let (frame, since) = unsafe {
            let start = self.memory.add(slot * SLOT);
            let header = &*start.cast::<libc::tpacket2_hdr>();
            let (at, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
            let frame = std::slice::from_raw_parts(start.add(at), length.min(SLOT - at));
            (frame, Duration::new(header.tp_sec.into(), header.tp_nsec))
        };
        Some((frame, UNIX_EPOCH + since))
    }

    fn give_back(&self, slot: usize) {
        self.status(slot).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and no reference to it outlives the value.
        #[allow(unsafe_code)]
        let _ = unsafe { munmap(self.memory.cast(), SLOTS * SLOT) };
    }
}
