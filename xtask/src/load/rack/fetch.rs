//! Downloads by HTTP/1.1 over one connection, as far as boot clients need it: bodies of a known
//! length, which are kept when they are texts and thrown away, uncopied, when they are images.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Socket, Type};

/// How much is taken off a socket at a time, in octets.
pub const AT_ONCE: usize = 1 << 20;
/// The most octets of an answer's head, and of a text.
const HEAD: usize = 16 << 10;
const TEXT: u64 = 1 << 20;

/// What a client does with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Reads it.
    Text,
    /// Counts its octets.
    Image,
}

/// What is known after something has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    Pending,
    /// It is whole: so many octets, and these when it is a text.
    Done(u64, Vec<u8>),
    /// The server had closed the connection before it got the request.
    Closed,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    host: SocketAddr,
    body: Body,
    state: State,
    /// How many answers have come by it.
    answers: u32,
}

#[derive(Debug)]
enum State {
    /// This is still to be sent.
    Asking(Vec<u8>),
    /// So much of the answer's head has come.
    Head(Vec<u8>),
    /// The body comes, of which so much is left.
    Body { length: u64, left: u64, text: Vec<u8> },
}

/// A URL's server and path.
pub fn parse(url: &str) -> Option<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/')?);
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    Some((host.parse().ok()?, path))
}

impl Connection {
    /// Connects from `at`, and asks for `path` once that is done. `ready` tells by the number
    /// `token` when there is something to do.
    ///
    /// # Errors
    /// When the host has no such address, or no descriptors are left.
    pub fn open(
        ready: &impl AsFd,
        token: u64,
        (at, host): (Ipv4Addr, SocketAddr),
        path: &str,
        body: Body,
    ) -> Result<Connection> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((at, 0)).into())?;
        match socket.connect(&host.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(error.into());
            }
            _ => {}
        }
        let stream = TcpStream::from(socket);
        let data = epoll::EventData::new_u64(token);
        epoll::add(ready, &stream, data, epoll::EventFlags::OUT)?;
        let state = State::Asking(request(host, path));
        Ok(Connection { stream, host, body, state, answers: 0 })
    }

    /// Whether it leads to this server and is free.
    pub fn serves(&self, host: SocketAddr) -> bool {
        self.host == host && self.answers > 0
    }

    /// Asks for something else, after the answer to the former question.
    pub fn ask(&mut self, path: &str, body: Body) {
        self.body = body;
        self.state = State::Asking(request(self.host, path));
    }

    /// Goes on as far as that is possible now.
    ///
    /// # Errors
    /// With what went wrong, for the machine's user.
    pub fn take(
        &mut self,
        ready: &impl AsFd,
        token: u64,
        scratch: &mut [u8],
    ) -> Result<Progress, String> {
        match &mut self.state {
            State::Asking(request) => match self.stream.write(request) {
                Ok(length) if length == request.len() => {
                    self.state = State::Head(Vec::new());
                    let data = epoll::EventData::new_u64(token);
                    epoll::modify(ready, &self.stream, data, epoll::EventFlags::IN)
                        .map_err(|error| error.to_string())?;
                    Ok(Progress::Pending)
                }
                Ok(_) => Err("a request did not fit into the socket".to_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Progress::Pending),
                Err(_) if self.answers > 0 => Ok(Progress::Closed),
                Err(error) => Err(format!("cannot reach {}: {error}", self.host)),
            },
            State::Head(head) => {
                let room = scratch.get_mut(..HEAD).unwrap_or_default();
                match self.stream.read(room) {
                    Ok(0) if head.is_empty() && self.answers > 0 => return Ok(Progress::Closed),
                    Ok(0) => return Err("the server hung up".to_owned()),
                    Ok(length) => head.extend(room.get(..length).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) if head.is_empty() && self.answers > 0 => return Ok(Progress::Closed),
                    Err(error) => return Err(error.to_string()),
                }
                self.read_head()
            }
            State::Body { left, text, .. } => {
                let length = scratch.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let room = scratch.get_mut(..length).unwrap_or_default();
                let (flags, keep) = match self.body {
                    Body::Text => (RecvFlags::empty(), true),
                    // Truncated TCP is not copied: the clients are not what is measured.
                    Body::Image => (RecvFlags::TRUNC, false),
                };
                match recv(&self.stream, &mut *room, flags) {
                    Ok((_, 0)) => return Err(format!("the server hung up {left} octets early")),
                    Ok((_, length)) => {
                        *left -= (length as u64).min(*left);
                        if keep {
                            text.extend(room.get(..length).unwrap_or_default());
                        }
                    }
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => return Err(format!("a download broke off: {error}")),
                }
                Ok(self.judge())
            }
        }
    }

    /// Looks whether the whole head has come.
    fn read_head(&mut self) -> Result<Progress, String> {
        let State::Head(answer) = &self.state else { return Ok(Progress::Pending) };
        let Some(end) = answer.windows(4).position(|octets| octets == b"\r\n\r\n") else {
            let too_long = answer.len() > HEAD;
            return if too_long {
                Err("no end of a head".to_owned())
            } else {
                Ok(Progress::Pending)
            };
        };
        let (head, body) = answer.split_at(end + 4);
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 200") {
            return Err(format!("the server says {status:?}"));
        }
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        };
        let length: u64 = lines.find_map(field).ok_or("an answer without a length")?;
        if self.body == Body::Text && length > TEXT {
            return Err(format!("a text of {length} octets"));
        }
        let left = length.checked_sub(body.len() as u64).ok_or("more than there should be")?;
        let text = if self.body == Body::Text { body.to_vec() } else { Vec::new() };
        self.state = State::Body { length, left, text };
        Ok(self.judge())
    }

    fn judge(&mut self) -> Progress {
        let State::Body { length, left: 0, text } = &mut self.state else {
            return Progress::Pending;
        };
        self.answers += 1;
        Progress::Done(*length, std::mem::take(text))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn request(host: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rack\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        let host = |port| SocketAddr::from(([10, 0, 0, 1], port));
        assert_eq!(parse("http://10.0.0.1:8080/a?b"), Some((host(8080), "/a?b")));
        assert_eq!(parse("http://10.0.0.1/"), Some((host(80), "/")));
        assert_eq!(parse("https://10.0.0.1/"), None);
        assert_eq!(parse("http://10.0.0.1"), None);
    }
}
