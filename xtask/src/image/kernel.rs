//! The distribution's kernel, and those of its modules that an appliance needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::exec;
use crate::setup::archive::{self, Candidate};

/// Packages that depend on the newest kernel for real machines: Debian's, Ubuntu's.
const KERNELS: [&str; 2] = ["linux-image-amd64", "linux-image-generic"];

/// Folders all of whose modules are taken, below `kernel/` in the folder of modules.
const FOLDERS: [&str; 7] = [
    "drivers/net/ethernet",
    "drivers/net/usb",
    "drivers/net/phy",
    "drivers/net/hyperv",
    "drivers/net/vmxnet3",
    "drivers/usb/host",
    "drivers/usb/storage",
];

/// Single modules: what the stick is, whatever it is plugged into; keyboards; virtual machines.
/// What is built into the kernel, or not in this version of it, is left out.
const MODULES: &[&str] = &[
    // Disks: by USB, SATA, NVMe, card readers, and of virtual machines.
    "sd_mod",
    "ahci",
    "ata_piix",
    "ata_generic",
    "nvme",
    "mmc_block",
    "sdhci-pci",
    "sdhci-acpi",
    "rtsx_pci_sdmmc",
    "rtsx_usb_sdmmc",
    "virtio_blk",
    "virtio_scsi",
    "vmw_pvscsi",
    "hv_storvsc",
    // File systems, and what they ask for by other names than their own.
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "ext4",
    "crc32c_generic",
    "crc32c-intel",
    // Network.
    "virtio_net",
    "xen-netfront",
    "af_packet",
    // Keyboards, and the power button.
    "usbhid",
    "hid-generic",
    "hid-apple",
    "hid-logitech-dj",
    "hyperv-keyboard",
    "evdev",
    "button",
    // Buses and random numbers of virtual machines.
    "virtio_pci",
    "virtio-rng",
    "hv_vmbus",
];

/// A kernel with its modules.
pub struct Kernel {
    /// Its file.
    pub image: PathBuf,
    /// Its release, by which its folder of modules is called.
    pub release: String,
    /// The folder of all its modules.
    modules: PathBuf,
}

impl Kernel {
    /// The newest one of the distribution that runs here.
    ///
    /// # Errors
    /// When apt knows none, or it cannot be had.
    pub fn newest() -> Result<Kernel> {
        let folder = archive::unpacked_together(&packages()?)?;
        // Where /lib is a link to /usr/lib, packages know only the latter.
        if !folder.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", folder.join("lib"))?;
        }
        let all = folder.join("lib/modules");
        let releases = fs::read_dir(&all).context("the kernel's package has no modules")?;
        let release = releases.flatten().next().context("the kernel's package has no modules")?;
        let release = release.file_name().to_string_lossy().into_owned();
        let modules = all.join(&release);
        if !modules.join("modules.dep").exists() {
            exec::output(Command::new("depmod").arg("-b").arg(&folder).arg(&release))?;
        }
        let image = folder.join("boot").join(format!("vmlinuz-{release}"));
        ensure!(image.exists(), "the kernel's package has no {}", image.display());
        Ok(Kernel { image, release, modules })
    }

    /// Copies the modules that an appliance needs, and those that they need, below the folder
    /// `tree`, uncompressed and with their index. Returns their files.
    ///
    /// # Errors
    /// When a tool is missing or a file cannot be copied.
    pub fn copy_modules(&self, tree: &Path) -> Result<Vec<PathBuf>> {
        let index = fs::read_to_string(self.modules.join("modules.dep"))?;
        let target = tree.join("lib/modules").join(&self.release);
        let mut copied = Vec::new();
        for file in needed(&index) {
            let to = target.join(uncompressed(file));
            fs::create_dir_all(to.parent().context("a module without a folder")?)?;
            unpack(&self.modules.join(file), &to)?;
            copied.push(to);
        }
        // What is built in has aliases, too.
        for file in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            fs::copy(self.modules.join(file), target.join(file))
                .with_context(|| format!("cannot copy {file} of the kernel's package"))?;
        }
        exec::output(Command::new("depmod").arg("-b").arg(tree).arg(&self.release))?;
        // All but what busybox reads.
        let read = ["kernel", "modules.alias", "modules.dep", "modules.symbols"];
        for entry in fs::read_dir(&target)? {
            let entry = entry?;
            if !read.iter().any(|name| entry.file_name() == *name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(copied)
    }
}

/// The kernel's package, and those with modules that it needs.
fn packages() -> Result<Vec<Candidate>> {
    for meta in KERNELS {
        let Some(meta) = archive::candidate(meta)? else { continue };
        // On Ubuntu drivers are in packages of their own.
        let parts = |of: &Candidate| -> Result<Vec<Candidate>> {
            let names = of.depends.iter().filter(|name| {
                name.starts_with("linux-image-") || name.starts_with("linux-modules-")
            });
            let parts: Result<Vec<_>> = names.map(|name| archive::candidate(name)).collect();
            Ok(parts?.into_iter().flatten().collect())
        };
        let mut packages = parts(&meta)?;
        for package in packages.clone() {
            packages.extend(parts(&package)?);
        }
        let mut seen = BTreeSet::new();
        packages.retain(|package| seen.insert(package.name.clone()));
        if !packages.is_empty() {
            return Ok(packages);
        }
    }
    bail!("apt knows no kernel ({}); run `apt-get update`", KERNELS.join(", "))
}

/// The files of [`FOLDERS`] and [`MODULES`], and those that they need, by `modules.dep`.
fn needed(index: &str) -> BTreeSet<&str> {
    let lines = index.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(file, _)| is_wanted(file));
    wanted.flat_map(|(file, needs)| needs.split_whitespace().chain([file])).collect()
}

fn is_wanted(file: &str) -> bool {
    let path = file.strip_prefix("kernel/").unwrap_or(file);
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = name.split(".ko").next().unwrap_or(name);
    let within = |wanted: &str| {
        folder.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // PC cards went out before the network booted.
    FOLDERS.iter().any(|wanted| within(wanted)) && !name.ends_with("_cs")
        || MODULES.iter().any(|wanted| wanted.replace('-', "_") == name.replace('-', "_"))
}

/// The name of a module's file without compression.
fn uncompressed(file: &str) -> &str {
    file.strip_suffix(".xz").or_else(|| file.strip_suffix(".zst")).unwrap_or(file)
}

/// Copies a module, uncompressed: busybox does not know every compression.
fn unpack(from: &Path, to: &Path) -> Result<()> {
    let tool = match from.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::copy(from, to).map(drop).context("cannot copy a module"),
    };
    let file = fs::File::create(to)?;
    let mut command = Command::new(tool);
    let status = command.args(["-dcq"]).arg(from).stdout(file).status();
    let status = status.map_err(|error| exec::cannot_start(&command, &error))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_drivers_and_what_they_need() {
        let index = "kernel/drivers/net/ethernet/intel/igb/igb.ko.xz: kernel/drivers/i2c/dca.ko.xz\n\
                     kernel/drivers/net/ethernet/8390/pcnet_cs.ko.xz: kernel/pcmcia.ko.xz\n\
                     kernel/drivers/net/ethernetwork/x.ko.xz:\n\
                     kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/virtio.ko.xz\n\
                     kernel/drivers/i2c/dca.ko.xz:\n\
                     kernel/sound/sound.ko.xz:\n";
        let files: Vec<&str> = needed(index).into_iter().map(uncompressed).collect();
        let expected = [
            "kernel/drivers/char/hw_random/virtio-rng.ko",
            "kernel/drivers/i2c/dca.ko",
            "kernel/drivers/net/ethernet/intel/igb/igb.ko",
            "kernel/virtio.ko",
        ];
        assert_eq!(files, expected);
    }
}
