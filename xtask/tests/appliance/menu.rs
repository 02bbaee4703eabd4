//! Groups and profiles in the shape of those that the original talos-pxe has, with the keys of its
//! menu.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::lab::Lab;
use xtask::lab::guest::Guest;
use xtask::lab::qemu::{Firmware, Machine};
use xtask::lab::root::{self, Role, System};

use crate::{Appliance, BOOT, SERVER, power_on};

#[test]
#[ignore = "lab: cargo xtask test"]
fn each_key_of_the_menu_boots_with_its_own_config() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.dir().join("root");
    root::make(&folder, &System::Guest(Guest::make()?), None)?;
    let files = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/appliance/original");
    for kind in ["groups", "profiles"] {
        fs::create_dir(folder.join(kind))?;
        for file in fs::read_dir(files.join(kind))? {
            let file = file?;
            fs::copy(file.path(), folder.join(kind).join(file.file_name()))?;
        }
    }

    let mut appliance = Appliance::serve(&lab, &folder, SERVER)?;
    let keys = [("i", Role::Init), ("c", Role::Controlplane), ("w", Role::Worker)];
    let mut machines = keys
        .map(|(_, role)| power_on(&lab, role.name(), Firmware::Bios))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for (machine, (key, _)) in machines.iter_mut().zip(keys) {
        // The menu's last item: once it is on the screen the menu takes keys.
        let menu = machine.wait_for("Exit", BOOT);
        menu.with_context(|| appliance.server.process().text())?;
        choose(machine, key)?;
    }
    for (machine, (_, role)) in machines.iter_mut().zip(keys) {
        appliance.booted(machine, role)?;
    }
    Ok(())
}

/// Types a key until the menu takes it: while it asks us anew, every 5 s, iPXE throws keys away.
pub fn choose(machine: &mut Machine, key: &str) -> Result<()> {
    loop {
        machine.type_text(key)?;
        match machine.wait_for("Linux version", Duration::from_secs(3)) {
            Ok(_) => return Ok(()),
            Err(error) if machine.serial().age() > BOOT => return Err(error),
            Err(_) => machine.serial().check()?,
        }
    }
}
