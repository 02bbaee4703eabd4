//! The HTTP servers that are measured, each at the end of a cable of its own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::http::{FILE, SIZE, nginx};
use crate::lab::process::Process;
use crate::lab::server::Server;
use crate::lab::{Host, Lab};
use crate::load::{cpu, downloads};

const ADDRESS: [u8; 4] = [10, 77, 0, 1];
const PORT: u16 = 8080;

/// A server, and a host for its clients.
#[derive(Debug)]
pub struct Bed {
    /// The server's name.
    pub name: String,
    /// Where the clients are.
    pub far: Host,
    processes: Vec<u32>,
    _running: Running,
}

#[derive(Debug)]
enum Running {
    Ours { _server: Server },
    Nginx { _processes: Vec<Process> },
}

/// What all serve: one image of real pages, so that none is read from a hole.
///
/// # Errors
/// Without room for it.
pub fn root(lab: &Path) -> Result<PathBuf> {
    let root = lab.join("root");
    fs::create_dir_all(root.join("assets"))?;
    File::create(root.join("assets/initramfs-amd64.xz"))?;
    fs::write(root.join(FILE), vec![0x5a; SIZE as usize])?;
    Ok(root)
}

/// What all clients load.
pub fn image() -> downloads::File<'static> {
    downloads::File { server: SocketAddr::from((ADDRESS, PORT)), path: FILE, size: SIZE }
}

impl Bed {
    /// Starts a build of talos-pxe with more flags.
    ///
    /// # Errors
    /// When it does not start.
    pub fn ours(
        name: String,
        lab: &Lab,
        program: &Path,
        root: &Path,
        more: &[&str],
    ) -> Result<Bed> {
        let (host, far) = cable(lab)?;
        let state = tempfile::tempdir_in(lab.dir())?.keep();
        let (root, state) = (root.display().to_string(), state.display().to_string());
        let network = "10.77.0.1/16";
        let flags = ["--mode", "server", "--addr", network, "--root", &root, "--state", &state];
        let mut server = Server::start(program, &host, flags.iter().chain(more))?;
        let processes = vec![server.process().id()];
        Ok(Bed { name, far, processes, _running: Running::Ours { _server: server } })
    }

    /// Starts nginx.
    ///
    /// # Errors
    /// When it does not start.
    pub fn nginx(lab: &Lab, root: &Path) -> Result<Bed> {
        let (host, far) = cable(lab)?;
        let folder = tempfile::tempdir_in(lab.dir())?.keep();
        let running = nginx(&host, root, &folder)?;
        let processes = running.iter().map(Process::id).collect();
        let name = "nginx".to_owned();
        Ok(Bed { name, far, processes, _running: Running::Nginx { _processes: running } })
    }

    /// The CPU time that it has taken, in seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu::seconds_of(&self.processes)
    }

    /// The most memory that its processes held, in octets.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        self.processes.iter().map(|process| cpu::peak_memory_of(*process)).sum()
    }
}

/// The server's host and the clients' one.
fn cable(lab: &Lab) -> Result<(Host, Host)> {
    let [host, far] = lab.wide_cable(["server", "clients"])?;
    host.add_sender("10.77.0.1/16")?;
    far.add_address("10.77.0.2/16")?;
    Ok((host, far))
}
