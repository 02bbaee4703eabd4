//! Many TFTP clients in one thread (RFC 1350, 2347 to 2349, 7440), which check every octet that
//! they get and can lose packets, on purpose.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{Timespec, epoll};

use super::cpu;
use super::tftp_client::{ABORT, Client, LARGEST_BLOCK, OACK, State, granted, request, word};
use crate::lab::netns::Netns;

/// Octets in a block: what fits in an Ethernet frame with room for a tunnel.
pub const BLOCK_SIZE: usize = 1428;
/// How often the clients look at the time.
const TICK: Duration = Duration::from_millis(10);

/// What to download, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Where the server takes requests.
    pub server: SocketAddr,
    /// The file's name.
    pub file: &'a str,
    /// What must be in it.
    pub content: &'a [u8],
    /// Octets in a block, at most 1468.
    pub block_size: usize,
    /// How many clients ask for it at the same time.
    pub clients: usize,
    /// How many blocks they ask to acknowledge at a time; a server may grant fewer.
    pub window: u16,
    /// The share of blocks, and of acknowledgements, that is lost; 0.01 is one in a hundred.
    pub loss: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// Until the last client was done.
    pub time: Duration,
    /// Octets of the files that arrived whole.
    pub octets: u64,
    /// Blocks that reached the clients, also those that they lost.
    pub blocks: u64,
    /// Blocks that the clients that got the whole file had to have.
    pub needed: u64,
    /// Why clients failed, one of them each.
    pub failures: Vec<String>,
}

/// Lets clients inside a network namespace and on these CPUs download a file, each once.
///
/// # Errors
/// When a server sends what is not in the file.
pub fn run(netns: &Netns, cpus: Range<usize>, load: &Load<'_>) -> Result<Got> {
    netns.inside(|| {
        cpu::keep_this_to(cpus)?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut rng = fastrand::Rng::with_seed(1350);
        let start = Instant::now();
        let mut clients = Vec::new();
        for number in 0..load.clients {
            let client = Client::start(Ipv4Addr::UNSPECIFIED, load, start)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&ready, &client, data, epoll::EventFlags::IN)?;
            clients.push(client);
        }
        let mut got = Got::default();
        let mut events = Vec::with_capacity(256);
        let (mut under_way, mut looked) = (clients.len(), start);
        while under_way > 0 {
            events.clear();
            let patience = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as _ };
            epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
            let now = Instant::now();
            for event in &events {
                let Some(client) = clients.get_mut(event.data.u64() as usize) else { continue };
                let was = client.state().is_over();
                got.blocks += client.take(load, &mut rng, now)?;
                under_way -= usize::from(!was && client.state().is_over());
            }
            if now - looked >= TICK {
                looked = now;
                for client in clients.iter_mut().filter(|client| !client.state().is_over()) {
                    client.look(load, &mut rng, now);
                    under_way -= usize::from(client.state().is_over());
                }
            }
        }
        got.time = start.elapsed();
        for client in clients {
            match client.state() {
                State::Failed(why) => got.failures.push(why.clone()),
                _ => {
                    got.octets += load.content.len() as u64;
                    got.needed += client.blocks() as u64;
                }
            }
        }
        Ok(got)
    })
}

/// Asks for a file's options, then ends the transfer with an error, as EDK2 does to learn the
/// file's size. Returns the window that was granted and a socket on which the server may go on.
///
/// # Errors
/// When no options come within a second.
pub fn probe(netns: &Netns, load: &Load<'_>) -> Result<(u16, UdpSocket)> {
    netns.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send_to(&request(load), load.server)?;
        let mut packet = [0; LARGEST_BLOCK + 4];
        let (length, peer) = socket.recv_from(&mut packet).context("no answer by TFTP")?;
        let packet = packet.get(..length).unwrap_or_default();
        ensure!(word(packet, 0) == Some(OACK), "a TFTP server grants no options: {packet:?}");
        socket.send_to(ABORT, peer)?;
        Ok((granted(packet, "windowsize").unwrap_or(1), socket))
    })
}

/// How many packets still come to a client that has left, in so much time.
///
/// # Errors
/// When the socket fails.
pub fn late_packets(client: &UdpSocket, time: Duration) -> Result<u64> {
    let (end, mut packets) = (Instant::now() + time, 0);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(packets);
        }
        client.set_read_timeout(Some(left))?;
        match client.recv(&mut [0; 4]) {
            Ok(_) => packets += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("a TFTP client's socket"),
        }
    }
}
