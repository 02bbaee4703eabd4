//! Metrics in Prometheus's text format. None is by machine: there may be very many.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::types::Status;
use crate::state::machines::{Machine, Stage};
use crate::time::WallTime;

/// The content type of what [`render`] writes.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes all metrics.
pub(super) fn render(status: &Status, machines: &[Machine], started: WallTime) -> String {
    let mut page = Page::default();
    page.family("talos_pxe_build_info", "gauge", "Version that runs.");
    page.sample("talos_pxe_build_info", &[("version", &status.version)], 1);
    page.family("talos_pxe_info", "gauge", "What is served.");
    let served = [("mode", status.mode.as_str()), ("interface", &status.interface)];
    page.sample("talos_pxe_info", &served, 1);
    page.single("process_start_time_seconds", "gauge", "Start in UNIX time.", started.0);

    let dhcp = status.dhcp;
    let name = "talos_pxe_dhcp_replies_total";
    page.single(name, "counter", "DHCP replies that the daemon sent.", dhcp.answered);
    let name = "talos_pxe_dhcp_unanswered_requests_total";
    page.single(name, "counter", "DHCP requests that get no reply.", dhcp.unanswered);
    let name = "talos_pxe_dhcp_malformed_frames_total";
    page.single(name, "counter", "Frames on the DHCP ports that are no DHCP.", dhcp.malformed);
    let name = "talos_pxe_dhcp_send_errors_total";
    page.single(name, "counter", "DHCP replies that could not be sent.", dhcp.failed);
    if let Some(leases) = status.leases {
        page.single("talos_pxe_dhcp_leases", "gauge", "Leases that have not ended.", leases);
    }
    if let Some(xdp) = &status.xdp {
        page.family("talos_pxe_xdp_info", "gauge", "How the XDP program is attached.");
        page.sample("talos_pxe_xdp_info", &[("mode", &xdp.mode)], 1);
        let name = "talos_pxe_xdp_frames_total";
        page.family(name, "counter", "Frames by what the XDP program did with them.");
        for (outcome, frames) in &xdp.frames {
            page.sample(name, &[("outcome", outcome)], frames);
        }
    }

    page.family("talos_pxe_machines", "gauge", "Machines by how far their boot has come.");
    for stage in Stage::ALL {
        let count = machines.iter().filter(|machine| machine.stage == Some(stage)).count();
        page.sample("talos_pxe_machines", &[("stage", stage.name())], count);
    }
    let mut roles: BTreeMap<&str, usize> = BTreeMap::new();
    for role in machines.iter().filter_map(|machine| machine.role.as_ref()) {
        *roles.entry(role.as_str()).or_default() += 1;
    }
    page.family("talos_pxe_assigned_machines", "gauge", "Machines by role.");
    for (role, count) in roles {
        page.sample("talos_pxe_assigned_machines", &[("role", role)], count);
    }
    page.0
}

/// Text as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// Escapes a label's value.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
