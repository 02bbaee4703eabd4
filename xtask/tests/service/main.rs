//! The service and its package: what is in it, how much the unit exposes, and that the daemon works
//! in the sandbox that the unit describes.

mod machine;
mod notify;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::lab::Lab;
use xtask::lab::guest::Guest;
use xtask::lab::root::{self, System};
use xtask::{deb, exec, repository};

use machine::Machine;

/// For what takes seconds.
const SOON: Duration = Duration::from_secs(60);

/// The exposure that docs name, times ten; "OK" begins below 50.
const EXPOSURE: &str = "--threshold=23";

#[test]
#[ignore = "needs systemd: cargo xtask test"]
fn the_unit_exposes_no_more_than_the_readme_says() -> Result<()> {
    let unit = repository().join("talos-pxe/packaging/talos-pxe.service");
    let mut security = Command::new("systemd-analyze");
    exec::output(security.args(["security", "--offline=true", EXPOSURE]).arg(unit))?;
    let readme = fs::read_to_string(repository().join("README.md"))?;
    ensure!(readme.contains("an exposure of 2.3, \"OK\""), "README.md names another one");
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn the_package_brings_a_service_that_systemd_runs_in_its_sandbox() -> Result<()> {
    let lab = Lab::new()?;
    let package = deb::build(false, lab.dir())?;
    has_all_it_should(&package)?;

    let served = lab.dir().join("root");
    root::make(&served, &System::Guest(Guest::make()?), None)?;
    let host = lab.host("talos-pxe")?;
    let mut machine = Machine::start(&lab, &host, &package)?;
    machine.says("probe: serving")?;
    for line in [
        "XDP program attached mode=native",
        "probe: status: DHCP server on eth0, 192.168.123.1",
        "probe: CapEff: 0000008000803400",
        "probe: CapBnd: 0000008000803400",
        "probe: NoNewPrivs: 1",
        "probe: Seccomp: 2",
        "probe: nice: dhcp -10",
        "probe: nice: journal -10",
        "probe: nice: http 0",
        "probe: state: talos-pxe 700",
    ] {
        machine.said(line)?;
    }
    let client = lab.host("client")?;
    let mut udhcpc = client.command("udhcpc");
    udhcpc.args(["-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true"]);
    let mut udhcpc = client.start(udhcpc)?;
    udhcpc.wait_for("lease of 192.168.123.2 obtained from 192.168.123.1", SOON)?;

    machine.go_on()?;
    machine.says("probe: result: success")?;
    let interface = machine.says("probe: eth0")?;
    ensure!(!interface.contains("192.168.123.1"), "it did not put this back: {interface}");
    Ok(())
}

fn has_all_it_should(package: &Path) -> Result<()> {
    let contents = exec::output(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    let files: Vec<&str> = contents.lines().filter_map(|line| line.split(" ./").nth(1)).collect();
    for file in [
        "usr/bin/talos-pxe",
        "usr/lib/systemd/system/talos-pxe.service",
        "usr/lib/sysusers.d/talos-pxe.conf",
        "usr/lib/tmpfiles.d/talos-pxe.conf",
        "etc/talos-pxe/talos-pxe.toml",
        "usr/share/man/man1/talos-pxe.1.gz",
        "usr/share/man/man1/talos-pxe-machines-assign.1.gz",
        "usr/share/bash-completion/completions/talos-pxe",
        "usr/share/zsh/vendor-completions/_talos-pxe",
        "usr/share/fish/vendor_completions.d/talos-pxe.fish",
        "usr/share/doc/talos-pxe/copyright",
    ] {
        ensure!(files.contains(&file), "no {file} in:\n{contents}");
    }
    let manual = repository().join("target/manual");
    exec::output(Command::new("bash").arg("-n").arg(manual.join("talos-pxe.bash")))?;
    for page in fs::read_dir(&manual)? {
        let page = page?.path();
        if page.extension().is_some_and(|section| section == "1") {
            exec::output(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(page))?;
        }
    }
    Ok(())
}
