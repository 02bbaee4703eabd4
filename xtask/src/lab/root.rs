//! A `--root` folder for talos-pxe: a kernel, an initramfs, machine configs, and a role.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::guest::{Guest, hex};
use crate::repository;

const KERNEL: &str = "vmlinuz-amd64";
const INITRAMFS: &str = "initramfs-amd64.xz";

/// What a machine is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The first machine of a cluster's control plane.
    Init,
    /// A further machine of the control plane.
    Controlplane,
    /// A machine that runs the cluster's workloads.
    Worker,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Init, Role::Controlplane, Role::Worker];

    /// Its name in URLs, groups and profiles.
    pub fn name(self) -> &'static str {
        match self {
            Role::Init => "init",
            Role::Controlplane => "controlplane",
            Role::Worker => "worker",
        }
    }

    /// Its machine config in the lab: like Talos's in shape, without secrets.
    pub fn config(self) -> String {
        let name = self.name();
        format!(
            "version: v1alpha1\nmachine:\n  type: {name}\n  network:\n    hostname: lab-{name}\n"
        )
    }

    /// The SHA-256 of [`Role::config`], in hexadecimal.
    pub fn config_sha256(self) -> String {
        hex(&Sha256::digest(self.config()))
    }
}

/// What the machines of a root boot.
#[derive(Clone, Debug)]
pub enum System {
    /// Talos, from a folder with its release files.
    Talos(PathBuf),
    /// The lab's own guest.
    Guest(Guest),
}

impl System {
    /// Talos when the repository's `assets/` holds its files, else the lab's guest.
    ///
    /// # Errors
    /// When the guest cannot be made.
    pub fn choose() -> Result<System> {
        let assets = repository().join("assets");
        if assets.join(KERNEL).exists() && assets.join(INITRAMFS).exists() {
            return Ok(System::Talos(assets));
        }
        Guest::make().map(System::Guest)
    }

    /// What the serial console says once it runs.
    pub fn booted(&self) -> &'static str {
        match self {
            System::Talos(_) => "booting Talos",
            System::Guest(_) => "lab: booted",
        }
    }

    /// The memory that it needs, in MiB.
    pub fn memory(&self) -> u32 {
        match self {
            System::Talos(_) => 2048,
            System::Guest(_) => 1024,
        }
    }

    fn files(&self) -> (PathBuf, PathBuf) {
        match self {
            System::Talos(assets) => (assets.join(KERNEL), assets.join(INITRAMFS)),
            System::Guest(guest) => (guest.kernel.clone(), guest.initramfs.clone()),
        }
    }
}

/// Fills the new folder `root`. With a role every machine gets it; without one the machines show
/// the menu.
///
/// # Errors
/// When a file cannot be written.
pub fn make(root: &Path, system: &System, role: Option<Role>) -> Result<()> {
    let assets = root.join("assets");
    fs::create_dir_all(&assets).with_context(|| format!("cannot make {}", assets.display()))?;
    let (kernel, initramfs) = system.files();
    for (from, name) in [(kernel, KERNEL), (initramfs, INITRAMFS)] {
        // No symbolic links: the daemon serves nothing from outside its root.
        let to = assets.join(name);
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(drop))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    for role in Role::ALL {
        fs::write(assets.join(format!("{}.yaml", role.name())), role.config())?;
    }
    let Some(role) = role else { return Ok(()) };
    let name = role.name();
    let group = json!({ "name": name, "profile": name, "selector": { "type": "auto" } });
    let config = format!("talos.config=http://${{next-server}}:8080/assets/{name}.yaml");
    let profile = json!({
        "id": name,
        "name": name,
        "boot": {
            "kernel": format!("/assets/{KERNEL}"),
            "initrd": [format!("/assets/{INITRAMFS}")],
            "args": [
                format!("initrd={INITRAMFS}"),
                "talos.platform=metal",
                "slab_nomerge",
                "pti=on",
                "console=tty0",
                "console=ttyS0",
                config,
            ],
        },
    });
    for (folder, value) in [("groups", group), ("profiles", profile)] {
        fs::create_dir(root.join(folder))?;
        fs::write(root.join(folder).join(format!("{name}.json")), format!("{value:#}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn guest(folder: &Path) -> System {
        let (kernel, initramfs) = (folder.join("kernel"), folder.join("initramfs"));
        fs::write(&kernel, "kernel").unwrap();
        fs::write(&initramfs, "initramfs").unwrap();
        System::Guest(Guest { kernel, initramfs })
    }

    #[test]
    fn a_role_is_a_group_for_every_machine() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        make(&root, &guest(folder.path()), Some(Role::Worker)).unwrap();
        let read = |path: &str| -> Value {
            serde_json::from_str(&fs::read_to_string(root.join(path)).unwrap()).unwrap()
        };
        let (group, profile) = (read("groups/worker.json"), read("profiles/worker.json"));
        assert_eq!(group["selector"], json!({ "type": "auto" }));
        assert_eq!(group["profile"], profile["id"]);
        for file in [&profile["boot"]["kernel"], &profile["boot"]["initrd"][0]] {
            let file = root.join(file.as_str().unwrap().trim_start_matches('/'));
            assert!(fs::symlink_metadata(file).unwrap().is_file());
        }
    }

    #[test]
    fn without_a_role_the_daemon_s_own_groups_apply() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        make(&root, &guest(folder.path()), None).unwrap();
        assert!(!root.join("groups").exists() && !root.join("profiles").exists());
    }

    #[test]
    fn configs_differ_by_role() {
        let sums: std::collections::HashSet<_> = Role::ALL.map(Role::config_sha256).into();
        assert_eq!(sums.len(), Role::ALL.len());
    }
}
