//! Threads for downloads alone.
//!
//! A thread that sends images is busy for long stretches. DHCP, TFTP and DNS answer from other
//! threads, which the kernel prefers: a rack that loads its images must not keep the next
//! machine waiting for an address. A connection stays on one thread, which hands nothing to others
//! and wakes none.

use std::future::Future;
use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::Result;
use tokio::runtime::Handle;

use crate::edges::thread::{DOWNLOADS, OwnThread};

/// Where connections are served. Threads end on drop, without being waited for.
#[derive(Debug)]
pub(super) struct Threads {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Each of its connections holds it, too.
    connections: Arc<()>,
    /// None where it is the caller's.
    _thread: Option<OwnThread>,
}

impl Threads {
    /// One for each CPU.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub(super) fn start() -> Result<Self> {
        let count = available_parallelism().map_or(1, usize::from);
        let workers = (0..count).map(|_| Worker::start()).collect::<Result<_>>()?;
        Ok(Self { workers })
    }

    /// No others than those of the runtime that this is called from.
    pub(super) fn here() -> Self {
        let runtime = Handle::current();
        Self { workers: vec![Worker { runtime, connections: Arc::default(), _thread: None }] }
    }

    /// Serves a connection on the thread with the fewest.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let count = |worker: &&Worker| Arc::strong_count(&worker.connections);
        let Some(worker) = self.workers.iter().min_by_key(count) else { return };
        let counted = Arc::clone(&worker.connections);
        worker.runtime.spawn(async move {
            connection.await;
            drop(counted);
        });
    }
}

impl Worker {
    fn start() -> Result<Self> {
        let thread = OwnThread::start("http", DOWNLOADS)?;
        let runtime = thread.runtime().clone();
        Ok(Self { runtime, connections: Arc::default(), _thread: Some(thread) })
    }
}
