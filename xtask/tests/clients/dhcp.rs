//! udhcpc and ISC dhclient: leases from DISCOVER to RELEASE, and addresses that are in use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use xtask::lab::Host;
use xtask::lab::process::Process;

use super::{PATIENCE, Site};

const SCRIPT: &str = include_str!("lease.sh");

impl Site {
    fn script(&self) -> Result<PathBuf> {
        let path = self.file("lease.sh");
        if !path.exists() {
            fs::write(&path, SCRIPT)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(path)
    }

    pub fn udhcpc(&self, host: &Host, options: &[&str]) -> Result<Process> {
        let mut command = host.command("udhcpc");
        command.args(["-f", "-i", "eth0", "-s"]).arg(self.script()?).args(options);
        host.start(command)
    }

    /// With its memory of leases in the file `memory`.
    fn dhclient(&self, host: &Host, memory: &str, options: &[&str]) -> Result<Process> {
        let mut command = host.command("dhclient");
        command.args(["-d", "-1", "-v", "--no-pid", "-sf"]).arg(self.script()?);
        command.arg("-lf").arg(self.file(memory)).args(options).arg("eth0");
        host.start(command)
    }
}

pub fn signal(process: &Process, signal: Signal) -> Result<()> {
    let pid = i32::try_from(process.id())?;
    Ok(kill_process(Pid::from_raw(pid).context("no process")?, signal)?)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn udhcpc_renews_releases_and_comes_back() -> Result<()> {
    let site = Site::new(&[])?;
    let busybox = site.lab.host("busybox")?;
    let mut udhcpc = site.udhcpc(&busybox, &[])?;
    udhcpc.wait_for("event: bound 192.168.123.2", PATIENCE)?;
    signal(&udhcpc, Signal::USR1)?;
    udhcpc.wait_for("event: renew 192.168.123.2", PATIENCE)?;
    signal(&udhcpc, Signal::USR2)?;
    udhcpc.wait_for("entering released state", PATIENCE)?;

    // Another client gets another address; the one that was given back stays its machine's.
    let other = site.lab.host("other")?;
    site.udhcpc(&other, &[])?.wait_for("event: bound 192.168.123.3", PATIENCE)?;
    site.udhcpc(&busybox, &[])?.wait_for("event: bound 192.168.123.2", PATIENCE)?;

    // Where it misses the answer to its renewal, it goes on to rebind: that is its own affair.
    let [messages] = site.messages([&busybox])?;
    assert!(
        messages.starts_with(
            &[lease().map(str::to_owned).to_vec(), renewal().map(str::to_owned).to_vec()].concat()
        ),
        "{messages:?}"
    );
    let end = [&release()[..], &lease()].concat();
    assert!(
        messages.ends_with(&end.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "{messages:?}"
    );
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn dhclient_renews_reboots_releases_and_comes_back() -> Result<()> {
    // It renews after 12 to 15 s of it.
    let site = Site::new(&["--lease-time", "30"])?;
    let isc = site.lab.host("isc")?;
    let mut dhclient = site.dhclient(&isc, "leases", &[])?;
    dhclient.wait_for("event: BOUND 192.168.123.2", PATIENCE)?;
    dhclient.wait_for("event: RENEW 192.168.123.2", PATIENCE)?;
    // Gone without a word; its lease file remembers.
    drop(dhclient);
    let mut dhclient = site.dhclient(&isc, "leases", &[])?;
    dhclient.wait_for("event: REBOOT 192.168.123.2", PATIENCE)?;
    drop(dhclient);
    site.dhclient(&isc, "leases", &["-r"])?.wait_for("event: RELEASE", PATIENCE)?;
    let mut dhclient = site.dhclient(&isc, "no leases", &[])?;
    dhclient.wait_for("event: BOUND 192.168.123.2", PATIENCE)?;

    let reboot = ["REQUEST to 255.255.255.255", "ACK to 192.168.123.2"];
    let expected = [&lease()[..], &renewal(), &reboot, &release(), &lease()].concat();
    assert_eq!(site.messages([&isc])?, [expected]);
    Ok(())
}

fn lease() -> [&'static str; 4] {
    [
        "DISCOVER to 255.255.255.255",
        "OFFER to 192.168.123.2",
        "REQUEST to 255.255.255.255",
        "ACK to 192.168.123.2",
    ]
}

fn renewal() -> [&'static str; 2] {
    ["REQUEST to 192.168.123.1", "ACK to 192.168.123.2"]
}

fn release() -> [&'static str; 1] {
    ["RELEASE to 192.168.123.1"]
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn an_address_that_a_host_uses_is_skipped() -> Result<()> {
    let mut site = Site::new(&[])?;
    let squatter = site.lab.host("squatter")?;
    squatter.add_address("192.168.123.2/24")?;
    let client = site.lab.host("client")?;
    site.udhcpc(&client, &[])?.wait_for("event: bound 192.168.123.3", PATIENCE)?;
    let warning = format!("address=192.168.123.2 by={}", squatter.mac());
    site.server.process().wait_for(&warning, PATIENCE)?;
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_declined_address_rests() -> Result<()> {
    let mut site = Site::new(&[])?;
    let client = site.lab.host("client")?;
    // Its own address is offered without a check, so that only the client finds the squatter.
    let mut udhcpc = site.udhcpc(&client, &[])?;
    udhcpc.wait_for("event: bound 192.168.123.2", PATIENCE)?;
    signal(&udhcpc, Signal::USR2)?;
    udhcpc.wait_for("entering released state", PATIENCE)?;
    drop(udhcpc);
    let squatter = site.lab.host("squatter")?;
    squatter.add_address("192.168.123.2/24")?;

    let mut udhcpc = site.udhcpc(&client, &["-a"])?;
    site.server.process().wait_for("192.168.123.2 declined", PATIENCE)?;
    udhcpc.wait_for("event: bound 192.168.123.3", PATIENCE)?;
    let other = site.lab.host("other")?;
    site.udhcpc(&other, &[])?.wait_for("event: bound 192.168.123.4", PATIENCE)?;
    Ok(())
}
