//! Transfers under way: a thread with a socket for all of its clients.
//!
//! A client waits for every block, or for every few, so what counts is how soon an
//! acknowledgement is answered: the thread waits in the kernel for the next packet, answers it
//! with one system call, however many blocks that sends, and has nothing to hand to anybody else.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, setsockopt, sockopt};
use tracing::{debug, info};

use super::receiver::Receiver;
use crate::decisions::tftp::transfer::{Step, Terms, Transfer};
use crate::time::BootTime;
use crate::wire::tftp::{Packet, data_head, oack};

/// The most transfers of one thread. Requests may be forged, and each costs a few hundred octets.
const TRANSFERS: usize = 2048;
/// How often the thread looks for clients that have fallen silent, with and without transfers.
const BUSY: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_millis(250);
/// How long a single client is waited for without sleep: to be woken takes longer than many a client
/// takes to answer.
const AWAKE: Duration = Duration::from_micros(150);

/// Octets of packets that may wait in the kernel in each direction.
const BUFFER: usize = 4 << 20;

/// Too many transfers are under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy;

/// The thread and what it works on; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    transfers: Mutex<HashMap<SocketAddrV4, Active>>,
    ends: AtomicBool,
    /// Whether the kernel cuts one long packet into many (`UDP_SEGMENT`).
    segments: AtomicBool,
}

#[derive(Debug)]
struct Active {
    transfer: Transfer,
    terms: Terms,
    content: Arc<[u8]>,
}

impl Worker {
    /// Starts the thread, with a port that the kernel chooses: RFC 1350 wants another one than
    /// that of the request.
    ///
    /// # Errors
    /// When the system has no socket or thread left.
    pub(super) fn start(own: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddrV4::new(own, 0))?;
        enlarge_buffers(&socket);
        let shared = Arc::new(Shared {
            socket,
            transfers: Mutex::default(),
            ends: AtomicBool::new(false),
            segments: AtomicBool::new(true),
        });
        let of_thread = shared.clone();
        let work = move || of_thread.work();
        let thread = thread::Builder::new().name("tftp".to_owned()).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins a transfer; a client that asks again from the same port begins anew, unless it is in
    /// the middle of that transfer.
    pub(super) fn begin(
        &self,
        now: BootTime,
        client: SocketAddrV4,
        terms: Terms,
        content: Arc<[u8]>,
    ) -> Result<(), Busy> {
        let (transfer, first) = Transfer::start(now, &terms, content.len() as u64);
        let active = Active { transfer, terms, content };
        let mut transfers = self.shared.transfers();
        let repeats = |under_way: &Active| {
            Arc::ptr_eq(&under_way.content, &active.content)
                && under_way.terms == active.terms
                && under_way.transfer.is_lively(now)
        };
        if transfers.get(&client).is_some_and(repeats) {
            return Ok(());
        }
        if transfers.len() >= TRANSFERS && !transfers.contains_key(&client) {
            return Err(Busy);
        }
        self.shared.send(client, &active, &first);
        transfers.insert(client, active);
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes room for the packets of a rack. Without the right to, the kernel's limit must do.
fn enlarge_buffers(socket: &UdpSocket) {
    let sent = setsockopt(socket, sockopt::SndBufForce, &BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::SndBuf, &BUFFER));
    let received = setsockopt(socket, sockopt::RcvBufForce, &BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &BUFFER));
    if let Err(error) = sent.and(received) {
        debug!(%error, "cannot enlarge the TFTP buffers");
    }
}

impl Shared {
    fn transfers(&self) -> MutexGuard<'_, HashMap<SocketAddrV4, Active>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut receiver = Receiver::new();
        let mut looked = BootTime::now();
        let mut patience = None;
        // Whether there is one client, and it answered that soon.
        let mut is_prompt = false;
        while !self.ends.load(Ordering::Relaxed) {
            let count = self.transfers().len();
            let wanted = if count == 0 { IDLE } else { BUSY };
            if patience != Some(wanted) {
                patience = self.socket.set_read_timeout(Some(wanted)).ok().map(|()| wanted);
            }
            let since = BootTime::now();
            let awake = if is_prompt { since + AWAKE } else { since };
            let received = receiver.receive(&self.socket, awake);
            let now = BootTime::now();
            is_prompt = count == 1 && now.since(since) < AWAKE;
            for (client, packet) in received.into_iter().flatten() {
                self.on_packet(now, client, packet);
            }
            if now.since(looked) >= BUSY {
                looked = now;
                self.look(now);
            }
        }
    }

    fn on_packet(&self, now: BootTime, client: SocketAddrV4, packet: &[u8]) {
        let mut transfers = self.transfers();
        // Late packets of a transfer that is over are common.
        let Some(active) = transfers.get_mut(&client) else { return };
        match Packet::parse(packet) {
            Ok(Packet::Ack(block)) => match active.transfer.on_ack(now, block) {
                Step::Done => {
                    debug!(%client, "TFTP transfer complete");
                    transfers.remove(&client);
                }
                step => self.send(client, active, &step),
            },
            // Firmware ends so when all that it wanted was the file's size.
            Ok(Packet::Error(code)) => {
                debug!(%client, code, "TFTP transfer ended by the client");
                transfers.remove(&client);
            }
            Ok(Packet::Request(_)) => {}
            Err(error) => debug!(%client, %error, "malformed TFTP packet dropped"),
        }
    }

    /// Sends again what was not answered in time.
    fn look(&self, now: BootTime) {
        self.transfers().retain(|client, active| match active.transfer.on_time(now) {
            Step::GivenUp => {
                info!(%client, "TFTP client fell silent");
                false
            }
            step => {
                self.send(*client, active, &step);
                true
            }
        });
    }

    fn send(&self, client: SocketAddrV4, active: &Active, step: &Step) {
        let sent = match step {
            Step::Options => self.socket.send_to(&oack(&active.terms.granted), client).map(drop),
            Step::Blocks(blocks) => self.send_blocks(client, active, blocks.clone()),
            Step::Nothing | Step::Done | Step::GivenUp => Ok(()),
        };
        // It is sent again when its time comes.
        if let Err(error) = sent {
            debug!(%client, %error, "cannot send");
        }
    }

    fn send_blocks(
        &self,
        client: SocketAddrV4,
        active: &Active,
        blocks: RangeInclusive<u64>,
    ) -> io::Result<()> {
        let size = usize::from(active.terms.block_size);
        let (first, last) = (*blocks.start(), *blocks.end());
        // The number of a block has two octets, whatever the file's length.
        let heads: Vec<[u8; 4]> = blocks.map(|block| data_head(block as u16)).collect();
        let from = usize::try_from(first - 1).unwrap_or(usize::MAX).saturating_mul(size);
        let data = active.content.get(from..).unwrap_or_default();
        let count = usize::try_from(last - first + 1).unwrap_or(0);
        // The last block of a file may be empty.
        let pieces = data.chunks(size.max(1)).chain([&[][..]]).take(count);
        let packets: Vec<[IoSlice<'_>; 2]> = heads
            .iter()
            .zip(pieces)
            .map(|(head, piece)| [IoSlice::new(head), IoSlice::new(piece)])
            .collect();
        if packets.len() > 1 && self.segments.load(Ordering::Relaxed) {
            match self.send_packet(client, packets.as_flattened(), u16::try_from(size + 4).ok()) {
                // A device that cannot sum up packets cannot cut them either.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    self.segments.store(false, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        packets.iter().try_for_each(|packet| self.send_packet(client, packet, None))
    }

    /// Sends one packet, or as many as `segment` octets in each make.
    fn send_packet(
        &self,
        client: SocketAddrV4,
        pieces: &[IoSlice<'_>],
        segment: Option<u16>,
    ) -> io::Result<()> {
        let segment = segment.as_ref().map(ControlMessage::UdpGsoSegments);
        let (flags, address) = (MsgFlags::MSG_DONTWAIT, SockaddrIn::from(client));
        sendmsg(self.socket.as_raw_fd(), pieces, segment.as_slice(), flags, Some(&address))?;
        Ok(())
    }
}
