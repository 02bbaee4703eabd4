//! A machine with a patch of its own: while the patch is wrong it does not boot and says why.

use std::fs;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use talos_pxe::decisions::config::{Source, merge};
use xtask::lab::Lab;
use xtask::lab::guest::hex;
use xtask::lab::qemu::Firmware;
use xtask::lab::root::Role;

use crate::{Appliance, BOOT, SERVER, power_on};

const PATCH: &str = "machine:\n  install:\n    disk: /dev/vda\n";

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_machine_boots_with_its_patches_or_not_at_all() -> Result<()> {
    let lab = Lab::new()?;
    let mut appliance = Appliance::start(&lab, Some(Role::Worker), SERVER)?;
    let mac = power_on(&lab, "patched", Firmware::Bios)?.mac().to_owned();
    let patches = lab.dir().join("root/patches");
    fs::create_dir(&patches)?;
    let patch = patches.join(format!("{}.yaml", mac.replace(':', "-")));
    fs::write(&patch, "machine: [wrong]\n")?;

    let mut machine = power_on(&lab, "patched", Firmware::Bios)?;
    let log = |appliance: &mut Appliance| appliance.server.process().text();
    for text in ["The config of this machine cannot be made", "trying again in 10 seconds"] {
        machine.wait_for(text, BOOT).with_context(|| log(&mut appliance))?;
    }
    ensure!(log(&mut appliance).contains("machine: a list in the patch, a mapping in the config"));

    fs::write(&patch, PATCH)?;
    machine.wait_for("lab: booted", BOOT).with_context(|| log(&mut appliance))?;
    let base = Role::Worker.config();
    let sources = [Source { name: "base", text: &base }, Source { name: "patch", text: PATCH }];
    let [base, patch] = sources;
    let wanted = format!("lab: config sha256 {} ", hex(&Sha256::digest(merge(base, &[patch])?)));
    let told = machine.serial().find("lab: config").context("it says nothing of a config")?;
    ensure!(told.text.contains(&wanted), "it got {:?}, not {wanted:?}", told.text);
    Ok(())
}
