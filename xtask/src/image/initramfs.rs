//! What runs from the stick: an initramfs with busybox, modules, firmware and the daemon.

use std::fs::{self, File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::cpio;
use super::firmware::{self, Firmware};
use super::kernel::Kernel;
use crate::setup::archive;
use crate::{exec, progress};

const INIT: &str = include_str!("init.sh");
const UEVENT: &str = include_str!("uevent.sh");
const OFF: &str = include_str!("off.sh");

const FOLDERS: [&str; 13] = [
    "bin",
    "boot",
    "dev",
    "etc/acpi/PWRF",
    "lib",
    "proc",
    "root",
    "run",
    "sbin",
    "state",
    "sys",
    "tmp",
    "usr/lib/ipxe",
];

/// What went into an initramfs.
pub struct Contents {
    /// How many modules.
    pub modules: usize,
    /// Firmware for their devices.
    pub firmware: Firmware,
}

/// Makes the initramfs `out` in the empty folder `work`, with the static program `daemon`; with a
/// shell on the third terminal if `shell`.
///
/// # Errors
/// When a package cannot be had, or a file not be written.
pub fn make(
    kernel: &Kernel,
    daemon: &Path,
    shell: bool,
    work: &Path,
    out: &Path,
) -> Result<Contents> {
    let tree = work.join("tree");
    for folder in FOLDERS {
        fs::create_dir_all(tree.join(folder))?;
    }
    let busybox = archive::newest("busybox-static")?.join("bin/busybox");
    put(&busybox, &tree.join("bin/busybox"))?;
    for name in ["bin/sh", "sbin/modprobe"] {
        symlink("/bin/busybox", tree.join(name))?;
    }
    let scripts = [("init", INIT), ("etc/uevent", UEVENT), ("bin/off", OFF)];
    for (name, script) in scripts {
        fs::write(tree.join(name), script)?;
        fs::set_permissions(tree.join(name), Permissions::from_mode(0o755))?;
    }
    // What busybox's acpid runs when the power button is pressed.
    symlink("/bin/off", tree.join("etc/acpi/PWRF/00000080"))?;
    if shell {
        fs::write(tree.join("etc/shell"), "")?;
    }
    put(daemon, &tree.join("bin/talos-pxe"))?;
    exec::output(Command::new("strip").arg("--strip-debug").arg(tree.join("bin/talos-pxe")))?;
    // Its own default folder; those in a folder `firmware` on the stick come before them.
    let ipxe = archive::newest("ipxe")?.join("usr/lib/ipxe");
    for file in ["snponly.efi", "undionly.kpxe"] {
        put(&ipxe.join(file), &tree.join("usr/lib/ipxe").join(file))?;
    }
    let modules = progress::during("Choosing drivers", || kernel.copy_modules(&tree))?;
    let firmware = firmware::copy(&modules, &tree.join("lib/firmware"))?;
    let archive = work.join("initramfs.cpio");
    progress::during("Packing the initramfs", || pack(&tree, &archive, out))?;
    Ok(Contents { modules: modules.len(), firmware })
}

fn put(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {}", from.display()))
}

fn pack(tree: &Path, archive: &Path, out: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(archive)?);
    cpio::write(tree, &mut file).context("cannot pack the initramfs")?;
    file.into_inner().map_err(|error| error.into_error())?;
    // One thread: what several write depends on how many there are.
    let mut zstd = Command::new("zstd");
    zstd.args(["-q", "-9", "--single-thread"]).arg(archive).arg("-o").arg(out);
    exec::output(&mut zstd).map(drop)
}
