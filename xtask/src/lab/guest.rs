//! The system that the lab's machines boot: Debian's kernel, and an initramfs made on the spot.
//!
//! Its `/init` gets an address by DHCP, fetches the URL of the kernel argument `talos.config`,
//! says on the serial console what it got, and powers off. Nothing is installed on the user's
//! machine: the kernel's package is unpacked below cargo's target folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::setup::archive;
use crate::{exec, progress, target};

const INIT: &str = include_str!("guest-init.sh");
const LEASE: &str = include_str!("guest-lease.sh");
const BUSYBOX: &str = "/bin/busybox";

/// Packages that depend on the newest kernel for virtual machines: Debian's, Ubuntu's.
const KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];

/// What a virtio NIC needs.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];

/// The guest's files.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs, xz-compressed.
    pub initramfs: PathBuf,
}

impl Guest {
    /// Makes the guest, or finds it made from the same parts before.
    ///
    /// # Errors
    /// When a tool is missing or the kernel cannot be downloaded.
    pub fn make() -> Result<Guest> {
        let lab = target().join("lab");
        fs::create_dir_all(&lab).with_context(|| format!("cannot make {}", lab.display()))?;
        let package = kernel_package(&lab)?;
        let busybox = fs::read(BUSYBOX).with_context(|| {
            format!("no {BUSYBOX}; `cargo xtask setup` installs busybox-static")
        })?;

        let mut parts = Sha256::new();
        let package_name = package.file_name().unwrap_or_default();
        for part in [package_name.as_encoded_bytes(), INIT.as_bytes(), LEASE.as_bytes(), &busybox] {
            parts.update(part.len().to_le_bytes());
            parts.update(part);
        }
        let done = lab.join(format!("guest-{}", hex(&parts.finalize()).get(..16).unwrap_or("")));
        if !done.exists() {
            progress::during("Making the guest system", || make_in(&lab, &package, &done))?;
        }
        Ok(Guest { kernel: done.join("vmlinuz"), initramfs: done.join("initramfs.xz") })
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kernel's package in the folder `lab`: the one that is there, else downloaded.
fn kernel_package(lab: &Path) -> Result<PathBuf> {
    let mut packages = files(lab)?;
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    if let Some(package) = packages.pop() {
        return Ok(package);
    }
    let name = kernel_package_name()?;
    progress::during(&format!("Downloading {name}"), || {
        let download = tempfile::tempdir_in(lab)?;
        exec::output(
            Command::new("apt-get").args(["download", &name]).current_dir(download.path()),
        )?;
        let package = files(download.path())?.pop().context("apt-get downloaded nothing")?;
        let kept = lab.join(package.file_name().unwrap_or_default());
        fs::rename(&package, &kept)?;
        Ok(kept)
    })
}

/// The name of the newest kernel package.
fn kernel_package_name() -> Result<String> {
    for meta in KERNELS {
        let depends = archive::candidate(meta)?.map_or_else(Vec::new, |found| found.depends);
        if let Some(name) = depends.into_iter().find(|name| name.starts_with("linux-image-")) {
            return Ok(name);
        }
    }
    bail!(
        "apt knows no kernel ({}); run `apt-get update`, or put Talos's vmlinuz-amd64 and \
         initramfs-amd64.xz into assets/",
        KERNELS.join(", ")
    )
}

/// Makes the guest in a temporary folder of `lab`, then moves it to `done` as one.
fn make_in(lab: &Path, package: &Path, done: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(lab)?;
    let unpacked = work.path().join("package");
    exec::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
    let boot = files(&unpacked.join("boot"))?;
    let is_kernel = |path: &&PathBuf| name_of(path).starts_with("vmlinuz-");
    let kernel = boot.iter().find(is_kernel).context("the kernel's package has no kernel")?;
    let version = name_of(kernel).trim_start_matches("vmlinuz-").to_owned();

    let tree = work.path().join("tree");
    for folder in ["bin", "dev", "lib/modules", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    fs::copy(BUSYBOX, tree.join("bin/busybox"))?;
    for (name, script) in [("init", INIT), ("lease", LEASE)] {
        fs::write(tree.join(name), script)?;
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o755))?;
    }
    let mut order = String::new();
    for module in modules(&unpacked, &version)? {
        let name = name_of(&module).to_owned();
        fs::copy(&module, tree.join("lib/modules").join(&name))?;
        order.push_str(&format!("{name}\n"));
    }
    fs::write(tree.join("lib/modules/order"), order)?;

    let made = work.path().join("made");
    fs::create_dir(&made)?;
    fs::copy(kernel, made.join("vmlinuz"))?;
    // The kernel's decompressor knows no other check than CRC32.
    let pack = "set -o pipefail; find . | cpio --quiet -o -H newc | xz --check=crc32 >\"$0\"";
    let archive = made.join("initramfs.xz");
    exec::output(Command::new("bash").arg("-c").arg(pack).arg(archive).current_dir(&tree))?;
    match fs::rename(&made, done) {
        // Another one was faster with the same parts.
        Err(_) if done.exists() => Ok(()),
        other => other.with_context(|| format!("cannot make {}", done.display())),
    }
}

/// The files of [`MODULES`] and of all that they need, in the order in which to load them. What
/// is built into the kernel has no file.
fn modules(unpacked: &Path, version: &str) -> Result<Vec<PathBuf>> {
    exec::output(Command::new("depmod").arg("-b").arg(unpacked).arg(version))?;
    let folder = unpacked.join("lib/modules").join(version);
    let dependencies = fs::read_to_string(folder.join("modules.dep"))?;
    let mut order: Vec<&str> = Vec::new();
    for module in MODULES {
        let file = format!("/{module}.ko");
        for line in dependencies.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            if path.ends_with(&file) {
                // depmod lists a module's needs with the deepest last.
                order.extend(needs.split_whitespace().rev().chain([path]));
            }
        }
    }
    let mut loaded = std::collections::HashSet::new();
    order.retain(|path| loaded.insert(*path));
    Ok(order.into_iter().map(|path| folder.join(path)).collect())
}

/// The files of a folder, sorted by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
