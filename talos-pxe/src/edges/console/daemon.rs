//! The daemon that the console starts: this same program, its log, and its end.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tracing::warn;

use crate::text::plain;

/// How long the daemon may take to give its lease back and to store what it knows.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Where the log goes: a terminal, a file, or nowhere.
#[derive(Clone, Debug, Default)]
pub struct Log(Option<Arc<File>>);

impl Log {
    /// Opens a terminal, or a file to append to.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        // A terminal that somebody has stopped must not stop the daemon with it: lines are lost.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).custom_flags(flags).mode(0o600).open(path)?;
        Ok(Self(Some(Arc::new(file))))
    }

    /// Writes a line.
    pub fn line(&self, line: &str) {
        if let Some(file) = &self.0 {
            let _ = file.as_ref().write_all(format!("{}\n", plain(line)).as_bytes());
        }
    }
}

/// What the daemon does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It logged this.
    Line(String),
    /// It ended: what it said, or how.
    Ended(String),
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    process: Arc<AsyncFd<OwnedFd>>,
    news: mpsc::Receiver<News>,
}

impl Daemon {
    /// Starts it with these flags of `serve` on an interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start(flags: &[OsString], interface: &str, log: Log) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(&program);
        command.arg("serve").args(flags).arg(format!("--if={interface}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: between fork and exec there is one system call, and nothing is allocated.
        #[allow(unsafe_code)]
        unsafe {
            // Without a console nobody would know of it, and it would hold the ports of the next.
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::NONBLOCK)?;
        // SAFETY: the descriptor stays open until it is dropped, with the `AsyncFd`.
        #[allow(unsafe_code)]
        let process = Arc::new(unsafe { AsyncFd::register(process) }?);
        let stderr = child.stderr.take().context("it has no log")?;
        let stderr = pipe::Receiver::from_owned_fd(stderr.into())?;
        let (tell, news) = mpsc::channel(64);
        tokio::spawn(follow(child, Arc::clone(&process), stderr, log, tell));
        Ok(Self { process, news })
    }

    /// Waits for what it does next. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> News {
        self.news.recv().await.unwrap_or_else(|| News::Ended("it ended".to_owned()))
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            // It may just have ended.
            let _ = pidfd_send_signal(self.process.get_ref(), signal);
            let ended = async { while !matches!(self.next().await, News::Ended(_)) {} };
            if tokio::time::timeout(STOP_LIMIT, ended).await.is_ok() {
                return;
            }
        }
    }
}

async fn follow(
    mut child: Child,
    process: Arc<AsyncFd<OwnedFd>>,
    stderr: pipe::Receiver,
    log: Log,
    tell: mpsc::Sender<News>,
) {
    let mut stderr = BufReader::new(stderr);
    let mut cause = None;
    let mut line = Vec::new();
    while matches!(stderr.read_until(b'\n', &mut line).await, Ok(1..)) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        log.line(&text);
        // As `main` and clap begin the line that says why they end.
        let said = ["talos-pxe: ", "error: "].iter().find_map(|start| text.strip_prefix(start));
        cause = said.map(str::to_owned).or(cause);
        if !text.is_empty() {
            // Only the last line matters, and that one is not last while others wait.
            let _ = tell.try_send(News::Line(text));
        }
    }
    if let Err(error) = process.readable().await {
        warn!(%error, "cannot wait for the daemon");
    }
    let how = match child.wait() {
        Ok(status) => format!("it ended: {status}"),
        Err(error) => format!("it ended: {error}"),
    };
    let ended = cause.unwrap_or(how);
    log.line(&format!("talos-pxe console: the daemon has ended: {ended}"));
    let _ = tell.send(News::Ended(ended)).await;
}
