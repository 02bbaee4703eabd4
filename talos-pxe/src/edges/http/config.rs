//! `/config/<token>`: one machine's config.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tracing::{info, warn};

use super::folder::OpenFile;
use super::{Refusal, Site, name};
use crate::state::machines::{Observation, Stage};
use crate::state::tokens::Token;
use crate::time::{BootTime, WallTime};

/// No machine config comes near this, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// The config that the token stands for. Neither the token nor the content is ever logged.
pub(super) async fn get(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(token): Path<String>,
) -> Result<Response, Refusal> {
    let grant = Token::from_url_part(&token)
        .and_then(|token| site.tokens().redeem(BootTime::now(), token))
        .ok_or_else(|| {
            warn!(client = %client.ip(), "config refused: the token is unknown or has expired");
            Refusal::NotFound
        })?;
    let assets = site.assets.clone();
    let path = grant.config.clone();
    let config = tokio::task::spawn_blocking(move || read(OpenFile::beneath(&assets, &path)?));
    let config = config.await.map_err(|_| Refusal::Internal)?.map_err(|error| {
        warn!(machine = name(grant.machine), file = %grant.config, %error, "cannot read config");
        Refusal::NotFound
    })?;
    info!(
        machine = name(grant.machine), client = %client.ip(), file = %grant.config,
        "machine config"
    );
    if let Some(mac) = grant.machine {
        site.machines.observe_known(mac, Observation::stage(WallTime::now(), Stage::Config));
    }
    Ok(([(CONTENT_TYPE, "text/yaml"), (CACHE_CONTROL, "no-store")], config).into_response())
}

fn read(opened: OpenFile) -> io::Result<Vec<u8>> {
    if opened.metadata.len() > MAX_SIZE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut config = Vec::new();
    opened.file.take(MAX_SIZE).read_to_end(&mut config)?;
    Ok(config)
}
