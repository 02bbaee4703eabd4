//! A packet capture of all that passes the lab's switch.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

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

/// The Ethernet frames of a complete capture, in their order.
///
/// # Errors
/// When `path` cannot be read, or is no capture of this machine's tcpdump: little endian, not
/// pcapng.
pub fn frames(path: &Path) -> Result<Vec<Vec<u8>>> {
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (header, mut rest) = file.split_first_chunk::<24>().context("no pcap header")?;
    ensure!(header.starts_with(&0xa1b2_c3d4_u32.to_le_bytes()), "no little-endian pcap file");
    let mut frames = Vec::new();
    // Seconds, microseconds, octets that follow, octets on the wire.
    while let Some((record, after)) = rest.split_first_chunk::<16>() {
        let (words, _) = record.as_chunks::<4>();
        let length = words.get(2).map_or(0, |word| u32::from_le_bytes(*word));
        let (frame, after) =
            after.split_at_checked(usize::try_from(length)?).context("a packet is cut short")?;
        frames.push(frame.to_vec());
        rest = after;
    }
    ensure!(rest.is_empty(), "the last packet is cut short");
    Ok(frames)
}
