//! The disk image: partitions, file systems and boot loaders, made in a file, without mounting it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::files::Files;
use crate::exec;

/// 2020-01-01, for all that notes when it was made.
const TIME: &str = "1577836800";
pub const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Where the boot partition begins, behind the partition table.
const START: u64 = MIB;
/// The size of the partition for state: tens of thousands of machines and a journal.
const STATE: u64 = 64 * MIB;
/// FAT32 has at least 65,525 clusters; with those of 4 KiB Windows sees nothing else in it.
const SMALLEST_BOOT: u64 = 260 * MIB;
/// The most code in front of a partition table.
const BOOT_CODE: usize = 440;

/// How an image is divided; all in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The size of the boot partition.
    pub boot: u64,
}

impl Layout {
    /// For an image of `size` with files that take up to `files`; without a size there are 256 MiB
    /// to spare.
    ///
    /// # Errors
    /// When it is too small.
    pub fn new(files: u64, size: Option<u64>) -> Result<Layout> {
        // The file system's own tables take about a thousandth.
        let need = (files + files / 256 + 2 * MIB).next_multiple_of(MIB).max(SMALLEST_BOOT);
        let Some(size) = size else {
            return Ok(Layout { boot: need + 256 * MIB });
        };
        let boot = (size / MIB * MIB).saturating_sub(START + STATE);
        let smallest = (need + START + STATE) / MIB;
        ensure!(boot >= need, "--size is too small: the files need an image of {smallest}M");
        // The partition table counts sectors in 32 bits.
        ensure!(size / SECTOR <= u64::from(u32::MAX), "--size: at most 2 TiB");
        Ok(Layout { boot })
    }

    /// The size of the image.
    pub fn size(self) -> u64 {
        START + self.boot + STATE
    }
}

/// What tells this image from others: on the disk, and on the kernel's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The volume number of the boot partition, and the disk's.
    pub volume: u32,
    /// The UUID of the file system for state.
    pub state: String,
}

impl Ids {
    /// Made of a digest of all that the image holds.
    pub fn new(digest: &[u8]) -> Ids {
        let octet = |place: usize| digest.get(place).copied().unwrap_or_default();
        let volume = u32::from_be_bytes([0, 1, 2, 3].map(octet));
        // A UUID of version 8 (RFC 9562, section 5.8), which has no rules of its own.
        let hex: String = (4..20).map(|place| format!("{:02x}", octet(place))).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        let state = format!(
            "{}-{}-8{}-a{}-{}",
            part(0, 8),
            part(8, 12),
            part(13, 16),
            part(17, 20),
            part(20, 32)
        );
        Ids { volume, state }
    }

    /// The volume number as it is written.
    pub fn volume_name(&self) -> String {
        format!("{:04X}-{:04X}", self.volume >> 16, self.volume & 0xffff)
    }
}

/// Makes the image `out`.
///
/// # Errors
/// When a tool is missing or fails.
pub fn make(out: &Path, layout: Layout, ids: &Ids, files: &Files, work: &Path) -> Result<()> {
    File::create(out)
        .and_then(|image| image.set_len(layout.size()))
        .with_context(|| format!("cannot make {}", out.display()))?;
    partition(out, layout, ids, work)?;
    format_boot(out, layout, ids)?;
    copy_files(out, files)?;
    install_syslinux(out)?;
    format_state(out, layout, ids)
}

fn partition(out: &Path, layout: Layout, ids: &Ids, work: &Path) -> Result<()> {
    let (boot, state) = (START / SECTOR, (START + layout.boot) / SECTOR);
    let table = format!(
        "label: dos\nlabel-id: {:#010x}\n\
         start={boot}, size={}, type=c, bootable\n\
         start={state}, size={}, type=83\n",
        ids.volume,
        layout.boot / SECTOR,
        STATE / SECTOR
    );
    let script = work.join("partitions");
    fs::write(&script, table)?;
    let mut sfdisk = tool("sh");
    sfdisk.args(["-c", "sfdisk --quiet --no-reread --no-tell-kernel \"$0\" <\"$1\""]);
    exec::output(sfdisk.arg(out).arg(script)).map(drop)
}

fn format_boot(out: &Path, layout: Layout, ids: &Ids) -> Result<()> {
    let mut mkfs = tool("mkfs.vfat");
    mkfs.args(["-F", "32", "-s", "8", "--invariant", "--mbr=n", "-n", "TALOS-PXE"]);
    mkfs.args(["-i", &format!("{:08x}", ids.volume)]);
    let start = (START / SECTOR).to_string();
    mkfs.args(["--offset", &start, "-h", &start]).arg(out);
    exec::output(mkfs.arg((layout.boot / 1024).to_string())).map(drop)
}

fn copy_files(out: &Path, files: &Files) -> Result<()> {
    let partition = format!("{}@@{START}", out.display());
    for folder in files.folders() {
        exec::output(mtool("mmd").args(["-i", &partition, &format!("::/{folder}")]))?;
    }
    for (path, source) in files.iter() {
        let mut mcopy = mtool("mcopy");
        exec::output(mcopy.args(["-i", &partition]).arg(source).arg(format!("::/{path}")))
            .with_context(|| format!("cannot put {path} into the image"))?;
    }
    Ok(())
}

/// For BIOS.
fn install_syslinux(out: &Path) -> Result<()> {
    let mut syslinux = mtool("syslinux");
    syslinux.args(["--install", "--directory", "/syslinux", "--offset", &START.to_string()]);
    exec::output(syslinux.arg(out)).map(drop)
}

/// Puts the file `code`, which starts the active partition, in front of the partition table.
///
/// # Errors
/// When it is no such code, or the image cannot be written.
pub fn install_boot_code(out: &Path, code: &Path) -> Result<()> {
    let code = fs::read(code).with_context(|| format!("cannot read {}", code.display()))?;
    ensure!(code.len() <= BOOT_CODE, "syslinux's mbr.bin would overwrite the partition table");
    let mut image = OpenOptions::new().write(true).open(out)?;
    image.seek(SeekFrom::Start(0))?;
    image.write_all(&code).context("cannot write the boot code")
}

fn format_state(out: &Path, layout: Layout, ids: &Ids) -> Result<()> {
    let Ids { state: uuid, .. } = ids;
    let mut mke2fs = tool("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "talos-state"]);
    let offset = START + layout.boot;
    let extended = format!("offset={offset},hash_seed={uuid},root_owner=0:0,nodiscard");
    mke2fs.args(["-U", uuid, "-E", &extended]).arg(out);
    exec::output(mke2fs.arg(format!("{}k", STATE / 1024))).map(drop)
}

/// A tool that thinks it is a certain time.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("SOURCE_DATE_EPOCH", TIME).env("E2FSPROGS_FAKE_TIME", TIME);
    command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    // Users rarely have the folder of mkfs and sfdisk in their PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// As [`tool`], without the user's settings of mtools.
fn mtool(name: &str) -> Command {
    let mut command = tool(name);
    command.env("MTOOLSRC", "/dev/null").env("MTOOLS_SKIP_CHECK", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_as_large_as_asked_for_or_refused() {
        let spare = Layout::new(30 * MIB, None).unwrap();
        assert_eq!(spare.size(), (1 + 260 + 256 + 64) * MIB);
        let asked = Layout::new(300 * MIB, Some(2048 * MIB)).unwrap();
        assert_eq!(asked.size(), 2048 * MIB);
        let error = Layout::new(300 * MIB, Some(300 * MIB)).unwrap_err().to_string();
        assert!(error.contains("an image of 369M"), "{error}");
        assert!(Layout::new(300 * MIB, Some(369 * MIB)).is_ok());
        assert!(Layout::new(0, Some(u64::MAX)).is_err());
    }

    #[test]
    fn ids_are_written_as_others_read_them() {
        let digest: Vec<u8> = (0..32).collect();
        let ids = Ids::new(&digest);
        assert_eq!(ids.volume_name(), "0001-0203");
        assert_eq!(ids.state, "04050607-0809-8a0b-ac0d-0e0f10111213");
    }
}
