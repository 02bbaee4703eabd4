//! HTTP for the boot network: scripts, kernels, configs and boot firmware.

mod assets;
mod config;
mod file;
mod firmware;
mod script;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::folder;
use super::rules::{InForce, Rules};
use crate::decisions::boot::origin::Origin;
use crate::state::machines::Machines;
use crate::state::tokens::Tokens;
use crate::wire::MacAddr;

/// Everything that the boot network can ask us for by HTTP.
#[derive(Debug)]
pub struct Site {
    /// Kernels, initramfs images and machine configs.
    assets: PathBuf,
    /// iPXE's binaries.
    firmware: PathBuf,
    /// How machines reach us.
    origin: Origin,
    /// Groups, profiles and the inventory, as they are at each moment.
    rules: InForce,
    machines: Mutex<Machines>,
    tokens: Mutex<Tokens>,
}

impl Site {
    /// What is reached at `origin`: the assets of `root`, the firmware folder, and scripts by
    /// the rules in force. Files are read when they are asked for.
    pub fn new(root: &Path, firmware: &Path, origin: Origin, rules: InForce) -> Self {
        Self {
            assets: root.join("assets"),
            firmware: firmware.to_owned(),
            origin,
            rules,
            machines: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    fn machines(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine at an address, for the log.
    fn machine_at(&self, address: IpAddr) -> String {
        name(self.machines().at(address))
    }
}

/// A machine's name in the log.
fn name(machine: Option<MacAddr>) -> String {
    machine.map_or_else(|| "unknown".to_owned(), |mac| mac.to_string())
}

/// The routes.
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/boot.ipxe", get(script::boot_ipxe))
        .route("/ipxe", get(script::ipxe))
        .route("/assets/{*path}", get(assets::get))
        .route("/firmware/{*path}", get(firmware::get))
        .route("/config/{token}", get(config::get))
        .fallback(async || Refusal::NotFound)
        .method_not_allowed_fallback(async || Refusal::ReadOnly)
        .with_state(site)
}

/// How long downloads may go on after the shutdown was asked for.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `shutdown`, then lets running downloads go on for two seconds.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Small answers, such as scripts, must not wait for the client's delayed ACK.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let out_of_grace = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = serving => result.context("HTTP server stopped"),
        () = out_of_grace => Ok(()),
    }
}

/// An error for the client: a status and one line of text.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    BadQuery(crate::decisions::boot::labels::QueryTooLong),
    /// There is no such thing, or not for this client: both look the same.
    NotFound,
    ReadOnly,
    Internal,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, line) = match self {
            Self::BadQuery(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
            Self::ReadOnly => (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned()),
            Self::Internal => {
                let line = "server error, see the server's log\n";
                (StatusCode::INTERNAL_SERVER_ERROR, line.to_owned())
            }
        };
        (status, line).into_response()
    }
}

#[cfg(test)]
mod tests;
