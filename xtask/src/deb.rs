//! `cargo xtask deb`: a package for Debian and Ubuntu.

use std::fs;
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
    let output = deb.output.clone().unwrap_or_else(|| repository().join("out"));
    println!("{}", build(true, &output)?.display());
    Ok(())
}

/// Makes the package in the folder `output`, with the daemon of `server::build_static(optimised)`,
/// and returns its path.
///
/// # Errors
/// When something does not compile, or cannot be written.
pub fn build(optimised: bool, output: &Path) -> Result<PathBuf> {
    server::build_static(optimised)?;
    write_manual()?;
    fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
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

/// Writes the manual, the shell completions and the config file to `target/manual`, where the package's description
/// looks for them.
fn write_manual() -> Result<()> {
    let mut manual = exec::cargo();
    manual.args(["run", "--quiet", "--package", "talos-pxe", "--example", "manual", "--"]);
    manual.arg(repository().join("target/manual")).current_dir(repository());
    exec::output_with_errors_shown(&mut manual).map(drop)
}
