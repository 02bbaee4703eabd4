//! A client's connection: bytes are written, images are sent by the kernel.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::buffers::{Buffers, Larger};
use super::image::{Image, Images, Piece};

/// How many octets of an image are handed to the kernel at a time: enough to be worth the call, few
/// enough that other clients have their turn.
const AT_ONCE: usize = 2 << 20;
/// The most pieces that are written at a time.
const PIECES: usize = 16;
/// How long a client may take nothing of what was sent to it. The kernel watches, so that a client
/// that is gone costs nothing but its socket.
const STALLED: Duration = Duration::from_secs(60);

/// A connection whose writes know images.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    images: Images,
    /// Where a larger buffer may be had, until the first image.
    buffers: Option<Buffers>,
    /// Room for what waits to be sent.
    larger: Option<Larger>,
    /// The image that is being sent.
    current: Option<Arc<Image>>,
    /// Whether the kernel holds back what does not fill a packet, since more of an image follows.
    corked: Cell<bool>,
    /// Whether a whole piece of an image was sent since others had their turn on this thread.
    has_sent: bool,
    /// Until when a transfer waits for its turn.
    clock: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// Prepares an accepted connection.
    ///
    /// # Errors
    /// When the client has gone already.
    pub(super) fn new(
        socket: std::net::TcpStream,
        images: Images,
        buffers: Buffers,
    ) -> io::Result<Self> {
        let socket = TcpStream::from_std(socket)?;
        // Small answers, such as scripts, must not wait for the client's delayed ACK.
        socket.set_nodelay(true)?;
        let options = SockRef::from(&socket);
        options.set_tcp_user_timeout(Some(STALLED))?;
        options.set_tcp_keepalive(&TcpKeepalive::new().with_time(STALLED))?;
        Ok(Self {
            socket,
            images,
            buffers: Some(buffers),
            larger: None,
            current: None,
            corked: Cell::new(false),
            has_sent: false,
            clock: None,
        })
    }

    fn cork(&self, corked: bool) -> io::Result<()> {
        if self.corked.replace(corked) != corked {
            SockRef::from(&self.socket).set_tcp_cork(corked)?;
        }
        Ok(())
    }

    /// The piece of an image that lies at an address, if one does.
    fn piece_at(&mut self, address: *const u8) -> Option<Piece> {
        // As a rule it is of the same image as the last one; to look for it, threads share a lock.
        if let Some(piece) = self.current.as_ref().and_then(|image| image.piece_at(address)) {
            return Some(piece);
        }
        let piece = self.images.find(address);
        self.current = piece.as_ref().map(|piece| Arc::clone(&piece.image));
        piece
    }

    /// Lets the kernel send up to `most` of the `rest` octets of an image.
    fn send_image(&mut self, piece: &Piece, rest: usize, most: usize) -> io::Result<usize> {
        self.cork(true)?;
        if let Some(buffers) = self.buffers.take_if(|_| rest.min(most) > AT_ONCE) {
            self.larger = buffers.enlarge(&self.socket);
        }
        // Rather no image than one that is half another: before its last octets a client cannot
        // take it for whole.
        if rest <= AT_ONCE {
            piece.image.check_unchanged()?;
        }
        let send = || piece.send(&self.socket, rest.min(most).min(AT_ONCE));
        let sent = self.socket.try_io(Interest::WRITABLE, send)?;
        let passed = self.larger.as_mut().map_or(sent, |larger| larger.passed(sent));
        piece.image.count(passed);
        self.has_sent = sent == AT_ONCE;
        Ok(sent)
    }

    /// Writes what comes before the next image.
    fn send_bytes(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut plain = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        let mut more = SendFlags::empty();
        let pieces = pieces.iter().filter(|piece| !piece.is_empty());
        for (slot, piece) in plain.iter_mut().zip(pieces) {
            if self.images.find(piece.as_ptr()).is_some() {
                more = SendFlags::MORE;
                break;
            }
            *slot = IoSlice::new(piece);
            count += 1;
        }
        let plain = plain.get(..count).unwrap_or_default();
        let flags = more | SendFlags::NOSIGNAL;
        Ok(sendmsg(&self.socket, plain, &mut SendAncillaryBuffer::default(), flags)?)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = pieces.iter().find(|piece| !piece.is_empty());
        let image = first.and_then(|piece| this.piece_at(piece.as_ptr()).zip(Some(piece.len())));
        // A client that takes as fast as we send must not keep a script waiting on this thread.
        if std::mem::take(&mut this.has_sent) && image.is_some() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            ready!(this.socket.poll_write_ready(context))?;
            let result = match &image {
                Some((piece, length)) => {
                    let Poll::Ready(most) = piece.image.poll_turn(&mut this.clock, context) else {
                        // What the client has got so far must not wait with it.
                        this.cork(false)?;
                        return Poll::Pending;
                    };
                    this.send_image(piece, *length, most)
                }
                None => this.socket.try_io(Interest::WRITABLE, || this.send_bytes(pieces)),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.current = None;
        Poll::Ready(self.cork(false))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
