//! A small rack boots from talos-pxe: every machine comes through every stage of its boot.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::lab::Lab;
use xtask::lab::server::{self, Server};
use xtask::load::rack::files::{self, Size};
use xtask::load::rack::{self, Network, Stage};

#[test]
#[ignore = "lab: cargo xtask test"]
fn twenty_machines_boot_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.dir().join("rack");
    let size = Size { machines: 20, spread: Duration::ZERO, image: 1 << 20 };
    let plan = files::make(&folder, "", size)?;
    let [host, far] = lab.wide_cable(["talos-pxe", "rack"])?;
    let root = folder.join("root").display().to_string();
    let flags = ["--mode", "server", "--addr", "10.77.0.1/16", "--range"];
    let flags = flags.into_iter().chain(["10.77.16.0-10.77.31.255", "--root", &root]);
    let mut server = Server::start(&server::build()?, &host, flags)?;
    let mut network = Network::open(&host, &far, Ipv4Addr::new(10, 77, 0, 1))?;
    for boot in rack::boot(&mut network, &plan)? {
        let log = server.process().text();
        ensure!(boot.up.is_some(), "a machine did not boot: {boot:?}; talos-pxe's log:\n{log}");
        ensure!(boot.stages.keys().eq(&Stage::ALL), "{boot:?}");
    }
    Ok(())
}
