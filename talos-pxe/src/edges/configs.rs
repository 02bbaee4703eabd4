//! Machine configs, made of the user's files: a base from the assets, and one machine's patches.
//!
//! The patches of a machine are those of the inventory, in its order, then the file
//! `<root>/patches/52-54-00-12-34-56.yaml`, if there is one; the inventory's hostname comes last.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::folder::OpenFile;
use crate::decisions::config::{self, ConfigError, Source};
use crate::decisions::inventory::Entry;
use crate::wire::{AssetPath, Hostname, MacAddr};

/// No machine config and no patch comes near this, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// What an inventory wants of one machine's config.
#[derive(Clone, Default)]
pub struct Wishes {
    /// The machine's hostname.
    pub hostname: Option<Hostname>,
    /// Patches with names for messages, in the order in which they are applied.
    pub patches: Vec<(String, String)>,
}

impl Wishes {
    /// What an inventory's entry says, if there is one.
    pub fn of(entry: Option<&Entry>) -> Self {
        let Some(Entry { hostname, patches, .. }) = entry else { return Self::default() };
        let patches = patches.iter().map(|patch| (patch.name.clone(), patch.text.clone()));
        Self { hostname: hostname.clone(), patches: patches.collect() }
    }
}

/// Where machine configs are made.
pub struct Configs {
    assets: PathBuf,
    patches: PathBuf,
    wishes: Box<dyn Fn(MacAddr) -> Wishes + Send + Sync>,
}

/// Why there is no config for a machine. It never quotes what a config holds.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// There is no base.
    #[error("there is no such file in the assets folder")]
    Missing,
    /// A file cannot be read.
    #[error("cannot read {file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// The base or a patch is wrong, or they do not fit each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Configs {
    /// The configs of a root, with what an inventory wants of each machine's.
    pub fn new(root: &Path, wishes: impl Fn(MacAddr) -> Wishes + Send + Sync + 'static) -> Self {
        let (assets, patches) = (root.join("assets"), root.join("patches"));
        Self { assets, patches, wishes: Box::new(wishes) }
    }

    /// Makes a machine's config of this base. Without patches it is the base, byte for byte. The
    /// files are read anew each time. Blocks.
    ///
    /// # Errors
    /// When there is no base, a file cannot be read, or a patch does not fit.
    pub fn make(&self, base: &AssetPath, machine: MacAddr) -> Result<Vec<u8>, MakeError> {
        let wishes = (self.wishes)(machine);
        let content = read(&self.assets, base)?.ok_or(MakeError::Missing)?;
        let mut patches = wishes.patches;
        patches.extend(self.patch_files(machine)?);
        if patches.is_empty() && wishes.hostname.is_none() {
            return Ok(content);
        }

        let sources: Vec<_> = patches.iter().map(|(name, text)| Source { name, text }).collect();
        let text = to_text(&self.assets.join(base.as_path()), content)?;
        let mut config = config::merge(Source { name: base.as_str(), text: &text }, &sources)?;
        if let Some(hostname) = &wishes.hostname {
            let patched = Source { name: base.as_str(), text: &config };
            config = config::set_hostname(patched, hostname)?;
        }
        Ok(config.into_bytes())
    }

    /// The machine's own patches, with their paths: the files whose name without `.yaml` or `.yml`
    /// is its MAC address, in any spelling, so that none is passed over for being written otherwise.
    fn patch_files(&self, machine: MacAddr) -> Result<Vec<(String, String)>, MakeError> {
        let entries = match fs::read_dir(&self.patches) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&self.patches, error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unreadable(&self.patches, error))?.file_name();
            let name = name.to_str().and_then(AssetPath::from_plain);
            names.extend(name.filter(|name| machine_of(name) == Some(machine)));
        }
        names.sort();
        let patch = |name: &AssetPath| {
            let path = self.patches.join(name.as_path());
            let gone = || unreadable(&path, io::ErrorKind::NotFound.into());
            let content = read(&self.patches, name)?.ok_or_else(gone)?;
            Ok((path.display().to_string(), to_text(&path, content)?))
        };
        names.iter().map(patch).collect()
    }
}

/// The files of `<root>/patches` that are no machine's, since their names are no MAC addresses.
/// Whoever put them there meant some machine, which will get its config without them.
pub fn strays(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("patches")) else { return Vec::new() };
    let is_stray = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let hidden = name.is_some_and(|name| name.starts_with('.'));
        !hidden && name.and_then(AssetPath::from_plain).is_none_or(|it| machine_of(&it).is_none())
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut strays: Vec<_> = paths.filter(is_stray).collect();
    strays.sort();
    strays
}

/// The machine whose patch a file is, by its name.
fn machine_of(name: &AssetPath) -> Option<MacAddr> {
    let (stem, extension) = name.as_str().rsplit_once('.')?;
    let is_yaml = extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml");
    stem.parse().ok().filter(|_| is_yaml)
}

impl fmt::Debug for Configs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { assets, patches, .. } = self;
        f.debug_struct("Configs").field("assets", assets).field("patches", patches).finish()
    }
}

/// Reads a file; `None` when there is none.
fn read(folder: &Path, path: &AssetPath) -> Result<Option<Vec<u8>>, MakeError> {
    let opened = match OpenFile::beneath(folder, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let read = |opened: OpenFile| {
        let mut content = Vec::new();
        opened.file.take(MAX_SIZE + 1).read_to_end(&mut content)?;
        let fits = content.len() as u64 <= MAX_SIZE;
        if fits { Ok(content) } else { Err(io::ErrorKind::FileTooLarge.into()) }
    };
    let path = folder.join(path.as_path());
    opened.and_then(read).map(Some).map_err(|error| unreadable(&path, error))
}

fn to_text(path: &Path, content: Vec<u8>) -> Result<String, MakeError> {
    String::from_utf8(content)
        .map_err(|_| unreadable(path, io::Error::other("it is no text in UTF-8")))
}

fn unreadable(path: &Path, error: io::Error) -> MakeError {
    MakeError::Unreadable { file: path.display().to_string(), error }
}

#[cfg(test)]
#[path = "configs_tests.rs"]
mod tests;
