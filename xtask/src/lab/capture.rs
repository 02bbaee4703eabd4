//! A packet capture of all that passes the lab's switch.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::process::Process;
use super::{BRIDGE, Lab};

/// A capture that goes on until it is stopped or dropped.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
}

impl Lab {
    /// Captures into the pcap file `path`, from the moment that this returns. Each packet is
    /// written when it comes.
    ///
    /// # Errors
    /// Without tcpdump, or where `path` cannot be written.
    pub fn capture(&self, path: &Path) -> Result<Capture> {
        let mut command = self.command("tcpdump");
        // Giving up root would also give up the parent-death signal.
        command.args(["-Z", "root", "-i", BRIDGE, "-n", "-U", "--immediate-mode", "-s0", "-w"]);
        command.arg(path);
        let mut tcpdump = Process::start("tcpdump", command, None)?;
        tcpdump.wait_for("listening on", Duration::from_secs(10))?;
        Ok(Capture { tcpdump })
    }
}

impl Capture {
    /// Ends the capture; the file is then complete.
    ///
    /// # Errors
    /// When tcpdump fails.
    pub fn stop(self) -> Result<()> {
        self.tcpdump.stop(Duration::from_secs(10)).map(drop)
    }
}
