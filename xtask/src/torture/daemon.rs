//! The daemon that is killed, and started again with the same state.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Result;

use crate::exec;
use crate::lab::server::{self, Server};
use crate::lab::{Host, Lab};
use crate::load::frame::Target;

/// The shortest that the daemon takes, in seconds.
const LEASE_TIME: &str = "30";

/// A network of the daemon's own.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// The daemon's address, and its subnet.
    pub own: &'static str,
    /// The same address.
    pub address: [u8; 4],
    /// What it leases.
    pub range: &'static str,
}

/// How to start it.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    arguments: Vec<String>,
    host: Host,
    /// Where machines find it.
    pub target: Target,
}

impl Daemon {
    /// Builds it, for a new host at the end of a cable; returns the other end, too.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn new(lab: &Lab, network: Network, xdp: &str) -> Result<(Daemon, Host)> {
        let program = server::build()?;
        let [host, far] = lab.cable(["server", "machines"])?;
        // Something to boot, which nobody fetches.
        let (root, state) = (lab.dir().join("root"), lab.dir().join("state"));
        fs::create_dir_all(root.join("assets"))?;
        for file in ["vmlinuz-amd64", "initramfs-amd64.xz"] {
            File::create(root.join("assets").join(file))?;
        }
        let arguments = [
            "--mode",
            "server",
            "--addr",
            network.own,
            "--range",
            network.range,
            "--lease-time",
            LEASE_TIME,
            "--ra",
            "off",
            "--xdp",
            xdp,
            "--root",
            &root.to_string_lossy(),
            "--state",
            &state.to_string_lossy(),
        ];
        let arguments = arguments.map(str::to_owned).to_vec();
        let target = Target { address: network.address.into(), mac: host.mac_bytes()? };
        Ok((Daemon { program, arguments, host, target }, far))
    }

    /// Where it runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What the same program says, on the same host, with other arguments.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.host.command(&self.program);
        server::without_settings(&mut command);
        exec::output(command.args(arguments))
    }

    /// Starts it, without waiting until it serves.
    ///
    /// # Errors
    /// When it does not start.
    pub fn launch(&self) -> Result<Server> {
        Server::launch(&self.program, &self.host, &self.arguments)
    }
}
