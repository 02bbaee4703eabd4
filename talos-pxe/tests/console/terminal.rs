//! A pseudo-terminal, and `talos-pxe console` on it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// A terminal as a person has it: a screen to read, and keys.
pub struct Terminal {
    keys: File,
    /// The end that the console opens by its path, kept open so that it is never hung up.
    line: OwnedFd,
    screens: mpsc::Receiver<String>,
    last: String,
}

impl Terminal {
    pub fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        let keys = File::from(pty.master);
        let mut shown = keys.try_clone().unwrap();
        let (send, screens) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            while let Ok(count @ 1..) = shown.read(&mut buffer) {
                text.push_str(str::from_utf8(&buffer[..count]).unwrap());
                // A screen ends where the rest of the terminal is cleared.
                while let Some((screen, rest)) = text.split_once("\x1b[J") {
                    let plain = screen.replace("\x1b[K", "").replace("\x1b[1m", "");
                    if send.send(plain.replace("\x1b[0m", "")).is_err() {
                        return;
                    }
                    text = rest.to_owned();
                }
            }
        });
        Self { keys, line: pty.slave, screens, last: String::new() }
    }

    pub fn path(&self) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", self.line.as_raw_fd())).unwrap()
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen shows all of this.
    pub fn wait_for(&mut self, texts: &[&str]) -> &str {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(screen) = self.screens.recv_timeout(left) else {
                panic!("no {texts:?} on the screen:\n{}", self.last);
            };
            self.last = screen;
            if texts.iter().all(|text| self.last.contains(text)) {
                return &self.last;
            }
        }
    }

    /// Whether keys are echoed and wait for a line's end, as in a shell.
    pub fn is_as_before(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }
}

/// A console that runs, and ends with the test.
pub struct Console(Child);

impl Console {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Sends a signal to the daemon that it runs.
    pub fn signal_daemon(&self, signal: Signal) {
        let console = self.0.id();
        let children = format!("/proc/{console}/task/{console}/children");
        let daemon = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(daemon).unwrap(), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
