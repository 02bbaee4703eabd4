//! `/boot.ipxe` and `/ipxe`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tracing::{error, info, warn};

use super::config::{self, Link};
use super::{Refusal, Site, name};
use crate::decisions::boot::answer::{Answer, answer, known_role};
use crate::decisions::boot::asker::Asker;
use crate::decisions::boot::labels::Labels;
use crate::decisions::boot::script;
use crate::state::machines::{Observation, Stage, Text};
use crate::time::WallTime;
use crate::wire::{MacAddr, Role};

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
    let asker = site.asker(client.ip()).await?;
    let (machine, labels) = identify(&asker, labels);
    let remembered = machine.and_then(|mac| site.machines.role(mac));
    let rules = site.rules();
    let planned = machine.and_then(|mac| rules.inventory.get(mac));
    let answer = answer(&labels, remembered.as_ref(), planned, &rules.catalog);
    if let Some(mac) = machine {
        site.machines.observe(mac, seen(&labels, client.ip(), &answer));
    }
    let (profile, chosen) = match answer {
        Answer::Menu => {
            info!(machine = name(machine), client = %client.ip(), "menu");
            return Ok(respond(script::menu(&site.origin)));
        }
        Answer::Kernel { profile, chosen } => (profile, chosen),
    };
    if let (Some(mac), Some(role)) = (machine, chosen) {
        assign(&site, mac, role).await?;
    }
    let config = match profile.config(&site.origin) {
        Some(file) => match config::link(&site, &asker, machine, file).await? {
            Link::Url(url) => Some(url),
            Link::None => None,
            Link::Broken => return Ok(respond(script::broken_config())),
        },
        None => None,
    };
    info!(
        machine = name(machine),
        client = %client.ip(),
        role = chosen.or(known_role(remembered.as_ref(), planned).map(Role::as_str)),
        profile = profile.id,
        config = config.is_some(),
        "boot script"
    );
    let profile = super::profile::fitted(&site, profile, &labels).await?;
    Ok(respond(script::kernel(&site.origin, &profile, config.as_deref())))
}

/// What a machine that asks for its script says of itself.
fn seen(labels: &Labels, address: IpAddr, answer: &Answer<'_>) -> Observation {
    let text = |label| labels.get(label).and_then(Text::new);
    let profile = match answer {
        Answer::Kernel { profile, .. } => Text::new(&profile.id),
        Answer::Menu => None,
    };
    Observation {
        uuid: text("uuid"),
        serial: text("serial"),
        hostname: labels.get("hostname").and_then(|name| name.parse().ok()),
        profile,
        address: Some(address),
        ..Observation::stage(WallTime::now(), Stage::Script)
    }
}

/// Gives the machine the role that was chosen. It is stored before a script rests on it.
async fn assign(site: &Arc<Site>, mac: MacAddr, role: &str) -> Result<(), Refusal> {
    let Ok(role) = role.parse::<Role>() else {
        warn!(machine = %mac, role, "not remembered: no name for a role");
        return Ok(());
    };
    if site.machines.role(mac).as_ref() == Some(&role) {
        return Ok(());
    }
    let machines = Arc::clone(&site.machines);
    let assigned = tokio::task::spawn_blocking(move || machines.assign(mac, role));
    assigned.await.map_err(|_| Refusal::Internal)?.map_err(|error| {
        error!(machine = %mac, "no role is given: {error}");
        Refusal::Internal
    })
}

/// The machine that asks, and its labels. Somebody else's MAC address gets nobody that machine's
/// script: the asker's own takes its place.
fn identify(asker: &Asker, labels: Labels) -> (Option<MacAddr>, Labels) {
    let claimed = labels.mac();
    let machine = asker.machine(claimed);
    match (machine, claimed) {
        (Some(machine), Some(claimed)) if machine != claimed => {
            warn!(
                client = %asker.address, %machine, %claimed,
                "a machine says that it is another one; it gets its own script"
            );
            (Some(machine), labels.with_mac(machine))
        }
        _ => (machine, labels),
    }
}

/// Scripts may hold a token, so nothing on the way may keep them.
fn respond(script: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], script)
        .into_response()
}
