//! One TFTP client, which checks every octet that it gets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::tftp::Load;

/// The most octets in a block: those of UEFI's client.
pub(super) const LARGEST_BLOCK: usize = 1468;
/// How long a client waits until it sends again; twice as long each time, as iPXE's does.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// When a client that gets nothing new gives up.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most packets that are taken off a socket before it is the next client's turn.
const AT_ONCE: usize = 64;

/// An ERROR: the options will not do (RFC 2347).
pub(super) const ABORT: &[u8] = b"\0\x05\0\x08\0";
const DATA: u16 = 3;
const ERROR: u16 = 5;
pub(super) const OACK: u16 = 6;

/// How far a client is.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// The request is not answered yet.
    Asking,
    /// Blocks come from the server's other port.
    Receiving,
    /// It has the whole file, and acknowledges the last block as often as that comes.
    Done,
    /// It gave up.
    Failed(String),
}

impl State {
    /// Whether it wants nothing more.
    pub fn is_over(&self) -> bool {
        matches!(self, State::Done | State::Failed(_))
    }
}

/// One client.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
    state: State,
    /// Whether it only wants to know the file's size.
    only_size: bool,
    /// How often it has sent something again.
    resent: u32,
    /// What is granted.
    block_size: usize,
    window: u16,
    /// The last block that came in order, of how many.
    last: usize,
    blocks: usize,
    /// Blocks in order since the last acknowledgement.
    unacknowledged: u16,
    /// Whether the server was told that a block was missing, and has not sent it yet.
    complained: bool,
    news_at: Instant,
    sent_at: Instant,
    wait: Duration,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    /// Sends the request from a new socket at this address.
    ///
    /// # Errors
    /// When the host has no such address.
    pub fn start(at: Ipv4Addr, load: &Load<'_>, now: Instant) -> Result<Client> {
        let socket = UdpSocket::bind((at, 0))?;
        socket.set_nonblocking(true)?;
        socket.send_to(&request(load), load.server)?;
        Ok(Client {
            socket,
            state: State::Asking,
            only_size: false,
            resent: 0,
            block_size: load.block_size,
            window: load.window,
            last: 0,
            blocks: load.content.len() / load.block_size + 1,
            unacknowledged: 0,
            complained: false,
            news_at: now,
            sent_at: now,
            wait: FIRST_WAIT,
        })
    }

    /// Lets it leave with an error once it knows the file's size, as UEFI's client does at first.
    #[must_use]
    pub fn for_the_size(self) -> Client {
        Client { only_size: true, ..self }
    }

    /// How far it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many blocks the file has: the last one is shorter than the others, maybe empty.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// How often it has sent something again.
    pub fn resent(&self) -> u32 {
        self.resent
    }

    /// Takes what has come until there is something to answer; returns how many blocks that were.
    ///
    /// # Errors
    /// When the server sends what is not in the file.
    pub fn take(&mut self, load: &Load<'_>, rng: &mut fastrand::Rng, now: Instant) -> Result<u64> {
        let (mut packet, mut blocks) = ([0; LARGEST_BLOCK + 4], 0);
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
                (Some(OACK), _) => self.on_options(load, packet, now),
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
    fn on_options(&mut self, load: &Load<'_>, packet: &[u8], now: Instant) -> bool {
        // A server may grant less than was asked for, and no window at all.
        let window = granted(packet, "windowsize").unwrap_or(1);
        let block_size = granted(packet, "blksize").map_or(0, usize::from);
        if !(8..=load.block_size).contains(&block_size) || !(1..=load.window).contains(&window) {
            self.fail(&format!("granted blocks of {block_size} octets, {window} at a time"));
            return false;
        }
        if self.only_size {
            // A server that does not get this sends its options again, to nobody.
            let _ = self.socket.send(ABORT);
            self.state = State::Done;
            return false;
        }
        (self.block_size, self.window) = (block_size, window);
        self.blocks = load.content.len() / block_size + 1;
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
        let from = self.last * self.block_size;
        let to = (from + self.block_size).min(load.content.len());
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
    pub fn look(&mut self, load: &Load<'_>, rng: &mut fastrand::Rng, now: Instant) {
        if now.duration_since(self.news_at) >= PATIENCE {
            let (last, blocks) = (self.last, self.blocks);
            self.fail(&format!("silence after block {last} of {blocks}"));
        } else if now.duration_since(self.news_at.max(self.sent_at)) >= self.wait {
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            self.resent += 1;
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

pub(super) fn request(load: &Load<'_>) -> Vec<u8> {
    let Load { file, block_size, .. } = load;
    let mut packet = format!("\0\x01{file}\0octet\0tsize\x000\0blksize\0{block_size}\0");
    if load.window > 1 {
        packet.push_str(&format!("windowsize\0{}\0", load.window));
    }
    packet.into_bytes()
}

pub(super) fn word(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}

/// The value of an option that the server confirms.
pub(super) fn granted(packet: &[u8], option: &str) -> Option<u16> {
    let mut texts = packet.get(2..)?.split(|octet| *octet == 0).map(String::from_utf8_lossy);
    loop {
        let (name, value) = (texts.next()?, texts.next()?);
        if name.eq_ignore_ascii_case(option) {
            return value.parse().ok();
        }
    }
}
