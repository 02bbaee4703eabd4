//! A folder as a cpio archive of the "newc" kind (Linux's `driver-api/early-userspace/
//! buffer-format.rst`), with nothing in it that differs from one build to the next.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const TRAILER: &[u8] = b"TRAILER!!!";

/// Writes all that is in the folder `tree`, in the order of its names: owned by root, of no time.
///
/// # Errors
/// When a file cannot be read, `out` not written, or a file has 4 GiB or more.
pub fn write(tree: &Path, out: &mut impl Write) -> Result<()> {
    let mut archive = Archive { out, inode: 0 };
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut entries = fs::read_dir(tree.join(&folder))?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = folder.join(entry.file_name());
            let metadata = entry.metadata()?;
            let content = if metadata.is_symlink() {
                fs::read_link(entry.path())?.as_os_str().as_bytes().to_vec()
            } else if metadata.is_file() {
                fs::read(entry.path())?
            } else {
                folders.push(name.clone());
                Vec::new()
            };
            // The permissions of others depend on the umask of whoever builds.
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let mode = metadata.mode() & !0o7777 | if executable { 0o755 } else { 0o644 };
            archive.add(name.as_os_str().as_bytes(), mode, &content)?;
        }
    }
    archive.add(TRAILER, 0, &[])
}

struct Archive<'a, W> {
    out: &'a mut W,
    inode: u32,
}

impl<W: Write> Archive<'_, W> {
    fn add(&mut self, name: &[u8], mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).context("a file of 4 GiB or more")?;
        let name_size = u32::try_from(name.len() + 1).context("a name too long")?;
        // Inode, mode, owner, group, links, time, size, devices, size of the name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let header: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        write!(self.out, "070701{header}")?;
        self.out.write_all(name)?;
        // The header has 110 bytes; both parts end at a multiple of four.
        self.pad(110 + name.len() + 1, 1)?;
        self.out.write_all(content)?;
        self.pad(content.len(), 0)
    }

    /// Ends a part of `length` bytes with at least `zeros` zeros.
    fn pad(&mut self, length: usize, zeros: usize) -> Result<()> {
        let zeros = zeros + length.next_multiple_of(4) - length;
        (0..zeros).try_for_each(|_| Ok(self.out.write_all(&[0])?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[ignore = "needs cpio: cargo xtask test"]
    fn cpio_lists_what_was_written() {
        let tree = tempfile::tempdir().unwrap();
        let tree = tree.path();
        fs::create_dir_all(tree.join("lib/firmware")).unwrap();
        fs::write(tree.join("lib/firmware/a"), "12345").unwrap();
        fs::write(tree.join("init"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("init", tree.join("linuxrc")).unwrap();
        let mut archive = Vec::new();
        write(tree, &mut archive).unwrap();
        let mut again = Vec::new();
        write(tree, &mut again).unwrap();
        assert_eq!(archive, again);

        let mut cpio = Command::new("cpio");
        cpio.args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"]).env("TZ", "UTC");
        let mut cpio =
            cpio.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cpio is missing");
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        let list = String::from_utf8(output.stdout).unwrap();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = list.lines().map(words).collect();
        let expected = [
            "-rwxr-xr-x 1 0 0 10 Jan 1 1970 init",
            "drwxr-xr-x 1 0 0 0 Jan 1 1970 lib",
            "lrwxr-xr-x 1 0 0 4 Jan 1 1970 linuxrc -> init",
            "drwxr-xr-x 1 0 0 0 Jan 1 1970 lib/firmware",
            "-rw-r--r-- 1 0 0 5 Jan 1 1970 lib/firmware/a",
        ];
        assert_eq!(lines, expected, "{list}");
    }
}
