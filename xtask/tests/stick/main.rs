//! The image of a stick: it boots, machines boot from it, and it forgets nothing.

mod boots;
#[path = "../support/exchange.rs"]
mod exchange;
mod plug;
mod stick;
#[allow(dead_code, reason = "the tests of bootstrapping use the rest")]
#[path = "../support/talos.rs"]
mod talos;

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::exec;

/// For what takes a machine's whole boot, emulated on a slow computer.
const BOOT: Duration = Duration::from_secs(300);
/// For what takes seconds.
const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "lab: cargo xtask test"]
fn two_builds_are_the_same_octet_by_octet() -> Result<()> {
    let first = stick::image()?;
    let folder = tempfile::tempdir_in(xtask::target())?;
    let again = folder.path().join("again.img");
    stick::build(&again)?;
    exec::output(Command::new("cmp").args([first, &again]))?;
    // The sum beside it is what the usual tool expects.
    let mut check = Command::new("sha256sum");
    check.args(["--check", "again.img.sha256"]).current_dir(folder.path());
    exec::output(&mut check)?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&again)?.permissions());
    ensure!(mode & 0o077 == 0, "others may read the machine configs in an image");
    Ok(())
}
