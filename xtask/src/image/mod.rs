//! `cargo xtask image`: the appliance as an image to write to a stick.

mod cpio;
mod disk;
mod files;
mod firmware;
mod initramfs;
mod kernel;
mod report;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::Digest as _;

use crate::lab::guest::hex;
use crate::lab::server;
use crate::setup::{self, Group, archive};
use crate::{exec, progress, repository};

use disk::{Ids, Layout};
use files::{Files, SETTINGS};
use kernel::Kernel;
pub use report::Report;

/// Makes an image of the appliance, to be written to a USB stick: it boots by BIOS, and by UEFI with
/// SecureBoot on or off.
///
/// The first partition of the stick is FAT, and can be opened on any computer: it has the settings
/// (talos-pxe.toml), a folder for Talos's files (assets), and room for them. FAT knows no owners:
/// whoever has the stick, or the image, can read the keys in the machine configs on it.
///
/// The kernel and the boot loaders are those of the distribution that this runs on: Debian, or Ubuntu,
/// with which it was not tried.
/// Two images of the same inputs are the same, octet by octet.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask image
  cargo xtask image --assets /srv/talos --size 2G
  cargo xtask image --console tty0 -- --if eth1 --mode server")]
pub struct Image {
    /// What to put onto the stick: a folder with Talos's files and configs; or one that talos-pxe
    /// serves as its --root, with a folder `assets` in it, and machines.yaml, groups, profiles,
    /// generic, patches, firmware or talos-pxe.toml.
    #[arg(long, value_name = "DIR")]
    pub assets: Option<PathBuf>,

    /// The image (default: out/talos-pxe.img).
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Size of the image, 2G for example (default: what it holds and 256M to spare).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: Option<u64>,

    /// A console as the kernel names it, for messages and the appliance's screen; may be repeated
    /// (default: ttyS0,115200 and tty0).
    #[arg(long, value_name = "TTY", value_parser = parse_console)]
    pub console: Vec<String>,

    /// A shell on the third virtual terminal, for whoever is at the keyboard.
    #[arg(long)]
    pub shell: bool,

    /// Flags of talos-pxe, to be set in talos-pxe.toml.
    #[arg(last = true, value_name = "FLAGS")]
    pub flags: Vec<OsString>,
}

/// Runs the subcommand.
///
/// # Errors
/// When a tool or package cannot be had, or what is to go onto the stick does not fit.
pub fn main(image: Image) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Image])?;
    let daemon = server::build_static(true)?;
    let report = build(&image, &daemon)?;
    println!("{report}");
    Ok(())
}

/// Makes the image with the static program `daemon`, and a file with its SHA-256 beside it.
///
/// # Errors
/// As [`main`].
pub fn build(image: &Image, daemon: &Path) -> Result<Report> {
    let out = image.out.clone().unwrap_or_else(|| repository().join("out/talos-pxe.img"));
    let name = out.file_name().context("--out names no file")?.to_string_lossy().into_owned();
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Beside the image, which is there as a whole or not at all.
    let work = tempfile::Builder::new().prefix(".talos-pxe-image-").tempdir_in(&folder)?;
    let work = work.path();

    let mut files = Files::default();
    let left_out = image.assets.as_deref().map(|folder| files.add_assets(folder)).transpose()?;
    if files.contains(SETTINGS) {
        ensure!(image.flags.is_empty(), "there is a {SETTINGS} already: set the flags there");
    } else {
        let mut config = Command::new(daemon);
        server::without_settings(&mut config);
        config.arg("config").args(&image.flags);
        files.add_text(SETTINGS, &exec::output(&mut config)?, work)?;
    }
    files.add_text("README.txt", include_str!("readme.txt"), work)?;
    files.add_text("assets/README.txt", include_str!("assets.txt"), work)?;

    let kernel = Kernel::newest()?;
    let initramfs = work.join("initramfs");
    let contents = initramfs::make(&kernel, daemon, image.shell, work, &initramfs)?;
    files.add("boot/vmlinuz", kernel.image.clone());
    files.add("boot/initramfs", initramfs);
    // On Ubuntu the first name is made at installation.
    let shim = archive::newest("shim-signed")?.join("usr/lib/shim");
    let names = ["shimx64.efi.signed", "shimx64.efi.signed.latest"];
    let shim = names.map(|name| shim.join(name)).into_iter().find(|shim| shim.exists());
    let shim = shim.context("package shim-signed has no shimx64.efi.signed")?;
    let grub = archive::newest("grub-efi-amd64-signed")?;
    let grub = grub.join("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed");
    files.add("EFI/BOOT/BOOTX64.EFI", shim);
    files.add("EFI/BOOT/grubx64.efi", grub);
    let syslinux = archive::newest("syslinux-common")?.join("usr/lib/syslinux/mbr/mbr.bin");
    files.check()?;

    let mut digest = files.digest()?;
    digest.update(image.size.unwrap_or(0).to_le_bytes());
    let ids = Ids::new(&digest.finalize());
    for (path, text) in boot_menus(&arguments(image, &ids)) {
        files.add_text(path, &text, work)?;
    }

    let layout = Layout::new(files.size()?, image.size)?;
    let made = work.join(&name);
    progress::during("Writing the image", || {
        disk::make(&made, layout, &ids, &files, work)?;
        disk::install_boot_code(&made, &syslinux)
    })?;
    // As the configs on it: for nobody else to read.
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    let sum = progress::during("Summing up the image", || sha256(&made))?;
    let report = Report {
        image: out.clone(),
        size: layout.size(),
        boot: layout.boot,
        files: sizes(&files)?,
        release: kernel.release,
        contents,
        left_out: left_out.unwrap_or_default(),
        secrets: files.hold_secrets(),
        sha256: sum.clone(),
    };
    fs::rename(&made, &out).with_context(|| format!("cannot write {}", out.display()))?;
    fs::write(folder.join(format!("{name}.sha256")), format!("{sum}  {name}\n"))?;
    Ok(report)
}

/// The kernel's command line.
fn arguments(image: &Image, ids: &Ids) -> String {
    let default = ["ttyS0,115200".to_owned(), "tty0".to_owned()];
    let consoles = if image.console.is_empty() { &default[..] } else { &image.console };
    let consoles: String = consoles.iter().map(|tty| format!("console={tty} ")).collect();
    let Ids { state, .. } = ids;
    // An appliance that panics comes back; there may be nobody beside it.
    format!("{consoles}quiet panic=10 stick={} state={state}", ids.volume_name())
}

/// What syslinux and GRUB read. Signed GRUBs look only in the folder of their distribution.
fn boot_menus(arguments: &str) -> [(&'static str, String); 3] {
    let syslinux = format!(
        "DEFAULT talos-pxe\nPROMPT 0\nLABEL talos-pxe\n  LINUX /boot/vmlinuz\n  \
         INITRD /boot/initramfs\n  APPEND {arguments}\n"
    );
    let grub = format!("linux /boot/vmlinuz {arguments}\ninitrd /boot/initramfs\nboot\n");
    [
        ("syslinux/syslinux.cfg", syslinux),
        ("EFI/debian/grub.cfg", grub.clone()),
        ("EFI/ubuntu/grub.cfg", grub),
    ]
}

fn sizes(files: &Files) -> Result<Vec<(String, u64)>> {
    let size = |(path, source): (&str, &Path)| Ok((path.to_owned(), fs::metadata(source)?.len()));
    files.iter().map(size).collect()
}

fn sha256(file: &Path) -> Result<String> {
    let mut digest = sha2::Sha256::new();
    let mut file = fs::File::open(file)?;
    std::io::copy(&mut file, &mut Hasher(&mut digest))?;
    Ok(hex(&digest.finalize()))
}

/// A digest that is written to.
struct Hasher<'a>(&'a mut sha2::Sha256);

impl std::io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Octets, with K, M or G behind them for their multiples of 1,024.
fn parse_size(text: &str) -> Result<u64, String> {
    let unit = |last: char| "KMG".find(last.to_ascii_uppercase()).map(|power| 10 * (power + 1));
    let (digits, shift) = match text.chars().last().and_then(unit) {
        Some(shift) => (text.get(..text.len() - 1).unwrap_or_default(), shift),
        None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "a number such as 512M or 2G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// A console's name goes onto the kernel's command line.
fn parse_console(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == ',';
    if text.starts_with("tty") && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("a terminal such as tty0 or ttyS1,115200".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        for wrong in ["", "M", "2T", "-1", "1.5G", "99999999999999G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn consoles_are_the_kernel_s_alone() {
        assert_eq!(parse_console("ttyS1,115200"), Ok("ttyS1,115200".to_owned()));
        for wrong in ["", "ttyS0 init=/bin/sh", "../tty0", "netcon0"] {
            assert!(parse_console(wrong).is_err(), "{wrong}");
        }
        let ids = Ids::new(&[7; 32]);
        let image = Image { console: vec!["tty0".to_owned()], ..Image::default() };
        assert!(arguments(&image, &ids).starts_with("console=tty0 quiet "));
        let both = arguments(&Image::default(), &ids);
        assert!(both.starts_with("console=ttyS0,115200 console=tty0 quiet "), "{both}");
    }
}
