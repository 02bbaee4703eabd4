//! `/api/export` and `/api/import`: machines, roles and leases, to another computer or to a
//! backup.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tracing::info;

use super::machines::{listed, off_the_runtime};
use super::types::{Export, Imported, Lease};
use super::{Admin, Problem, json, parse};
use crate::decisions::interface::Mode;
use crate::state::store::Held;
use crate::time::BootTime;

/// Everything that is worth keeping.
pub(super) async fn export(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    let now = BootTime::now();
    let mut leases: Vec<_> = admin.dhcp.leases().await?;
    leases.sort_by_key(|held| held.address);
    let lease = |Held { mac, address, until }| Lease {
        mac,
        address,
        seconds_left: until.since(now).as_secs(),
    };
    let leases = leases.into_iter().map(lease).collect();
    Ok(json(&Export { version: Export::VERSION, machines: listed(&admin), leases }))
}

/// Takes an export in: its machines replace those of the same MAC address; its leases are taken
/// where nothing speaks against them.
pub(super) async fn import(
    State(admin): State<Arc<Admin>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Export { version, machines, leases } = parse(&body)?;
    if version != Export::VERSION {
        let line = format!("version {version} of the format; known is {}", Export::VERSION);
        return Err(Problem::new(StatusCode::BAD_REQUEST, line));
    }
    let count = machines.len();
    let records = machines.into_iter().map(|listed| {
        let mut machine = listed.machine;
        // Where we give the leases, a machine is there once it has one.
        machine.lease = (admin.serving.mode == Mode::Server).then_some(BootTime::BOOT);
        (listed.mac, machine)
    });
    let records = records.collect();
    let known = Arc::clone(&admin.machines);
    off_the_runtime(move || known.put(records)).await?;

    let now = BootTime::now();
    let held = leases.into_iter().map(|Lease { mac, address, seconds_left }| Held {
        mac,
        address,
        until: now + Duration::from_secs(seconds_left),
    });
    let leases = admin.dhcp.adopt(held.collect()).await?;
    info!(machines = count, leases, "imported by an administrator");
    Ok(json(&Imported { machines: count, leases }))
}
