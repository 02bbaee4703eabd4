//! What the console's screen shows, as lines. Pure.

use std::net::SocketAddr;

use crate::decisions::console::{Console, Doing, Ending};
use crate::decisions::interface::Link;
use crate::edges::admin::client::{self, Overview};
use crate::edges::admin::types::{Listed, Status};
use crate::state::machines::Stage;
use crate::text::{plain, span, wrap};
use crate::time::{BootTime, WallTime};

/// All that the screen shows.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What the console is about.
    pub console: Console,
    /// The driver and speed of each candidate, in words.
    pub hardware: Vec<String>,
    /// What the daemon says; none while it does not answer.
    pub overview: Option<Overview>,
    /// Where the daemon's page for administrators is bound.
    pub admin: SocketAddr,
    /// The last line of the log.
    pub log: String,
    /// When.
    pub now: BootTime,
    /// When, on the clock that machines are seen by.
    pub wall: WallTime,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Its width.
    pub columns: usize,
    /// Its height.
    pub rows: usize,
}

/// A line of the screen: printable ASCII, shorter than the screen is wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its text.
    pub text: String,
    /// Whether it is to catch the eye.
    pub strong: bool,
}

/// How wide the names of facts are.
const LABEL: usize = 11;
/// How wide a machine's columns are, but for the last: address, role, stage, seen.
const CELLS: [usize; 5] = [17, 15, 12, 14, 7];

/// The lines of the screen, from its top; no more than it has rows.
pub fn lines(scene: &Scene, size: Size) -> Vec<Line> {
    let mut page = Page { lines: Vec::new(), width: size.columns.saturating_sub(1) };
    let up = match (scene.console.doing(), &scene.overview) {
        (Doing::Serving { .. }, Some(Overview { status, .. })) => {
            format!("up {}", span(status.uptime_seconds))
        }
        _ => String::new(),
    };
    let title = format!("talos-pxe {}", env!("CARGO_PKG_VERSION"));
    let room = page.width.saturating_sub(title.len() + 1);
    page.strong(&format!("{title} {up:>room$}"));
    page.line("");
    // The last row says what the keys do, and the one above it is empty.
    let room = size.rows.saturating_sub(2);
    match scene.console.doing() {
        Doing::Choosing(until) => choosing(&mut page, scene, until.since(scene.now).as_secs()),
        Doing::Serving { interface, .. } => serving(&mut page, scene, interface, room),
        Doing::Resting { interface, until, cause } => {
            page.strong(&format!("{interface} is not served:"));
            page.wrapped(cause);
            page.line("");
            page.line(&format!("Next try in {}.", span(until.since(scene.now).as_secs())));
        }
        Doing::Ending(ending) => page.strong(match ending {
            Ending::Stopped => "Stopping.",
            Ending::PowerOff => "Powering off.",
            Ending::Reboot => "Starting anew.",
        }),
    }
    page.lines.truncate(room);
    while page.lines.len() + 1 < size.rows {
        page.line("");
    }
    match scene.console.question() {
        Some(Ending::PowerOff) => page.strong("Power off? y: yes, another key: no"),
        Some(_) => page.strong("Start the computer anew? y: yes, another key: no"),
        None => page.line(&keys(&scene.console)),
    }
    page.lines.truncate(size.rows);
    page.lines
}

fn keys(console: &Console) -> String {
    let mut keys = Vec::new();
    if matches!(console.doing(), Doing::Serving { .. } | Doing::Resting { .. }) {
        keys.push("i: another interface");
    }
    if console.has_power() && !matches!(console.doing(), Doing::Ending(_)) {
        keys.extend(["p: power off", "r: reboot"]);
    }
    keys.join("   ")
}

fn choosing(page: &mut Page, scene: &Scene, seconds: u64) {
    let candidates = scene.console.candidates();
    if candidates.is_empty() {
        page.strong("There is no network card yet.");
        page.wrapped("Plug one in. When none is found, its driver may be missing.");
        return;
    }
    page.strong("Which network card are the machines on?");
    page.line("");
    for (number, link) in (1..).zip(candidates) {
        let hardware = scene.hardware.get(number - 1).map_or("", String::as_str);
        page.line(&format!("{number:>3}  {}", describe(link, hardware)));
    }
    page.line("");
    let in_time = span(seconds);
    page.wrapped(&match scene.console.favourite() {
        Some(link) => format!("Type its number. In {in_time} it is {}.", link.name),
        None if seconds > 0 => {
            format!("Type its number. In {in_time} it is the first that has a link.")
        }
        None => {
            "Type its number, or connect a cable: the first that has a link is taken.".to_owned()
        }
    });
}

fn describe(link: &Link, hardware: &str) -> String {
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let carrier = if link.carrier { "link" } else { "no link" };
    format!("{:<15} {mac}  {carrier:<7}  {hardware}", link.name)
}

fn serving(page: &mut Page, scene: &Scene, interface: &str, room: usize) {
    let Some(Overview { status, latest }) = &scene.overview else {
        page.strong(&format!("Starting on {interface}."));
        page.wrapped(&scene.log);
        return;
    };
    let served = scene.console.candidates().iter().position(|link| link.name == interface);
    let link = served.and_then(|position| scene.console.candidates().get(position));
    let hardware = served.and_then(|position| scene.hardware.get(position));
    match link {
        Some(link) => {
            page.fact("interface", &describe(link, hardware.map_or("", String::as_str)));
        }
        None => page.fact("interface", interface),
    }
    page.fact("address", &status.address.to_string());
    page.fact("mode", &format!("{}: {}", role(status), status.reason));
    page.fact("XDP", &client::xdp(status));
    let dhcp = status.dhcp;
    let mut answered = format!("{} answered, {} unanswered", dhcp.answered, dhcp.unanswered);
    if let Some(leases) = status.leases {
        answered.push_str(&format!(", {leases} {}", if leases == 1 { "lease" } else { "leases" }));
    }
    page.fact("DHCP", &answered);
    page.fact("dashboard", &dashboard(scene.admin, status));
    page.line("");
    machines(page, status.machines, latest, scene.wall, room);
}

fn role(status: &Status) -> &'static str {
    if status.mode == "server" { "DHCP server" } else { "proxyDHCP server" }
}

fn dashboard(admin: SocketAddr, status: &Status) -> String {
    let port = admin.port();
    if admin.ip().is_loopback() {
        format!(
            "http://{admin}, for this computer alone; admin=\"0.0.0.0:{port}\" in \
             talos-pxe.toml, or --admin, opens it"
        )
    } else if admin.ip().is_unspecified() {
        format!("http://{}:{port}", status.address.addr())
    } else {
        format!("http://{admin}")
    }
}

fn machines(page: &mut Page, count: usize, latest: &[Listed], now: WallTime, room: usize) {
    if latest.is_empty() {
        return page.line("No machine has been seen yet: let one boot from the network.");
    }
    page.strong(&row(&["MACHINE", "ADDRESS", "ROLE", "STAGE", "SEEN", "NAME"].map(str::to_owned)));
    let room = room.saturating_sub(page.lines.len());
    let shown = if count > room { room.saturating_sub(1) } else { room };
    let shown = shown.min(latest.len());
    for listed in latest.iter().take(shown) {
        page.line(&row(&cells(listed, now)));
    }
    if count > shown {
        page.line(&format!("and {} more", count - shown));
    }
}

fn cells(Listed { mac, machine, .. }: &Listed, now: WallTime) -> [String; 6] {
    fn text(value: Option<impl ToString>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let stage = machine.stage.map(|stage| {
        let step = Stage::ALL.iter().take_while(|other| **other < stage).count() + 1;
        format!("{step}/{} {}", Stage::ALL.len(), stage.name())
    });
    let seen = machine.last_seen.map(|seen| span(now.0.saturating_sub(seen.0)));
    [
        mac.to_string(),
        text(machine.address),
        text(machine.role.as_ref()),
        text(stage),
        text(seen),
        machine.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}

fn row([cells @ .., last]: &[String; 6]) -> String {
    let mut row: String =
        cells.iter().zip(CELLS).map(|(cell, width)| format!("{cell:width$.width$} ")).collect();
    row.push_str(last);
    row
}

/// Lines that fit the screen's width.
struct Page {
    lines: Vec<Line>,
    width: usize,
}

impl Page {
    fn push(&mut self, text: &str, strong: bool) {
        let text: String = plain(text).chars().take(self.width).collect();
        self.lines.push(Line { text: text.trim_end().to_owned(), strong });
    }

    fn line(&mut self, text: &str) {
        self.push(text, false);
    }

    fn strong(&mut self, text: &str) {
        self.push(text, true);
    }

    fn wrapped(&mut self, text: &str) {
        for line in wrap(text, self.width) {
            self.line(&line);
        }
    }

    fn fact(&mut self, name: &str, text: &str) {
        let mut name = name;
        for line in wrap(text, self.width.saturating_sub(LABEL)) {
            self.line(&format!("{name:<LABEL$}{line}"));
            name = "";
        }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
