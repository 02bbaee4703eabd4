//! `/config/<token>`: one machine's config.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tracing::{error, info, warn};

use super::{Refusal, Site};
use crate::decisions::boot::asker::Asker;
use crate::edges::configs::MakeError;
use crate::state::machines::{Observation, Stage};
use crate::state::tokens::{Grant, Token};
use crate::time::{BootTime, WallTime};
use crate::wire::{AssetPath, MacAddr};

/// The config that the token stands for, if it is its machine that asks. Neither the token nor
/// the content is ever logged.
pub(super) async fn get(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(token): Path<String>,
) -> Result<Response, Refusal> {
    // Asked in any case, so that a wrong token takes as long as one of another machine.
    let asker = site.asker(client.ip()).await?;
    let is_holder = |machine, address| asker.is(machine, address);
    let redeemed = Token::from_url_part(&token).and_then(|token| {
        let grant = site.tokens().redeem(BootTime::now(), token, is_holder)?;
        Some((token, grant))
    });
    let (token, grant) = redeemed.ok_or_else(|| {
        warn!(
            client = %client.ip(), place = ?asker.place,
            "config refused: the token is unknown, used up, expired or another machine's"
        );
        Refusal::NotFound
    })?;
    let Grant { machine, config: file } = grant;
    let made = make(&site, machine, &file).await?;
    if made.is_err() {
        // Talos asks again and again, and is to get it once the file is there or corrected.
        site.tokens().give_back(token);
    }
    match made {
        Ok(config) => {
            info!(%machine, client = %client.ip(), %file, "machine config");
            let fetched = Observation::stage(WallTime::now(), Stage::Config);
            site.machines.observe_known(machine, fetched);
            let headers = [(CONTENT_TYPE, "text/yaml"), (CACHE_CONTROL, "no-store")];
            Ok((headers, config).into_response())
        }
        Err(error @ MakeError::Missing) => {
            warn!(%machine, %file, %error, "no machine config");
            Err(Refusal::NotFound)
        }
        Err(error) => {
            error!(%machine, %file, %error, "the machine's config cannot be made");
            Err(Refusal::Internal)
        }
    }
}

/// What a boot script says about the machine's config.
pub(super) enum Link {
    /// Where the machine, and nobody else, can fetch it.
    Url(String),
    /// There is none, so Talos waits in maintenance mode.
    None,
    /// There is one that cannot be made. Without it Talos would wait in maintenance mode, where
    /// anybody on the network may give it a config; so the machine must not boot.
    Broken,
}

/// Gives a machine access to its config, which is made once to see whether it can be.
pub(super) async fn link(
    site: &Arc<Site>,
    asker: &Asker,
    machine: Option<MacAddr>,
    file: AssetPath,
) -> Result<Link, Refusal> {
    let Some(machine) = machine else {
        warn!(
            client = %asker.address, place = ?asker.place, %file,
            "no machine config: the client does not say which machine it is, or is not on the \
             boot network"
        );
        return Ok(Link::None);
    };
    match make(site, machine, &file).await? {
        Ok(_) => {}
        Err(error @ MakeError::Missing) => {
            warn!(
                %machine, %file, %error,
                "no machine config: the machine will wait in maintenance mode; put the file into \
                 the assets folder and boot again"
            );
            return Ok(Link::None);
        }
        Err(error) => {
            error!(
                %machine, %file, %error,
                "the machine's config cannot be made, so it does not boot; correct the file and \
                 it goes on"
            );
            return Ok(Link::Broken);
        }
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        error!(%error, "no random numbers");
        Refusal::Internal
    })?;
    let (fresh, grant) = (Token::from_random(random), Grant { machine, config: file });
    let token = site.tokens().issue(BootTime::now(), grant, asker.address, fresh);
    Ok(Link::Url(site.origin.url(&format!("/config/{}", token.to_url_part()))))
}

async fn make(
    site: &Arc<Site>,
    machine: MacAddr,
    file: &AssetPath,
) -> Result<Result<Vec<u8>, MakeError>, Refusal> {
    let (site, file) = (site.clone(), file.clone());
    let made = tokio::task::spawn_blocking(move || site.made.make(&file, machine));
    made.await.map_err(|_| Refusal::Internal)
}
