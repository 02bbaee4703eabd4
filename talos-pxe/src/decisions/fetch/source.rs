//! Where Talos's and iPXE's files are published, and under which names.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use super::sums::Algorithm;

/// A Talos version, such as `v1.13.9` or `v1.14.0-beta.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// A text is no Talos version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a version such as v1.13.9")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let bare = text.strip_prefix('v').ok_or(VersionError)?;
        let (numbers, pre) = match bare.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre)),
            None => (bare, None),
        };
        let is_number =
            |part: &str| (1..=5).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let is_word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let well_formed = numbers.split('.').count() == 3
            && numbers.split('.').all(is_number)
            && pre.is_none_or(|pre| pre.len() <= 64 && pre.split('.').all(is_word));
        well_formed.then(|| Self(text.to_owned())).ok_or(VersionError)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A processor architecture that Talos is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The kernel's name in a release, and in our assets.
    pub fn kernel(self) -> String {
        format!("vmlinuz-{self}")
    }

    /// The initramfs's name.
    pub fn initramfs(self) -> String {
        format!("initramfs-{self}.xz")
    }

    /// The unified kernel image's name.
    pub fn uki(self) -> String {
        format!("metal-{self}-uki.efi")
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// The identifier of a customization of Talos, which the Image Factory gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schematic(String);

/// A text is no schematic's identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a schematic's identifier, 64 hexadecimal digits")]
pub struct SchematicError;

impl Schematic {
    /// Talos as it is released.
    pub fn plain() -> Self {
        Self("376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba".to_owned())
    }
}

impl FromStr for Schematic {
    type Err = SchematicError;

    fn from_str(text: &str) -> Result<Self, SchematicError> {
        let well_formed = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        well_formed.then(|| Self(text.to_ascii_lowercase())).ok_or(SchematicError)
    }
}

impl fmt::Display for Schematic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a URL that names of files are put behind: `http` or `https`, a host, and a path
/// without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

/// A text is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected http://HOST/PATH or https://HOST/PATH, without user name, query or fragment")]
pub struct BaseUrlError;

impl BaseUrl {
    /// The URL of something below.
    pub fn join(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let bare = text.trim_end_matches('/');
        let rest = bare.strip_prefix("https://").or_else(|| bare.strip_prefix("http://"));
        // A user name and password would end up in messages.
        let plain = |b: u8| b.is_ascii_graphic() && !b"?#@\\\"<>".contains(&b);
        let well_formed = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            && bare.bytes().all(plain);
        well_formed.then(|| Self(bare.to_owned())).ok_or(BaseUrlError)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who publishes Talos's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An Image Factory, which makes them for a schematic. It publishes no checksums.
    Factory {
        /// Its URL.
        base: BaseUrl,
        /// What is to be in them.
        schematic: Schematic,
    },
    /// A folder with the files of one release and their checksums.
    Release(BaseUrl),
}

impl Source {
    /// The release's own page.
    pub fn github(version: &Version) -> Self {
        Self::Release(BaseUrl(format!(
            "https://github.com/siderolabs/talos/releases/download/{version}"
        )))
    }

    /// The URL of a file that a release calls `name`.
    fn url(&self, version: &Version, name: &str) -> String {
        match self {
            Self::Release(base) => base.join(name),
            Self::Factory { base, schematic } => {
                let kernel = name.strip_prefix("vmlinuz-").map(|arch| format!("kernel-{arch}"));
                let name = kernel.as_deref().unwrap_or(name);
                base.join(&format!("image/{schematic}/{version}/{name}"))
            }
        }
    }

    /// The checksum files that may lie beside the others, the preferred one first.
    fn sums(&self) -> Vec<(Algorithm, String)> {
        match self {
            Self::Factory { .. } => Vec::new(),
            Self::Release(base) => [Algorithm::Sha256, Algorithm::Sha512]
                .map(|algorithm| (algorithm, base.join(algorithm.file_name())))
                .to_vec(),
        }
    }
}

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The version of Talos.
    pub version: Version,
    /// The architectures.
    pub archs: Vec<Arch>,
    /// Unified kernel images, too.
    pub uki: bool,
    /// iPXE's binaries, too, from below this URL.
    pub ipxe: Option<BaseUrl>,
}

/// A folder below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// Talos's files.
    Assets,
    /// iPXE's binaries.
    Firmware,
}

impl Folder {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Firmware => "firmware",
        }
    }
}

/// One file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is published.
    pub url: String,
    /// Where it goes.
    pub folder: Folder,
    /// What it is called there: a plain name that we made.
    pub name: String,
}

/// The files to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The files, in the order in which they are fetched.
    pub items: Vec<Item>,
    /// Where checksums of Talos's files may be; the first that exists counts.
    pub sums: Vec<(Algorithm, String)>,
}

impl Plan {
    /// What is to be fetched from `source`.
    pub fn new(source: &Source, wanted: &Wanted) -> Self {
        let mut archs = wanted.archs.clone();
        archs.sort();
        archs.dedup();
        let mut items = Vec::new();
        for &arch in &archs {
            let mut names = vec![arch.kernel(), arch.initramfs()];
            names.extend(wanted.uki.then(|| arch.uki()));
            items.extend(names.into_iter().map(|name| Item {
                url: source.url(&wanted.version, &name),
                folder: Folder::Assets,
                name,
            }));
        }
        if let Some(base) = &wanted.ipxe {
            items.extend(archs.iter().flat_map(|arch| ipxe(base, *arch)));
        }
        Self { items, sums: source.sums() }
    }
}

/// iPXE's binaries, which are called as in Debian's package.
fn ipxe(base: &BaseUrl, arch: Arch) -> Vec<Item> {
    let files: &[(&str, &str)] = match arch {
        Arch::Amd64 => {
            &[("undionly.kpxe", "undionly.kpxe"), ("x86_64-efi/snponly.efi", "snponly.efi")]
        }
        Arch::Arm64 => &[("arm64-efi/snponly.efi", "snponly-arm64.efi")],
    };
    let item = |&(path, name): &(&str, &str)| Item {
        url: base.join(path),
        folder: Folder::Firmware,
        name: name.to_owned(),
    };
    files.iter().map(item).collect()
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
