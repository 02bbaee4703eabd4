//! The user's files: groups and profiles, the inventory, assets, boot firmware.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::decisions::boot::asset::{HEAD, is_named_secret, looks_secret};
use crate::decisions::boot::catalog::{Catalog, JsonFile, default_groups, default_profiles};
use crate::decisions::boot::loader::Ukis;
use crate::decisions::boot::talos::{Processor, file_names};
use crate::decisions::inventory::{Inventory, PatchFiles, TextFile};
use crate::wire::AssetPath;

/// Reads the groups and profiles below `root`. A folder that is missing or without a JSON file
/// stands for those that we ship.
///
/// # Errors
/// When a file cannot be read or makes no sense; the message names it and the place.
pub fn load_catalog(root: &Path) -> anyhow::Result<Catalog> {
    let groups = json_files(&root.join("groups"))?.unwrap_or_else(default_groups);
    let profiles = json_files(&root.join("profiles"))?.unwrap_or_else(default_profiles);
    Ok(Catalog::parse(&groups, &profiles)?)
}

/// Checks that there is a kernel to boot.
///
/// # Errors
/// When all kernels of the groups are to come from `<root>/assets`, and none is there.
pub fn check_kernels(root: &Path, catalog: &Catalog) -> anyhow::Result<()> {
    let assets = root.join("assets");
    let mut kernels = catalog.kernels().peekable();
    let first = kernels.peek().map(|kernel| assets.join(kernel));
    let processors = [None, Some(Processor::Amd64), Some(Processor::Arm64)];
    let is_there = |kernel: &str| {
        let names = processors.iter().flat_map(|processor| file_names(kernel, *processor));
        names.into_iter().any(|name| assets.join(name).is_file())
    };
    match first {
        Some(first) if !kernels.any(is_there) => bail!(
            "nothing to boot: there is no {}; put Talos's kernel and initramfs there, or name \
             another folder with --root",
            first.display()
        ),
        _ => Ok(()),
    }
}

/// The folder with iPXE's binaries: the one that is named, else the root's own if it has one, else
/// that of Debian's package.
pub fn firmware(named: Option<&Path>, root: &Path) -> PathBuf {
    let own = || Some(root.join("firmware")).filter(|own| own.is_dir());
    let named = named.map(Path::to_owned);
    named.or_else(own).unwrap_or_else(|| PathBuf::from("/usr/lib/ipxe"))
}

/// iPXE's binary for 64-bit ARM machines: the one that is named, else the usual one if it is there.
pub fn arm64_loader(firmware: &Path, named: Option<&str>) -> Option<String> {
    const USUAL: &str = "snponly-arm64.efi";
    let usual = || firmware.join(USUAL).is_file().then(|| USUAL.to_owned());
    named.map(str::to_owned).or_else(usual)
}

/// The UKIs of the assets folder: the one that is named, and beside it the one for the other
/// processor, if there is one.
///
/// # Errors
/// When there is no file of that name.
pub fn find_ukis(root: &Path, named: Option<&AssetPath>) -> anyhow::Result<Ukis> {
    let Some(named) = named else { return Ok(Ukis::default()) };
    let assets = root.join("assets");
    OpenFile::beneath(&assets, named).with_context(|| {
        let path = assets.join(named.as_path());
        format!("no UKI {}: put it there, or leave --uefi-http-file out", path.display())
    })?;
    let of = |processor| {
        let path = AssetPath::from_plain(file_names(named.as_str(), Some(processor)).first()?)?;
        OpenFile::beneath(&assets, &path).ok().map(|_| path.to_url())
    };
    let (amd64, arm64) = (of(Processor::Amd64), of(Processor::Arm64));
    // Without a processor in its name it is one for x86-64.
    let arm64 = arm64.filter(|arm64| amd64.as_ref() != Some(arm64));
    Ok(Ukis { amd64, arm64 })
}

/// Reads `<root>/machines.yaml`, `.yml` or `.toml`, and the patches that it names. Without such a
/// file no machine is named.
///
/// # Errors
/// When there are two of them, or one cannot be read or makes no sense; the message names it and
/// the place.
pub fn load_inventory(root: &Path) -> anyhow::Result<Inventory> {
    let paths = INVENTORIES.map(|name| root.join(name));
    let mut found = paths.iter().filter(|path| path.exists());
    let Some(path) = found.next() else { return Ok(Inventory::default()) };
    if let Some(other) = found.next() {
        bail!("there are both {} and {}: keep one of them", path.display(), other.display());
    }
    let mut patches = PatchFiles::new();
    for path in patch_files(root)? {
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            patches.insert(name.to_owned(), text_file(&path)?);
        }
    }
    Ok(Inventory::parse(&text_file(path)?, &patches)?)
}

/// The files that [`load_catalog`] and [`load_inventory`] read, if they are there.
///
/// # Errors
/// When a folder cannot be read.
pub fn rule_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = INVENTORIES.map(|name| root.join(name)).to_vec();
    for folder in ["groups", "profiles"] {
        files.extend(files_in(&root.join(folder), &["json"])?);
    }
    files.extend(patch_files(root)?);
    Ok(files)
}

fn patch_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    files_in(&root.join("patches"), &["yaml", "yml", "json"])
}

/// The names that an inventory may have below the root.
const INVENTORIES: [&str; 3] = ["machines.yaml", "machines.yml", "machines.toml"];

/// No such file comes near this, in bytes.
const MAX_TEXT: u64 = 16 << 20;

fn text_file(path: &Path) -> anyhow::Result<TextFile> {
    // Before it is opened: that of a pipe would wait for its other end.
    let read = fs::metadata(path).and_then(|metadata| {
        if !metadata.is_file() || metadata.len() > MAX_TEXT {
            return Err(io::Error::other("it is no file, or far too long"));
        }
        fs::read_to_string(path)
    });
    let text = read.with_context(|| format!("cannot read {} as text", path.display()))?;
    Ok(TextFile { path: path.display().to_string(), text })
}

/// The files with one of these endings, by name, but for hidden ones.
fn files_in(folder: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read folder {}", folder.display()));
        }
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let ending = path.extension().and_then(|extension| extension.to_str());
        if ending.is_some_and(|ending| endings.contains(&ending)) && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn json_files(folder: &Path) -> anyhow::Result<Option<Vec<JsonFile>>> {
    let read = |path: PathBuf| {
        let TextFile { path, text } = text_file(&path)?;
        Ok(JsonFile { path, text })
    };
    let paths = files_in(folder, &["json"])?.into_iter();
    let files = paths.map(read).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((!files.is_empty()).then_some(files))
}

/// A regular file that was opened for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// The open file.
    pub file: File,
    /// Its length, times and identity.
    pub metadata: Metadata,
    /// Its path without symbolic links.
    real: PathBuf,
    /// The real path of the folder that it was asked from.
    folder: PathBuf,
}

impl OpenFile {
    /// Opens a file of a folder. No path and no symbolic link leads out of the folder, and
    /// opening a FIFO or a device does not wait.
    ///
    /// # Errors
    /// When there is no such regular file inside the folder, or it cannot be read.
    pub fn beneath(folder: &Path, path: &AssetPath) -> io::Result<Self> {
        Self::open(folder, path.as_path(), ResolveFlags::BENEATH)
    }

    /// Opens a file of a folder that a package may have filled with links to other places.
    ///
    /// # Errors
    /// As for [`OpenFile::beneath`].
    pub fn linked(folder: &Path, name: &AssetPath) -> io::Result<Self> {
        Self::open(folder, name.as_path(), ResolveFlags::empty())
    }

    fn open(folder: &Path, path: &Path, resolve: ResolveFlags) -> io::Result<Self> {
        let open_folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, open_folder, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        let file =
            rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve).map_err(|error| {
                match error {
                    Errno::XDEV => io::Error::other("a symbolic link leads out of the folder"),
                    error => io::Error::from(error),
                }
            })?;
        let (real, folder) = (real_path(&file)?, real_path(&folder)?);
        let file = File::from(file);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok(Self { file, metadata, real, folder })
    }

    /// Whether this is a machine config or a credential, by the name behind all links, by being
    /// one of `configs`, or by how it starts.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_secret(&self, configs: &BTreeSet<AssetPath>) -> io::Result<bool> {
        let named_so = match self.real.strip_prefix(&self.folder) {
            Ok(inside) => match inside.to_str().and_then(AssetPath::from_plain) {
                Some(path) => is_named_secret(&path) || configs.contains(&path),
                // A link to a hidden or oddly named file: not for everyone.
                None => true,
            },
            Err(_) => {
                let name = self.real.file_name().and_then(|name| name.to_str());
                name.and_then(AssetPath::from_plain).is_none_or(|name| is_named_secret(&name))
            }
        };
        let mut head = vec![0; HEAD];
        let length = self.file.read_at(&mut head, 0)?;
        head.truncate(length);
        Ok(named_so || looks_secret(&head))
    }
}

/// The path that an open file has now.
fn real_path(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(folder: &Path, path: &str) -> io::Result<OpenFile> {
        OpenFile::beneath(folder, &AssetPath::from_plain(path).unwrap())
    }

    #[test]
    fn opens_regular_files_inside_the_folder_only() {
        let root = tempfile::tempdir().unwrap();
        let assets = root.path().join("assets");
        fs::create_dir_all(assets.join("sub")).unwrap();
        fs::write(root.path().join("outside"), "x").unwrap();
        fs::write(assets.join("sub/kernel"), "MZ").unwrap();
        symlink("sub/kernel", assets.join("inner")).unwrap();
        symlink("../outside", assets.join("outer")).unwrap();
        symlink("/etc/passwd", assets.join("absolute")).unwrap();
        symlink("/proc/self/root", assets.join("magic")).unwrap();
        let fifo = assets.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();

        assert!(open(&assets, "sub/kernel").is_ok());
        assert!(open(&assets, "inner").is_ok());
        for path in ["outer", "absolute", "magic/etc/passwd", "fifo", "sub", "none"] {
            assert!(open(&assets, path).is_err(), "{path}");
        }
    }

    #[test]
    fn knows_a_secret_behind_every_name() {
        let root = tempfile::tempdir().unwrap();
        let config = "version: v1alpha1\nmachine:\n  type: worker\n";
        fs::write(root.path().join("worker.yaml"), "# nothing that looks like a config\n").unwrap();
        fs::write(root.path().join("named-by-a-profile"), "also harmless").unwrap();
        fs::write(root.path().join("odd"), config).unwrap();
        fs::write(root.path().join(".hidden"), "x").unwrap();
        fs::write(root.path().join("sums"), "00  vmlinuz\n").unwrap();
        symlink("worker.yaml", root.path().join("by-link")).unwrap();
        symlink(".hidden", root.path().join("to-hidden")).unwrap();
        fs::hard_link(root.path().join("odd"), root.path().join("by-hard-link")).unwrap();
        let configs = [AssetPath::from_plain("named-by-a-profile").unwrap()].into();
        for path in
            ["worker.yaml", "by-link", "named-by-a-profile", "odd", "by-hard-link", "to-hidden"]
        {
            assert!(open(root.path(), path).unwrap().is_secret(&configs).unwrap(), "{path}");
        }
        assert!(!open(root.path(), "sums").unwrap().is_secret(&configs).unwrap());
    }

    #[test]
    fn a_root_without_groups_and_profiles_has_ours() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("groups")).unwrap();
        fs::write(root.path().join("groups/.x.json"), "garbage").unwrap();
        load_catalog(root.path()).unwrap();
    }

    #[test]
    fn firmware_that_was_fetched_is_used() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(firmware(None, root.path()), Path::new("/usr/lib/ipxe"));
        let own = root.path().join("firmware");
        fs::create_dir(&own).unwrap();
        assert_eq!(firmware(None, root.path()), own);
        assert_eq!(firmware(Some(Path::new("/x")), root.path()), Path::new("/x"));
    }

    #[test]
    fn a_uki_brings_the_one_for_the_other_processor() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("assets")).unwrap();
        let find = |name: &str| {
            let path = AssetPath::from_plain(name).unwrap();
            find_ukis(root.path(), Some(&path)).map(|ukis| (ukis.amd64, ukis.arm64))
        };
        let error = format!("{:#}", find("metal-amd64-uki.efi").unwrap_err());
        assert!(error.contains("assets/metal-amd64-uki.efi: put it there"), "{error}");
        for name in ["metal-arm64-uki.efi", "talos uki.efi"] {
            fs::write(root.path().join("assets").join(name), "MZ").unwrap();
        }
        let arm64 = Some("metal-arm64-uki.efi".to_owned());
        assert_eq!(find("metal-arm64-uki.efi").unwrap(), (None, arm64.clone()));
        assert_eq!(find("talos uki.efi").unwrap(), (Some("talos%20uki.efi".to_owned()), None));
        fs::write(root.path().join("assets/metal-amd64-uki.efi"), "MZ").unwrap();
        let amd64 = Some("metal-amd64-uki.efi".to_owned());
        assert_eq!(find("metal-amd64-uki.efi").unwrap(), (amd64, arm64));
    }

    #[test]
    fn the_arm64_loader_is_optional() {
        let firmware = tempfile::tempdir().unwrap();
        assert_eq!(arm64_loader(firmware.path(), None), None);
        assert_eq!(arm64_loader(firmware.path(), Some("x.efi")), Some("x.efi".to_owned()));
        fs::write(firmware.path().join("snponly-arm64.efi"), "MZ").unwrap();
        assert_eq!(arm64_loader(firmware.path(), None), Some("snponly-arm64.efi".to_owned()));
    }

    #[test]
    fn a_broken_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("profiles")).unwrap();
        fs::write(root.path().join("profiles/worker.json"), "{\n  \"boot\": 1\n}").unwrap();
        let error = format!("{:#}", load_catalog(root.path()).unwrap_err());
        assert!(error.contains("profiles/worker.json: invalid type"), "{error}");
        assert!(error.contains("at line 2 column"), "{error}");
    }
    #[test]
    fn there_is_one_inventory_or_none() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        assert!(load_inventory(root.path()).unwrap().is_empty());
        fs::create_dir(root.path().join("patches")).unwrap();
        write("patches/disk.yaml", "machine: {}");
        write("machines.yml", "machines: [{mac: 52:54:00:00:00:01, patch: disk.yaml}]");
        let inventory = load_inventory(root.path()).unwrap();
        assert_eq!(inventory.iter().map(|(_, entry)| entry.patches.len()).sum::<usize>(), 1);
        write("machines.toml", "");
        let error = load_inventory(root.path()).unwrap_err().to_string();
        assert!(error.contains("machines.yml and ") && error.contains("machines.toml: keep one"));
    }
}
