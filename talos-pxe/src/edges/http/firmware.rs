//! `/firmware/*`: iPXE's binaries and UKIs, for UEFI HTTP boot.

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
use crate::state::machines::Stage;
use crate::wire::AssetPath;

/// A file of the firmware folder, which has no folders inside.
pub(super) async fn get(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = uri.path().strip_prefix("/firmware/").and_then(AssetPath::from_url);
    let name = name.filter(|name| !name.as_str().contains('/')).ok_or(Refusal::NotFound)?;
    let opened = open(Arc::clone(&site), name.clone()).await?.map_err(|error| {
        warn!(client = %client.ip(), file = %name, %error, "firmware refused");
        Refusal::NotFound
    })?;
    info!(client = %client.ip(), file = %name, %method, "firmware");
    if method == Method::GET {
        site.reached(client.ip(), Stage::BootFile);
    }
    Ok(file::respond(&site.images, opened, &method, &headers, file::content_type(&name), |_| None))
}

async fn open(site: Arc<Site>, name: AssetPath) -> Result<io::Result<OpenFile>, Refusal> {
    let open = move || {
        let opened = OpenFile::linked(&site.firmware, &name)?;
        if is_named_secret(&name) || opened.is_secret(&site.rules().configs)? {
            return Err(io::Error::other("this is no boot file"));
        }
        Ok(opened)
    };
    tokio::task::spawn_blocking(open).await.map_err(|_| Refusal::Internal)
}
