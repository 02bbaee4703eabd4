//! Threads with a runtime of their own, and which of them the kernel prefers.
//!
//! What shares a thread waits for each other. So what must answer at once has a thread for itself,
//! and so has what is busy for long stretches; where more of them want to run than there are CPUs,
//! their niceness (sched(7)) decides.

use std::{io, thread};

use anyhow::{Context, Result};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

/// By how much the whole daemon comes before other programs.
pub const DAEMON: i32 = -3;
/// By how much DHCP comes before the rest of the daemon. An answer takes microseconds, and a machine
/// can do nothing without one; a flood of requests still leaves the others a sixth of its CPU.
pub const DHCP: i32 = -7;
/// By how much downloads stand back: they are as other programs, so that their speed does not
/// suffer from it.
pub const DOWNLOADS: i32 = 3;

/// A thread that runs futures. It ends on drop, without being waited for.
#[derive(Debug)]
pub struct OwnThread {
    runtime: Handle,
    _end: DropGuard,
}

impl OwnThread {
    /// Starts it, so much nicer than the caller.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left.
    pub fn start(name: &str, nicer: i32) -> Result<Self> {
        let start = || -> io::Result<Self> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
            let until = end.clone();
            let work = move || {
                be_nicer(nicer);
                runtime.block_on(until.cancelled());
            };
            thread::Builder::new().name(name.to_owned()).spawn(work)?;
            Ok(Self { runtime: handle, _end: end.drop_guard() })
        };
        start().with_context(|| format!("cannot start the thread of {name}"))
    }

    /// Where its futures run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// Lets other threads come before this one by so much, or, below zero, comes before them if it may;
/// also those that it starts.
pub fn be_nicer(by: i32) {
    let nice = getpriority_process(None).map(|nice| nice + by);
    if let Err(error) = nice.and_then(|nice| setpriority_process(Some(gettid()), nice)) {
        debug!(%error, by, "cannot change the priority of a thread");
    }
}
