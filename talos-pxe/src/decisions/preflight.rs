//! The findings of a preflight check, and how they are told.

use std::fmt;

use rustix::thread::CapabilitySet;
use serde::Serialize;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It will serve, but not as well as it could, or not every machine.
    Warning,
    /// It will not serve.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        })
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub status: Status,
    /// What was found; for a warning or failure also the cause and the next step.
    pub text: String,
}

impl Finding {
    /// All is well.
    pub fn ok(check: impl ToString, text: impl ToString) -> Self {
        Self::new(check, Status::Ok, text)
    }

    /// It will serve, but.
    pub fn warning(check: impl ToString, text: impl ToString) -> Self {
        Self::new(check, Status::Warning, text)
    }

    /// It will not serve.
    pub fn failed(check: impl ToString, text: impl ToString) -> Self {
        Self::new(check, Status::Failed, text)
    }

    fn new(check: impl ToString, status: Status, text: impl ToString) -> Self {
        Self { check: check.to_string(), status, text: text.to_string() }
    }
}

/// All findings, in the order in which they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each check.
    pub checks: Vec<Finding>,
}

impl Report {
    /// How many checks failed.
    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|finding| finding.status == Status::Failed).count()
    }
}

impl fmt::Display for Report {
    /// One line a finding, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for Finding { check, status, text } in &self.checks {
            // An error of several lines, such as a list of interfaces, stays one finding.
            let text = text.replace('\n', "\n    ");
            writeln!(f, "{status:<7}  {check:<width$}  {text}")?;
        }
        Ok(())
    }
}

/// Whether the process has the rights that serving takes.
pub fn rights(have: CapabilitySet, next_step: &str) -> Finding {
    let needed = [
        (CapabilitySet::NET_ADMIN, "cap_net_admin"),
        (CapabilitySet::NET_RAW, "cap_net_raw"),
        (CapabilitySet::NET_BIND_SERVICE, "cap_net_bind_service"),
    ];
    let missing: Vec<&str> =
        needed.iter().filter(|(right, _)| !have.contains(*right)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Finding::ok("rights", "all that serving takes");
    }
    Finding::failed("rights", format!("without {}: {next_step}", missing.join(", ")))
}

/// Drivers that run XDP programs, by the names that they give themselves.
const NATIVE_DRIVERS: [&str; 21] = [
    "atlantic",
    "bnxt_en",
    "ena",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "nfp",
    "qede",
    "sfc",
    "st_gmac",
    "tun",
    "veth",
    "virtio_net",
    "vif",
];

/// Whether the driver of this name is known to run XDP programs itself.
pub fn runs_xdp(driver: &str) -> bool {
    NATIVE_DRIVERS.contains(&driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_finding() {
        let report = Report {
            checks: vec![
                Finding::ok("interface", "eth0"),
                Finding::warning("XDP", "slow"),
                Finding::failed("UDP port 67", "in use:\nstop it"),
            ],
        };
        assert_eq!(
            report.to_string(),
            "ok       interface    eth0\n\
             warning  XDP          slow\n\
             FAILED   UDP port 67  in use:\n    stop it\n"
        );
        assert_eq!(report.failures(), 1);
        let json = serde_json::to_string(&report.checks[1]).unwrap();
        assert_eq!(json, r#"{"check":"XDP","status":"warning","text":"slow"}"#);
    }

    #[test]
    fn missing_rights_are_named() {
        assert_eq!(rights(CapabilitySet::all(), "x").status, Status::Ok);
        let some = CapabilitySet::all() - CapabilitySet::NET_RAW - CapabilitySet::NET_ADMIN;
        let finding = rights(some, "run as root");
        assert_eq!(
            finding,
            Finding::failed("rights", "without cap_net_admin, cap_net_raw: run as root")
        );
    }
}
