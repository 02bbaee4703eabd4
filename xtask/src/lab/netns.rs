//! Network namespaces without a name.
//!
//! A namespace lives as long as a process is in it or a file descriptor holds it open. Here only
//! a descriptor does, so nothing is mounted, and nothing can stay when this process ends, however
//! it ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace, held by a file descriptor.
#[derive(Clone, Debug)]
pub struct Netns {
    fd: Arc<OwnedFd>,
}

impl Netns {
    /// A new namespace; its loopback is up.
    ///
    /// # Errors
    /// Without the right to make one.
    pub fn new() -> Result<Netns> {
        let fd = own_thread(|| {
            // SAFETY: this only changes the network namespace of a thread that ends at once. Its
            // file descriptors stay shared, which is what the rule is about.
            #[allow(unsafe_code)]
            unsafe {
                unshare_unsafe(UnshareFlags::NEWNET)?;
            }
            File::open("/proc/thread-self/ns/net")
        })
        .context("cannot make a network namespace; the lab needs root")?;
        let netns = Netns { fd: Arc::new(fd.into()) };
        crate::exec::output(netns.command("ip").args(["link", "set", "lo", "up"]))?;
        Ok(netns)
    }

    /// A path that names the namespace while this value lives, as `ip link set X netns` takes it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", getpid(), self.fd.as_raw_fd())
    }

    /// Its number: that in the target of `/proc/<pid>/ns/net` of the processes inside.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn id(&self) -> Result<u64> {
        Ok(rustix::fs::fstat(&self.fd).context("cannot look at a network namespace")?.st_ino)
    }

    /// A command that will run inside. It is killed when the thread that starts it ends, so also
    /// when this process is killed. Programs that it starts in turn have no such tie.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let (fd, parent) = (Arc::clone(&self.fd), getpid());
        // SAFETY: the closure only makes system calls, and touches no memory but its own.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || enter_and_die_with(&fd, parent));
        }
        command
    }

    /// Runs `work` on a thread inside. What it opens, sockets for example, stays inside wherever
    /// it is used later.
    ///
    /// # Errors
    /// Without the right to enter, and those of `work`.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        own_thread(|| {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the network namespace")?;
            work()
        })
    }
}

/// Runs between fork and exec, in the child.
fn enter_and_die_with(netns: &OwnedFd, parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before the line above sends no signal.
    if getppid() != Some(parent) {
        return Err(Errno::SRCH.into());
    }
    Ok(move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Runs `work` on a thread that ends with it, because a thread's namespace cannot be put back
/// without the right to enter the old one.
fn own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
