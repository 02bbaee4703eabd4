//! Threads for downloads alone.
//!
//! A thread that sends images is busy for long stretches. DHCP, TFTP and DNS answer from other
//! threads, which the kernel runs first: a rack that loads its images must not keep the next
//! machine waiting for an address.

use std::future::Future;

use anyhow::{Context, Result};
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::runtime::{Builder, Runtime};
use tracing::debug;

/// How much the threads stand back: half the share of the others where both want the same CPU.
const NICE: i32 = 3;

/// The threads; they end on drop, without being waited for.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Starts one for each CPU.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub(super) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("http")
            .on_thread_start(|| {
                if let Err(error) = setpriority_process(Some(gettid()), NICE) {
                    debug!(%error, "cannot lower the priority of a thread");
                }
            })
            .enable_all()
            .build()
            .context("cannot start the threads of the HTTP server")?;
        Ok(Self(Some(runtime)))
    }

    /// Runs `work` on them.
    ///
    /// # Errors
    /// Those of `work`.
    pub(super) async fn run<F>(self, work: F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let Some(runtime) = &self.0 else { return Ok(()) };
        runtime.spawn(work).await.context("the HTTP server panicked")?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
