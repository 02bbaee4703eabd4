//! The TFTP servers of the benchmark, each at the end of a cable of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::lab::process::Process;
use crate::lab::server::Server;
use crate::lab::{Host, Lab};
use crate::load::tftp::{self, Load};
use crate::setup::archive;

/// Where all of them take requests.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 69);

/// A server, and a host for its clients.
#[derive(Debug)]
pub struct Bed {
    /// The server's name.
    pub name: &'static str,
    /// Where the clients are.
    pub far: Host,
    /// Its first process.
    pub first: u32,
    /// The process that does the work, unless it starts others that do.
    pub process: Option<u32>,
    _running: Running,
}

#[derive(Debug)]
enum Running {
    Ours { _server: Server },
    Peer { _process: Process },
}

/// Starts talos-pxe, maybe another build of it, and its peers; all serve the files in `files`,
/// and each is asked for `probe` until it answers.
///
/// # Errors
/// When one of them does not start.
pub fn start(
    lab: &Lab,
    daemon: &Path,
    other: Option<&Path>,
    files: &Path,
    probe: &Load<'_>,
) -> Result<Vec<Bed>> {
    let folder = files.display().to_string();
    let atftpd = archive::unpacked("atftpd")?.join("usr/sbin/atftpd");
    let mut beds = vec![ours("talos-pxe", lab, daemon, &folder)?];
    if let Some(program) = other {
        beds.push(ours("other build", lab, program, &folder)?);
    }
    // Their limits on clients, where they have any, are far below a rack.
    let tftpd = ["--foreground", "--secure", "--user", "root", &folder];
    beds.push(peer("tftpd-hpa", lab, Path::new("in.tftpd"), &tftpd, probe)?);
    let root = format!("--tftp-root={folder}");
    let dnsmasq = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--port=0",
        "--enable-tftp",
        "--tftp-max=2000",
        "--log-facility=-",
        "--quiet-tftp",
        &root,
    ];
    beds.push(peer("dnsmasq", lab, Path::new("dnsmasq"), &dnsmasq, probe)?);
    let quiet = ["--daemon", "--no-fork", "--user", "root.root", "--maxthread", "2000"];
    let quiet = [&quiet[..], &["--no-multicast", "--verbose=0", "--logfile", "-", &folder]];
    beds.push(peer("atftpd", lab, &atftpd, &quiet.concat(), probe)?);
    Ok(beds)
}

fn ours(name: &'static str, lab: &Lab, program: &Path, files: &str) -> Result<Bed> {
    let (host, far) = cable(lab)?;
    let root = tempfile::tempdir_in(lab.dir())?.keep();
    std::fs::create_dir(root.join("assets"))?;
    for file in ["vmlinuz-amd64", "initramfs-amd64.xz"] {
        std::fs::write(root.join("assets").join(file), "")?;
    }
    let (root, state) = (root.display().to_string(), root.join("state").display().to_string());
    let network = "10.77.0.1/16";
    let flags = ["--mode", "server", "--addr", network, "--root", &root, "--state", &state];
    let mut server = Server::start(program, &host, flags.iter().chain(&["--firmware", files]))?;
    let first = server.process().id();
    Ok(Bed { name, far, first, process: Some(first), _running: Running::Ours { _server: server } })
}

fn peer(
    name: &'static str,
    lab: &Lab,
    program: &Path,
    arguments: &[&str],
    probe: &Load<'_>,
) -> Result<Bed> {
    let (host, far) = cable(lab)?;
    let process = run(&host, program, arguments, &far, probe)?;
    // tftpd-hpa starts a process for every client.
    let (first, all) = (process.id(), name != "tftpd-hpa");
    let id = all.then_some(first);
    Ok(Bed { name, far, first, process: id, _running: Running::Peer { _process: process } })
}

/// Starts a server on a host, and asks it from another for `probe` until it answers.
///
/// # Errors
/// When it does not.
pub fn run(
    host: &Host,
    program: &Path,
    arguments: &[&str],
    far: &Host,
    probe: &Load<'_>,
) -> Result<Process> {
    let mut command = host.command(program);
    command.args(arguments);
    let mut process = host.start(command)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = tftp::probe(far.netns(), probe) {
        process.check()?;
        if Instant::now() >= deadline {
            let (program, text) = (program.display(), process.text());
            return Err(error).with_context(|| format!("{program} does not serve: {text}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// The server's host and the clients' one.
fn cable(lab: &Lab) -> Result<(Host, Host)> {
    let [host, far] = lab.wide_cable(["server", "clients"])?;
    host.add_address("10.77.0.1/16")?;
    far.add_address("10.77.0.2/16")?;
    Ok((host, far))
}
