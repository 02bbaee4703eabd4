//! The interface while it is served: whether it is still the same one, and what being set down
//! took from it.

use anyhow::bail;
use rtnetlink::MulticastGroup;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::netlink::{Events, Netlink};
use super::Change;
use crate::decisions::interface::{Interface, Link};

/// Looks after a served interface.
#[derive(Debug)]
pub struct Upkeep {
    pub(super) netlink: Netlink,
    pub(super) interface: Interface,
    /// What we changed on it.
    pub(super) done: Vec<Change>,
}

impl Upkeep {
    /// Whenever the interface comes up again, adds what we had added and is gone; until `shutdown`.
    ///
    /// # Errors
    /// When the interface is gone: what hangs on it will never work again, even if there is another
    /// one of the same name. When the kernel gives no netlink socket.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        shutdown.run_until_cancelled(self.watch()).await.unwrap_or(Ok(()))
    }

    async fn watch(&self) -> anyhow::Result<()> {
        let name = &self.interface.name;
        let mut events = Events::subscribe(&[MulticastGroup::Link])?;
        let mut was_up = None;
        loop {
            let Some(link) = find(&self.netlink, &self.interface).await? else {
                bail!("{name} is gone, or another interface in its place");
            };
            // It may have been down for a moment that nobody saw.
            if link.up
                && let Err(error) = self.put_back(&link).await
            {
                warn!("{name}: {error:#}");
            }
            match (was_up, link.up) {
                (Some(true), false) => {
                    warn!("{name} was set down: nobody is served until it is up")
                }
                (Some(false), true) => info!("{name} is up again"),
                _ => {}
            }
            was_up = Some(link.up);
            events.next().await?;
        }
    }

    /// The kernel drops routes when an interface is set down, and other programs addresses.
    async fn put_back(&self, link: &Link) -> anyhow::Result<()> {
        for change in &self.done {
            match *change {
                Change::Address(address) if !link.addresses.contains(&address) => {
                    self.netlink.add_address(&self.interface, address).await?;
                }
                Change::DefaultRoute(router) if !self.netlink.has_default_route().await? => {
                    self.netlink.add_default_route(&self.interface, router).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The interface as it is now; `None` when it is gone, or has another Ethernet address, which is in
/// every answer of ours.
pub(super) async fn find(netlink: &Netlink, interface: &Interface) -> anyhow::Result<Option<Link>> {
    let same = |link: &Link| link.index == interface.index && link.mac == Some(interface.mac);
    Ok(netlink.links().await?.into_iter().find(same))
}

/// Waits until there is an Ethernet interface of this name.
///
/// # Errors
/// When the kernel gives no netlink socket.
pub async fn wait_for(name: &str) -> anyhow::Result<()> {
    let netlink = Netlink::connect()?;
    let mut events = Events::subscribe(&[MulticastGroup::Link])?;
    while !netlink.links().await?.iter().any(|link| link.name == name && link.mac.is_some()) {
        events.next().await?;
    }
    Ok(())
}
