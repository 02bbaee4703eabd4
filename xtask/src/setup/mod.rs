//! `cargo xtask setup`: finds the tools that cargo does not bring, and installs what is missing.

mod apt;
pub mod archive;
mod bpf;
mod cargo_deb;
mod coverage;
mod services;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::interrupt;

use apt::Package;
pub use cargo_deb::cargo_deb;
pub use coverage::CoverageTools;

/// Finds the tools that building and testing need, and installs what is missing.
///
/// As root on Debian or Ubuntu it installs packages with apt-get and says which and why; elsewhere
/// it prints the command to run. bpf-linker and cargo-deb go to target/tools, not to the system.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask setup            Everything.
  cargo xtask setup bpf        What compiles the XDP program.
  cargo xtask setup --check    Only report.")]
pub struct Setup {
    /// What to set up; everything when left out.
    #[arg(value_enum)]
    groups: Vec<Group>,

    /// Only report; exit with 1 when something is missing.
    #[arg(long)]
    check: bool,
}

/// Tools that are needed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// What compiles the XDP program.
    Bpf,
    /// What network-boots virtual machines.
    Lab,
    /// The clients that talos-pxe is tested with.
    Clients,
    /// What talos-pxe is compared with.
    Bench,
    /// What makes the image of a stick.
    Image,
    /// The boot files that images carry.
    Firmware,
    /// What builds container images.
    Container,
    /// What builds packages.
    Deb,
}

impl Group {
    fn packages(self) -> &'static [Package] {
        match self {
            Self::Bpf => &[],
            Self::Lab => apt::LAB,
            Self::Clients => apt::CLIENTS,
            Self::Bench => apt::BENCH,
            Self::Image => apt::IMAGE,
            Self::Firmware => apt::FIRMWARE,
            Self::Container => apt::CONTAINER,
            Self::Deb => apt::DEB,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When something is missing and cannot be installed, or `--check` finds something missing.
pub fn main(setup: &Setup) -> Result<()> {
    let groups = match setup.groups.as_slice() {
        [] => Group::value_variants(),
        groups => groups,
    };
    if !setup.check {
        ensure(groups)?;
    }
    let mut complete = true;
    let mut report = |found: bool, what: &str, why: &str| {
        println!("{} {what:<18} {why}", if found { "ok     " } else { "missing" });
        complete &= found;
    };
    for group in groups {
        if *group == Group::Bpf {
            let (found, what) = bpf::status();
            report(found, "BPF toolchain", &what);
        }
        if *group == Group::Deb {
            report(cargo_deb().exists(), "cargo-deb", "builds the package");
        }
        for package in group.packages() {
            report(package.installed(), package.name, package.why);
        }
    }
    ensure!(complete, "something is missing; `cargo xtask setup` installs it");
    Ok(())
}

/// Installs what is missing of `groups`. Takes some milliseconds when nothing is.
///
/// # Errors
/// When it cannot: the message says what to run.
pub fn ensure(groups: &[Group]) -> Result<()> {
    let packages = groups.iter().flat_map(|group| group.packages());
    apt::install(packages.filter(|package| !package.installed()))?;
    if groups.contains(&Group::Bpf) {
        bpf::ensure()?;
    }
    if groups.contains(&Group::Deb) {
        cargo_deb::ensure()?;
    }
    Ok(())
}

/// The first file of this name in the folders of PATH, or in those for system programs, which
/// PATH often lacks.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Runs a command with its output on the terminal.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    interrupt::check()?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}
