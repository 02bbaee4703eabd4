//! Machines that are named before they ask: fixed addresses, and rules that change meanwhile.

use std::fs;

use anyhow::Result;
use rustix::process::Signal;

use super::dhcp::signal;
use super::{PATIENCE, Site};

/// The first host beside talos-pxe.
const MACHINE: &str = "02:00:00:00:00:02";

fn inventory(address: &str) -> String {
    format!("machines:\n  - {{ mac: {MACHINE}, hostname: n1, address: {address} }}\n")
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_machine_of_the_inventory_is_answered_by_xdp_when_it_first_asks() -> Result<()> {
    let files = [("machines.yaml", inventory("192.168.123.77"))];
    // Its address is not in the pool.
    let flags = ["--xdp", "native", "--range", "192.168.123.100-192.168.123.110"];
    let site = Site::with(&files, &flags)?;
    let machine = site.lab.host("machine")?;
    assert_eq!(machine.mac(), MACHINE);
    site.udhcpc(&machine, &[])?.wait_for("event: bound 192.168.123.77", PATIENCE)?;
    let other = site.lab.host("other")?;
    site.udhcpc(&other, &["-r", "192.168.123.77"])?
        .wait_for("event: bound 192.168.123.100", PATIENCE)?;

    let Site { server, .. } = site;
    let log = server.stop()?;
    for (answered, count) in [
        ("answered by XDP machine=02:00:00:00:00:02 address=Some(192.168.123.77)", 2),
        ("offered machine=02:00:00:00:00:02", 0),
        ("acknowledged machine=02:00:00:00:00:02", 0),
        ("acknowledged machine=02:00:00:00:00:03", 1),
    ] {
        assert_eq!(log.matches(answered).count(), count, "{answered}\n{log}");
    }
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_changed_inventory_takes_effect_and_a_broken_one_does_not() -> Result<()> {
    for xdp in ["native", "off"] {
        let files = [("machines.yaml", inventory("192.168.123.77"))];
        let mut site = Site::with(&files, &["--xdp", xdp])?;
        let file = site.file("root/machines.yaml");
        let machine = site.lab.host("machine")?;
        let mut udhcpc = site.udhcpc(&machine, &[])?;
        udhcpc.wait_for("event: bound 192.168.123.77", PATIENCE)?;

        fs::write(&file, inventory("192.168.123.78"))?;
        site.server.process().wait_for("new rules are in force", PATIENCE)?;
        // Its renewal is refused, so that it asks anew.
        signal(&udhcpc, Signal::USR1)?;
        udhcpc.wait_for("event: bound 192.168.123.78", PATIENCE)?;
        // The one that it had is not another's before its time is over.
        let other = site.lab.host("other")?;
        site.udhcpc(&other, &["-r", "192.168.123.77"])?
            .wait_for("event: bound 192.168.123.2", PATIENCE)?;

        fs::write(&file, inventory("10.0.0.1"))?;
        let log = site.server.process();
        let told = log.wait_for("the rules of before stay in force", PATIENCE)?;
        let error = format!("machines.yaml: machine {MACHINE}: address 10.0.0.1 is not inside");
        assert!(told.text.contains(&error), "{}", told.text);
        signal(&udhcpc, Signal::USR1)?;
        udhcpc.wait_for("event: renew 192.168.123.78", PATIENCE)?;

        let more = "  - mac: 02:00:00:00:00:99\n";
        fs::write(&file, inventory("192.168.123.99") + more)?;
        site.server.process().wait_for("new rules are in force machines=2", PATIENCE)?;
        drop(udhcpc);
        let mut udhcpc = site.udhcpc(&machine, &[])?;
        udhcpc.wait_for("event: bound 192.168.123.99", PATIENCE)?;
        let Site { server, .. } = site;
        let log = server.stop()?;
        assert_eq!(log.matches("the rules of before stay in force").count(), 1, "{log}");
    }
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_fixed_address_that_a_host_uses_is_not_given_away() -> Result<()> {
    let files = [("machines.yaml", inventory("192.168.123.77"))];
    let mut site = Site::with(&files, &["--xdp", "native"])?;
    let machine = site.lab.host("machine")?;
    let squatter = site.lab.host("squatter")?;
    squatter.add_address("192.168.123.77/24")?;
    // It looks for itself, and declines.
    let mut udhcpc = site.udhcpc(&machine, &["-a"])?;
    udhcpc.wait_for("event: bound 192.168.123.2", PATIENCE)?;
    let told =
        site.server.process().wait_for("a fixed address is in use by another host", PATIENCE)?;
    assert!(told.text.contains("ERROR") && told.text.contains(MACHINE), "{}", told.text);
    Ok(())
}
