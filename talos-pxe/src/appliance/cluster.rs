//! What follows from the machines that are known: their names, and who may begin the cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::decisions::boot::answer::known_role;
use crate::decisions::bootstrap::Candidate;
use crate::decisions::dns::Zone;
use crate::edges::rules::InForce;
use crate::state::machines::Machines;
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
    /// What the operator says of the machines.
    pub rules: InForce,
}

/// A machine that is there: its name, its address, and whether it is of the control plane.
type Present = (Option<Hostname>, Ipv4Addr, bool);

impl Names {
    /// The zone of the machines that are there now.
    pub(super) fn zone(&self, machines: &Machines) -> Zone {
        self.zone_of(self.present(machines))
    }

    fn zone_of(&self, present: Vec<Present>) -> Zone {
        Zone::new(self.own, &self.control_plane, present)
    }

    fn present(&self, machines: &Machines) -> Vec<Present> {
        let mut present: Vec<Present> = planned(machines, &self.rules)
            .map(|Planned { address, hostname, role, .. }| {
                (hostname, address, role.as_ref().is_some_and(Role::is_control_plane))
            })
            .collect();
        present.sort();
        present
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
        let present = names.present(&machines);
        if known.as_ref() != Some(&present) {
            zone.send_replace(Arc::new(names.zone_of(present.clone())));
            known = Some(present);
        }
    }
    Ok(())
}

/// The machines that may be told to bootstrap the cluster.
pub(super) fn candidates(machines: &Machines, rules: &InForce) -> Vec<Candidate> {
    let candidate = |Planned { mac, address, role, first_seen, .. }: Planned| {
        let role = role.filter(Role::is_control_plane)?;
        Some(Candidate { mac, address, role, first_seen })
    };
    planned(machines, rules).filter_map(candidate).collect()
}

/// A machine that is there. What the operator wrote of its name counts before what it says itself.
struct Planned {
    mac: MacAddr,
    address: Ipv4Addr,
    hostname: Option<Hostname>,
    role: Option<Role>,
    first_seen: u64,
}

fn planned(machines: &Machines, rules: &InForce) -> impl Iterator<Item = Planned> {
    let (now, rules) = (BootTime::now(), rules.borrow().clone());
    machines.all().into_iter().filter_map(move |(mac, machine)| {
        let Some(IpAddr::V4(address)) = machine.present_at(now) else { return None };
        let entry = rules.inventory.get(mac);
        let named = entry.and_then(|entry| entry.hostname.clone());
        Some(Planned {
            mac,
            address,
            hostname: named.or(machine.hostname),
            role: known_role(machine.role.as_ref(), entry).cloned(),
            first_seen: machine.first_seen.map_or(u64::MAX, |time| time.0),
        })
    })
}
