//! Which files are nobody's but one machine's.

use crate::wire::AssetPath;

/// Whether the name is that of a machine config, of credentials or of a copy of either, as
/// `talosctl gen config` and text editors name them.
pub fn is_named_secret(path: &AssetPath) -> bool {
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
    let name = path.as_str().to_ascii_lowercase();
    MARKS.iter().any(|mark| name.contains(mark))
}

/// How much of a file's start [`looks_secret`] wants to see, in bytes.
pub const HEAD: usize = 4096;

/// Whether a file that starts so is a machine config or a key under a harmless name.
///
/// A second net behind [`is_named_secret`], for hard links and unusual names. Kernels and
/// initramfs images are binary, so a NUL near the start clears a file.
pub fn looks_secret(head: &[u8]) -> bool {
    // The last is how a PEM file starts in Base64, which is how configs hold them.
    const MARKS: [&str; 6] =
        ["v1alpha1", "PRIVATE KEY", "machine:", "\"machine\"", "contexts:", "LS0tLS1CRUdJTi"];
    if head.contains(&0) {
        return false;
    }
    let text = String::from_utf8_lossy(head);
    MARKS.iter().any(|mark| text.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(is_named_secret(&AssetPath::from_plain(name).unwrap()), "{name}");
        }
        for name in ["vmlinuz-amd64", "initramfs-amd64.xz", "metal-amd64-uki.efi", "sha256sum.txt"]
        {
            assert!(!is_named_secret(&AssetPath::from_plain(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn knows_secrets_by_content() {
        assert!(looks_secret(b"version: v1alpha1\ndebug: false\nmachine:\n    type: worker\n"));
        assert!(looks_secret(b"{\"machine\": {}}"));
        assert!(looks_secret(b"certs:\n    os:\n        key: LS0tLS1CRUdJTiBFRDI1NTE5"));
        assert!(looks_secret(b"-----BEGIN ED25519 PRIVATE KEY-----"));
        assert!(!looks_secret(b"MZ\0\0machine:"));
        assert!(!looks_secret(b"0123  vmlinuz-amd64\n"));
    }
}
