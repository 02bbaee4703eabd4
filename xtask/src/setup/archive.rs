//! The distribution's packages, unpacked below cargo's target folder instead of installed: for
//! those that hold only data, or conflict with what is installed.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{exec, progress, repository};

/// A package as the distribution has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The names of those that it depends on.
    pub depends: Vec<String>,
}

/// The package of this name; none when apt knows none.
///
/// # Errors
/// Without apt.
pub fn candidate(name: &str) -> Result<Option<Candidate>> {
    // It fails for a name that it does not know.
    let mut show = Command::new("apt-cache");
    show.args(["show", "--no-all-versions", name]);
    let output = show.output().map_err(|error| exec::cannot_start(&show, &error))?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)).filter(|found| found.name == name))
}

/// Unpacks the newest version of a package; see [`unpacked_together`].
///
/// # Errors
/// When apt knows none, or it cannot be had.
pub fn newest(name: &str) -> Result<PathBuf> {
    let found = candidate(name)?;
    unpacked_together(&[
        found.with_context(|| format!("apt knows no package {name}; run `apt-get update`"))?
    ])
}

/// Unpacks packages to one folder, that of the first. Takes no time when it is there; a package
/// of another version has another folder.
///
/// # Errors
/// When one cannot be had.
pub fn unpacked_together(packages: &[Candidate]) -> Result<PathBuf> {
    let specs: Vec<String> = packages
        .iter()
        .map(|Candidate { name, version, .. }| format!("{name}={version}"))
        .collect();
    let first = specs.first().context("no package is named")?;
    unpack(&specs, &tools().join(first))
}

/// Unpacks a package to a folder of its own, in any version. Takes no time when it is there.
///
/// # Errors
/// When it cannot be had.
pub fn unpacked(name: &str) -> Result<PathBuf> {
    unpack(&[name.to_owned()], &tools().join(name))
}

fn tools() -> PathBuf {
    repository().join("target/tools")
}

fn unpack(packages: &[String], folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        return Ok(folder.to_owned());
    }
    fs::create_dir_all(tools())?;
    let scratch = tempfile::tempdir_in(tools())?;
    let unpacked = scratch.path().join("unpacked");
    progress::during(&format!("Downloading {}", packages.join(", ")), || {
        let mut download = Command::new("apt-get");
        download.args(["--quiet", "download"]).args(packages).current_dir(scratch.path());
        exec::output(&mut download)?;
        let files = fs::read_dir(scratch.path())?.collect::<Result<Vec<_>, _>>()?;
        let is_package = |path: &PathBuf| path.extension() == Some("deb".as_ref());
        let files: Vec<PathBuf> = files.iter().map(DirEntry::path).filter(is_package).collect();
        ensure!(files.len() == packages.len(), "apt-get did not bring all of {packages:?}");
        for file in files {
            exec::output(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&unpacked))?;
        }
        Ok(())
    })?;
    fs::rename(unpacked, folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// The package that `apt-cache show` describes.
fn parse(text: &str) -> Option<Candidate> {
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    };
    let needs = ["Pre-Depends", "Depends"].into_iter().filter_map(field);
    let needs = needs.flat_map(|list| list.split([',', '|']));
    // Behind the name stands which versions will do.
    let depends = needs.filter_map(|need| need.split_whitespace().next()).map(str::to_owned);
    Some(Candidate {
        name: field("Package")?.to_owned(),
        version: field("Version")?.to_owned(),
        depends: depends.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_apt_says() {
        let text = "Package: linux-image-amd64\nSource: linux\nVersion: 6.1.192-2\n\
                    Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), a | b\nDescription: x\n";
        let found = parse(text).unwrap();
        assert_eq!((&*found.name, &*found.version), ("linux-image-amd64", "6.1.192-2"));
        assert_eq!(found.depends, ["linux-image-6.1.0-56-amd64", "a", "b"]);
        assert_eq!(parse(""), None);
    }
}
