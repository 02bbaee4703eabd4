//! Many clients that download one file again and again, in one thread.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::lab::netns::Netns;

/// How much is taken off a socket at a time, in octets.
const AT_ONCE: usize = 1 << 20;

/// What the clients got.
#[derive(Clone, Copy, Debug)]
pub struct Got {
    /// Octets, with the heads of the answers.
    pub octets: u64,
    /// In so much time.
    pub time: Duration,
}

/// What to download.
#[derive(Clone, Debug)]
pub struct File<'a> {
    /// The server.
    pub server: SocketAddr,
    /// The path, without the first slash.
    pub path: &'a str,
    /// Its size in octets.
    pub size: u64,
}

/// Lets so many clients inside a network namespace download the file for a while, each over a new
/// connection every time. What they get is counted and thrown away, uncopied: the clients are not
/// what is measured.
///
/// # Errors
/// When a download ends before its time: the server fails.
pub fn run(netns: &Netns, file: &File<'_>, clients: usize, time: Duration) -> Result<Got> {
    netns.inside(|| {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for number in 0..clients {
            connections.push(connect(&ready, file, number)?);
        }
        let mut events = Vec::with_capacity(256);
        let mut scratch = vec![0; AT_ONCE];
        let (start, mut octets) = (Instant::now(), 0);
        while start.elapsed() < time {
            wait(&ready, file, &mut events)?;
            for event in &events {
                let number = event.data.u64() as usize;
                let Some(connection) = connections.get_mut(number) else { continue };
                octets += connection.take(&mut scratch)?;
                if connection.ended {
                    connection.check(file)?;
                    *connection = connect(&ready, file, number)?;
                }
            }
        }
        Ok(Got { octets, time: start.elapsed() })
    })
}

/// Lets so many clients download the file once, all from the same moment on; says how long each
/// took, the fastest first.
///
/// # Errors
/// As for [`run`].
pub fn once(netns: &Netns, file: &File<'_>, clients: usize) -> Result<Vec<Duration>> {
    netns.inside(|| {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let start = Instant::now();
        let mut connections = Vec::new();
        for number in 0..clients {
            connections.push(Some(connect(&ready, file, number)?));
        }
        let mut events = Vec::with_capacity(256);
        let mut scratch = vec![0; AT_ONCE];
        let mut times = Vec::new();
        while times.len() < clients {
            wait(&ready, file, &mut events)?;
            for event in &events {
                let Some(slot) = connections.get_mut(event.data.u64() as usize) else { continue };
                let Some(connection) = slot else { continue };
                connection.take(&mut scratch)?;
                if connection.ended {
                    connection.check(file)?;
                    *slot = None;
                    times.push(start.elapsed());
                }
            }
        }
        Ok(times)
    })
}

/// Waits for connections that have something.
fn wait(ready: &OwnedFd, file: &File<'_>, events: &mut Vec<epoll::Event>) -> Result<()> {
    events.clear();
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    epoll::wait(ready, rustix::buffer::spare_capacity(events), Some(&patience))?;
    ensure!(!events.is_empty(), "{} sends nothing for 5 s", file.server);
    Ok(())
}

struct Connection {
    stream: TcpStream,
    octets: u64,
    ended: bool,
}

fn connect(ready: &impl std::os::fd::AsFd, file: &File<'_>, number: usize) -> Result<Connection> {
    let mut stream = TcpStream::connect_timeout(&file.server, Duration::from_secs(5))
        .with_context(|| format!("cannot reach {}", file.server))?;
    write!(stream, "GET /{} HTTP/1.1\r\nHost: boot\r\nConnection: close\r\n\r\n", file.path)?;
    stream.set_nonblocking(true)?;
    let data = epoll::EventData::new_u64(number as u64);
    epoll::add(ready, &stream, data, epoll::EventFlags::IN)?;
    Ok(Connection { stream, octets: 0, ended: false })
}

impl Connection {
    /// That an ended download is a whole one.
    fn check(&self, file: &File<'_>) -> Result<()> {
        let File { server, size, .. } = file;
        ensure!(self.octets >= *size, "{server} ended a download after {} octets", self.octets);
        Ok(())
    }

    /// Takes what has come, once, so that every client has its turn.
    fn take(&mut self, scratch: &mut [u8]) -> Result<u64> {
        match recv(&self.stream, scratch, RecvFlags::TRUNC) {
            Ok((_, 0)) => {
                self.ended = true;
                Ok(0)
            }
            Ok((_, received)) => {
                self.octets += received as u64;
                Ok(received as u64)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => bail!("a download broke off: {error}"),
        }
    }
}
