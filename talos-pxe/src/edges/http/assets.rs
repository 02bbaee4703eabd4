//! `/assets/*`: kernels and initramfs images, and whatever else the user put there, except
//! machine configs and credentials.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use tracing::{info, warn};

use super::folder::OpenFile;
use super::{Refusal, Site, file};
use crate::decisions::boot::asset::is_named_secret;
use crate::decisions::boot::catalog::Part;
use crate::state::machines::Stage;
use crate::wire::AssetPath;

/// A file of the assets folder.
pub(super) async fn get(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = uri.path().strip_prefix("/assets/").and_then(AssetPath::from_url);
    let path = path.ok_or(Refusal::NotFound)?;
    let machine = site.machine_at(client.ip());
    let opened = open(Arc::clone(&site), path.clone()).await?.map_err(|error| {
        warn!(machine, client = %client.ip(), file = %path, %error, "asset refused");
        Refusal::NotFound
    })?;
    if method == Method::GET {
        info!(machine, client = %client.ip(), file = %path, "asset");
        if let Some(part) = site.rules().catalog.part(&path, &site.origin) {
            let stage = match part {
                Part::Kernel => Stage::Kernel,
                Part::Initramfs => Stage::Initramfs,
            };
            site.reached(client.ip(), stage);
        }
    }
    let ticket = |octets| site.turns.ticket(client.ip(), octets);
    Ok(file::respond(&site.images, opened, &method, &headers, file::content_type(&path), ticket))
}

async fn open(site: Arc<Site>, path: AssetPath) -> Result<io::Result<OpenFile>, Refusal> {
    let secret = || io::Error::other("machine configs and credentials are not for everyone");
    let open = move || {
        let rules = site.rules();
        if is_named_secret(&path) || rules.configs.contains(&path) {
            return Err(secret());
        }
        let opened = OpenFile::beneath(&site.assets, &path)?;
        if opened.is_secret(&rules.configs)? { Err(secret()) } else { Ok(opened) }
    };
    tokio::task::spawn_blocking(open).await.map_err(|_| Refusal::Internal)
}
