//! `cargo xtask container`: the daemon as a container image, without Docker and without a registry.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::lab::server;
use crate::setup::{self, Group};
use crate::{exec, progress, repository};

/// Builds a container image with the static daemon and iPXE's binaries.
///
/// The archive is for `docker load`, `podman load` and `linuxkit cache import`. Needs root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask container                        Write out/talos-pxe.tar.
  cargo xtask container --root /srv/talos      With what is to be served in it, for linux.yml.")]
pub struct Container {
    /// The image's name.
    #[arg(long, value_name = "NAME:TAG", default_value = "talos-pxe:latest")]
    tag: String,

    /// A folder to put in as /srv, where the daemon looks for what it serves. Who has the image
    /// has its secrets, too.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// The archive [default: out/talos-pxe.tar of the repository].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write the image's files to this new folder, and make no image: the Dockerfile's first stage.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tag", "output"])]
    tree: Option<PathBuf>,
}

/// The iPXE binaries that the daemon hands out unless told otherwise, and what must go with them.
const FIRMWARE: [&str; 3] =
    ["/usr/lib/ipxe/snponly.efi", "/usr/lib/ipxe/undionly.kpxe", "/usr/share/doc/ipxe/copyright"];

/// Runs the subcommand.
///
/// # Errors
/// When the daemon does not compile, or a file or the image cannot be made.
pub fn main(container: &Container) -> Result<()> {
    let root = container.root.as_deref();
    setup::ensure(&[Group::Bpf, Group::Firmware])?;
    if let Some(tree) = &container.tree {
        return make_tree(tree, &server::build_static(true)?, root);
    }
    ensure!(rustix::process::geteuid().is_root(), "buildah makes files of root: run this as root");
    setup::ensure(&[Group::Container])?;
    let output = container.output.clone();
    let output = output.unwrap_or_else(|| repository().join("out/talos-pxe.tar"));
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let daemon = server::build_static(true)?;
    let scratch = tempfile::tempdir()?;
    let tree = scratch.path().join("build/image");
    progress::during("Making the image", || {
        make_tree(&tree, &daemon, root)?;
        build(&scratch.path().join("build"), &container.tag, &output)
    })?;
    let size = fs::metadata(&output)?.len() / 1_000_000;
    let file = output.display();
    println!(
        "{file} ({size} MB): {}\n  docker load --input {file}\n  podman load --input {file}\n  \
         linuxkit cache import {file}",
        container.tag
    );
    Ok(())
}

/// Fills the new folder `tree` with the image's files: the program `daemon`, iPXE's binaries, and
/// the files of `root` in /srv.
///
/// # Errors
/// When a file is missing or cannot be written, or the folder is there.
pub fn make_tree(tree: &Path, daemon: &Path, root: Option<&Path>) -> Result<()> {
    ensure!(!tree.exists(), "{} is there; name a new folder", tree.display());
    let copy = |from: &Path, to: &str| -> Result<()> {
        let to = tree.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display())).map(drop)
    };
    copy(daemon, "/usr/bin/talos-pxe")?;
    for file in FIRMWARE {
        copy(Path::new(file), file)?;
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&repository().join(licence), &format!("/usr/share/doc/talos-pxe/{licence}"))?;
    }
    // For a read-only root there must be something to mount on.
    for folder in ["srv", "state", "dev", "proc", "sys", "etc", "tmp"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    if let Some(root) = root {
        let mut files = root.as_os_str().to_owned();
        files.push("/.");
        exec::output(Command::new("cp").arg("--archive").arg(files).arg(tree.join("srv")))?;
        exec::output(Command::new("chown").args(["--recursive", "0:0"]).arg(tree.join("srv")))?;
    }
    Ok(())
}

/// Builds the Dockerfile with the folder `stage` in the place of its stage `build`, and writes the
/// image `tag` to the archive `output`.
///
/// # Errors
/// When buildah fails: it needs root.
pub fn build(stage: &Path, tag: &str, output: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    // Its own store: the user's images are none of our business.
    let store = |name: &str| scratch.path().join(name);
    let buildah = || {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(store("images"));
        command.arg("--runroot").arg(store("run"));
        command
    };
    let mut replaced = OsString::from("build=");
    replaced.push(stage);
    let mut bud = buildah();
    bud.args(["bud", "--quiet", "--isolation", "chroot", "--pull=never", "--timestamp", "0"]);
    bud.arg("--build-context").arg(replaced).args(["--tag", tag, "--file"]);
    bud.arg(repository().join("Dockerfile")).arg(stage);
    exec::output(&mut bud).context("cannot build the image")?;
    let layout = store("layout");
    let mut to = OsString::from("oci:");
    to.push(&layout);
    exec::output(buildah().args(["push", "--quiet", tag]).arg(to))?;
    describe(&layout, tag)?;
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    tar.arg("--file").arg(output).arg("--directory").arg(&layout);
    exec::output(tar.args(["blobs", "index.json", "manifest.json", "oci-layout"]))?;
    Ok(())
}

/// Names the image in an OCI layout the way that `docker save` does, which everybody reads: the
/// whole name beside the tag, and Docker's own manifest, which its older releases want.
fn describe(layout: &Path, tag: &str) -> Result<()> {
    let read = |file: &str| -> Result<Value> {
        let text =
            fs::read(layout.join(file)).with_context(|| format!("no {file} in the image"))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let blob = |descriptor: &Value| -> Result<String> {
        let digest = descriptor.get("digest").and_then(Value::as_str);
        Ok(format!("blobs/{}", digest.context("a part without a digest")?.replace(':', "/")))
    };
    let mut index = read("index.json")?;
    let image = index.pointer_mut("/manifests/0").context("no image in the index")?;
    let (_, version) = tag.rsplit_once(':').unwrap_or((tag, "latest"));
    let whole = if tag.contains('/') { tag.to_owned() } else { format!("docker.io/library/{tag}") };
    if let Some(image) = image.as_object_mut() {
        let names = json!({
            "io.containerd.image.name": whole,
            "org.opencontainers.image.ref.name": version,
        });
        image.insert("annotations".to_owned(), names);
    }
    let manifest = read(&blob(image)?)?;
    let layers = manifest.get("layers").and_then(Value::as_array).context("no layers")?;
    let layers = layers.iter().map(blob).collect::<Result<Vec<_>>>()?;
    let config = blob(manifest.get("config").context("no config")?)?;
    let docker = json!([{ "Config": config, "RepoTags": [tag], "Layers": layers }]);
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("manifest.json"), docker.to_string())?;
    Ok(())
}
