//! `/api/machines`.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tracing::info;

use super::types::{Assignment, Listed};
use super::{Admin, Problem, json, parse};
use crate::state::machines::{AssignError, Machine, Observation, Stage};
use crate::time::{BootTime, WallTime};
use crate::wire::MacAddr;

/// Which machines.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    /// So many, of which was heard last; all when left out.
    latest: Option<usize>,
}

/// All machines, by MAC address, or those that were heard last, the last one first.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Which { latest }) =
        which.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut machines = listed(&admin);
    if let Some(latest) = latest {
        machines.sort_by_key(|listed| Reverse(listed.machine.last_seen));
        machines.truncate(latest);
    }
    Ok(json(&machines))
}

pub(super) fn listed(admin: &Admin) -> Vec<Listed> {
    let mut all: Vec<_> =
        admin.machines.all().into_iter().map(|(mac, machine)| of(mac, machine)).collect();
    all.sort_by_key(|listed| listed.mac);
    all
}

fn of(mac: MacAddr, machine: Machine) -> Listed {
    Listed { mac, present: machine.present_at(BootTime::now()).is_some(), machine }
}

/// One machine.
pub(super) async fn get(
    State(admin): State<Arc<Admin>>,
    Path(mac): Path<String>,
) -> Result<Response, Problem> {
    known(&admin, read(&mac)?)
}

/// Gives a machine a role, whether it is known or not.
pub(super) async fn assign(
    State(admin): State<Arc<Admin>>,
    Path(mac): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let mac = read(&mac)?;
    let Assignment { role } = parse(&body)?;
    let machines = Arc::clone(&admin.machines);
    let given = role.clone();
    off_the_runtime(move || machines.assign(mac, given)).await?;
    info!(machine = %mac, %role, "role assigned by an administrator");
    known(&admin, mac)
}

/// Forgets a machine and its role.
pub(super) async fn forget(
    State(admin): State<Arc<Admin>>,
    Path(mac): Path<String>,
) -> Result<Response, Problem> {
    let mac = read(&mac)?;
    let machines = Arc::clone(&admin.machines);
    if !off_the_runtime(move || machines.forget(mac)).await? {
        return Err(unknown(mac));
    }
    info!(machine = %mac, "forgotten by an administrator");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Tells that Talos runs on a machine.
pub(super) async fn up(
    State(admin): State<Arc<Admin>>,
    Path(mac): Path<String>,
) -> Result<Response, Problem> {
    let mac = read(&mac)?;
    admin.machines.observe_known(mac, Observation::stage(WallTime::now(), Stage::Up));
    known(&admin, mac)
}

fn known(admin: &Admin, mac: MacAddr) -> Result<Response, Problem> {
    let machine = admin.machines.get(mac).ok_or_else(|| unknown(mac))?;
    Ok(json(&of(mac, machine)))
}

fn unknown(mac: MacAddr) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no machine {mac} is known"))
}

fn read(mac: &str) -> Result<MacAddr, Problem> {
    mac.parse()
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{mac:?} is {error}")))
}

/// Does what waits for the disk.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AssignError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?;
    done.map_err(|error| match error {
        AssignError::Full => Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
        error => Problem::internal(error),
    })
}
