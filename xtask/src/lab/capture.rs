//! A packet capture of all that passes the lab's switch.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

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

/// The whole frames so far in the capture `path`, in their order.
///
/// # Errors
/// When it cannot be read.
pub fn frames(path: &Path) -> Result<Vec<Vec<u8>>> {
    let pcap = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut frames = Vec::new();
    // A header of 24 octets, then for each frame its time, its captured and its full length. The
    // last frame may be half-written.
    let mut rest = pcap.get(24..).unwrap_or_default();
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let [.., a, b, c, d, _, _, _, _] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some((frame, tail)) = tail.split_at_checked(length) else { break };
        frames.push(frame.to_vec());
        rest = tail;
    }
    Ok(frames)
}
