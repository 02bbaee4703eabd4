//! TFTP: iPXE's binaries, for firmware that boots by it, and iPXE's entry script.

mod boot_files;
mod receiver;
mod worker;

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use boot_files::BootFiles;
use worker::{Busy, Worker};

use crate::decisions::tftp::transfer::Terms;
use crate::decisions::tftp::{SCRIPT, Wanted, wanted};
use crate::state::machines::{Machines, Observation, Stage};
use crate::time::{BootTime, WallTime};
use crate::wire::tftp::{ErrorCode, Packet, Request, error};

/// The longest request that we read, in octets.
const LONGEST_REQUEST: usize = 1500;
/// More threads than this would wait for each other.
const MOST_WORKERS: usize = 4;

/// Serves `files`, and `script` as `boot.ipxe`, until `shutdown`; notes which of `machines` load
/// them.
///
/// # Errors
/// When the socket fails for good.
pub async fn serve(
    socket: UdpSocket,
    files: BootFiles,
    script: String,
    machines: Arc<Machines>,
    shutdown: CancellationToken,
) -> Result<()> {
    let SocketAddr::V4(own) = socket.local_addr().context("cannot use the TFTP socket")? else {
        anyhow::bail!("TFTP is served by IPv4 only");
    };
    socket.set_nonblocking(true).context("cannot use the TFTP socket")?;
    let socket = tokio::net::UdpSocket::from_std(socket).context("cannot use the TFTP socket")?;
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    let workers = (0..count).map(|_| Worker::start(*own.ip())).collect::<io::Result<Vec<_>>>();
    let server = Server {
        files,
        script: script.into_bytes().into(),
        machines,
        workers: workers.context("cannot start the TFTP server")?,
    };
    let mut packet = [0; LONGEST_REQUEST];
    while let Some(received) = shutdown.run_until_cancelled(socket.recv_from(&mut packet)).await {
        let (length, client) = match received {
            Ok((length, SocketAddr::V4(client))) => (length, client),
            Ok(_) => continue,
            // An ICMP error for an earlier refusal.
            Err(error) => {
                debug!(%error, "TFTP socket");
                continue;
            }
        };
        let answer = server.answer(client, packet.get(..length).unwrap_or_default());
        if let Err(refusal) = answer
            && let Err(error) = socket.send_to(&refusal, client).await
        {
            debug!(%client, %error, "cannot send a TFTP refusal");
        }
    }
    Ok(())
}

/// What requests are answered from.
struct Server {
    files: BootFiles,
    script: Arc<[u8]>,
    machines: Arc<Machines>,
    workers: Vec<Worker>,
}

impl Server {
    /// Starts a transfer, or says why not.
    fn answer(&self, client: SocketAddrV4, packet: &[u8]) -> Result<(), Vec<u8>> {
        let request = match Packet::parse(packet) {
            Ok(Packet::Request(request)) => request,
            // Not for this port.
            Ok(Packet::Ack(_) | Packet::Error(_)) => return Ok(()),
            Err(error) => {
                debug!(%client, %error, "malformed TFTP packet dropped");
                return Ok(());
            }
        };
        let (file, content) = self.find(client, &request)?;
        let terms = Terms::of(&request, content.len() as u64);
        let Some(worker) = self.worker(client, &terms) else { return Ok(()) };
        match worker.begin(BootTime::now(), client, terms, content) {
            Ok(()) => {
                info!(%client, file, "TFTP file");
                if file != SCRIPT {
                    let loads = Observation::stage(WallTime::now(), Stage::BootFile);
                    self.machines.observe_at((*client.ip()).into(), loads);
                }
                Ok(())
            }
            Err(Busy) => {
                warn!(%client, file, "TFTP request refused: too many transfers are under way");
                Err(error(ErrorCode::Other, "busy, try again"))
            }
        }
    }

    /// Who does a transfer: a request that is repeated must find the one that it began.
    fn worker(&self, client: SocketAddrV4, terms: &Terms) -> Option<&Worker> {
        let all = self.workers.len();
        // For a single block it does not pay to wake a thread: fewer of them sleep less.
        let some = if terms.window == 1 { all.div_ceil(2) } else { all };
        self.workers.get(usize::from(client.port()).checked_rem(some)?)
    }

    fn find<'a>(
        &self,
        client: SocketAddrV4,
        request: &Request<'a>,
    ) -> Result<(&'a str, Arc<[u8]>), Vec<u8>> {
        if request.write {
            warn!(%client, "TFTP write refused");
            return Err(error(ErrorCode::Access, "files are read-only"));
        }
        if !request.mode.eq_ignore_ascii_case("octet") {
            warn!(%client, mode = request.mode, "TFTP request refused: not in mode octet");
            return Err(error(ErrorCode::Illegal, "use mode octet (binary)"));
        }
        let (file, content) = match wanted(request.name) {
            Ok(Wanted::Script) => (SCRIPT, Some(self.script.clone())),
            Ok(Wanted::BootFile(file)) => (file, self.files.get(file)),
            Err(cause) => {
                warn!(%client, name = request.name, %cause, "TFTP request refused");
                return Err(error(ErrorCode::NotFound, "not found"));
            }
        };
        content.map(|content| (file, content)).ok_or_else(|| {
            info!(%client, file, "TFTP file not found");
            error(ErrorCode::NotFound, "not found")
        })
    }
}

#[cfg(test)]
mod tests;
