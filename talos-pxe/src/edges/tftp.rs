//! TFTP: iPXE's binaries, for firmware that boots by it, and iPXE's entry script.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use anyhow::{Context, anyhow};
use async_tftp::packet::Error as Refusal;
use async_tftp::server::{Handler, TftpServerBuilder};
use futures_util::io::{AsyncRead, Cursor, Sink};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::folder::OpenFile;
use crate::decisions::boot::asset::is_named_secret;
use crate::decisions::tftp::{SCRIPT, Wanted, wanted};
use crate::wire::AssetPath;

/// The largest block that we grant, in bytes. iPXE asks for this much; a whole packet then leaves
/// room for tunnels, and some firmware breaks on blocks of more than about 1450.
const BLOCK_SIZE: u16 = 1432;
/// The most blocks that may be under way to one client.
const WINDOW: u16 = 16;
/// How long a client may be silent before its window is sent again. Clients' own wishes do not
/// count: one that asked for its file's size and left would be sent to for up to 255 s at a time.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often a window is sent again.
const RETRIES: u32 = 6;
/// The most transfers at one time. Each has a socket of its own, and requests may be forged.
const TRANSFERS: usize = 256;
/// The largest file that is read into memory, in bytes. What boots by TFTP is far smaller; larger
/// files of the folder, such as UKIs, are for HTTP.
const MAX_FILE: u64 = 8 << 20;

/// What TFTP serves, read once: a rack that powers on asks for the same file all at once.
#[derive(Clone, Debug)]
pub struct BootFiles(BTreeMap<String, Arc<[u8]>>);

impl BootFiles {
    /// Reads the files of the firmware folder; `needed` are those that the DHCP answers name.
    ///
    /// # Errors
    /// When one of `needed` cannot be read; the message says what to do.
    pub fn load(folder: &Path, needed: &[&str]) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        for name in needed {
            let content = AssetPath::from_plain(name)
                .ok_or(io::Error::from(io::ErrorKind::InvalidFilename))
                .and_then(|path| read(folder, &path));
            let content = content.map_err(|error| {
                anyhow!(
                    "no boot file {}: {error}; install the package ipxe, or name a folder that \
                     has the file with --firmware",
                    folder.join(name).display()
                )
            })?;
            files.insert((*name).to_owned(), content);
        }
        let cannot_list = || format!("cannot list folder {}", folder.display());
        for entry in fs::read_dir(folder).with_context(cannot_list)? {
            let name = entry.with_context(cannot_list)?.file_name();
            let Some(path) = name.to_str().and_then(AssetPath::from_plain) else { continue };
            match read(folder, &path) {
                Ok(content) => {
                    files.insert(path.to_string(), content);
                }
                Err(error) => debug!(file = %path, %error, "not for TFTP"),
            }
        }
        Ok(Self(files))
    }

    /// A file by its name, in whatever case the firmware writes it.
    fn get(&self, name: &str) -> Option<Arc<[u8]>> {
        let other_case = || self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        self.0.get(name).or_else(|| other_case().map(|(_, content)| content)).cloned()
    }
}

/// Reads a file that TFTP may serve.
fn read(folder: &Path, path: &AssetPath) -> io::Result<Arc<[u8]>> {
    let opened = OpenFile::linked(folder, path)?;
    if is_named_secret(path) || opened.is_secret(&BTreeSet::new())? {
        return Err(io::Error::other("it looks like a machine config or a credential"));
    }
    if opened.metadata.len() > MAX_FILE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut content = Vec::new();
    opened.file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content.into())
}

/// Serves `files`, and `script` as `boot.ipxe`, until `shutdown`.
///
/// # Errors
/// When the socket fails for good.
pub async fn serve(
    socket: UdpSocket,
    files: BootFiles,
    script: String,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let script = script.into_bytes().into();
    let slots = Arc::new(Semaphore::new(TRANSFERS));
    let server = TftpServerBuilder::with_handler(Reader { files, script, slots })
        .std_socket(socket)
        .context("cannot use the TFTP socket")?
        .block_size_limit(BLOCK_SIZE)
        .window_size_limit(WINDOW)
        .timeout(TIMEOUT)
        .ignore_client_timeout()
        .max_send_retries(RETRIES)
        .build()
        .await
        .context("cannot start the TFTP server")?;
    tokio::select! {
        result = server.serve() => result.context("TFTP server stopped"),
        () = shutdown.cancelled() => Ok(()),
    }
}

/// Answers read requests from memory.
struct Reader {
    files: BootFiles,
    script: Arc<[u8]>,
    slots: Arc<Semaphore>,
}

impl Handler for Reader {
    type Reader = Transfer;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        name: &Path,
    ) -> Result<(Transfer, Option<u64>), Refusal> {
        let name = name.to_str().unwrap_or_default();
        let (file, content) = match wanted(name) {
            Ok(Wanted::Script) => (SCRIPT, Some(self.script.clone())),
            Ok(Wanted::BootFile(file)) => (file, self.files.get(file)),
            Err(error) => {
                warn!(%client, name, %error, "TFTP request refused");
                return Err(Refusal::FileNotFound);
            }
        };
        let Some(content) = content else {
            info!(%client, file, "TFTP file not found");
            return Err(Refusal::FileNotFound);
        };
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            warn!(%client, file, "TFTP request refused: {TRANSFERS} transfers are under way");
            return Err(Refusal::Msg("busy, try again".to_owned()));
        };
        info!(%client, file, "TFTP file");
        let size = u64::try_from(content.len()).ok();
        Ok((Transfer { content: Cursor::new(content), _slot: slot }, size))
    }

    async fn write_req_open(
        &mut self,
        client: &SocketAddr,
        _name: &Path,
        _size: Option<u64>,
    ) -> Result<Sink, Refusal> {
        warn!(%client, "TFTP write refused");
        Err(Refusal::PermissionDenied)
    }
}

/// A file on its way to one client.
struct Transfer {
    content: Cursor<Arc<[u8]>>,
    /// Given back when the transfer ends.
    _slot: OwnedSemaphorePermit,
}

impl AsyncRead for Transfer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.content).poll_read(context, buffer)
    }
}

#[cfg(test)]
#[path = "tftp_tests.rs"]
mod tests;
