//! The container: the Dockerfile is built without a registry, and what comes out serves a boot with
//! the rights that linux.yml lists, and none beyond them.

mod bundle;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::container;
use xtask::lab::accel::AccelChoice;
use xtask::lab::guest::Guest;
use xtask::lab::qemu::{Firmware, Spec};
use xtask::lab::root::{self, Role, System};
use xtask::lab::{Host, Lab, server};

use bundle::Bundle;

/// For what takes a machine's whole boot, emulated on a slow computer.
const BOOT: Duration = Duration::from_secs(300);
/// For what takes seconds.
const SOON: Duration = Duration::from_secs(60);

const TAG: &str = "talos-pxe:test";

/// Spares the 10 s in which the daemon asks for a DHCP server where there is none.
const SERVER: &str = "TALOS_PXE_MODE=server";

#[test]
#[ignore = "lab: cargo xtask test"]
fn serves_with_the_rights_of_linux_yml_and_without_its_fast_path_without_cap_bpf() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = Bundle::unpack(&lab.dir().join("bundle"), &image(&lab)?)?;
    boots_a_machine(&lab, &bundle)?;
    serves_without_bpf(&lab, &bundle)
}

/// An image with a root in it that makes every machine a worker.
fn image(lab: &Lab) -> Result<PathBuf> {
    let served = lab.dir().join("root");
    root::make(&served, &System::Guest(Guest::make()?), Some(Role::Worker))?;
    let (stage, archive) = (lab.dir().join("stage"), lab.dir().join("image.tar"));
    container::make_tree(&stage.join("image"), &server::build_static(false)?, Some(&served))?;
    container::build(&stage, TAG, &archive)?;
    Ok(archive)
}

fn boots_a_machine(lab: &Lab, bundle: &Bundle) -> Result<()> {
    let host = lab.host("talos-pxe")?;
    let mut daemon = bundle.run(&host, &[], &[SERVER, "TALOS_PXE_XDP=native"])?;
    daemon.wait_for("ready", SOON)?;
    for set in ["CapEff:", "CapBnd:"] {
        let rights = rights_of_the_daemon(&host, set)?;
        ensure!(rights == bundle.rights()?, "{set} {rights:x}, not {:x}", bundle.rights()?);
    }
    for (thread, wanted) in [("dhcp", -10), ("http", 0)] {
        let niceness = niceness_in_the_daemon(&host, thread)?;
        ensure!(niceness == wanted, "{thread} has a niceness of {niceness}, not of {wanted}");
    }

    let accel = AccelChoice::Auto.resolve()?;
    let mut machine = lab.power_on(Spec::new("bios", Firmware::Bios, accel))?;
    let booted = machine.wait_for("lab: booted", BOOT);
    let booted = booted.with_context(|| format!("the container's log:\n{}", daemon.text()))?;
    let config = machine.serial().find("lab: config").context("it says nothing of a config")?;
    ensure!(config.text.contains(&Role::Worker.config_sha256()), "{}", config.text);
    eprintln!("booted in {:.1?}", booted.at);
    Ok(())
}

fn serves_without_bpf(lab: &Lab, bundle: &Bundle) -> Result<()> {
    let host = lab.host("no-bpf")?;
    let mut daemon = bundle.run(&host, &["CAP_BPF"], &[SERVER])?;
    daemon.wait_for("ready", SOON)?;
    let warning = daemon.find("no XDP: ").context("it does not say that it lacks XDP")?;
    ensure!(warning.text.contains("CAP_BPF"), "it does not say why: {}", warning.text);
    let client = lab.host("client")?;
    let mut udhcpc = client.command("udhcpc");
    udhcpc.args(["-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true"]);
    let mut udhcpc = client.start(udhcpc)?;
    udhcpc.wait_for("lease of 192.168.123.2 obtained from 192.168.123.1", SOON)?;
    ensure!(udhcpc.wait(SOON)?.success());
    Ok(())
}

/// A set of capabilities, a bit each, of the daemon on `host`.
fn rights_of_the_daemon(host: &Host, set: &str) -> Result<u64> {
    let status = fs::read_to_string(daemon(host)?.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    Ok(u64::from_str_radix(line.context("no such set")?.trim(), 16)?)
}

/// The niceness of the daemon's first thread of this name.
fn niceness_in_the_daemon(host: &Host, name: &str) -> Result<i32> {
    for thread in fs::read_dir(daemon(host)?.join("task"))? {
        let thread = thread?.path();
        if fs::read_to_string(thread.join("comm"))?.trim() == name {
            let stat = fs::read_to_string(thread.join("stat"))?;
            // The 19th field; the second, the name, ends with a bracket.
            let (_, rest) = stat.rsplit_once(") ").context("no name")?;
            return Ok(rest.split(' ').nth(16).context("no niceness")?.parse()?);
        }
    }
    anyhow::bail!("talos-pxe has no thread {name}")
}

/// The folder in `/proc` of the daemon on `host`: the one process there that is called so.
fn daemon(host: &Host) -> Result<PathBuf> {
    let network = host.netns().id()?;
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        let there = fs::metadata(process.join("ns/net")).is_ok_and(|ns| ns.ino() == network);
        let Ok(status) = fs::read_to_string(process.join("status")) else { continue };
        if there && status.starts_with("Name:\ttalos-pxe\n") {
            return Ok(process);
        }
    }
    anyhow::bail!("no talos-pxe runs on {}", host.name())
}
