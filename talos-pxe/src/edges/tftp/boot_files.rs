//! The files that TFTP serves, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tracing::debug;

use crate::decisions::boot::asset::is_named_secret;
use crate::edges::folder::OpenFile;
use crate::wire::AssetPath;

/// The largest file that is read into memory, in bytes. What boots by TFTP is far smaller; larger
/// files of the folder, such as UKIs, are for HTTP.
const MAX_FILE: u64 = 8 << 20;

/// What TFTP serves, read once: a rack that powers on asks for the same file all at once.
#[derive(Clone, Debug)]
pub struct BootFiles(pub(super) BTreeMap<String, Arc<[u8]>>);

impl BootFiles {
    /// Reads the files of the firmware folder; `needed` are those that the DHCP answers name.
    ///
    /// # Errors
    /// When one of `needed` cannot be read; the message says what to do.
    pub fn load(folder: &Path, needed: &[&str]) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        for name in needed {
            let content = AssetPath::from_plain(name)
                .ok_or(io::Error::from(io::ErrorKind::InvalidFilename))
                .and_then(|path| read(folder, &path));
            let content = content.map_err(|error| {
                anyhow!(
                    "no boot file {}: {error}; install the package ipxe, fetch it with `talos-pxe \
                     assets fetch --ipxe`, or name a folder that has the file with --firmware",
                    folder.join(name).display()
                )
            })?;
            files.insert((*name).to_owned(), content);
        }
        let cannot_list = || format!("cannot list folder {}", folder.display());
        for entry in fs::read_dir(folder).with_context(cannot_list)? {
            let name = entry.with_context(cannot_list)?.file_name();
            let Some(path) = name.to_str().and_then(AssetPath::from_plain) else { continue };
            match read(folder, &path) {
                Ok(content) => {
                    files.insert(path.to_string(), content);
                }
                Err(error) => debug!(file = %path, %error, "not for TFTP"),
            }
        }
        Ok(Self(files))
    }

    /// A file by its name, in whatever case the firmware writes it.
    pub(super) fn get(&self, name: &str) -> Option<Arc<[u8]>> {
        let other_case = || self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        self.0.get(name).or_else(|| other_case().map(|(_, content)| content)).cloned()
    }
}

/// Reads a file that TFTP may serve.
fn read(folder: &Path, path: &AssetPath) -> io::Result<Arc<[u8]>> {
    let opened = OpenFile::linked(folder, path)?;
    if is_named_secret(path) || opened.is_secret(&BTreeSet::new())? {
        return Err(io::Error::other("it looks like a machine config or a credential"));
    }
    if opened.metadata.len() > MAX_FILE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut content = Vec::new();
    opened.file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content.into())
}
