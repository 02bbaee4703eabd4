//! `talos-pxe machines` and `talos-pxe status`: ask a running talos-pxe, and print what it says.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request};
use ureq::{Agent, Body};

use super::LARGEST_IMPORT;
use super::types::{Assignment, Export, Failure, Imported, Listed, Status};
use crate::cli::{Action, Machines, Target};
use crate::state::machines::{Firmware, Stage};
use crate::text::span;
use crate::time::WallTime;

/// How long an answer may take: an import waits for the disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a screen shows of a running talos-pxe.
#[derive(Clone, Debug)]
pub struct Overview {
    /// How it fares.
    pub status: Status,
    /// The machines that were heard last, the last one first.
    pub latest: Vec<Listed>,
}

impl Overview {
    /// Asks for it, with up to `latest` machines.
    ///
    /// # Errors
    /// When no talos-pxe answers at once.
    pub fn ask(admin: SocketAddr, latest: usize) -> anyhow::Result<Self> {
        let api = Api::new(admin, Duration::from_secs(2));
        let (status, latest) =
            (api.get("/api/status")?, api.get(&format!("/api/machines?latest={latest}"))?);
        Ok(Self { status, latest })
    }
}

/// Does `talos-pxe status`.
///
/// # Errors
/// When no talos-pxe answers, with the next step.
pub fn status(target: Target, out: &mut impl Write) -> anyhow::Result<()> {
    let status: Status = Api::new(target.admin, PATIENCE).get("/api/status")?;
    if target.json {
        return print_json(out, &status);
    }
    let Status { version, mode, reason, interface, address, uptime_seconds, .. } = &status;
    let up = span(*uptime_seconds);
    writeln!(out, "talos-pxe {version}, {mode} mode on {interface} with {address}, up for {up}")?;
    writeln!(out, "  mode      {mode}: {reason}")?;
    let xdp = xdp(&status);
    writeln!(out, "  XDP       {xdp}")?;
    let dhcp = status.dhcp;
    writeln!(
        out,
        "  DHCP      {} answered, {} unanswered, {} malformed, {} not sent",
        dhcp.answered, dhcp.unanswered, dhcp.malformed, dhcp.failed
    )?;
    if let Some(leases) = status.leases {
        writeln!(out, "  leases    {leases}")?;
    }
    writeln!(out, "  machines  {}", status.machines)?;
    Ok(())
}

/// The XDP program in words.
pub fn xdp(status: &Status) -> String {
    let mut text = match &status.xdp {
        Some(xdp) => format!("{}, {} answered", xdp.mode, xdp.answered),
        None => "not attached".to_owned(),
    };
    if let Some(reason) = &status.xdp_reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

/// Does `talos-pxe machines`.
///
/// # Errors
/// When no talos-pxe answers, or it refuses, with the next step.
pub fn machines(command: Machines, out: &mut impl Write) -> anyhow::Result<()> {
    let Machines { action, target } = command;
    let api = Api::new(target.admin, PATIENCE);
    match action.unwrap_or(Action::List) {
        Action::List => list(&api, target.json, out),
        Action::Assign { mac, role } => {
            let path = format!("/api/machines/{mac}");
            let machine: Listed = api.send(Method::PUT, &path, &Assignment { role })?;
            if target.json {
                return print_json(out, &machine);
            }
            let role = machine.machine.role.context("it has no role")?;
            Ok(writeln!(out, "{mac} has role {role}: it counts when the machine boots next")?)
        }
        Action::Forget { mac } => {
            api.call(Method::DELETE, &format!("/api/machines/{mac}"), Vec::new())?;
            if target.json {
                return Ok(());
            }
            Ok(writeln!(out, "{mac} is forgotten")?)
        }
        Action::Export { file } => {
            let export: Export = api.get("/api/export")?;
            write_export(&export, &file, out)
        }
        Action::Import { file } => {
            let export = read_export(&file)?;
            let done: Imported = api.send(Method::POST, "/api/import", &export)?;
            if target.json {
                return print_json(out, &done);
            }
            let Imported { machines, leases } = done;
            let of = export.leases.len();
            Ok(writeln!(out, "{machines} machines and {leases} of {of} leases imported")?)
        }
    }
}

fn list(api: &Api, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let machines: Vec<Listed> = api.get("/api/machines")?;
    if json {
        return print_json(out, &machines);
    }
    if machines.is_empty() {
        return Ok(writeln!(out, "no machine has been seen yet")?);
    }
    let now = WallTime::now();
    let heading = ["MACHINE", "ADDRESS", "ROLE", "STAGE", "FIRMWARE", "PROFILE", "NAME", "SEEN"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(machines.iter().map(|listed| row(listed, now)));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn row(listed: &Listed, now: WallTime) -> [String; 8] {
    fn text(value: Option<impl ToString>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let Listed { mac, present, machine } = listed;
    let seen = machine.last_seen.map(|seen| {
        let ago = span(now.0.saturating_sub(seen.0));
        if *present { format!("{ago} ago") } else { format!("{ago} ago, gone") }
    });
    [
        mac.to_string(),
        text(machine.address),
        text(machine.role.as_ref()),
        text(machine.stage.map(Stage::name)),
        text(machine.firmware.map(Firmware::name)),
        text(machine.profile.as_ref()),
        text(machine.hostname.as_ref()),
        seen.unwrap_or_else(|| "never".to_owned()),
    ]
}

fn write_export(export: &Export, file: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    if file == Path::new("-") {
        return print_json(out, export);
    }
    let cannot = || format!("cannot write {}", file.display());
    let mut text = Vec::new();
    print_json(&mut text, export)?;
    fs::write(file, text).with_context(cannot)?;
    let (machines, leases) = (export.machines.len(), export.leases.len());
    let file = file.display();
    Ok(writeln!(out, "{machines} machines and {leases} leases written to {file}")?)
}

fn read_export(file: &Path) -> anyhow::Result<Export> {
    let text = match file == Path::new("-") {
        true => {
            let mut text = Vec::new();
            io::stdin().take(LARGEST_IMPORT as u64).read_to_end(&mut text).map(|_| text)
        }
        false => fs::read(file),
    };
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text)
        .map_err(|error| anyhow!("{} is no export: {error}", file.display()))
}

fn print_json(out: &mut impl Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    Ok(writeln!(out)?)
}

/// The admin API of a running talos-pxe.
struct Api {
    address: SocketAddr,
    agent: Agent,
}

impl Api {
    fn new(address: SocketAddr, patience: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(patience))
            // What the environment names as a proxy is for other computers.
            .proxy(None)
            .max_redirects(0);
        Self { address, agent: config.build().into() }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let text = self.call(Method::GET, path, Vec::new())?;
        serde_json::from_slice(&text).map_err(|error| self.strange(error))
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let text = self.call(method, path, serde_json::to_vec(body)?)?;
        serde_json::from_slice(&text).map_err(|error| self.strange(error))
    }

    /// Sends a request and returns the answer's body.
    fn call(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("Content-Type", "application/json")
            .body(body)?;
        let mut response = self.agent.run(request).map_err(|error| self.silent(error))?;
        let status = response.status();
        let text = read(response.body_mut()).map_err(|error| self.silent(error))?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_slice(&text) {
            Ok(Failure { error }) => bail!("{error}"),
            Err(_) => Err(self.strange(status)),
        }
    }

    fn silent(&self, error: ureq::Error) -> anyhow::Error {
        let address = self.address;
        anyhow!(
            "no talos-pxe answers at {address} ({error}): start it, or name the address of its \
             admin API with --admin"
        )
    }

    fn strange(&self, error: impl std::fmt::Display) -> anyhow::Error {
        let address = self.address;
        anyhow!(
            "what answers at {address} is no talos-pxe, or another version of it ({error}): name \
             the address of its admin API with --admin"
        )
    }
}

fn read(body: &mut Body) -> Result<Vec<u8>, ureq::Error> {
    body.with_config().limit(LARGEST_IMPORT as u64).read_to_vec()
}
