//! Stores changes of leases, many in one transaction, and hands back what had to wait for that.
//!
//! A disk takes milliseconds to make a transaction durable, whatever its size. While one is being
//! written, all further changes gather for the next, so thousands of clients a second share a few
//! transactions.

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel,
};

use crate::edges::thread::{DHCP, be_nicer};
use crate::state::store::{Change, Store, StoreError};
use crate::time::BootTime;

/// The most entries in one transaction.
const BATCH: usize = 4096;
/// More entries than this do not wait: the caller has to turn requests away.
const CAPACITY: usize = 16_384;

/// The way to the store, and back for what waits. Dropping it ends the thread behind it, once
/// everything is stored.
#[derive(Debug)]
pub struct Journal<T> {
    entries: UnboundedSender<Entry<T>>,
    stored: UnboundedReceiver<Result<T, StoreError>>,
    waiting: usize,
}

#[derive(Debug)]
struct Entry<T> {
    changes: Vec<Change>,
    then: T,
}

impl<T: Send + 'static> Journal<T> {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When the kernel has no thread for us.
    pub fn start(store: Arc<Store>) -> anyhow::Result<Self> {
        let (entries, to_write) = unbounded_channel();
        let (written, stored) = unbounded_channel();
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                be_nicer(DHCP);
                write_all(&store, to_write, &written);
            })
            .context("cannot start the thread that stores leases")?;
        Ok(Self { entries, stored, waiting: 0 })
    }

    /// Whether so much waits that nothing should be added.
    pub fn is_full(&self) -> bool {
        self.waiting >= CAPACITY
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// Stores the changes; [`Journal::stored`] then returns `then`.
    pub fn store(&mut self, changes: Vec<Change>, then: T) {
        // The thread ends before us only after an error, which `stored` returns.
        if self.entries.send(Entry { changes, then }).is_ok() {
            self.waiting += 1;
        }
    }

    /// Waits for what comes next in the order of [`Journal::store`]. Cancel safe.
    ///
    /// # Errors
    /// When the disk is full or fails; nothing more is stored then.
    pub async fn stored(&mut self) -> Result<T, StoreError> {
        match self.stored.recv().await {
            Some(stored) => {
                self.waiting = self.waiting.saturating_sub(1);
                stored
            }
            None => std::future::pending().await,
        }
    }
}

fn write_all<T>(
    store: &Store,
    mut entries: UnboundedReceiver<Entry<T>>,
    written: &UnboundedSender<Result<T, StoreError>>,
) {
    while let Some(first) = entries.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match entries.try_recv() {
                Ok(entry) => batch.push(entry),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let changes = batch.iter().flat_map(|entry| entry.changes.iter().copied());
        if let Err(error) = store.write(BootTime::now(), changes) {
            let _ = written.send(Err(error));
            return;
        }
        for entry in batch {
            // Nobody waits any more when the daemon is shutting down.
            let _ = written.send(Ok(entry.then));
        }
    }
}
