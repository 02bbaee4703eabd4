//! Whole Ethernet frames in and out of one interface (`AF_PACKET`).
//!
//! DHCP needs them: a client without an address cannot be reached through the kernel's IP
//! stack, and the frame's source is what a reply to a relay or router goes back to.

use std::io;
use std::mem;
use std::os::fd::AsFd;

use libc::sockaddr_ll;
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::wire::frame::MAX_FRAME;

/// How much may wait for us, in octets: a whole rack's first DISCOVERs arrive at once, and each
/// takes more than a kilobyte in the kernel.
const BUFFER: libc::c_int = 4 << 20;

/// Which frames the kernel hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// UDP over IPv4 to this port; no fragments, no VLAN-tagged frames.
    UdpPort(u16),
    /// ARP.
    Arp,
}

/// A socket that receives the frames that pass its filter and sends any frame, on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: AsyncFd<Socket>,
}

impl PacketSocket {
    /// Opens the socket on the interface with this index.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when the interface is gone.
    pub fn open(interface: u32, filter: Filter) -> io::Result<Self> {
        // No protocol yet: frames that arrive before the filter is in place are not wanted.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&filter.program())?;
        // Frames that this machine itself sends are not for us.
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        // The system's limit, some 300 frames by default, holds for those without CAP_NET_ADMIN.
        if set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER).is_err() {
            socket.set_recv_buffer_size(BUFFER as usize)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&link_address(interface, filter.protocol())?)?;
        // SAFETY: the socket owns its descriptor and keeps it open until it is dropped with `Self`.
        #[allow(unsafe_code)]
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket })
    }

    /// Waits for a frame and writes it to `frame`; the returned slice is the frame.
    ///
    /// # Errors
    /// `ENETDOWN` when the interface goes down; the socket goes on working once it is up again.
    pub async fn receive<'a>(&self, frame: &'a mut [u8; MAX_FRAME]) -> io::Result<&'a [u8]> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|_| self.read(frame)) {
                Ok(Ok(length)) => return Ok(frame.get(..length).unwrap_or_default()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// As [`PacketSocket::receive`], without waiting: none when nothing has come, or on an error,
    /// which the next call of that will tell.
    pub fn try_receive<'a>(&self, frame: &'a mut [u8; MAX_FRAME]) -> Option<&'a [u8]> {
        let length = self.read(frame).ok()?;
        frame.get(..length)
    }

    fn read(&self, frame: &mut [u8; MAX_FRAME]) -> io::Result<usize> {
        let flags = rustix::net::RecvFlags::empty();
        let (_, length) = rustix::net::recv(self.socket.get_ref().as_fd(), &mut frame[..], flags)?;
        Ok(length)
    }

    /// Sends a whole frame.
    ///
    /// # Errors
    /// When the interface is down or the frame is longer than its MTU allows.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            match ready.try_io(|socket| socket.get_ref().send(frame)) {
                Ok(sent) => return sent.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

impl Filter {
    fn protocol(self) -> u16 {
        let ethertype = match self {
            Self::UdpPort(_) => libc::ETH_P_IP,
            Self::Arp => libc::ETH_P_ARP,
        };
        u16::try_from(ethertype).unwrap_or_default()
    }

    /// The filter as a classic BPF program: what it does not take never wakes us.
    fn program(self) -> Vec<SockFilter> {
        // The kernel has taken a VLAN tag out of the frame and keeps it beside it.
        const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;
        let mut program = vec![load(libc::BPF_W | libc::BPF_ABS, VLAN_TAG_PRESENT), must_be(0)];
        if let Self::UdpPort(port) = self {
            program.extend([
                load(libc::BPF_B | libc::BPF_ABS, 23),
                must_be(PROTOCOL_UDP),
                // More-fragments bit or an offset: a fragment.
                load(libc::BPF_H | libc::BPF_ABS, 20),
                (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0x3fff),
                must_be(0),
                // The UDP header follows an IPv4 header of variable length.
                (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 14),
                load(libc::BPF_H | libc::BPF_IND, 16),
                must_be(u32::from(port)),
            ]);
        }
        program.push((libc::BPF_RET | libc::BPF_K, MAX_FRAME as u32));
        program.push((libc::BPF_RET | libc::BPF_K, 0));
        assemble(&program)
    }
}

const PROTOCOL_UDP: u32 = 17;

/// Operation code and operand.
type Instruction = (u32, u32);

fn load(how: u32, offset: u32) -> Instruction {
    (libc::BPF_LD | how, offset)
}

/// Goes on when the accumulator holds `value`, else drops the frame.
fn must_be(value: u32) -> Instruction {
    (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
}

/// Every comparison that fails jumps to the last instruction, which drops the frame.
fn assemble(program: &[Instruction]) -> Vec<SockFilter> {
    let distances = (0..program.len()).rev();
    program
        .iter()
        .zip(distances)
        .map(|(&(code, operand), to_last)| {
            let on_failure = if code & 0x07 == libc::BPF_JMP { to_last - 1 } else { 0 };
            SockFilter::new(code as u16, 0, on_failure as u8, operand)
        })
        .collect()
}

fn link_address(interface: u32, protocol: u16) -> io::Result<SockAddr> {
    // SAFETY: `try_init` hands over zeroed storage that is large and aligned enough for every
    // address family; all bit patterns are valid for `sockaddr_ll`, and the length that is
    // reported is that of what was written.
    #[allow(unsafe_code)]
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<sockaddr_ll>();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol.to_be();
            address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
            *length = mem::size_of::<sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

fn set_option(socket: &Socket, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
