//! Names of files in a folder that is served, such as the assets.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const MAX_LENGTH: usize = 1024;

/// The path of a file inside the assets folder: relative, with plain names only.
///
/// There is no other way to name an asset, so no request can name a file outside the folder, a
/// folder, or a file whose name starts with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetPath(String);

impl AssetPath {
    /// Reads the percent-encoded path of a URL, without its leading slash. It is decoded once.
    pub fn from_url(encoded: &str) -> Option<Self> {
        Self::from_plain(&percent_decode_str(encoded).decode_utf8().ok()?)
    }

    /// Reads a path that is not encoded.
    pub fn from_plain(path: &str) -> Option<Self> {
        let plain = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && !name.contains(|c: char| c.is_control() || c == '\\')
        };
        (path.len() <= MAX_LENGTH && path.split('/').all(plain)).then(|| Self(path.to_owned()))
    }

    /// The path, relative to the folder.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The path as the part of a URL.
    pub fn to_url(&self) -> String {
        const PLAIN: &AsciiSet =
            &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');
        utf8_percent_encode(&self.0, PLAIN).to_string()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is no path of a file in a folder that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a file in the folder: a relative path of plain names, none of which starts with a dot"
)]
pub struct InvalidPath;

impl FromStr for AssetPath {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        Self::from_plain(path).ok_or(InvalidPath)
    }
}

impl fmt::Debug for AssetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for AssetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_plain_files_only() {
        for (encoded, plain) in [
            ("vmlinuz-amd64", "vmlinuz-amd64"),
            ("v1.13/initramfs%2Damd64.xz", "v1.13/initramfs-amd64.xz"),
            ("a%2fb", "a/b"),
            ("%252e%252e", "%2e%2e"),
        ] {
            assert_eq!(AssetPath::from_url(encoded).unwrap().as_str(), plain);
        }
        for encoded in [
            "",
            ".",
            "..",
            "../x",
            "a/../x",
            "%2e%2e/x",
            "..%2fx",
            "%2E%2E%2Fx",
            "/etc/passwd",
            "%2fetc/passwd",
            "a//b",
            "a/",
            "..%5cx",
            "..\\x",
            "a%00b",
            "%c0%ae%c0%ae/x",
            ".git",
            "a/.hidden",
            "a%0ab",
            "%ff",
        ] {
            assert_eq!(AssetPath::from_url(encoded), None, "{encoded}");
        }
    }

    proptest! {
        #[test]
        fn never_leaves_the_folder(
            path in prop_oneof!["\\PC*", "([./a%\\\\]|%2e|%2F|%5c|%00){0,12}"]
        ) {
            if let Some(asset) = AssetPath::from_url(&path) {
                let within = asset.as_path().components().all(|c| matches!(c, Component::Normal(_)));
                prop_assert!(within);
                prop_assert_eq!(AssetPath::from_url(&asset.to_url()), Some(asset));
            }
        }
    }
}
