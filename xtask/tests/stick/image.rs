//! Making images.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use xtask::exec;
use xtask::image::{self, Image};
use xtask::lab::server;

#[test]
#[ignore = "lab: cargo xtask test"]
fn two_builds_are_the_same_octet_by_octet() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let assets = folder.path().join("root/assets");
    fs::create_dir_all(&assets)?;
    for file in ["vmlinuz-amd64", "initramfs-amd64.xz", "controlplane.yaml"] {
        fs::write(assets.join(file), file)?;
    }
    let daemon = server::build_static(false)?;
    let build = |name: &str| {
        let mut image = Image::default();
        image.assets = Some(folder.path().join("root"));
        image.out = Some(folder.path().join(name));
        image.flags = vec!["--mode=server".into()];
        image::build(&image, &daemon)
    };
    let first = build("first.img")?;
    eprintln!("{first}");
    let second = build("second.img")?;
    ensure!(first.sha256 == second.sha256, "the sums differ");
    let [first, second] = ["first.img", "second.img"].map(|name| folder.path().join(name));
    exec::output(Command::new("cmp").args([&first, &second]))?;
    check_sum(&first)
}

/// The sum beside an image is what the usual tool expects.
fn check_sum(image: &Path) -> Result<()> {
    let mut sum = image.as_os_str().to_owned();
    sum.push(".sha256");
    let folder = image.parent().unwrap_or(image);
    exec::output(Command::new("sha256sum").arg("--check").arg(sum).current_dir(folder)).map(drop)
}
