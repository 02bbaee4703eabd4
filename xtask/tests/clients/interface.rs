//! The interface is set down and up, or replaced by another one, while clients are served.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::exec;
use xtask::lab::Host;
use xtask::lab::server;

use super::{PATIENCE, Site};

impl Site {
    fn ip(&self, words: &str) -> Result<()> {
        exec::output(self.host.command("ip").args(words.split(' '))).map(drop)
    }

    /// How many requests the XDP program has answered, which is attached in this mode.
    fn answered_by_xdp(&self, mode: &str) -> Result<u64> {
        let mut status = self.host.command(server::build()?);
        let status: Value =
            serde_json::from_str(&exec::output(status.args(["status", "--json"]))?)?;
        let xdp = status.get("xdp").context("no word about XDP")?;
        ensure!(xdp.get("mode").is_some_and(|as_told| as_told == mode), "{status}");
        xdp.get("answered").and_then(Value::as_u64).context("no number of answers")
    }

    /// Waits until the daemon has logged something so many times.
    fn logged(&mut self, text: &str, times: usize) -> Result<()> {
        let process = self.server.process();
        let deadline = Instant::now() + PATIENCE;
        while process.text().matches(text).count() < times {
            process.check()?;
            ensure!(Instant::now() < deadline, "not {times} times {text:?}: {}", process.text());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A client's lease, which it got before or not; a file over TFTP; the entry script; a name.
    fn serves(&self, client: &Host, address: &str) -> Result<()> {
        let bound = format!("event: bound {address}");
        self.udhcpc(client, &["-q"])?.wait_for(&bound, PATIENCE)?;
        let answer = |program: &str, arguments: &[&str]| {
            exec::output(client.command(program).args(arguments).current_dir(self.lab.dir()))
        };
        let script = answer("curl", &["-sS", "http://192.168.123.1:8080/boot.ipxe"])?;
        ensure!(script.starts_with("#!ipxe"), "{script}");
        let tftp = ["-m", "octet", "192.168.123.1", "-c", "get", "undionly.kpxe", "got"];
        answer("tftp", &tftp)?;
        ensure!(Path::exists(&self.file("got")), "no file over TFTP");
        let name = answer("dig", &["+short", "@192.168.123.1", "controlplane.talos."])?;
        ensure!(!name.contains("timed out"), "{name}");
        Ok(())
    }
}

fn down_and_up(xdp: &str) -> Result<()> {
    let mut site = Site::new(&["--xdp", xdp])?;
    let [old, new] = [site.lab.host("old")?, site.lab.host("new")?];
    site.serves(&old, "192.168.123.2")?;
    for times in 1..=2 {
        site.ip("link set eth0 down")?;
        site.logged("eth0 was set down", times)?;
        // Other programs may take addresses off, too.
        site.ip("address flush dev eth0")?;
        site.ip("link set eth0 up")?;
        site.logged("eth0 is up again", times)?;
    }
    let before = site.answered_by_xdp(xdp)?;
    site.serves(&new, "192.168.123.3")?;
    site.serves(&old, "192.168.123.2")?;
    ensure!(site.answered_by_xdp(xdp)? > before, "the XDP program answers nobody");
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn the_interface_may_go_down_and_up_under_native_xdp() -> Result<()> {
    down_and_up("native")
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn the_interface_may_go_down_and_up_under_generic_xdp() -> Result<()> {
    down_and_up("generic")
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn the_interface_may_be_replaced() -> Result<()> {
    let mut site = Site::new(&["--xdp", "native"])?;
    let [old, new] = [site.lab.host("old")?, site.lab.host("new")?];
    site.serves(&old, "192.168.123.2")?;
    for times in 1..=2 {
        site.ip("link delete eth0")?;
        site.logged("eth0 is gone", times)?;
        site.lab.plug(&mut site.host)?;
        site.logged("ready", times + 1)?;
        // It has forgotten no lease.
        site.serves(&new, "192.168.123.3")?;
        site.serves(&old, "192.168.123.2")?;
    }
    site.serves(&old, "192.168.123.2")?;
    ensure!(site.answered_by_xdp("native")? > 0, "the XDP program answers nobody");
    site.server.stop()?;
    Ok(())
}
