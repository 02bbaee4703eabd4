//! Many TFTP clients in one thread (RFC 1350, 2347 to 2349, 7440), which check every octet that
//! they get and can lose packets, on purpose.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{Timespec, epoll};

use crate::lab::netns::Netns;

/// Octets in a block: what fits in an Ethernet frame with room for a tunnel.
pub const BLOCK_SIZE: usize = 1428;
/// How long a client waits until it sends again; twice as long each time, as iPXE's does.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// When a client that gets nothing new gives up.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the clients look at the time.
const TICK: Duration = Duration::from_millis(10);
/// The most packets that are taken off a socket before it is the next client's turn.
const AT_ONCE: usize = 64;

const DATA: u16 = 3;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// What to download, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Where the server takes requests.
    pub server: SocketAddr,
    /// The file's name.
    pub file: &'a str,
    /// What must be in it.
    pub content: &'a [u8],
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

/// Lets clients inside a network namespace download a file, each once.
///
/// # Errors
/// When a server sends what is not in the file.
pub fn run(netns: &Netns, load: &Load<'_>) -> Result<Got> {
    netns.inside(|| {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut rng = fastrand::Rng::with_seed(1350);
        let start = Instant::now();
        let mut clients = Vec::new();
        for number in 0..load.clients {
            let client = Client::start(load, start)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&ready, &client.socket, data, epoll::EventFlags::IN)?;
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
                let was = client.state.is_over();
                got.blocks += client.take(load, &mut rng, now)?;
                under_way -= usize::from(!was && client.state.is_over());
            }
            if now - looked >= TICK {
                looked = now;
                for client in clients.iter_mut().filter(|client| !client.state.is_over()) {
                    client.look(load, &mut rng, now);
                    under_way -= usize::from(client.state.is_over());
                }
            }
        }
        got.time = start.elapsed();
        for client in clients {
            match client.state {
                State::Failed(why) => got.failures.push(why),
                _ => {
                    got.octets += load.content.len() as u64;
                    got.needed += blocks_of(load.content.len()) as u64;
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
        let mut packet = [0; BLOCK_SIZE + 4];
        let (length, peer) = socket.recv_from(&mut packet).context("no answer by TFTP")?;
        let packet = packet.get(..length).unwrap_or_default();
        ensure!(word(packet, 0) == Some(OACK), "a TFTP server grants no options: {packet:?}");
        // "User aborted the transfer."
        socket.send_to(b"\0\x05\0\x08\0", peer)?;
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

/// How many blocks a file has: the last one is shorter than the others, maybe empty.
fn blocks_of(length: usize) -> usize {
    length / BLOCK_SIZE + 1
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The request is not answered yet.
    Asking,
    /// Blocks come from the server's other port.
    Receiving,
    /// It has the whole file, and acknowledges the last block as often as that comes.
    Done,
    Failed(String),
}

impl State {
    fn is_over(&self) -> bool {
        matches!(self, State::Done | State::Failed(_))
    }
}

struct Client {
    socket: UdpSocket,
    state: State,
    /// The last block that came in order, of how many.
    last: usize,
    blocks: usize,
    /// How many blocks are acknowledged at a time.
    window: u16,
    /// Blocks in order since the last acknowledgement.
    unacknowledged: u16,
    /// Whether the server was told that a block was missing, and has not sent it yet.
    complained: bool,
    news_at: Instant,
    sent_at: Instant,
    wait: Duration,
}

impl Client {
    fn start(load: &Load<'_>, now: Instant) -> Result<Client> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_nonblocking(true)?;
        socket.send_to(&request(load), load.server)?;
        Ok(Client {
            socket,
            state: State::Asking,
            last: 0,
            blocks: blocks_of(load.content.len()),
            window: 1,
            unacknowledged: 0,
            complained: false,
            news_at: now,
            sent_at: now,
            wait: FIRST_WAIT,
        })
    }

    /// Takes what has come until there is something to answer; returns how many blocks that were.
    fn take(&mut self, load: &Load<'_>, rng: &mut fastrand::Rng, now: Instant) -> Result<u64> {
        let (mut packet, mut blocks) = ([0; BLOCK_SIZE + 4], 0);
        for _ in 0..AT_ONCE {
            let received = match self.state {
                State::Asking => self.socket.recv_from(&mut packet).and_then(|(length, peer)| {
                    self.socket.connect(peer)?;
                    Ok(length)
                }),
                _ => self.socket.recv(&mut packet),
            };
            let packet = match received {
                Ok(length) => packet.get(..length).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fail(&error.to_string());
                    break;
                }
            };
            let answers = match (word(packet, 0), word(packet, 2)) {
                (Some(DATA), Some(block)) => {
                    blocks += 1;
                    let lost = rng.f64() < load.loss;
                    !lost && self.on_block(load, block, packet.get(4..).unwrap_or_default(), now)?
                }
                (Some(OACK), _) => self.on_options(load.window, packet, now),
                (Some(ERROR), code) => {
                    let text = String::from_utf8_lossy(packet.get(4..).unwrap_or_default());
                    self.fail(&format!("error {}: {text}", code.unwrap_or_default()));
                    false
                }
                _ => bail!("a TFTP server sends {packet:?}"),
            };
            if answers {
                self.acknowledge(load, rng, now);
                break;
            }
        }
        Ok(blocks)
    }

    /// Whether the granted options are to be taken up.
    fn on_options(&mut self, most: u16, packet: &[u8], now: Instant) -> bool {
        let (block_size, window) = (granted(packet, "blksize"), granted(packet, "windowsize"));
        self.window = window.unwrap_or(1);
        if block_size != Some(BLOCK_SIZE as u16) || !(1..=most).contains(&self.window) {
            self.fail(&format!("granted blocks of {block_size:?} octets, {window:?} at a time"));
            return false;
        }
        if self.state == State::Asking {
            self.state = State::Receiving;
            (self.news_at, self.wait) = (now, FIRST_WAIT);
        }
        self.state == State::Receiving && self.last == 0
    }

    /// Checks a block that has come; says whether that is to be acknowledged.
    fn on_block(&mut self, load: &Load<'_>, block: u16, data: &[u8], now: Instant) -> Result<bool> {
        match self.state {
            // The server resends what it got no acknowledgement of: that one was lost.
            State::Done => return Ok(usize::from(block) == self.blocks & 0xffff),
            State::Failed(_) => return Ok(false),
            State::Asking | State::Receiving => {}
        }
        if usize::from(block) != (self.last + 1) & 0xffff {
            // RFC 7440 section 4: say once where the gap is; all that is under way comes in vain.
            let ahead = block.wrapping_sub(self.last as u16);
            let gap = (1..=self.window).contains(&ahead) && !self.complained;
            self.complained |= gap;
            // The end of a window that has come already: its acknowledgement was lost.
            return Ok(gap || (ahead == 0 && self.last > 0));
        }
        let from = self.last * BLOCK_SIZE;
        let to = (from + BLOCK_SIZE).min(load.content.len());
        ensure!(load.content.get(from..to) == Some(data), "block {block} is not the file's");
        self.last += 1;
        self.unacknowledged += 1;
        self.complained = false;
        (self.news_at, self.wait) = (now, FIRST_WAIT);
        if self.last == self.blocks {
            self.state = State::Done;
        }
        Ok(self.state == State::Done || self.unacknowledged >= self.window)
    }

    /// Sends again, or gives up, when nothing has come for too long.
    fn look(&mut self, load: &Load<'_>, rng: &mut fastrand::Rng, now: Instant) {
        if now.duration_since(self.news_at) >= PATIENCE {
            let (last, blocks) = (self.last, self.blocks);
            self.fail(&format!("silence after block {last} of {blocks}"));
        } else if now.duration_since(self.news_at.max(self.sent_at)) >= self.wait {
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            match self.state {
                State::Asking => {
                    self.sent_at = now;
                    let _ = self.socket.send_to(&request(load), load.server);
                }
                _ => self.acknowledge(load, rng, now),
            }
        }
    }

    fn acknowledge(&mut self, load: &Load<'_>, rng: &mut fastrand::Rng, now: Instant) {
        self.unacknowledged = 0;
        self.sent_at = now;
        if rng.f64() < load.loss {
            return;
        }
        let [high, low] = (self.last as u16).to_be_bytes();
        // What cannot be sent now is sent when its time comes.
        let _ = self.socket.send(&[0, 4, high, low]);
    }

    /// A client that has all it wants does not care.
    fn fail(&mut self, why: &str) {
        if !self.state.is_over() {
            self.state = State::Failed(why.to_owned());
        }
    }
}

fn request(load: &Load<'_>) -> Vec<u8> {
    let mut packet = format!("\0\x01{}\0octet\0tsize\x000\0blksize\0{BLOCK_SIZE}\0", load.file);
    if load.window > 1 {
        packet.push_str(&format!("windowsize\0{}\0", load.window));
    }
    packet.into_bytes()
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}

/// The value of an option that the server confirms.
fn granted(packet: &[u8], option: &str) -> Option<u16> {
    let mut texts = packet.get(2..)?.split(|octet| *octet == 0).map(String::from_utf8_lossy);
    loop {
        let (name, value) = (texts.next()?, texts.next()?);
        if name.eq_ignore_ascii_case(option) {
            return value.parse().ok();
        }
    }
}
