//! A rack that was described before it was powered on: nobody chooses anything.

use std::fs;

use anyhow::{Context, Result, ensure};
use xtask::lab::Lab;
use xtask::lab::guest::Guest;
use xtask::lab::qemu::Firmware;
use xtask::lab::root::{self, Role, System};

use crate::{Appliance, SERVER, SOON, power_on};

/// Each machine's first answers come from the XDP program already.
#[test]
#[ignore = "lab: cargo xtask test"]
fn a_rack_boots_by_its_inventory() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.dir().join("root");
    root::make(&folder, &System::Guest(Guest::make()?), None)?;
    let rack = [
        ("init", Firmware::Bios, Role::Controlplane),
        ("controlplane", Firmware::Uefi, Role::Controlplane),
        ("worker", Firmware::UefiHttp, Role::Worker),
    ];
    // The lab numbers its machines from 1.
    let machines = rack.iter().zip(1..).map(|((role, ..), n)| {
        format!("  - {{ mac: 52:54:00:00:00:0{n}, role: {role}, address: 192.168.123.5{n} }}\n")
    });
    let inventory = format!("machines:\n{}", machines.collect::<String>());
    fs::write(folder.join("machines.yaml"), inventory)?;

    let flags = [SERVER, &["--xdp", "native", "-v"]].concat();
    let mut appliance = Appliance::serve(&lab, &folder, &flags)?;
    let machines = rack.iter().map(|(name, firmware, _)| power_on(&lab, name, firmware.clone()));
    let mut machines = machines.collect::<Result<Vec<_>>>()?;
    for ((machine, (.., config)), n) in machines.iter_mut().zip(rack).zip(1..) {
        appliance.booted(machine, config)?;
        let address = machine.wait_for("lab: address", SOON).context("it has no address")?;
        ensure!(address.text.contains(&format!("192.168.123.5{n}")), "{}", address.text);
    }
    let log = appliance.server.stop()?;
    for machine in &machines {
        let mac = machine.mac();
        ensure!(!log.contains(&format!("menu machine=\"{mac}\"")), "{mac} saw the menu:\n{log}");
        for answer in ["Offer", "Ack"] {
            let by_xdp = log.lines().filter(|line| line.contains("answered by XDP"));
            let mut to_it = by_xdp.filter(|line| line.contains(mac));
            let found = to_it.any(|line| line.contains(&format!("answer={answer}")));
            ensure!(found, "no {answer} to {mac} by XDP:\n{log}");
        }
        ensure!(!log.contains(&format!("acknowledged machine={mac}")), "not by XDP:\n{log}");
    }
    Ok(())
}
