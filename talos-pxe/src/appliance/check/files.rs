//! The user's files: groups and profiles, kernels, configs, boot files.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize as _;
use serde_yaml_ng::Value;

use crate::cli::Serve;
use crate::decisions::fetch::Arch;
use crate::decisions::preflight::Finding;
use crate::edges::{folder, rules, tftp};

/// No machine config comes near this, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
/// As `talosctl gen config` names them.
const CONFIGS: [&str; 3] = ["controlplane.yaml", "worker.yaml", "init.yaml"];

/// All of them.
pub(super) fn checks(serve: &Serve) -> Vec<Finding> {
    let assets = serve.root.join("assets");
    let mut found = vec![rules(serve)];
    found.extend(Arch::ALL.map(|arch| talos(&assets, arch)));
    found.extend(configs(&assets));
    found.push(boot_files(serve));
    found
}

/// Groups, profiles and the inventory, and whether there is any kernel for them.
fn rules(serve: &Serve) -> Finding {
    const NAME: &str = "profiles";
    match rules::read(&serve.root) {
        Ok((_, inventory)) if inventory.is_empty() => {
            Finding::ok(NAME, "valid, and there is a kernel for them")
        }
        Ok((_, inventory)) => Finding::ok(
            NAME,
            format!("valid, with an inventory of {}; there is a kernel", inventory.len()),
        ),
        Err(error) => Finding::failed(NAME, format!("{error:#}")),
    }
}

/// Kernel and initramfs of an architecture, under either of the names that they are published by.
fn talos(assets: &Path, arch: Arch) -> Finding {
    let name = format!("Talos {arch}");
    let kernels = [arch.kernel(), format!("kernel-{arch}")];
    let kernel = kernels.iter().find(|kernel| assets.join(kernel).is_file());
    let initramfs = assets.join(arch.initramfs()).is_file();
    match (kernel, initramfs) {
        (Some(kernel), true) => Finding::ok(name, format!("{kernel}, {}", arch.initramfs())),
        // What the profiles name and nobody has is a failure of theirs.
        (None, false) => Finding::ok(
            name,
            format!("none, such machines do not boot; talos-pxe assets fetch --arch {arch}"),
        ),
        (Some(kernel), false) => Finding::failed(
            name,
            format!(
                "there is {kernel} without {}; talos-pxe assets fetch --arch {arch}",
                arch.initramfs()
            ),
        ),
        (None, true) => Finding::failed(
            name,
            format!(
                "there is {} without {}; talos-pxe assets fetch --arch {arch}",
                arch.initramfs(),
                arch.kernel()
            ),
        ),
    }
}

fn configs(assets: &Path) -> Vec<Finding> {
    let there = |name: &&str| assets.join(name).exists();
    let mut found: Vec<Finding> =
        CONFIGS.iter().filter(|name| there(name)).map(|name| secret(assets, name, None)).collect();
    if found.is_empty() {
        found.push(Finding::warning(
            "configs",
            format!(
                "none in {}: machines start in maintenance mode; talosctl gen config makes them",
                assets.display()
            ),
        ));
    }
    if there(&"talosconfig") {
        found.push(secret(assets, "talosconfig", Some("contexts")));
    }
    found
}

/// A file with keys: it parses, has what it must, and nobody else may read it. Nothing of its
/// content is ever told.
fn secret(assets: &Path, name: &str, must_have: Option<&str>) -> Finding {
    let path = assets.join(name);
    let failed = |cause: String| Finding::failed(name, format!("{}: {cause}", path.display()));
    let (text, mode) = match read(&path) {
        Ok(read) => read,
        Err(error) => return failed(error.to_string()),
    };
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        match Value::deserialize(document) {
            Ok(document) => documents.push(document),
            Err(error) => {
                let place = error.location();
                let place = place
                    .map(|at| format!(" at line {} column {}", at.line(), at.column()))
                    .unwrap_or_default();
                return failed(format!("no valid YAML{place}; make it anew, or correct it"));
            }
        }
    }
    let has = |key: &str| documents.iter().any(|document| document.get(key).is_some());
    if !documents.iter().any(Value::is_mapping) || must_have.is_some_and(|key| !has(key)) {
        return failed("not what talosctl gen config writes; make it anew".to_owned());
    }
    if mode & 0o077 != 0 {
        return Finding::warning(
            name,
            format!("holds keys, and others may read it: chmod 600 {}", path.display()),
        );
    }
    Finding::ok(name, "valid YAML")
}

/// The file's text and who may read it.
fn read(path: &Path) -> io::Result<(String, u32)> {
    // A FIFO would keep us waiting.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > MAX_CONFIG {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut text = String::new();
    file.take(MAX_CONFIG).read_to_string(&mut text)?;
    Ok((text, metadata.permissions().mode()))
}

fn boot_files(serve: &Serve) -> Finding {
    const NAME: &str = "boot files";
    let folder = folder::firmware(serve.firmware.as_deref(), &serve.root);
    match tftp::BootFiles::load(&folder, &[&serve.bios_file, &serve.uefi_file]) {
        Ok(_) => Finding::ok(NAME, folder.display()),
        Err(error) => Finding::failed(NAME, format!("{error:#}")),
    }
}
