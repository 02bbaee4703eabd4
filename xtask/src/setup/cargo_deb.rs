//! cargo-deb, which builds the Debian package: installed below target/tools, not to the system.

use std::path::PathBuf;

use anyhow::Result;

use super::run;
use crate::{exec, repository};

/// Its release.
const VERSION: &str = "3.8.0";

/// Where the program is once [`ensure`] has installed it.
pub fn cargo_deb() -> PathBuf {
    root().join("bin/cargo-deb")
}

/// Installs it unless it is there. That takes a minute or two.
pub fn ensure() -> Result<()> {
    if cargo_deb().exists() {
        return Ok(());
    }
    println!("Installing cargo-deb {VERSION} to {}", root().display());
    let mut cargo = exec::cargo();
    // Without its features it leaves compression to the program xz.
    cargo
        .args(["install", "cargo-deb", "--locked", "--no-default-features", "--version", VERSION])
        .arg("--root")
        .arg(root())
        // Without one it builds in a temporary folder and leaves nothing behind.
        .env_remove("CARGO_TARGET_DIR");
    run(&mut cargo)
}

fn root() -> PathBuf {
    repository().join("target/tools").join(format!("cargo-deb-{VERSION}"))
}
