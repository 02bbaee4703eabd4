//! Files over a wire, where packets have a size: tftp-hpa, atftp, curl and U-Boot.

use std::fs;
use std::process::Command;

use anyhow::Result;
use xtask::exec;
use xtask::lab::accel::AccelChoice;
use xtask::lab::qemu::{Firmware, Spec};

use super::{PATIENCE, Site};

const LOADER: &str = "/usr/lib/ipxe/undionly.kpxe";

#[test]
#[ignore = "lab: cargo xtask test"]
fn every_client_fetches_the_same_bytes() -> Result<()> {
    let site = Site::new(&[])?;
    let loader = fs::read(LOADER)?;
    let client = site.lab.host("client")?;
    client.add_address("192.168.123.9/24")?;
    let got = site.file("got");
    let fetch = |mut command: Command| -> Result<()> {
        exec::output(command.current_dir(site.lab.dir()))?;
        assert!(fs::read(&got)? == loader, "{command:?}");
        Ok(fs::remove_file(&got)?)
    };

    let mut tftp = client.command("tftp");
    tftp.args(["-m", "octet", "192.168.123.1", "-c", "get", "undionly.kpxe", "got"]);
    fetch(tftp)?;
    for options in [&[][..], &["blksize 1468"], &["blksize 1432", "windowsize 16", "tsize 0"]] {
        let mut atftp = client.command("atftp");
        for option in options {
            atftp.args(["--option", option]);
        }
        atftp.args(["--get", "-r", "undionly.kpxe", "-l", "got", "192.168.123.1"]);
        fetch(atftp)?;
    }
    for path in ["firmware/undionly.kpxe", "assets/vmlinuz-amd64"] {
        let mut curl = client.command("curl");
        curl.args(["--fail", "--silent", "--show-error", "--output", "got"]);
        curl.arg(format!("http://192.168.123.1:8080/{path}"));
        fetch(curl)?;
    }
    Ok(())
}

/// An independent TFTP client, which asks for what the `file` and `siaddr` fields of its ACK say.
#[test]
#[ignore = "lab: cargo xtask test"]
fn u_boot_loads_its_boot_file() -> Result<()> {
    let site = Site::new(&[])?;
    let accel = AccelChoice::Auto.resolve()?;
    let mut machine = site.lab.power_on(Spec::new("m1", Firmware::UBoot, accel))?;
    machine.wait_for("Hit any key", PATIENCE)?;
    machine.type_text("\n")?;
    machine.wait_for("=> ", PATIENCE)?;
    machine.type_text("dhcp\n")?;
    machine.wait_for("Filename 'undionly.kpxe'", PATIENCE)?;
    let size = fs::metadata(LOADER)?.len();
    machine.wait_for(&format!("Bytes transferred = {size} "), PATIENCE)?;
    Ok(())
}
