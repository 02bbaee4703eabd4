//! What the machines of a rack boot: the files that every server has, and what machines must get.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Plan;
use crate::lab::guest::Guest;
use crate::lab::root::{self, Role, System};

/// Where the boot files are.
pub const FIRMWARE: &str = "/usr/lib/ipxe";
/// The boot files of UEFI and of BIOS.
pub const BOOT_FILES: [&str; 2] = ["snponly.efi", "undionly.kpxe"];
/// The script that a server without logic has, below its root.
pub const SCRIPT: &str = "boot.ipxe";

/// How large a rack is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many machines there are.
    pub machines: u32,
    /// The time in which they are switched on, evenly.
    pub spread: Duration,
    /// Octets of the initramfs; the kernel has a fifth of them.
    pub image: u64,
}

/// Makes a `--root` folder for talos-pxe in `folder`, where every machine becomes a worker, with a
/// script for other servers; returns what the machines do then.
///
/// # Errors
/// When a file cannot be written.
pub fn make(folder: &Path, site: &str, size: Size) -> Result<Plan> {
    let Size { machines, spread, image } = size;
    let (kernel, initramfs) = (folder.join("kernel"), folder.join("initramfs"));
    fs::create_dir_all(folder).context("cannot make a folder for images")?;
    fill(&kernel, image / 5).and_then(|()| fill(&initramfs, image)).context("no images")?;
    let root = folder.join("root");
    root::make(&root, &System::Guest(Guest { kernel, initramfs }), Some(Role::Worker))?;
    let script = format!(
        "#!ipxe\n\
         kernel {site}/assets/vmlinuz-amd64 initrd=initramfs-amd64.xz talos.platform=metal \
         talos.config={site}/assets/worker.yaml\n\
         initrd --name initramfs-amd64.xz {site}/assets/initramfs-amd64.xz\n\
         boot\n"
    );
    fs::write(root.join(SCRIPT), script)?;
    let mut boot_files = BTreeMap::new();
    for name in BOOT_FILES {
        let file = Path::new(FIRMWARE).join(name);
        let content = fs::read(&file).with_context(|| format!("no {}", file.display()))?;
        boot_files.insert(name.to_owned(), content);
    }
    let config = Role::Worker.config().into_bytes();
    Ok(Plan { machines, spread, boot_files, kernel: image / 5, initramfs: image, config })
}

/// A file of real pages, so that none is read from a hole.
fn fill(path: &Path, octets: u64) -> std::io::Result<()> {
    let (mut file, mut left) = (File::create(path)?, octets);
    let pages = vec![0x5a; 1 << 20];
    while left > 0 {
        let length = left.min(pages.len() as u64);
        file.write_all(pages.get(..length as usize).unwrap_or_default())?;
        left -= length;
    }
    Ok(())
}
