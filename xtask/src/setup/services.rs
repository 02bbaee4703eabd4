//! Packages that bring a service are wanted for their program alone: none of their services may
//! run or start with the machine.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{program, run};

/// Debian's packages ask this program whether they may start a service; 101 means that they may
/// not.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, no package starts a service when it is installed.
#[derive(Debug)]
pub struct NoServices {
    /// Whether the policy is ours to remove.
    ours: bool,
}

impl NoServices {
    /// Sets the policy; one that is there already stays, and must then say the same.
    ///
    /// # Errors
    /// When it cannot be written, or another policy would let services start.
    pub fn begin() -> Result<NoServices> {
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut file) => {
                let policy = NoServices { ours: true };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("cannot write {POLICY}"))?;
                Ok(policy)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let answer = Command::new(POLICY).args(["kea-dhcp4-server", "start"]).status();
                let forbids = answer.is_ok_and(|status| status.code() == Some(101));
                ensure!(
                    forbids,
                    "{POLICY} lets packages start services: move it away, then try again"
                );
                Ok(NoServices { ours: false })
            }
            Err(error) => Err(error).with_context(|| format!("cannot write {POLICY}")),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Keeps a service that was just installed from starting with the machine, and checks that.
///
/// # Errors
/// When it would start all the same.
pub fn disable(service: &str) -> Result<()> {
    // It knows both kinds of init, and machines where none runs, containers for example.
    if let Some(tool) = program("update-rc.d") {
        run(Command::new(tool).args([service, "disable"]))?;
    }
    let wanted = format!("/etc/systemd/system/multi-user.target.wants/{service}.service");
    ensure!(
        !Path::new(&wanted).exists(),
        "{service} would start with this machine; `systemctl disable {service}` prevents it"
    );
    Ok(())
}
