//! The admin API, the metrics and the page for administrators, on a port of their own.
//!
//! Nothing here is secret: no configs, no tokens. But whoever reaches it can give roles, and with
//! a role goes a config; so it listens on the loopback interface only, unless told otherwise.

pub mod client;
mod guard;
mod machines;
mod metrics;
#[cfg(test)]
mod tests;
mod transfer;
pub mod types;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use ipnet::Ipv4Net;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::error;

use super::dhcp;
use crate::decisions::interface::{Mode, Reason};
use crate::state::machines::Machines;
use crate::time::{BootTime, WallTime};
use types::{Failure, Status, Xdp};

/// The largest export that is imported, in bytes: room for 100,000 machines.
const LARGEST_IMPORT: usize = 64 << 20;

/// What administrators see and change.
#[derive(Debug)]
pub struct Admin {
    machines: Arc<Machines>,
    dhcp: dhcp::Handle,
    serving: Serving,
    started: (BootTime, WallTime),
}

/// What is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Whether we are the network's DHCP server.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
    /// The interface's name.
    pub interface: String,
    /// Our address on it.
    pub address: Ipv4Net,
    /// Why the XDP program does not run in the driver; `None` when it does.
    pub xdp_reason: Option<String>,
}

impl Admin {
    /// Of a daemon that starts now.
    pub fn new(machines: Arc<Machines>, dhcp: dhcp::Handle, serving: Serving) -> Self {
        Self { machines, dhcp, serving, started: (BootTime::now(), WallTime::now()) }
    }

    async fn status(&self) -> Result<Status, Problem> {
        let dhcp::Report { counters, xdp, leases } = self.dhcp.report().await?;
        let Serving { mode, reason, ref interface, address, ref xdp_reason } = self.serving;
        let frames = |counters: talos_pxe_ebpf::outcome::Counters| {
            counters.iter().map(|(outcome, count)| (outcome.name().to_owned(), count)).collect()
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: match mode {
                Mode::Server => "server".to_owned(),
                Mode::Proxy => "proxy".to_owned(),
            },
            reason: reason.to_string(),
            interface: interface.clone(),
            address,
            uptime_seconds: BootTime::now().since(self.started.0).as_secs(),
            machines: self.machines.count(),
            leases,
            dhcp: counters,
            xdp: xdp.map(|(mode, counters)| Xdp {
                mode: mode.to_string(),
                answered: counters.answered(),
                frames: frames(counters),
            }),
            xdp_reason: xdp_reason.clone(),
        })
    }
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("page/page.html"))))
        .route("/page.js", get(async || file("text/javascript", include_str!("page/page.js"))))
        .route("/page.css", get(async || file("text/css", include_str!("page/page.css"))))
        .route("/metrics", get(all_metrics))
        .route("/api/status", get(status))
        .route("/api/machines", get(machines::list))
        .route(
            "/api/machines/{mac}",
            get(machines::get).put(machines::assign).delete(machines::forget),
        )
        .route("/api/machines/{mac}/up", post(machines::up))
        .route("/api/export", get(transfer::export))
        .route("/api/import", post(transfer::import).layer(DefaultBodyLimit::max(LARGEST_IMPORT)))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such thing"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not by this method")
        })
        .layer(middleware::from_fn(guard::guard))
        .with_state(admin)
}

async fn status(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    Ok(json(&admin.status().await?))
}

async fn all_metrics(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    let status = admin.status().await?;
    let machines: Vec<_> = admin.machines.all().into_iter().map(|(_, machine)| machine).collect();
    let text = metrics::render(&status, &machines, admin.started.1);
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, content_type)], text).into_response()
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => Problem::internal(error).into_response(),
    }
}

/// Reads a request's body.
fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("not understood: {error}")))
}

/// An answer that is an error: a status and one line.
#[derive(Debug)]
struct Problem(StatusCode, String);

impl Problem {
    fn new(status: StatusCode, line: impl Into<String>) -> Self {
        Self(status, line.into())
    }

    fn internal(cause: impl std::fmt::Display) -> Self {
        error!("admin API: {cause:#}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{cause:#}"))
    }
}

impl From<anyhow::Error> for Problem {
    fn from(cause: anyhow::Error) -> Self {
        Self::internal(cause)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, json(&Failure { error: self.1 })).into_response()
    }
}
