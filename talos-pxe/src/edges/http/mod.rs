//! HTTP for the boot network: scripts, kernels, configs and boot firmware.

mod assets;
mod buffers;
mod config;
mod connection;
mod file;
mod firmware;
mod image;
mod matchbox;
mod profile;
mod script;
mod serve;
mod threads;
mod turns;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use buffers::Buffers;
use image::Images;
pub use serve::serve;
use threads::Threads;
use turns::Turns;

use super::configs::{Configs, Wishes};
use super::folder;
use super::neighbours::Neighbours;
use super::rules::{InForce, Rules};
use crate::decisions::boot::asker::{Asker, Place};
use crate::decisions::boot::origin::Origin;
use crate::decisions::transfers::Limit;
use crate::state::machines::{Machines, Observation, Stage};
use crate::state::tokens::Tokens;
use crate::time::WallTime;
use crate::wire::MacAddr;

/// Everything that the boot network can ask us for by HTTP.
#[derive(Debug)]
pub struct Site {
    /// Kernels, initramfs images and machine configs.
    assets: PathBuf,
    /// The templates of profiles.
    generic: PathBuf,
    /// iPXE's binaries.
    firmware: PathBuf,
    /// How machines reach us.
    origin: Origin,
    /// Groups, profiles and the inventory, as they are at each moment.
    rules: InForce,
    machines: Arc<Machines>,
    tokens: Mutex<Tokens>,
    images: Images,
    /// Whose turn it is to download an image.
    turns: Turns,
    /// Larger send buffers for images.
    buffers: Buffers,
    /// Where machine configs are made.
    made: Configs,
    /// Tells who asks; without it everybody counts as a client behind a router.
    neighbours: Option<Neighbours>,
}

impl Site {
    /// What is reached at `origin`: the assets of `root`, the firmware folder, and scripts by
    /// the rules in force. Files are read when they are asked for.
    pub fn new(
        root: &Path,
        firmware: &Path,
        origin: Origin,
        rules: InForce,
        machines: Arc<Machines>,
    ) -> Self {
        let planned = rules.clone();
        let wishes = move |mac| Wishes::of(planned.borrow().inventory.get(mac));
        Self {
            assets: root.join("assets"),
            generic: root.join("generic"),
            firmware: firmware.to_owned(),
            origin,
            rules,
            machines,
            tokens: Mutex::default(),
            images: Images::default(),
            turns: Turns::default(),
            buffers: Buffers::default(),
            made: Configs::new(root, wishes),
            neighbours: None,
        }
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// The site for the clients on one interface, who are known by their MAC addresses.
    #[must_use]
    pub fn with_neighbours(self, neighbours: Neighbours) -> Self {
        Self { neighbours: Some(neighbours), ..self }
    }

    /// The site where so many images are sent at a time, the others in turn.
    #[must_use]
    pub fn with_transfers(self, limit: Limit) -> Self {
        Self { turns: Turns::new(limit), ..self }
    }

    /// The site with larger send buffers for clients on this interface, if it is fast.
    #[must_use]
    pub fn with_interface(self, interface: &str) -> Self {
        Self { buffers: Buffers::on(interface), ..self }
    }

    /// Who asks from this address.
    async fn asker(&self, address: IpAddr) -> Result<Asker, Refusal> {
        let Some(neighbours) = &self.neighbours else {
            return Ok(Asker { address, place: Place::Routed });
        };
        neighbours.asker(address).await.map_err(|error| {
            error!("{error:#}");
            Refusal::Internal
        })
    }

    /// Serves until `shutdown`, then lets running downloads go on for two seconds.
    ///
    /// # Errors
    /// As [`serve`].
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (images, buffers) = (self.images.clone(), self.buffers.clone());
        let threads = Threads::start()?;
        serve::serve_images(listener, router(self), images, buffers, threads, shutdown).await
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine at an address, for the log.
    fn machine_at(&self, address: IpAddr) -> String {
        name(self.machines.at(address))
    }

    /// Notes how far the machine at an address has come.
    fn reached(&self, address: IpAddr, stage: Stage) {
        self.machines.observe_at(address, Observation::stage(WallTime::now(), stage));
    }
}

/// A machine's name in the log.
fn name(machine: Option<MacAddr>) -> String {
    machine.map_or_else(|| "unknown".to_owned(), |mac| mac.to_string())
}

/// The routes.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/boot.ipxe", get(script::boot_ipxe))
        .route("/ipxe", get(script::ipxe))
        .route("/assets/{*path}", get(assets::get))
        .route("/firmware/{*path}", get(firmware::get))
        .route("/config/{token}", get(config::get))
        .route("/metadata", get(matchbox::metadata))
        .route("/generic", get(matchbox::generic))
        .route("/ignition", get(async || Refusal::Unsupported))
        .route("/cloud", get(async || Refusal::Unsupported))
        .route("/grub", get(async || Refusal::Unsupported))
        .fallback(async || Refusal::NotFound)
        .method_not_allowed_fallback(async || Refusal::ReadOnly)
        .with_state(site)
}

/// An error for the client: a status and one line of text.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    BadQuery(crate::decisions::boot::labels::QueryTooLong),
    /// There is no such thing, or not for this client: both look the same.
    NotFound,
    /// matchbox serves this; we do not.
    Unsupported,
    ReadOnly,
    Internal,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, line) = match self {
            Self::BadQuery(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
            Self::Unsupported => {
                let line =
                    "not supported: Talos reads its own config from the link in its script\n";
                (StatusCode::NOT_FOUND, line.to_owned())
            }
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
