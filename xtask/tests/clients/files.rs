//! Files over a wire, where packets have a size: tftp-hpa, atftp and curl.

use std::fs;
use std::process::Command;

use anyhow::Result;
use xtask::exec;

use super::Site;

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
