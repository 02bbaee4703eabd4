//! What an image holds, for people.

use std::fmt;
use std::path::PathBuf;

use super::disk::MIB;
use super::firmware;
use super::initramfs::Contents;

/// An image that was made.
pub struct Report {
    /// Where it is.
    pub image: PathBuf,
    /// Its size in octets.
    pub size: u64,
    /// The size of its boot partition.
    pub boot: u64,
    /// The files there, and their sizes.
    pub files: Vec<(String, u64)>,
    /// The release of the kernel.
    pub release: String,
    /// What the initramfs holds.
    pub(super) contents: Contents,
    /// What was in the folder of assets, and is not on the image.
    pub left_out: Vec<String>,
    /// Whether there are configs with keys on it.
    pub secrets: bool,
    /// The SHA-256 of the image.
    pub sha256: String,
}

impl Report {
    /// The octets of the files whose path is `prefix` or begins with it.
    pub fn size_of(&self, prefix: &str) -> u64 {
        self.files.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, size)| size).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image.display();
        let used = self.size_of("");
        let Contents { modules, firmware } = &self.contents;
        let rest = used - self.size_of("boot/") - self.size_of("assets/");
        let line = |f: &mut fmt::Formatter<'_>, what: &str, size: u64, more: &str| {
            writeln!(f, "  {what:<10} {:>8.1} MiB  {more}", size as f64 / MIB as f64)
        };
        writeln!(f, "{image}, {} MiB", self.size / MIB)?;
        line(f, "kernel", self.size_of("boot/vmlinuz"), &self.release)?;
        let drivers = format!("{modules} modules, {} files of firmware", firmware.files);
        line(f, "initramfs", self.size_of("boot/initramfs"), &drivers)?;
        line(f, "assets", self.size_of("assets/"), "")?;
        line(f, "others", rest, "boot loaders, settings")?;
        line(f, "free", self.boot - used, "on the boot partition")?;
        for name in &self.left_out {
            writeln!(f, "Left out: {name}, which talos-pxe does not read")?;
        }
        if !firmware.missing.is_empty() {
            writeln!(f, "Without their firmware: {}.", firmware.missing.join(", "))?;
            if let Some(line) = firmware::sources_line().filter(|_| firmware.files == 0) {
                writeln!(f, "  Some of it comes with this line in apt's sources: {line}")?;
            }
        }
        if self.secrets {
            writeln!(f, "There are machine configs on it: keep the image and the stick secret.")?;
        }
        writeln!(f, "SHA-256 {}", self.sha256)?;
        write!(
            f,
            "Write it to a stick (all that is on the stick is lost):\n  \
             sudo dd if={image} of=/dev/sdX bs=4M conv=fsync status=progress"
        )
    }
}
