//! Packets off a socket, as many at a time as have come.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};

use crate::time::BootTime;

/// The most packets that are taken at a time.
const BATCH: usize = 32;
/// The longest packet that a client sends us after its request, in octets.
const LONGEST_PACKET: usize = 600;

/// Room for packets.
pub(super) struct Receiver {
    headers: MultiHeaders<SockaddrIn>,
    buffers: Box<[[u8; LONGEST_PACKET]; BATCH]>,
    /// Who sent the packets that came last, and how long they are.
    senders: Vec<(Option<SocketAddrV4>, usize)>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; LONGEST_PACKET]; BATCH]),
            senders: Vec::with_capacity(BATCH),
        }
    }

    /// The next packets: sleeps until there is one, but not before `awake`.
    ///
    /// # Errors
    /// When none has come within the socket's timeout, and those of the socket.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        awake: BootTime,
    ) -> io::Result<impl Iterator<Item = (SocketAddrV4, &[u8])>> {
        while BootTime::now() < awake {
            match self.take(socket, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => thread::yield_now(),
                taken => return Ok(taken.map(|()| self.packets())?),
            }
        }
        self.take(socket, MsgFlags::MSG_WAITFORONE)?;
        Ok(self.packets())
    }

    fn take(&mut self, socket: &UdpSocket, flags: MsgFlags) -> nix::Result<()> {
        self.senders.clear();
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let taken =
            recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None)?;
        let sender = |address: SockaddrIn| SocketAddrV4::new(address.ip(), address.port());
        self.senders.extend(taken.map(|packet| (packet.address.map(sender), packet.bytes)));
        Ok(())
    }

    fn packets(&self) -> impl Iterator<Item = (SocketAddrV4, &[u8])> {
        self.senders.iter().zip(self.buffers.iter()).filter_map(|((sender, length), buffer)| {
            Some(((*sender)?, buffer.get(..*length).unwrap_or_default()))
        })
    }
}
