//! The BPF toolchain: a rustc with its library's source, and the bpf-linker for its LLVM.

use std::process::Command;

use anyhow::{Result, bail};

use super::apt::{self, Package, package};
use super::{program, run};
use crate::{exec, repository};

#[allow(dead_code, reason = "the build script uses the rest")]
#[path = "../../../talos-pxe/build/toolchain.rs"]
mod toolchain;

use toolchain::{LinkerRecipe, Missing, Toolchain};

/// Debian's newer rustc, which it builds its browsers with, and the source of its library.
const RUSTC: &[Package] = &[
    package("rustc-web", "/usr/bin/rustc", "compiles the XDP program"),
    package(
        "rust-web-src",
        "/usr/lib/rustlib/src/rust/library/Cargo.lock",
        "the library source that it compiles for BPF",
    ),
];

/// How long rustup may try: on a closed network it need not get an answer.
const RUSTUP_SECONDS: &str = "60";

/// Whether there is a toolchain, and which, or what it lacks.
pub fn status() -> (bool, String) {
    match find() {
        Ok(Toolchain { rustc, linker, .. }) => {
            (true, format!("{} and {}", rustc.display(), linker.display()))
        }
        Err(missing) => (false, missing.to_string()),
    }
}

/// Installs what the toolchain lacks.
pub fn ensure() -> Result<()> {
    if matches!(find(), Err(Missing::Compiler)) && !add_source_with_rustup() {
        println!("rustup gives us no source; the distribution's rustc has one");
        apt::install(RUSTC.iter())?;
    }
    match find() {
        Ok(_) => Ok(()),
        Err(Missing::Linker(recipe)) => install_linker(&recipe),
        Err(missing) => bail!("{missing}; `rustup component add rust-src` adds the source"),
    }
}

fn find() -> Result<Toolchain, Missing> {
    toolchain::find(&repository().join("target/tools"))
}

/// Adds the library's source to a rustup toolchain: quick, small, and nothing for root. Says
/// whether that gave us a compiler.
fn add_source_with_rustup() -> bool {
    if program("rustup").is_none() {
        return false;
    }
    ["nightly", "stable"].into_iter().any(|name| {
        println!("Adding the library source to rustup's {name} toolchain");
        let mut rustup = Command::new("timeout");
        rustup.args([
            RUSTUP_SECONDS,
            "rustup",
            "component",
            "add",
            "rust-src",
            "--toolchain",
            name,
        ]);
        run(&mut rustup).is_ok() && !matches!(find(), Err(Missing::Compiler))
    })
}

fn install_linker(recipe: &LinkerRecipe) -> Result<()> {
    let LinkerRecipe { version, feature, llvm, .. } = recipe;
    let mut cargo = exec::cargo();
    cargo
        .args(["install", "bpf-linker", "--locked", "--no-default-features", "--version", version])
        .args(["--features", feature, "--root"])
        .arg(&recipe.root)
        // Without one it builds in a temporary folder and leaves nothing behind.
        .env_remove("CARGO_TARGET_DIR");
    if let Some(prefix) = &recipe.llvm_prefix {
        apt::install(apt::llvm(*llvm).into_iter().filter(|package| !package.installed()))?;
        cargo.env("LLVM_PREFIX", prefix);
    }
    println!("Installing bpf-linker {version} for LLVM {llvm} to {}", recipe.root.display());
    run(&mut cargo)
}
