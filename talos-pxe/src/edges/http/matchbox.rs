//! `/metadata` and `/generic`, as matchbox serves them: what a machine's group says, and the
//! template of its profile.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tracing::{info, warn};

use super::{Refusal, Site, folder, name};
use crate::decisions::boot::answer::group;
use crate::decisions::boot::asset::looks_secret;
use crate::decisions::boot::labels::Labels;
use crate::decisions::boot::template;
use crate::decisions::boot::variables::Variables;
use crate::wire::AssetPath;

/// No template comes near this, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// The variables of the machine's group as `KEY=value` lines.
pub(super) async fn metadata(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let found = Found::by_query(&site, query)?;
    info!(machine = found.machine, client = %client.ip(), group = found.group, "metadata");
    Ok(respond(found.variables.to_env()))
}

/// The template of the machine's profile, filled in. It never is a machine config or a key: the
/// labels that lead here are nobody's secret.
pub(super) async fn generic(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let Found { machine, group, template, variables } = Found::by_query(&site, query)?;
    let refuse = |file: Option<&AssetPath>, error: &dyn std::fmt::Display| {
        let file = file.map_or("none", AssetPath::as_str);
        warn!(machine, client = %client.ip(), group, file, %error, "template refused");
        Refusal::NotFound
    };
    let file = template.ok_or_else(|| refuse(None, &"the profile has no generic_id"))?;
    let path = file.clone();
    let text = tokio::task::spawn_blocking(move || read(&site, &path)).await;
    let text = text.map_err(|_| Refusal::Internal)?.map_err(|error| refuse(Some(&file), &error))?;
    let filled = template::fill(&text, &variables).map_err(|error| refuse(Some(&file), &error))?;
    if looks_secret(filled.as_bytes()) || looks_secret(text.as_bytes()) {
        return Err(refuse(Some(&file), &"it looks like a machine config or a key"));
    }
    info!(machine, client = %client.ip(), group, %file, "template");
    Ok(respond(filled))
}

/// What the labels of a request lead to.
struct Found {
    /// The machine and its group, for the log.
    machine: String,
    group: String,
    template: Option<AssetPath>,
    variables: Variables,
}

impl Found {
    fn by_query(site: &Site, query: Option<String>) -> Result<Self, Refusal> {
        let query = query.unwrap_or_default();
        let labels = Labels::from_query(&query).map_err(Refusal::BadQuery)?;
        let mac = labels.mac();
        let remembered = mac.and_then(|mac| site.machines.role(mac));
        let rules = site.rules();
        let planned = mac.and_then(|mac| rules.inventory.get(mac));
        let group = group(&labels, remembered.as_ref(), planned, &rules.catalog);
        let group = group.ok_or(Refusal::NotFound)?;
        Ok(Self {
            machine: name(mac),
            group: group.name.clone(),
            template: group.profile.generic.clone(),
            variables: Variables::new(group, &labels, &query),
        })
    }
}

fn read(site: &Site, path: &AssetPath) -> io::Result<String> {
    let opened = folder::OpenFile::beneath(&site.generic, path)?;
    let mut text = String::new();
    opened.file.take(MAX_SIZE + 1).read_to_string(&mut text)?;
    if text.contains('\0') {
        Err(io::Error::other("it is no text"))
    } else if text.len() as u64 > MAX_SIZE {
        Err(io::ErrorKind::FileTooLarge.into())
    } else {
        Ok(text)
    }
}

fn respond(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], text)
        .into_response()
}

#[cfg(test)]
#[path = "matchbox_tests.rs"]
mod tests;
