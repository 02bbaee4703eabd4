//! The files of the boot partition, which people open on other computers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

/// The settings file.
pub const SETTINGS: &str = "talos-pxe.toml";
/// What the daemon's root folder may hold besides; its state has a partition of its own.
const ROOT: [&str; 9] = [
    "assets",
    "firmware",
    "generic",
    "groups",
    "machines.toml",
    "machines.yaml",
    "machines.yml",
    "patches",
    "profiles",
];
/// FAT's own limit.
const LARGEST: u64 = u32::MAX as u64;
/// Room in the FAT file system that a file's last cluster and its folder's entry may take.
const SLACK: u64 = 8192;

/// Files by their paths in the partition.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<String, PathBuf>);

impl Files {
    /// Adds the file `source`, which stays where it is.
    pub fn add(&mut self, path: &str, source: PathBuf) {
        self.0.insert(path.to_owned(), source);
    }

    /// Writes a file to the folder `work` and adds it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_text(&mut self, path: &str, text: &str, work: &Path) -> Result<()> {
        let source = work.join(path.replace('/', "_"));
        fs::write(&source, text).with_context(|| format!("cannot write {}", source.display()))?;
        self.add(path, source);
        Ok(())
    }

    /// Adds what `folder` holds: the daemon's root folder if there is a folder `assets` in it, else
    /// itself the assets. Returns the names in a root that the daemon does not know.
    ///
    /// # Errors
    /// When it cannot be read, or a FAT file system cannot hold it.
    pub fn add_assets(&mut self, folder: &Path) -> Result<Vec<String>> {
        if !folder.join("assets").is_dir() {
            self.add_folder(folder, "assets")?;
            return Ok(Vec::new());
        }
        let mut left_out = Vec::new();
        for (name, path) in entries(folder)? {
            if name == SETTINGS || ROOT.contains(&name.as_str()) {
                self.add_path(&path, &name)?;
            } else {
                left_out.push(name);
            }
        }
        Ok(left_out)
    }

    fn add_folder(&mut self, folder: &Path, path: &str) -> Result<()> {
        for (name, source) in entries(folder)? {
            self.add_path(&source, &format!("{path}/{name}"))?;
        }
        Ok(())
    }

    fn add_path(&mut self, source: &Path, path: &str) -> Result<()> {
        let link = fs::symlink_metadata(source)?.is_symlink();
        let metadata =
            fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
        if metadata.is_dir() {
            ensure!(!link, "{} is a link to a folder: copy it there instead", source.display());
            return self.add_folder(source, path);
        }
        let source = source.to_owned();
        ensure!(metadata.is_file(), "{} is neither a file nor a folder", source.display());
        ensure!(
            metadata.len() <= LARGEST,
            "{} has 4 GiB or more, which FAT cannot hold",
            source.display()
        );
        self.add(path, source);
        Ok(())
    }

    /// Whether there is a file at this path.
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Paths and sources, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|(path, source)| (path.as_str(), source.as_path()))
    }

    /// The folders, each before those in it.
    pub fn folders(&self) -> BTreeSet<&str> {
        let ends = |path: &str| path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
        let folders = self.0.keys().flat_map(|path| {
            ends(path).into_iter().filter_map(|end| path.get(..end)).collect::<Vec<_>>()
        });
        folders.collect()
    }

    /// The octets that they take in the file system, at most.
    ///
    /// # Errors
    /// When a file is gone.
    pub fn size(&self) -> Result<u64> {
        let sizes = self.0.values().map(|source| Ok(fs::metadata(source)?.len() + SLACK));
        sizes.sum()
    }

    /// Says what FAT cannot hold: a name that Windows would not open, or two that differ in their
    /// letters' case alone.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for path in self.0.keys() {
            for name in path.split('/') {
                let wrong = |c: char| c.is_control() || "\\:*?\"<>|".contains(c);
                if name.contains(wrong) || name.ends_with(['.', ' ']) {
                    bail!("{path}: FAT knows no such name; rename it");
                }
            }
            ensure!(seen.insert(path.to_lowercase()), "{path} is there twice, in another case");
        }
        Ok(())
    }

    /// Whether any of them holds keys: whoever has the stick can read them.
    pub fn hold_secrets(&self) -> bool {
        self.0
            .keys()
            .filter_map(|path| path.strip_prefix("assets/"))
            .any(|name| name == "talosconfig" || name.ends_with(".yaml") || name.ends_with(".yml"))
    }

    /// The SHA-256 of all names and contents.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digest(&self) -> Result<Sha256> {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        for (path, source) in self.iter() {
            let mut file = fs::File::open(source)
                .with_context(|| format!("cannot read {}", source.display()))?;
            digest.update(path);
            digest.update([0]);
            digest.update(file.metadata()?.len().to_le_bytes());
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                digest.update(buffer.get(..count).unwrap_or_default());
            }
        }
        Ok(digest)
    }
}

/// Names and paths in a folder; hidden ones are left out, the daemon serves none.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let found =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{}: the name is not UTF-8; rename it", entry.path().display())
        };
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(paths: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in paths {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        folder
    }

    fn paths(files: &Files) -> Vec<&str> {
        files.iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_folder_of_assets_or_a_whole_root() {
        let assets = folder(&["vmlinuz-amd64", "v1.14.0/initramfs-amd64.xz", ".git/config"]);
        let mut files = Files::default();
        assert!(files.add_assets(assets.path()).unwrap().is_empty());
        assert_eq!(paths(&files), ["assets/v1.14.0/initramfs-amd64.xz", "assets/vmlinuz-amd64"]);
        assert_eq!(Vec::from_iter(files.folders()), ["assets", "assets/v1.14.0"]);

        let root =
            folder(&["assets/worker.yaml", "machines.yaml", "state/store", "talos-pxe.toml"]);
        let mut files = Files::default();
        assert_eq!(files.add_assets(root.path()).unwrap(), ["state"]);
        assert_eq!(paths(&files), ["assets/worker.yaml", "machines.yaml", "talos-pxe.toml"]);
        assert!(files.hold_secrets());
    }

    #[test]
    fn what_fat_cannot_hold_is_refused() {
        for wrong in [&["assets/a:b"][..], &["assets/A", "assets/a"], &["assets/x. /y"]] {
            let mut files = Files::default();
            wrong.iter().for_each(|path| files.add(path, PathBuf::new()));
            assert!(files.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_digest_tells_names_and_contents_apart() {
        let source = folder(&["a"]).path().join("a");
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        let digest = |path: &str, text: &str| {
            fs::write(&source, text).unwrap();
            let mut files = Files::default();
            files.add(path, source.clone());
            files.digest().unwrap().finalize()
        };
        assert_eq!(digest("a", "1"), digest("a", "1"));
        assert_ne!(digest("a", "1"), digest("a", "2"));
        assert_ne!(digest("a", "1"), digest("b", "1"));
        fs::remove_dir_all(source.parent().unwrap()).unwrap();
    }
}
