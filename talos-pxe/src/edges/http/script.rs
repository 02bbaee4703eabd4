//! `/boot.ipxe` and `/ipxe`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tracing::{error, info, warn};

use super::{Refusal, Site, folder, name};
use crate::decisions::boot::answer::{Answer, answer, known_role};
use crate::decisions::boot::catalog::Profile;
use crate::decisions::boot::labels::Labels;
use crate::decisions::boot::script;
use crate::state::tokens::{Grant, Token};
use crate::time::BootTime;
use crate::wire::AssetPath;
use crate::wire::MacAddr;

/// The entry script.
pub(super) async fn boot_ipxe(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
) -> Response {
    info!(client = %client.ip(), "entry script");
    respond(script::boot_ipxe(&site.origin))
}

/// What this machine boots, or the menu.
pub(super) async fn ipxe(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let labels =
        Labels::from_query(query.as_deref().unwrap_or_default()).map_err(Refusal::BadQuery)?;
    let machine = labels.mac();
    let remembered = machine.and_then(|mac| {
        let mut machines = site.machines();
        machines.seen(BootTime::now(), mac, client.ip());
        machines.role(mac).map(str::to_owned)
    });
    let rules = site.rules();
    let planned = machine.and_then(|mac| rules.inventory.get(mac));
    let answer = answer(&labels, remembered.as_deref(), planned, &rules.catalog);
    let (profile, chosen) = match answer {
        Answer::Menu => {
            info!(machine = name(machine), client = %client.ip(), "menu");
            return Ok(respond(script::menu(&site.origin)));
        }
        Answer::Kernel { profile, chosen } => (profile, chosen),
    };
    if let (Some(mac), Some(role)) = (machine, chosen) {
        site.machines().choose(mac, role);
    }
    let config = match profile.config(&site.origin) {
        Some(config) => config_url(&site, machine, profile, config).await?,
        None => None,
    };
    info!(
        machine = name(machine),
        client = %client.ip(),
        role = chosen.or(known_role(remembered.as_deref(), planned)),
        profile = profile.id,
        config = config.is_some(),
        "boot script"
    );
    Ok(respond(script::kernel(&site.origin, profile, config.as_deref())))
}

/// The URL at which this machine, and nobody else, can fetch its config; none if there is no such
/// file.
async fn config_url(
    site: &Arc<Site>,
    machine: Option<MacAddr>,
    profile: &Profile,
    config: AssetPath,
) -> Result<Option<String>, Refusal> {
    let assets = site.assets.clone();
    let path = config.clone();
    let opened = tokio::task::spawn_blocking(move || folder::OpenFile::beneath(&assets, &path));
    if let Err(error) = opened.await.map_err(|_| Refusal::Internal)? {
        warn!(
            machine = name(machine), profile = profile.id, file = %config, %error,
            "no machine config: the machine will wait in maintenance mode; put the file into \
             the assets folder and boot again"
        );
        return Ok(None);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        error!(%error, "no random numbers");
        Refusal::Internal
    })?;
    let fresh = Token::from_random(random);
    let token = site.tokens().issue(BootTime::now(), Grant { machine, config }, fresh);
    Ok(Some(site.origin.url(&format!("/config/{}", token.to_url_part()))))
}

/// Scripts may hold a token, so nothing on the way may keep them.
fn respond(script: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], script)
        .into_response()
}
