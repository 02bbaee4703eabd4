//! From silent machines to the members of a cluster: each gets its role and its own config, and
//! those of the control plane are found by name from inside a booted machine.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use xtask::lab::Lab;
use xtask::lab::guest::{Guest, hex};
use xtask::lab::qemu::{Firmware, Machine};
use xtask::lab::root::{self, Role, System};

use crate::menu::choose;
use crate::{Appliance, BOOT, SERVER, SOON, power_on};

/// What the machines become, each with the key of the menu that says so.
const ROLES: [(&str, Role); 3] =
    [("i", Role::Init), ("c", Role::Controlplane), ("w", Role::Worker)];

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_cluster_by_the_menu() -> Result<()> {
    let lab = Lab::new()?;
    let mut appliance = start(&lab, None)?;
    let mut machines = power_on_each(&lab)?;
    for (machine, (key, _)) in machines.iter_mut().zip(ROLES) {
        let menu = machine.wait_for("Exit", BOOT);
        menu.with_context(|| appliance.server.process().text())?;
        choose(machine, key)?;
    }
    let configs = ROLES.map(|(_, role)| role.config());
    expect_cluster(&mut appliance, &mut machines, &configs)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_cluster_by_its_inventory() -> Result<()> {
    let lab = Lab::new()?;
    // The lab numbers its machines from 1.
    let inventory = "
machines:
  - { mac: 52:54:00:00:00:01, hostname: one, role: init }
  - mac: 52:54:00:00:00:02
    hostname: two
    role: controlplane
    patch: { machine: { install: { disk: /dev/vda } } }
  - mac: 52:54:00:00:00:03
    hostname: three
    role: worker
    address: 192.168.123.77
    patches: [big-disk.yaml]
";
    let mut appliance = start(&lab, Some(inventory))?;
    let mut machines = power_on_each(&lab)?;
    let head = "version: v1alpha1\nmachine:\n";
    let configs = [
        format!("{head}    type: init\n    network:\n        hostname: \"one\"\n"),
        format!(
            "{head}    type: controlplane\n    network:\n        hostname: \"two\"\n    install:\n        \
             disk: /dev/vda\n"
        ),
        format!(
            "{head}    type: worker\n    network:\n        hostname: \"three\"\n    install:\n        disk: \
             /dev/nvme0n1\n"
        ),
    ];
    expect_cluster(&mut appliance, &mut machines, &configs)?;
    ensure!(address(&mut machines[2])? == "192.168.123.77");
    Ok(())
}

/// The daemon, with profiles whose machines wait until the control plane has two members.
fn start(lab: &Lab, inventory: Option<&str>) -> Result<Appliance> {
    let folder = lab.dir().join("root");
    root::make(&folder, &System::Guest(Guest::make()?), None)?;
    fs::create_dir(folder.join("profiles"))?;
    for (_, role) in ROLES {
        let config = format!("talos.config=/assets/{}.yaml", role.name());
        let args = ["console=ttyS0", "lab.resolve=controlplane.talos:2", &config];
        let boot = json!({
            "kernel": "/assets/vmlinuz-amd64",
            "initrd": ["/assets/initramfs-amd64.xz"],
            "args": args,
        });
        let file = folder.join("profiles").join(format!("{}.json", role.name()));
        fs::write(file, json!({ "boot": boot }).to_string())?;
    }
    fs::create_dir(folder.join("groups"))?;
    for (_, role) in ROLES {
        let group = json!({ "profile": role.name(), "selector": { "type": role.name() } });
        fs::write(folder.join("groups").join(format!("{}.json", role.name())), group.to_string())?;
    }
    if let Some(inventory) = inventory {
        fs::write(folder.join("machines.yaml"), inventory)?;
        fs::create_dir(folder.join("patches"))?;
        let patch = "machine:\n  install:\n    disk: /dev/nvme0n1\n";
        fs::write(folder.join("patches/big-disk.yaml"), patch)?;
    }
    Appliance::serve(lab, &folder, SERVER)
}

fn power_on_each(lab: &Lab) -> Result<Vec<Machine>> {
    ROLES.iter().map(|(_, role)| power_on(lab, role.name(), Firmware::Bios)).collect()
}

/// Each machine got its config, and each finds the control plane: the first two machines.
fn expect_cluster(
    appliance: &mut Appliance,
    machines: &mut [Machine],
    configs: &[String],
) -> Result<()> {
    for (machine, config) in machines.iter_mut().zip(configs) {
        let booted = machine.wait_for("lab: booted", BOOT);
        booted.with_context(|| appliance.server.process().text())?;
        let got = after(machine, "lab: config sha256 ")?;
        let wanted = hex(&Sha256::digest(config));
        ensure!(got.starts_with(&wanted), "not the config that was expected:\n{config}\n{got}");
    }
    let mut control_plane = machines.iter_mut().take(2).map(address).collect::<Result<Vec<_>>>()?;
    control_plane.sort();
    let wanted = control_plane.join(" ");
    for machine in machines {
        let found = after(machine, "lab: resolved controlplane.talos ")?;
        ensure!(found == wanted, "{} finds {found:?}, not {wanted:?}", machine.name());
    }
    Ok(())
}

fn address(machine: &mut Machine) -> Result<String> {
    after(machine, "lab: address ")
}

/// What a machine says behind these words.
fn after(machine: &mut Machine, words: &str) -> Result<String> {
    let line = machine.wait_for(words, SOON)?;
    let (_, rest) = line.text.split_once(words).context("no such line")?;
    Ok(rest.trim().to_owned())
}
