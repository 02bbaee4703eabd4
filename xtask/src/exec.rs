//! Runs a command to its end.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::interrupt;

/// Runs `command` without input and returns what it wrote to its standard output. Its errors are
/// kept for the failure message.
///
/// # Errors
/// When it cannot start, does not exit with 0, or the user interrupts it.
pub fn output(command: &mut Command) -> Result<String> {
    wait(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// As [`output`], with its errors, progress for example, on the terminal.
///
/// # Errors
/// As [`output`].
pub fn output_with_errors_shown(command: &mut Command) -> Result<String> {
    wait(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()))
}

/// The cargo that runs us, without what it told us of ourselves: the build of a library that reads
/// that would begin anew whenever it is another's.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (variable, _) in std::env::vars_os() {
        let name = variable.as_encoded_bytes();
        if name.starts_with(b"CARGO_PKG_") || name.starts_with(b"CARGO_MANIFEST_") {
            cargo.env_remove(variable);
        }
    }
    cargo
}

/// The program of the target `name`, according to cargo's messages in JSON.
pub fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message.pointer("/target/name").is_some_and(|target| target == name))
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
}

fn wait(command: &mut Command) -> Result<String> {
    let child = command.spawn().map_err(|error| cannot_start(command, &error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (sender, ended) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    loop {
        match ended.recv_timeout(Duration::from_millis(50)) {
            Ok(output) => return judge(command, output.context("cannot read its output")?),
            Err(RecvTimeoutError::Disconnected) => bail!("lost {}", show(command)),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(interrupted) = interrupt::check() {
                    if let Some(pid) = pid {
                        let _ = kill_process(pid, Signal::TERM);
                        let _ = ended.recv();
                    }
                    return Err(interrupted.into());
                }
            }
        }
    }
}

fn judge(command: &Command, output: Output) -> Result<String> {
    // Ctrl-C reaches the child too: its failure is then no news.
    interrupt::check()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", show(command), output.status, errors.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote no text", show(command)))
}

/// The error of a command that did not start.
pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => {
            anyhow!("{program} is not installed; `cargo xtask setup` installs what is missing")
        }
        _ => anyhow!("cannot start {program}: {error}"),
    }
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
