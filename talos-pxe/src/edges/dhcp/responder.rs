//! Who answers on the DHCP port, and how answers stay in step with what is stored and with what
//! the XDP program knows.
//!
//! Two rules keep leases safe. What is revoked is taken from the program before it is stored; what
//! is granted is stored before the program, or a client, is told of it.

use std::sync::Arc;
use std::time::Duration;

use talos_pxe_ebpf::maps::Answer;
use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use crate::decisions::dhcp::Reply;
use crate::decisions::dhcp::server::Server;
use crate::edges::journal::Journal;
use crate::edges::xdp::{FastPath, InsertError, Sent};
use crate::state::leases::{Reservations, Taken, Upkeep};
use crate::state::store::{Change, Held, Store, StoreError};
use crate::time::BootTime;

/// Who answers on the DHCP port.
pub enum Responder {
    /// The DHCP server.
    Server(Box<Leasing>),
    /// The proxyDHCP server.
    Proxy,
}

impl Responder {
    pub(super) fn next_deadline(&self) -> Option<BootTime> {
        match self {
            Self::Server(leasing) => leasing.server.next_deadline(),
            Self::Proxy => None,
        }
    }

    /// How long addresses are leased; none for the proxy.
    pub(super) fn lease_time(&self) -> Option<Duration> {
        match self {
            Self::Server(leasing) => Some(leasing.server.lease_time()),
            Self::Proxy => None,
        }
    }

    /// The leases that have not ended; none for the proxy.
    pub(super) fn leases(&self) -> Option<impl Iterator<Item = Held>> {
        match self {
            Self::Server(leasing) => Some(leasing.server.held(BootTime::now())),
            Self::Proxy => None,
        }
    }

    /// Takes leases over; how many is told once they are stored.
    pub(super) fn adopt(&mut self, leases: Vec<Held>, adopted: oneshot::Sender<usize>) {
        match self {
            Self::Server(leasing) => leasing.adopt(leases, adopted),
            Self::Proxy => drop(adopted.send(0)),
        }
    }

    pub(super) async fn stored(
        &mut self,
        fast_path: Option<&mut FastPath>,
    ) -> Result<Option<Reply>, StoreError> {
        match self {
            Self::Server(leasing) => leasing.stored(fast_path).await,
            Self::Proxy => std::future::pending().await,
        }
    }
}

/// The DHCP server, and where its leases are kept.
pub struct Leasing {
    /// What decides.
    pub(super) server: Server,
    journal: Journal<Stored>,
    /// Whether somebody was told that the XDP program's map is full.
    full: bool,
}

/// What may happen once changes are stored.
struct Stored {
    granted: Vec<Held>,
    reply: Option<Reply>,
    /// Who is told how many were granted.
    adopted: Option<oneshot::Sender<usize>>,
}

impl Leasing {
    /// A server whose leases are in `store`. The XDP program learns of those that are held, and of
    /// the machines that have an address reserved.
    ///
    /// # Errors
    /// When the disk is full or fails, or the journal cannot be started.
    pub fn start(
        mut server: Server,
        store: Arc<Store>,
        reservations: Reservations,
        fast_path: Option<&mut FastPath>,
    ) -> anyhow::Result<Self> {
        let now = BootTime::now();
        // The program knows nobody yet: there is nothing to revoke.
        let Upkeep { revoked: _, taken } = server.reserve(now, reservations);
        tell(&taken, now);
        store.write(now, server.take_changes())?;
        let mut leasing = Self { server, journal: Journal::start(store)?, full: false };
        let held: Vec<_> = leasing.server.held(now).collect();
        leasing.grant(&held, fast_path);
        Ok(leasing)
    }

    /// Whether so much waits to be stored that requests have to be turned away.
    pub(super) fn is_busy(&self) -> bool {
        self.journal.is_full()
    }

    /// Takes the changes of the last decision, and returns its reply when nothing that it promises
    /// is still to be stored. Otherwise the reply comes back from [`Leasing::stored`]; so does
    /// every reply that is decided meanwhile, since it may rest on the same lease.
    pub(super) fn keep(
        &mut self,
        reply: Option<Reply>,
        fast_path: Option<&mut FastPath>,
    ) -> Option<Reply> {
        let changes = self.server.take_changes();
        if changes.is_empty() && self.journal.is_idle() {
            return reply;
        }
        if changes.is_empty() && reply.is_none() {
            return None;
        }
        let mut granted = Vec::new();
        let mut forgotten = Vec::new();
        for change in &changes {
            match change {
                Change::Hold(held) => granted.push(*held),
                Change::Forget(mac) => forgotten.push(*mac),
            }
        }
        if let Some(fast_path) = fast_path {
            forgotten.into_iter().for_each(|mac| fast_path.maps.remove(mac));
        }
        self.journal.store(changes, Stored { granted, reply, adopted: None });
        None
    }

    /// Waits for changes to be stored, tells the XDP program of them, and returns the reply that
    /// waited for them. Cancel safe.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub(super) async fn stored(
        &mut self,
        fast_path: Option<&mut FastPath>,
    ) -> Result<Option<Reply>, StoreError> {
        let Stored { granted, reply, adopted } = self.journal.stored().await?;
        self.grant(&granted, fast_path);
        if let Some(adopted) = adopted {
            let _ = adopted.send(granted.len());
        }
        Ok(reply)
    }

    /// Takes leases of free addresses over.
    fn adopt(&mut self, leases: Vec<Held>, adopted: oneshot::Sender<usize>) {
        let now = BootTime::now();
        let granted = leases.iter().filter_map(|held| self.server.adopt(now, held)).collect();
        let changes = self.server.take_changes();
        self.journal.store(changes, Stored { granted, reply: None, adopted: Some(adopted) });
    }

    /// Hears what the XDP program has answered, and moves horizons ahead of need.
    pub(super) fn hear(&mut self, sent: &[Sent], fast_path: &mut FastPath) {
        let now = BootTime::now();
        for sent in sent {
            debug!(machine = %sent.mac, address = ?sent.address, answer = ?sent.answer, "answered by XDP");
            if sent.answer == Answer::Ack {
                self.server.leased_again(now, sent.mac);
            }
        }
        let _nothing_to_send = self.keep(None, Some(fast_path));
    }

    /// Puts other reservations in force, also with the XDP program.
    pub(super) fn reserve(&mut self, reservations: Reservations, fast_path: Option<&mut FastPath>) {
        let now = BootTime::now();
        let upkeep = self.server.reserve(now, reservations);
        self.take_up(upkeep, now, fast_path);
    }

    /// Looks after the reservations.
    pub(super) fn uphold(&mut self, fast_path: Option<&mut FastPath>) {
        let now = BootTime::now();
        let upkeep = self.server.uphold(now);
        self.take_up(upkeep, now, fast_path);
    }

    fn take_up(&mut self, upkeep: Upkeep, now: BootTime, mut fast_path: Option<&mut FastPath>) {
        let Upkeep { revoked, taken } = upkeep;
        if let Some(fast_path) = &mut fast_path {
            revoked.into_iter().for_each(|mac| fast_path.maps.remove(mac));
        }
        tell(&taken, now);
        let _nothing_to_send = self.keep(None, fast_path);
    }

    fn grant(&mut self, granted: &[Held], fast_path: Option<&mut FastPath>) {
        let Some(fast_path) = fast_path else { return };
        // A later change may have taken back what was to be granted when this one was stored.
        for Held { mac, address, until } in granted.iter().filter(|held| self.server.holds(held)) {
            match fast_path.maps.insert(*mac, *address, *until) {
                Ok(()) => {}
                // These machines are answered by the daemon.
                Err(error @ InsertError::Full(_)) if !self.full => {
                    warn!("{error}");
                    self.full = true;
                }
                Err(InsertError::Full(_)) => {}
            }
        }
    }
}

fn tell(taken: &[Taken], now: BootTime) {
    for Taken { mac, address, by, until } in taken {
        let free_in = format!("{} s", until.since(now).as_secs());
        match by {
            Some(other) => warn!(
                machine = %mac, %address, promised_to = %other, free_in,
                "a fixed address is not free yet: until then its machine gets another one"
            ),
            None => error!(
                machine = %mac, %address, tried_again_in = free_in,
                "a fixed address is in use by another host: until then its machine gets another \
                 one; take the address from that host, or give the machine a free one"
            ),
        }
    }
}
