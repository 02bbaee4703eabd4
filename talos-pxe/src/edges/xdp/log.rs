//! The log of the XDP program: a line for each frame to one of our ports, written by a second
//! build of the program, which runs only when somebody listens.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use talos_pxe_ebpf::LOG_TARGET;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{JoinHandle, spawn};
use tracing::Level;

/// The object file of the program that logs.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp-log.o"));

/// Whether the log filter lets the program's lines through (`-vv`, or
/// `RUST_LOG=talos_pxe::xdp=trace`).
pub fn is_wanted() -> bool {
    tracing::enabled!(target: LOG_TARGET, Level::TRACE)
}

/// Hands the program's lines to the daemon's log, until it is dropped.
pub struct Forwarder(JoinHandle<()>);

impl Forwarder {
    /// Takes the log of a program before that is loaded. The program drops lines that do not fit
    /// the log before they are taken.
    ///
    /// # Errors
    /// When the program has no log.
    pub fn start(ebpf: &mut Ebpf) -> Result<Self> {
        let log = EbpfLogger::init(ebpf).context("the XDP program has no log")?;
        #[expect(unsafe_code, reason = "tokio has no safe way for a type of any crate")]
        // SAFETY: the log keeps one descriptor for as long as it is there.
        let log = unsafe { AsyncFd::register_with_interest(log, Interest::READABLE) };
        let mut log = log.context("cannot wait for the XDP program's log")?;
        Ok(Self(spawn(async move {
            while let Ok(mut ready) = log.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        })))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.abort();
    }
}
