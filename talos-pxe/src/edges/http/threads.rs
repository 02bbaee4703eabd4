//! Threads for downloads alone.
//!
//! A thread that sends images is busy for long stretches. DHCP, TFTP and DNS answer from other
//! threads, which the kernel prefers: a rack that loads its images must not keep the next
//! machine waiting for an address. A connection stays on one thread, which hands nothing to others
//! and wakes none.

use std::future::Future;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

/// How much the threads stand back behind the one that starts them: half its share where both want
/// the same CPU.
const NICER: i32 = 3;

/// Where connections are served. Threads end on drop, without being waited for.
#[derive(Debug)]
pub(super) struct Threads {
    workers: Vec<Worker>,
    _end: Option<DropGuard>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Each of its connections holds it, too.
    connections: Arc<()>,
}

impl Threads {
    /// One for each CPU.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub(super) fn start() -> Result<Self> {
        let end = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..count).map(|_| Worker::start(end.clone())).collect::<Result<_>>();
        let workers = workers.context("cannot start the threads of the HTTP server")?;
        Ok(Self { workers, _end: Some(end.drop_guard()) })
    }

    /// No others than those of the runtime that this is called from.
    pub(super) fn here() -> Self {
        let worker = Worker { runtime: Handle::current(), connections: Arc::default() };
        Self { workers: vec![worker], _end: None }
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
    fn start(end: CancellationToken) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let worker = Self { runtime: runtime.handle().clone(), connections: Arc::default() };
        let work = move || {
            let nice = getpriority_process(None).map(|nice| nice + NICER);
            if let Err(error) = nice.and_then(|nice| setpriority_process(Some(gettid()), nice)) {
                debug!(%error, "cannot lower the priority of a thread");
            }
            runtime.block_on(end.cancelled());
        };
        thread::Builder::new().name("http".to_owned()).spawn(work)?;
        Ok(worker)
    }
}
