//! The talos-pxe daemon, built by cargo, on a host of the lab.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Host;
use super::process::Process;
use crate::{exec, repository};

/// What it logs when it serves; a word of its own, since "already" is said earlier.
pub const READY: &str = " ready ";

/// How long it may take until it serves; asking the network for a DHCP server takes 10 s of it.
const BEGIN: Duration = Duration::from_secs(30);

/// A daemon that serves; killed on drop.
#[derive(Debug)]
pub struct Server {
    process: Process,
}

/// Builds the daemon and returns its path.
///
/// # Errors
/// When it does not compile; the compiler's words are on the terminal.
pub fn build() -> Result<PathBuf> {
    build_with(&[])
}

/// As [`build`], optimised: what users run.
///
/// # Errors
/// As [`build`].
pub fn build_release() -> Result<PathBuf> {
    build_with(&["--release"])
}

/// As [`build`] or, when `optimised`, [`build_release`]; it needs no library of the system that it
/// runs on, as on the stick and in containers. The C library that is linked in looks up names by
/// itself (glibc has since 2.34).
///
/// # Errors
/// As [`build`].
pub fn build_static(optimised: bool) -> Result<PathBuf> {
    // With a target named, the flag is for the daemon alone, and not for what builds it.
    let target = format!("--target={}-unknown-linux-gnu", std::env::consts::ARCH);
    let options: &[&str] = if optimised { &[&target, "--release"] } else { &[&target] };
    let mut cargo = exec::cargo();
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    build_by(cargo, options)
}

fn build_with(options: &[&str]) -> Result<PathBuf> {
    build_by(exec::cargo(), options)
}

fn build_by(mut cargo: Command, options: &[&str]) -> Result<PathBuf> {
    cargo.args(["build", "--package", "talos-pxe", "--bin", "talos-pxe"]).args(options);
    cargo.arg("--message-format=json-render-diagnostics").current_dir(repository());
    let messages = exec::output_with_errors_shown(&mut cargo).context("cannot build talos-pxe")?;
    exec::executable(&messages, "talos-pxe").context("cargo built no talos-pxe")
}

/// Keeps the settings of the user's own environment from a daemon that `command` starts.
pub fn without_settings(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"TALOS_PXE_") {
            command.env_remove(variable);
        }
    }
}

impl Server {
    /// Starts the daemon `program` with `arguments` on `eth0` of `host` and waits until it serves.
    ///
    /// # Errors
    /// With its last lines, when it ends or is not ready in time.
    pub fn start<I, A>(program: &Path, host: &Host, arguments: I) -> Result<Server>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut server = Server::launch(program, host, arguments)?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// As [`Server::start`], without waiting.
    ///
    /// # Errors
    /// When it does not start.
    pub fn launch<I, A>(program: &Path, host: &Host, arguments: I) -> Result<Server>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = host.command(program);
        without_settings(&mut command);
        command.args(["serve", "--if", "eth0"]).args(arguments);
        Ok(Server { process: Process::start("talos-pxe", command, None)? })
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// With its last lines, when it ends or is not ready in time.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        self.process.wait_for(READY, BEGIN).map(drop)
    }

    /// The running daemon, with what it logged.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Asks it to end as Ctrl-C would; returns its log.
    ///
    /// # Errors
    /// When it does not end in time, or fails.
    pub fn stop(self) -> Result<String> {
        self.process.stop(Duration::from_secs(10))
    }
}
