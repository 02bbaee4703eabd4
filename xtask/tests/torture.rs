//! The short form of `cargo xtask torture`.

use anyhow::{Result, ensure};
use xtask::torture::{Kill, Report, kill};

fn ten_rounds(xdp: &str) -> Result<Report> {
    rounds(xdp, None)
}

fn rounds(xdp: &str, new_clients: Option<u32>) -> Result<Report> {
    let report = kill(&Kill { rounds: 10, xdp: xdp.to_owned(), new_clients, seed: None })?;
    eprintln!("{report}");
    ensure!(report.checked > 0, "the test is blind: {report}");
    Ok(report)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn no_promise_is_broken_by_a_kill() -> Result<()> {
    let report = ten_rounds("off")?;
    ensure!(report.handed_on > 0, "no address went to another machine: {report}");
    Ok(())
}

/// Here addresses that are given back stay with their machines: the XDP program might just be
/// renewing them.
#[test]
#[ignore = "lab: cargo xtask test"]
fn no_promise_of_the_xdp_program_is_broken_by_a_kill() -> Result<()> {
    ten_rounds("native").map(drop)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn no_new_lease_and_no_role_is_lost_by_a_kill() -> Result<()> {
    let report = rounds("auto", Some(2000))?;
    ensure!(report.roles > 0, "no machine got a role: {report}");
    Ok(())
}
