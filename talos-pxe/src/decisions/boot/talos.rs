//! What Talos wants of a boot, by its version and the machine's processor: the kernel's arguments
//! and the names of its files.

use std::str::FromStr;

use super::catalog::{Profile, ScriptText};
use super::labels::Labels;
use super::origin::Origin;
use crate::wire::AssetPath;

/// The argument in a profile that stands for all that Talos recommends.
pub const DEFAULTS: &str = "talos.defaults";

/// The file in the assets folder that says which Talos they are, such as `v1.13.9`.
pub const VERSION_FILE: &str = "talos-version";

/// A processor that Talos runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Processor {
    /// The processor by the label `arch`, for which iPXE sends its `${buildarch}`. Builds of
    /// before 2016 send nothing.
    pub fn of(labels: &Labels) -> Option<Self> {
        match labels.get("arch")? {
            "arm64" => Some(Self::Arm64),
            "x86_64" | "i386" => Some(Self::Amd64),
            _ => None,
        }
    }

    /// The mark of the processor in the names of Talos's files.
    const fn mark(self) -> &'static str {
        match self {
            Self::Amd64 => "-amd64",
            Self::Arm64 => "-arm64",
        }
    }
}

/// A minor version of Talos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// What is assumed when nothing tells: its arguments do no harm to others.
    pub const ASSUMED: Self = Self { major: 1, minor: 13 };

    /// The version that a folder in a path names, as in `/assets/v1.14.0/vmlinuz-amd64`.
    pub fn in_path(path: &str) -> Option<Self> {
        path.split('/').filter(|name| name.starts_with('v')).find_map(|name| name.parse().ok())
    }
}

/// The text names no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version of Talos, such as v1.13.9")]
pub struct InvalidVersion;

impl FromStr for Version {
    type Err = InvalidVersion;

    /// Reads `v1.13.9` or the start of it, with or without the `v`.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let text = text.trim();
        let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(InvalidVersion);
        Ok(Self { major: number()?, minor: number()? })
    }
}

/// The arguments that Talos recommends (its `pkg/machinery/kernel`), and a serial console.
pub fn arguments(version: Version, processor: Option<Processor>) -> Vec<&'static str> {
    // Since 1.14 the kernel has these built in.
    let is_old = version < Version { major: 1, minor: 14 };
    let serial = match processor {
        Some(Processor::Arm64) => "console=ttyAMA0",
        Some(Processor::Amd64) | None => "console=ttyS0",
    };
    let mut arguments = vec!["talos.platform=metal", "console=tty0", serial];
    arguments.extend(is_old.then_some("init_on_alloc=1"));
    arguments.extend(["slab_nomerge", "pti=on", "consoleblank=0"]);
    arguments.extend(is_old.then_some("nvme_core.io_timeout=4294967295"));
    arguments.extend([
        "printk.devkmsg=on",
        "selinux=1",
        "module.sig_enforce=1",
        "proc_mem.force_override=never",
    ]);
    arguments
}

/// The names that a file of the assets may have on a machine with this processor, the likeliest
/// first: a kernel is called `vmlinuz-…` on Talos's release pages and `kernel-…` by its image
/// factory.
pub fn file_names(asset: &str, processor: Option<Processor>) -> Vec<String> {
    let (folder, file) = match asset.rsplit_once('/') {
        Some((folder, file)) => (format!("{folder}/"), file),
        None => (String::new(), asset),
    };
    let mut file = file.to_owned();
    if let Some(processor) = processor {
        for other in [Processor::Amd64, Processor::Arm64] {
            file = file.replace(other.mark(), processor.mark());
        }
    }
    let renamed =
        |from: &str, to: &str| file.strip_prefix(from).map(|rest| format!("{folder}{to}{rest}"));
    let other = renamed("vmlinuz-", "kernel-").or_else(|| renamed("kernel-", "vmlinuz-"));
    std::iter::once(format!("{folder}{file}")).chain(other).collect()
}

/// The profile as it fits a machine: with the files for its processor that exist, by either of
/// their names, and Talos's arguments in place of [`DEFAULTS`].
pub fn fit(
    profile: &Profile,
    origin: &Origin,
    processor: Option<Processor>,
    version: Version,
    exists: impl Fn(&AssetPath) -> bool,
) -> Profile {
    let image = |entry: &ScriptText| {
        let url = entry.as_str().split_whitespace().next_back().unwrap_or_default();
        let Some(asset) = origin.own_asset(url) else { return entry.clone() };
        let names = file_names(asset, processor);
        let is_there = |name: &&String| AssetPath::from_url(name).is_some_and(|path| exists(&path));
        let name = names.iter().find(is_there).or(names.first()).map_or(asset, String::as_str);
        match entry.as_str().rsplit_once(asset) {
            Some((before, after)) => entry.changed(&format!("{before}{name}{after}")),
            None => entry.clone(),
        }
    };
    let argument = |arg: &ScriptText| {
        let expanded = arg.as_str().split_whitespace().flat_map(|word| match word {
            DEFAULTS => arguments(version, processor),
            word => vec![word],
        });
        arg.changed(&expanded.collect::<Vec<_>>().join(" "))
    };
    Profile {
        kernel: image(&profile.kernel),
        initrd: profile.initrd.iter().map(image).collect(),
        args: profile.args.iter().map(argument).collect(),
        ..profile.clone()
    }
}

#[cfg(test)]
#[path = "talos_tests.rs"]
mod tests;
