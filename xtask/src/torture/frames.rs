//! `cargo xtask torture frames`: the tests' comparison of the XDP program with the daemon, optimised
//! and for as long as one likes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::Frames;
use crate::setup::{self, Group};
use crate::{exec, repository};

/// The harness, and its test.
const HARNESS: &str = "xdp_responder";
const TEST: &str = "generated::xdp_answers_damaged_frames_as_the_daemon_or_not";
/// Frames in one run of the test.
const CHUNK: u64 = 200_000;

/// Does it.
///
/// # Errors
/// When the program and the daemon disagree: with the frame.
pub fn frames(options: &Frames) -> Result<()> {
    setup::ensure(&[Group::Bpf])?;
    let harness = build()?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let bar = ProgressBar::new(options.rounds);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} ({eta})") {
        bar.set_style(style);
    }
    let (mut done, mut answered) = (0, 0);
    while done < options.rounds {
        let count = CHUNK.min(options.rounds - done);
        answered += run(&harness, count, seed.wrapping_add(done / CHUNK))
            .with_context(|| format!("with --seed {seed}, after {done} frames"))?;
        done += count;
        bar.inc(count);
    }
    bar.finish_and_clear();
    println!("{done} frames: {answered} answered as the daemon does, the others left alone");
    Ok(())
}

/// Runs the test on this many frames; returns how many were answered.
fn run(harness: &Path, frames: u64, seed: u64) -> Result<u64> {
    let mut test = Command::new(harness);
    test.args(["--exact", TEST, "--ignored", "--nocapture"]);
    test.env("TORTURE_FRAMES", frames.to_string()).env("TORTURE_SEED", seed.to_string());
    test.current_dir(repository().join("talos-pxe"));
    let output = exec::output(&mut test)?;
    // The harness writes the test's name on the same line first.
    let answered = output.split_once("answered ").and_then(|(_, rest)| rest.lines().next());
    let answered = answered.context("the test did not run")?;
    answered.trim().parse().with_context(|| format!("no number: {answered:?}"))
}

/// Builds the harness.
fn build() -> Result<PathBuf> {
    let mut cargo = exec::cargo();
    cargo.args(["test", "--release", "--package", "talos-pxe", "--test", HARNESS, "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics").current_dir(repository());
    let messages = exec::output_with_errors_shown(&mut cargo).context("cannot build the test")?;
    exec::executable(&messages, HARNESS).context("cargo built no test")
}
