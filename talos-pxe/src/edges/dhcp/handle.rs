//! How others learn of the DHCP service, and hand leases to it.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use talos_pxe_ebpf::outcome;
use tokio::sync::{mpsc, oneshot};

use crate::edges::xdp::Mode;
use crate::state::store::Held;

/// A way to the running DHCP service.
#[derive(Clone, Debug)]
pub struct Handle(pub(super) mpsc::Sender<Ask>);

/// What is asked of the service, with the way back.
#[derive(Debug)]
pub(super) enum Ask {
    Report(oneshot::Sender<Report>),
    Leases(oneshot::Sender<Vec<Held>>),
    Adopt(Vec<Held>, oneshot::Sender<usize>),
}

/// How the service fares.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What came of the frames that it received.
    pub counters: Counters,
    /// How the XDP program is attached, and what came of its frames.
    pub xdp: Option<(Mode, outcome::Counters)>,
    /// How many leases have not ended; none where another server leases.
    pub leases: Option<usize>,
}

/// What came of the frames.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Replies sent.
    pub answered: u64,
    /// Requests that got no answer, as they should.
    pub unanswered: u64,
    /// Frames that are no DHCP.
    pub malformed: u64,
    /// Replies that could not be sent.
    pub failed: u64,
}

impl Handle {
    /// How the service fares.
    ///
    /// # Errors
    /// When it is ending.
    pub async fn report(&self) -> anyhow::Result<Report> {
        self.ask(Ask::Report).await
    }

    /// The leases that have not ended.
    ///
    /// # Errors
    /// When the service is ending.
    pub async fn leases(&self) -> anyhow::Result<Vec<Held>> {
        self.ask(Ask::Leases).await
    }

    /// Hands leases over; returns how many were taken and stored: those of free addresses in the
    /// pool, for machines without one.
    ///
    /// # Errors
    /// When the service is ending.
    pub async fn adopt(&self, leases: Vec<Held>) -> anyhow::Result<usize> {
        self.ask(|back| Ask::Adopt(leases, back)).await
    }

    /// A service that has the leases only, without sockets.
    #[cfg(test)]
    pub fn to(mut responder: super::Responder) -> Self {
        let (handle, mut asks) = mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    ask = asks.recv() => match ask {
                        Some(Ask::Report(back)) => {
                            let leases = responder.leases().map(Iterator::count);
                            let _ = back.send(Report {
                                counters: Counters { answered: 3, ..Counters::default() },
                                xdp: Some((Mode::Generic, outcome::Counters::default())),
                                leases,
                            });
                        }
                        Some(Ask::Leases(back)) => {
                            let leases = responder.leases().into_iter().flatten();
                            let _ = back.send(leases.collect());
                        }
                        Some(Ask::Adopt(leases, back)) => responder.adopt(leases, back),
                        None => return,
                    },
                    stored = responder.stored(None) => assert!(stored.is_ok()),
                }
            }
        });
        Self(handle)
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> anyhow::Result<T> {
        const ENDING: &str = "the DHCP service is ending";
        let (back, answer) = oneshot::channel();
        self.0.send(ask(back)).await.ok().context(ENDING)?;
        answer.await.context(ENDING)
    }
}
