//! Names of files in the assets folder, and which of them are nobody's but one machine's.

use std::fmt;
use std::path::Path;

use percent_encoding::percent_decode_str;

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

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is that of a machine config, of credentials or of a copy of either, as
    /// `talosctl gen config` and text editors name them.
    pub fn is_secret(&self) -> bool {
        const MARKS: [&str; 10] = [
            ".yaml",
            ".yml",
            "talosconfig",
            "kubeconfig",
            "secret",
            ".key",
            ".pem",
            ".p12",
            ".pfx",
            ".csr",
        ];
        let name = self.0.to_ascii_lowercase();
        MARKS.iter().any(|mark| name.contains(mark))
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

/// How much of a file's start [`looks_secret`] wants to see, in bytes.
pub const HEAD: usize = 4096;

/// Whether a file that starts so is a machine config or a key under a harmless name.
///
/// A second net behind [`AssetPath::is_secret`], for hard links and unusual names. Kernels and
/// initramfs images are binary, so a NUL near the start clears a file.
pub fn looks_secret(head: &[u8]) -> bool {
    const MARKS: [&str; 5] = ["v1alpha1", "PRIVATE KEY", "machine:", "\"machine\"", "contexts:"];
    if head.contains(&0) {
        return false;
    }
    let text = String::from_utf8_lossy(head);
    MARKS.iter().any(|mark| text.contains(mark))
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

    #[test]
    fn knows_secrets_by_name() {
        for name in [
            "worker.yaml",
            "worker.yml",
            "WORKER.YAML",
            "worker.yaml.bak",
            "worker.yaml~",
            "#worker.yaml#",
            "worker.yaml.gz",
            "configs/init.yaml",
            "talosconfig",
            "talosconfig.old",
            "kubeconfig",
            "secrets.json",
            "ca.key",
            "secrets/x",
        ] {
            assert!(AssetPath::from_plain(name).unwrap().is_secret(), "{name}");
        }
        for name in ["vmlinuz-amd64", "initramfs-amd64.xz", "metal-amd64-uki.efi", "sha256sum.txt"]
        {
            assert!(!AssetPath::from_plain(name).unwrap().is_secret(), "{name}");
        }
    }

    #[test]
    fn knows_secrets_by_content() {
        assert!(looks_secret(b"version: v1alpha1\ndebug: false\nmachine:\n    type: worker\n"));
        assert!(looks_secret(b"{\"machine\": {}}"));
        assert!(looks_secret(b"-----BEGIN ED25519 PRIVATE KEY-----"));
        assert!(!looks_secret(b"MZ\0\0machine:"));
        assert!(!looks_secret(b"0123  vmlinuz-amd64\n"));
    }

    proptest! {
        #[test]
        fn never_leaves_the_folder(
            path in prop_oneof!["\\PC*", "([./a%\\\\]|%2e|%2F|%5c|%00){0,12}"]
        ) {
            if let Some(asset) = AssetPath::from_url(&path) {
                let within = asset.as_path().components().all(|c| matches!(c, Component::Normal(_)));
                prop_assert!(within);
            }
        }
    }
}
