//! What cargo alone cannot do: tools, the lab, tests and benchmarks.
//!
//! One file a subcommand. The [`lab`] is a library of its own, which the end-to-end tests in
//! `tests/` use too.

#![allow(clippy::print_stdout, reason = "the output of a command goes to the terminal")]

mod bench;
mod console;
pub mod container;
pub mod deb;
pub mod exec;
pub mod image;
pub mod interrupt;
pub mod lab;
pub mod load;
pub mod progress;
mod run;
mod screenshot;
pub mod setup;
mod test;
pub mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Builds, runs and tests talos-pxe.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Bench),
    Image(image::Image),
    Container(container::Container),
    Deb(deb::Deb),
    Run(run::Run),
    Screenshot(screenshot::Screenshot),
    Setup(setup::Setup),
    Test(test::Test),
    Torture(torture::Torture),
}

/// Parses the command line and runs the subcommand. Exits with 0 when it did its work, 1 when it
/// failed, 2 on wrong usage, and 130 when it was interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = interrupt::catch().and_then(|()| match cli.command {
        Command::Bench(bench) => bench::main(&bench),
        Command::Image(image) => image::main(image),
        Command::Container(container) => container::main(&container),
        Command::Deb(deb) => deb::main(&deb),
        Command::Run(run) => run::main(run),
        Command::Screenshot(screenshot) => screenshot::main(screenshot),
        Command::Setup(setup) => setup::main(&setup),
        Command::Test(test) => test::main(&test),
        Command::Torture(torture) => torture::main(&torture),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<interrupt::Interrupted>() => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line, for what documents or checks it.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// The top folder of the repository.
pub fn repository() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(PathBuf::from).unwrap_or(xtask)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
