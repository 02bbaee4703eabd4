//! What cargo alone cannot do: tools, the lab, tests and benchmarks. One file a subcommand.

#![allow(clippy::print_stdout, reason = "the output of a command goes to the terminal")]

pub mod setup;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and tests talos-pxe.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Setup(setup::Setup),
    Test(test::Test),
}

/// Parses the command line and runs the subcommand. Exits with 0 when it did its work, 1 when it
/// failed, 2 on wrong usage.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(setup) => setup::main(&setup),
        Command::Test(test) => test::main(&test),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top folder of the repository.
pub fn repository() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(PathBuf::from).unwrap_or(xtask)
}
