//! `talos-pxe check`: whether it could serve, without changing or, unless asked to, sending
//! anything.

mod files;
mod network;

use std::io::{self, Write as _};

use anyhow::ensure;

use crate::cli::check::Check;
use crate::decisions::preflight::{self, Finding, Report};
use crate::edges::netlink::NEEDS_RIGHTS;
use crate::state::inspect::{Inspected, inspect};

/// Runs every check and prints what it found.
///
/// # Errors
/// When something failed, or the findings cannot be printed.
pub async fn run(check: &Check) -> anyhow::Result<()> {
    let serve = &check.serve;
    let mut checks = vec![rights()];
    checks.extend(network::checks(check).await);
    checks.push(state(check));
    checks.extend(files::checks(serve));
    let report = Report { checks };

    let mut out = io::stdout().lock();
    if check.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    let (failures, all) = (report.failures(), report.checks.len());
    ensure!(failures == 0, "could not serve: {failures} of {all} checks failed");
    Ok(())
}

fn rights() -> Finding {
    match rustix::thread::capabilities(None) {
        Ok(rights) => preflight::rights(rights.effective, NEEDS_RIGHTS),
        Err(error) => Finding::failed("rights", format!("cannot tell: {error}")),
    }
}

fn state(check: &Check) -> Finding {
    let serve = &check.serve;
    let folder = serve.state.clone().unwrap_or_else(|| serve.root.join("state"));
    match inspect(&folder) {
        Ok(Inspected::New) => Finding::ok("state", format!("{} will be made", folder.display())),
        Ok(Inspected::There) => Finding::ok("state", folder.display()),
        Ok(Inspected::Unclosed) => {
            let text = format!("{} was not closed; it is repaired at start", folder.display());
            Finding::ok("state", text)
        }
        Err(error) => Finding::failed("state", error),
    }
}
