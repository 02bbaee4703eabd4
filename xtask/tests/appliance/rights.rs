//! Without root: with the capabilities that are asked for the daemon serves, without them it says
//! what it lacks.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::exec;
use xtask::lab::guest::Guest;
use xtask::lab::root::{self, System};
use xtask::lab::{Host, Lab, server};

use crate::SOON;
use crate::refusals::Refusal;

/// Nobody's user and group.
const NOBODY: u32 = 65534;

#[test]
#[ignore = "lab: cargo xtask test"]
fn serves_with_capabilities_instead_of_root() -> Result<()> {
    let lab = Lab::new()?;
    let (program, root) = files_for_nobody(&lab)?;
    let rights = "cap_net_raw,cap_net_admin,cap_net_bind_service,cap_bpf+eip";
    exec::output(Command::new("setcap").arg(rights).arg(&program))?;
    let host = lab.host("talos-pxe")?;
    let mut command = as_nobody(&host, &program);
    server::without_settings(&mut command);
    let state = lab.dir().join("state");
    fs::create_dir(&state)?;
    chown(&state, Some(NOBODY), Some(NOBODY))?;
    command.args(["--if", "eth0", "--mode", "server", "--root"]).arg(&root);
    command.arg("--state").arg(&state);
    let mut daemon = host.start(command)?;
    daemon.wait_for(server::READY, SOON)?;

    let client = lab.host("client")?;
    let mut udhcpc = client.command("udhcpc");
    udhcpc.args(["-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true"]);
    let mut udhcpc = client.start(udhcpc)?;
    udhcpc.wait_for("lease of 192.168.123.2 obtained from 192.168.123.1", SOON)?;
    ensure!(udhcpc.wait(SOON)?.success());

    // Not every kernel lets it: then it says why, and serves all the same.
    let xdp = daemon.find("XDP program attached").or_else(|| daemon.find("no XDP: "));
    eprintln!("{}", xdp.context("it says nothing of XDP")?.text);
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn says_which_rights_it_lacks() -> Result<()> {
    let lab = Lab::new()?;
    let (program, root) = files_for_nobody(&lab)?;
    let host = lab.host("talos-pxe")?;
    let refusal = Refusal::start(as_nobody(&host, &program), &root, &[])?;
    refusal
        .is(1, "no right to ...: run as root, or give ...: setcap cap_net_raw,...cap_bpf+eip ...")
}

/// The daemon's program and files to serve, which everyone may read.
fn files_for_nobody(lab: &Lab) -> Result<(PathBuf, PathBuf)> {
    fs::set_permissions(lab.dir(), Permissions::from_mode(0o755))?;
    let (program, root) = (lab.dir().join("talos-pxe"), lab.dir().join("root"));
    fs::copy(server::build()?, &program)?;
    root::make(&root, &System::Guest(Guest::make()?), None)?;
    Ok((program, root))
}

/// A command that runs `program` on `host` as nobody.
///
/// Changing the user takes the tie to this process away that [`Host::command`] made; the shell
/// keeps it, and as the first process of its PID namespace it takes the program along.
fn as_nobody(host: &Host, program: &Path) -> Command {
    let mut command = host.command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "sh", "-c", "\"$@\" & wait $!", "sh"]);
    command.args(["setpriv", &format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}")]);
    command.arg("--clear-groups").arg(program);
    command
}
