//! The CPU time of programs and of all that they start, also of what has ended since
//! (`perf_event_open(2)`, the software counter `task-clock`).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::FromRawFd;

use anyhow::{Context as _, Result};

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_TASK_CLOCK: u64 = 1;
/// What the counted tasks start counts, too.
const INHERIT: u64 = 1 << 1;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// The begin of `struct perf_event_attr`, as long as it was at first; the rest is zero.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// Counts from when it is made.
#[derive(Debug)]
pub struct Meter {
    /// One counter for each thread that there was then.
    counters: Vec<File>,
}

impl Meter {
    /// Begins to count the time of these processes.
    ///
    /// # Errors
    /// Without root, or when one of them has ended.
    pub fn start(processes: &[u32]) -> Result<Meter> {
        let mut counters = Vec::new();
        for process in processes {
            let folder = format!("/proc/{process}/task");
            for thread in fs::read_dir(&folder).with_context(|| format!("no {folder}"))? {
                let Some(thread) = thread?.file_name().to_str().and_then(|id| id.parse().ok())
                else {
                    continue;
                };
                counters.push(count(thread).context("cannot count the CPU time of a process")?);
            }
        }
        Ok(Meter { counters })
    }

    /// Seconds so far.
    ///
    /// # Errors
    /// Never, where it could be started.
    pub fn seconds(&mut self) -> Result<f64> {
        let mut nanoseconds = 0;
        for counter in &mut self.counters {
            let mut count = [0; 8];
            counter.read_exact(&mut count).context("cannot read a CPU time")?;
            nanoseconds += u64::from_ne_bytes(count);
        }
        Ok(nanoseconds as f64 / 1e9)
    }
}

fn count(thread: i32) -> io::Result<File> {
    let size = size_of::<Attributes>() as u32;
    let (kind, config) = (PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK);
    let attributes = Attributes { kind, size, config, flags: INHERIT, ..Attributes::default() };
    let (any_cpu, no_group) = (-1, -1);
    // SAFETY: the attributes say how long they are, and outlive the call, which only reads them.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            thread,
            any_cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    match i32::try_from(result) {
        // SAFETY: the kernel has just opened it for us alone.
        #[allow(unsafe_code)]
        Ok(counter @ 0..) => Ok(unsafe { File::from_raw_fd(counter) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_process_starts_counts_even_when_nobody_waits_for_it() {
        // The shell ignores its children, so that their time is lost to everybody else.
        let script = "trap '' CHLD; read go; sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); \
                      done'; echo done; read end";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        // Not everybody may count.
        if let Ok(mut meter) = Meter::start(&[shell.id()]) {
            let before = meter.seconds().unwrap();
            shell.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
            BufReader::new(shell.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
            let used = meter.seconds().unwrap() - before;
            assert!(used > 0.001, "{used} s");
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
