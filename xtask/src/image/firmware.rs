//! Firmware for network cards: what the modules ask for and the distribution has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::exec;
use crate::setup::archive;

/// Packages with firmware of network cards, Debian's and Ubuntu's.
const PACKAGES: [&str; 10] = [
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-cavium",
    "firmware-intel-misc",
    "firmware-misc-nonfree",
    "firmware-netronome",
    "firmware-netxen",
    "firmware-qlogic",
    "firmware-realtek",
    "linux-firmware",
];

/// What there was for the modules.
#[derive(Debug, Default)]
pub struct Firmware {
    /// How many files.
    pub files: usize,
    /// Drivers all of whose firmware is missing. Many devices work without.
    pub missing: Vec<String>,
}

/// Copies what these modules ask for to the folder `target`.
///
/// # Errors
/// When a package cannot be had, or a file not be copied.
pub fn copy(modules: &[PathBuf], target: &Path) -> Result<Firmware> {
    let mut sources = Vec::new();
    for name in PACKAGES {
        if let Some(package) = archive::candidate(name)? {
            let folder = archive::unpacked_together(&[package])?;
            sources.extend([folder.join("lib/firmware"), folder.join("usr/lib/firmware")]);
        }
    }
    let mut copied = BTreeSet::new();
    let mut missing = Vec::new();
    for module in modules {
        let mut modinfo = Command::new("modinfo");
        let wanted = exec::output(modinfo.args(["--field", "firmware"]).arg(module))?;
        let mut found = wanted.is_empty();
        for name in wanted.lines() {
            let mut files = sources.iter().map(|source| source.join(name));
            let Some(file) = files.find(|file| file.exists()) else { continue };
            found = true;
            if copied.insert(name.to_owned()) {
                let to = target.join(name);
                fs::create_dir_all(to.parent().context("firmware without a folder")?)?;
                fs::copy(&file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
            }
        }
        if !found {
            let name = module.file_stem().unwrap_or_default();
            missing.push(name.to_string_lossy().into_owned());
        }
    }
    missing.sort();
    Ok(Firmware { files: copied.len(), missing })
}

/// The line of a sources list that would bring more.
pub fn sources_line() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    let name = field("VERSION_CODENAME").filter(|_| field("ID").as_deref() == Some("debian"))?;
    Some(format!("deb http://deb.debian.org/debian {name} non-free-firmware"))
}
