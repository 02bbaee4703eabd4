//! The short form of `cargo xtask torture`.

use anyhow::{Result, ensure};
use xtask::torture::{Kill, kill};

#[test]
#[ignore = "lab: cargo xtask test"]
fn no_promise_is_broken_by_a_kill() -> Result<()> {
    let report = kill(&Kill { rounds: 10, xdp: "auto".to_owned(), seed: None })?;
    eprintln!("{report}");
    ensure!(report.handed_on > 0 && report.checked > 0, "the test is blind: {report}");
    Ok(())
}
