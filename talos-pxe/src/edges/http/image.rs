//! Images on their way from the page cache to the socket, without a copy.
//!
//! HTTP is spoken by a library that wants bytes in memory. So an image's body is a read-only
//! mapping of its file, which nobody ever reads: where the library hands a piece of it to the
//! socket, [`Images::find`] tells the file behind it, and the kernel sends that piece of the file
//! itself (`sendfile(2)`). No page of the mapping is touched, so it costs no memory and a
//! truncated file cannot crash the process: the client's transfer breaks off.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use memmap2::Mmap;
use tokio::time::Sleep;

use super::turns::Ticket;

/// The images that are on their way, by the address of their mapping.
#[derive(Clone, Debug, Default)]
pub struct Images(Arc<RwLock<BTreeMap<usize, Weak<Image>>>>);

/// A file while it is being sent.
#[derive(Debug)]
pub(super) struct Image {
    file: File,
    mapping: Mmap,
    version: Version,
    images: Images,
    /// The transfer's place in line, if it has to wait for its turn.
    ticket: Option<Ticket>,
}

/// A piece of an image.
#[derive(Debug)]
pub(super) struct Piece {
    /// The image.
    pub image: Arc<Image>,
    /// Where the piece begins, in octets from the start of the file.
    pub offset: u64,
}

/// What tells whether a file has been written to. (The time of its last change, `ctime`, tells less:
/// it moves as well when another file takes its name.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    length: u64,
    modified: (i64, i64),
}

impl Images {
    /// A part of a file as the body of a response.
    ///
    /// # Errors
    /// When the kernel cannot map the file.
    pub(super) fn body(
        &self,
        file: File,
        metadata: &Metadata,
        part: Range<u64>,
        ticket: Option<Ticket>,
    ) -> io::Result<Bytes> {
        let part = to_usize(part.start)?..to_usize(part.end)?;
        if part.is_empty() {
            return Ok(Bytes::new());
        }
        let mapping = map(&file, to_usize(metadata.len())?)?;
        let (address, version) = (mapping.as_ptr() as usize, Version::of(metadata));
        let image = Arc::new(Image { file, mapping, version, images: self.clone(), ticket });
        let mut images = self.0.write().unwrap_or_else(PoisonError::into_inner);
        images.insert(address, Arc::downgrade(&image));
        drop(images);
        Ok(Bytes::from_owner(Owner(image)).slice(part))
    }

    /// The piece of an image that begins at an address, if one does.
    pub(super) fn find(&self, address: *const u8) -> Option<Piece> {
        let images = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let image = images.range(..=address as usize).next_back()?.1.upgrade()?;
        // An image that ends takes itself off the list, which must not be locked then.
        drop(images);
        image.piece_at(address)
    }
}

impl Piece {
    /// Lets the kernel send up to `length` octets, and says how many it took.
    ///
    /// # Errors
    /// Those of the socket, and when the file has become too short.
    pub(super) fn send(&self, socket: impl std::os::fd::AsFd, length: usize) -> io::Result<usize> {
        let mut offset = self.offset;
        match rustix::fs::sendfile(socket, &self.image.file, Some(&mut offset), length)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            sent => Ok(sent),
        }
    }
}

impl Image {
    /// The piece that begins at an address, if that is within the image.
    pub(super) fn piece_at(self: &Arc<Self>, address: *const u8) -> Option<Piece> {
        let offset = (address as usize).checked_sub(self.mapping.as_ptr() as usize)?;
        let image = Arc::clone(self);
        (offset < self.mapping.len()).then_some(Piece { image, offset: offset as u64 })
    }

    /// Sees to it that the file is still the one whose first octets were sent.
    ///
    /// # Errors
    /// When it has been written to.
    pub(super) fn check_unchanged(&self) -> io::Result<()> {
        if Version::of(&self.file.metadata()?) != self.version {
            return Err(io::Error::other("the file was changed while it was sent"));
        }
        Ok(())
    }

    /// Counts octets that have gone to the client.
    pub(super) fn count(&self, octets: usize) {
        self.ticket.iter().for_each(|ticket| ticket.sent(octets));
    }

    /// How many octets may be sent now; see [`Ticket::poll`].
    pub(super) fn poll_turn(
        &self,
        clock: &mut Option<Pin<Box<Sleep>>>,
        context: &mut Context<'_>,
    ) -> Poll<usize> {
        match &self.ticket {
            Some(ticket) => ticket.poll(clock, context),
            None => Poll::Ready(usize::MAX),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut images = self.images.0.write().unwrap_or_else(PoisonError::into_inner);
        images.remove(&(self.mapping.as_ptr() as usize));
    }
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// What keeps a mapping alive as long as a body has bytes of it.
struct Owner(Arc<Image>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0.mapping
    }
}

#[expect(unsafe_code, reason = "memory that is a file")]
fn map(file: &File, length: usize) -> io::Result<Mmap> {
    // SAFETY: others may write to the file, so its bytes must not be relied upon; they are only
    // ever handed to the kernel, which copies what it finds.
    unsafe { memmap2::MmapOptions::new().len(length).map(file) }
}

fn to_usize(octets: u64) -> io::Result<usize> {
    usize::try_from(octets).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}
