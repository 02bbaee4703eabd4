//! `cargo xtask deb`: a package for Debian and Ubuntu.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::lab::server;
use crate::setup::{self, Group, cargo_deb};
use crate::{exec, progress, repository};

/// Builds a Debian package: the daemon, its service, its manual and shell completions.
///
/// The service is neither started nor enabled by installing it: a DHCP server that nobody asked
/// for can take a network down.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask deb && sudo apt install ./out/talos-pxe_*.deb")]
pub struct Deb {
    /// Where to put it [default: out/ of the repository].
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When something does not compile, or cannot be written.
pub fn main(deb: &Deb) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Deb])?;
    server::build_static(true)?;
    let output = deb.output.clone().unwrap_or_else(|| repository().join("out"));
    println!("{}", build(true, &output)?.display());
    Ok(())
}

/// Packs what `server::build_static(optimised)` has built, and returns the package, a file of the
/// folder `output`.
///
/// # Errors
/// When cargo-deb fails, or there is no daemon.
pub fn build(optimised: bool, output: &Path) -> Result<PathBuf> {
    write_manual()?;
    std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    let mut deb = Command::new(cargo_deb());
    deb.args(["--package", "talos-pxe", "--no-build", "--target"]);
    deb.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    if !optimised {
        // Nobody waits for a smaller file.
        deb.args(["--profile", "dev", "--fast"]);
    }
    deb.arg("--output").arg(output).current_dir(repository());
    let package = progress::during("Packing", || exec::output(&mut deb))?;
    let package = package.lines().next_back().context("cargo-deb names no package")?;
    Ok(PathBuf::from(package))
}

/// Writes the manual and the shell completions to `target/manual`.
///
/// # Errors
/// When they cannot be made.
pub fn write_manual() -> Result<PathBuf> {
    let folder = repository().join("target/manual");
    let mut manual = exec::cargo();
    manual.args(["run", "--quiet", "--package", "talos-pxe", "--example", "manual", "--"]);
    exec::output_with_errors_shown(manual.arg(&folder).current_dir(repository()))?;
    Ok(folder)
}
