//! The interface: brought up, given an address, looked after, and put back as it was.

mod upkeep;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::bail;
use ipnet::Ipv4Net;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::dhcp_client::DhcpClient;
use super::netlink::Netlink;
use crate::decisions::interface::{
    Answer, Interface, Link, Plan, Settings, Uplink, answered, choose, plan, unanswered,
};
pub use upkeep::{Upkeep, wait_for};

/// How long a DHCP server has to make an offer, and again to confirm it.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a network card has to find its link partner; gigabit ones take about 3 s.
const CARRIER_LIMIT: Duration = Duration::from_secs(10);

/// The interface as it is served.
#[derive(Debug)]
pub struct Network {
    /// The interface.
    pub interface: Interface,
    /// Our mode and address on it.
    pub uplink: Uplink,
    /// What has to be put back.
    changes: Changes,
    /// Keeps our lease, when we took one.
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Chooses the interface, brings it up and gives it an address; `None` when `shutdown` came
/// first. On failure everything is put back.
///
/// # Errors
/// A [`ChooseError`](crate::decisions::interface::ChooseError) or
/// [`PlanError`](crate::decisions::interface::PlanError) when the command line does not fit the
/// machine; else what the kernel or the network refused.
pub async fn prepare(
    settings: &Settings,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Network>> {
    let netlink = Netlink::connect()?;
    let links = netlink.links().await?;
    let interface = choose(settings.interface.as_deref(), &links)?;
    let link = netlink.link(interface.index).await?;
    let plan = plan(settings, &link)?;
    let mut changes = Changes { netlink, interface, link, done: Vec::new() };
    match follow(plan, settings, &mut changes, shutdown).await {
        Ok(Some((uplink, client))) => {
            let interface = changes.interface.clone();
            info!(interface = %interface.name, address = %uplink.address, "we are the {}", uplink.mode);
            let keeper = client.map(Keeper::start);
            Ok(Some(Network { interface, uplink, changes, keeper }))
        }
        Ok(None) => {
            changes.restore().await;
            Ok(None)
        }
        Err(error) => {
            changes.restore().await;
            Err(error)
        }
    }
}

impl Network {
    /// Looks after the interface while it is served.
    pub fn upkeep(&self) -> Upkeep {
        let Changes { netlink, interface, done, .. } = &self.changes;
        Upkeep { netlink: netlink.clone(), interface: interface.clone(), done: done.clone() }
    }

    /// Whether the interface is gone, or became another one: then all that hangs on it fails, and
    /// there is nothing to restore.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub async fn is_gone(&self) -> anyhow::Result<bool> {
        Ok(upkeep::find(&self.changes.netlink, &self.interface).await?.is_none())
    }

    /// Leaves an interface that is gone: our lease cannot be given back.
    pub fn abandon(self) {
        if let Some(keeper) = self.keeper {
            keeper.task.abort();
        }
    }

    /// Gives our lease back and undoes what [`prepare`] changed.
    pub async fn restore(mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.stop().await;
        }
        self.changes.restore().await;
    }
}

/// Only the waits end at `shutdown`: a change that was begun is finished and so is known of.
async fn follow(
    plan: Plan,
    settings: &Settings,
    changes: &mut Changes,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<(Uplink, Option<DhcpClient>)>> {
    if let Plan::Keep(uplink) = plan {
        if !changes.link.carrier {
            warn!("no carrier on {}: no cable, or the switch port is off", changes.interface.name);
        }
        return Ok(Some((uplink, None)));
    }
    changes.set_up().await?;
    let Some(up) = shutdown.run_until_cancelled(changes.wait_for_carrier()).await else {
        return Ok(None);
    };
    up?;
    let (uplink, client) = match plan {
        Plan::Keep(uplink) | Plan::Set(uplink) => (uplink, None),
        Plan::Ask => {
            info!("asking for a DHCP server on {}", changes.interface.name);
            let asking = ask(settings, &changes.interface, &changes.link);
            match shutdown.run_until_cancelled(asking).await {
                Some(answer) => answer?,
                None => return Ok(None),
            }
        }
    };
    changes.add_address(uplink.address).await?;
    if let Some(router) = uplink.router {
        changes.add_default_route(&uplink.address, router).await?;
    }
    Ok(Some((uplink, client)))
}

/// Looks for a DHCP server; returns the client as well when it holds a lease.
async fn ask(
    settings: &Settings,
    interface: &Interface,
    link: &Link,
) -> anyhow::Result<(Uplink, Option<DhcpClient>)> {
    let mut client = DhcpClient::open(interface)?;
    let Some(offer) = client.offer(ANSWER_LIMIT).await? else {
        return Ok((unanswered(settings, link)?, None));
    };
    info!(server = %offer.server, offer = %offer.address, "there is a DHCP server");
    if let Answer::Set(uplink) = answered(settings, link, &offer) {
        return Ok((uplink, None));
    }
    // To be a DHCP server beside the one that made an offer would be wrong in any case.
    let Some(lease) = client.take(ANSWER_LIMIT).await? else {
        bail!(
            "the DHCP server {} offered {} and did not confirm it: check the server, or give our \
             own address with --addr",
            offer.server,
            offer.address.addr()
        );
    };
    let (Answer::Lease(uplink) | Answer::Set(uplink)) = answered(settings, link, &lease);
    Ok((uplink, Some(client)))
}

impl Keeper {
    fn start(client: DhcpClient) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(client.keep(stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            warn!("the DHCP client failed: {error}");
        }
    }
}

/// The interface and what we changed on it.
#[derive(Debug)]
struct Changes {
    netlink: Netlink,
    interface: Interface,
    /// Its state when it was last looked at.
    link: Link,
    /// In the order they were made; what was there before us is not among them.
    done: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Up,
    Address(Ipv4Net),
    DefaultRoute(Ipv4Addr),
}

impl Changes {
    async fn set_up(&mut self) -> anyhow::Result<()> {
        if !self.link.up {
            self.netlink.set_up(&self.interface, true).await?;
            self.done.push(Change::Up);
        }
        Ok(())
    }

    async fn wait_for_carrier(&mut self) -> anyhow::Result<()> {
        let found = self.netlink.wait_for_carrier(self.interface.index, CARRIER_LIMIT).await?;
        let Some(link) = found else {
            bail!(
                "no carrier on {}: no cable, or the switch port is off; connect it, or start \
                 without it with --skip-ifup",
                self.interface.name
            );
        };
        self.link = link;
        Ok(())
    }

    async fn add_address(&mut self, address: Ipv4Net) -> anyhow::Result<()> {
        if self.netlink.add_address(&self.interface, address).await? {
            self.done.push(Change::Address(address));
        }
        Ok(())
    }

    /// The machine's own default route is left alone: ours is only for a machine without any.
    async fn add_default_route(
        &mut self,
        subnet: &Ipv4Net,
        router: Ipv4Addr,
    ) -> anyhow::Result<()> {
        if !subnet.contains(&router) {
            warn!("the router {router} is not within {subnet}: no default route over it");
        } else if !self.netlink.has_default_route().await?
            && self.netlink.add_default_route(&self.interface, router).await?
        {
            self.done.push(Change::DefaultRoute(router));
        }
        Ok(())
    }

    /// Undoes the changes, last one first.
    async fn restore(mut self) {
        while let Some(change) = self.done.pop() {
            let (netlink, interface) = (&self.netlink, &self.interface);
            let undone = match change {
                Change::Up => netlink.set_up(interface, false).await,
                Change::Address(address) => netlink.remove_address(interface, address).await,
                Change::DefaultRoute(router) => {
                    netlink.remove_default_route(interface, router).await
                }
            };
            if let Err(error) = undone {
                warn!("putting {} back: {error:#}", interface.name);
            }
        }
    }
}
