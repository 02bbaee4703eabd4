//! What follows from the machines that are known: their names, and who may begin the cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::decisions::bootstrap::Candidate;
use crate::decisions::dns::Zone;
use crate::state::machines::{Machine, Machines};
use crate::time::BootTime;
use crate::wire::{Hostname, MacAddr, Role};

/// How long a machine's name may lag behind what is known of it.
const LAG: Duration = Duration::from_secs(1);

/// What the zone is made of besides the machines.
pub(super) struct Names {
    /// Our own address and subnet.
    pub own: Ipv4Net,
    /// The name of the control plane.
    pub control_plane: Hostname,
}

/// A machine that is there: its name, its address, and whether it is of the control plane.
type Present = (Option<Hostname>, Ipv4Addr, bool);

impl Names {
    /// The zone of the machines that are there now.
    pub(super) fn zone(&self, machines: &Machines) -> Zone {
        Zone::new(self.own, &self.control_plane, present(machines))
    }
}

/// Keeps the zone in step with the machines, until `shutdown`.
pub(super) async fn follow(
    names: Names,
    machines: Arc<Machines>,
    zone: watch::Sender<Arc<Zone>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut look = interval(LAG);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    while shutdown.run_until_cancelled(look.tick()).await.is_some() {
        // Leases end without anything happening, so a count of changes would not tell.
        let present = present(&machines);
        if known.as_ref() != Some(&present) {
            zone.send_replace(Arc::new(names.zone(&machines)));
            known = Some(present);
        }
    }
    Ok(())
}

fn present(machines: &Machines) -> Vec<Present> {
    let mut present: Vec<Present> = addressed(machines)
        .map(|(_, address, machine)| {
            let in_control_plane = machine.role.as_ref().is_some_and(Role::is_control_plane);
            (machine.hostname, address, in_control_plane)
        })
        .collect();
    present.sort();
    present
}

/// The machines that may be told to bootstrap the cluster.
pub(super) fn candidates(machines: &Machines) -> Vec<Candidate> {
    let candidate = |(mac, address, machine): (MacAddr, Ipv4Addr, Machine)| {
        let first_seen = machine.first_seen.map_or(u64::MAX, |time| time.0);
        let role = machine.role.filter(Role::is_control_plane)?;
        Some(Candidate { mac, address, role, first_seen })
    };
    addressed(machines).filter_map(candidate).collect()
}

/// The machines that are there, with their addresses.
fn addressed(machines: &Machines) -> impl Iterator<Item = (MacAddr, Ipv4Addr, Machine)> {
    let now = BootTime::now();
    machines.all().into_iter().filter_map(move |(mac, machine)| match machine.present_at(now) {
        Some(IpAddr::V4(address)) => Some((mac, address, machine)),
        _ => None,
    })
}
