//! A running program of the lab, with what it wrote.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use crate::exec::cannot_start;
use crate::interrupt;
use crate::lab::transcript::{Line, Transcript, Writer};

/// How often a wait looks at the interrupt flag and at the process.
const TICK: Duration = Duration::from_millis(50);

/// Gets all that a process writes, as it is, when it comes.
pub type Tee = Box<dyn FnMut(&[u8]) + Send>;

/// A running program and its process group: killed and reaped on drop.
///
/// Its standard output and error become one transcript of lines without terminal escape
/// sequences. Like each command of a namespace it dies with the thread that started it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    started: Instant,
    transcript: Arc<Transcript>,
}

impl Process {
    /// Starts `command`, called `name` in messages. `tee` sees its output as it comes.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &str, mut command: Command, tee: Option<Tee>) -> Result<Process> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C on the terminal is for us alone; and a group can be killed as one.
        command.process_group(0);
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| cannot_start(&command, &error))?;
        let transcript = Arc::new(Transcript::default());
        let tee = Arc::new(Mutex::new(tee));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as _),
            child.stderr.take().map(|err| Box::new(err) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let (writer, tee) = (transcript.writer(), Arc::clone(&tee));
            thread::spawn(move || read(stream, writer, &tee, started));
        }
        Ok(Process { name: name.to_owned(), child, started, transcript })
    }

    /// The time since its start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input; none once it was taken.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The first line so far that contains `text`.
    pub fn find(&self, text: &str) -> Option<Line> {
        self.transcript.lock().find(text)
    }

    /// Its lines from number `start`, counted from 0, that are complete.
    pub fn lines_from(&self, start: usize) -> Vec<Line> {
        self.transcript.lock().complete_from(start)
    }

    /// All that it wrote so far.
    pub fn text(&self) -> String {
        self.transcript.lock().text()
    }

    /// Waits until a line contains `text`, now or in what it wrote before.
    ///
    /// # Errors
    /// With its last lines, when it ends first or `timeout` passes first.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<Line> {
        let deadline = Instant::now() + timeout;
        loop {
            let state = self.transcript.lock();
            if let Some(line) = state.find(text) {
                return Ok(line);
            }
            if state.writers == 0 {
                drop(state);
                bail!("{} ended without {text:?}{}", self.name, self.tail());
            }
            if Instant::now() >= deadline {
                drop(state);
                bail!("no {text:?} from {} in {timeout:?}{}", self.name, self.tail());
            }
            self.transcript.wait(state, TICK);
            interrupt::check()?;
        }
    }

    /// Waits for its end; all that it wrote is then in the transcript.
    ///
    /// # Errors
    /// With its last lines, when it runs for longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            let state = self.transcript.lock();
            let ended = state.writers == 0;
            if !ended {
                self.transcript.wait(state, TICK);
            } else {
                drop(state);
                thread::sleep(Duration::from_millis(1));
            }
            // Also while it writes: what it started may keep its output open.
            if let Some(status) = self.ended()?
                && ended
            {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {timeout:?}{}", self.name, self.tail());
            }
            interrupt::check()?;
        }
    }

    /// Returns while it runs, or while not all that it wrote is in the transcript.
    ///
    /// # Errors
    /// With its last lines, once it ended.
    pub fn check(&mut self) -> Result<()> {
        if self.transcript.lock().writers > 0 {
            return Ok(());
        }
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} ended ({status}){}", self.name, self.tail())),
        }
    }

    /// Asks it to end, as Ctrl-C would, and waits until it did.
    ///
    /// # Errors
    /// As [`Process::wait`], and when it fails.
    pub fn stop(mut self, timeout: Duration) -> Result<String> {
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::INT).with_context(|| format!("cannot stop {}", self.name))?;
        }
        let status = self.wait(timeout)?;
        if !status.success() && status.signal() != Some(Signal::INT.as_raw()) {
            bail!("{} failed ({status}){}", self.name, self.tail());
        }
        Ok(self.text())
    }

    /// Its status, once it ended; what it started ends with it.
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Until it is reaped no other process or group can have its number.
        if let Some(pid) = self.pid()
            && matches!(waitid(WaitId::Pid(pid), look), Ok(Some(_)))
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Stops it where it is (SIGSTOP), as a computer that has too much to do might.
    ///
    /// # Errors
    /// Never while it runs.
    pub fn freeze(&self) -> Result<()> {
        let pid = self.pid().context("no process")?;
        kill_process_group(pid, Signal::STOP).with_context(|| format!("cannot stop {}", self.name))
    }

    /// Kills it (SIGKILL), with what it started.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let (Ok(None), Some(pid)) = (self.ended(), self.pid()) {
            let _ = kill_process_group(pid, Signal::KILL);
            self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Its last lines, for the end of an error message.
    fn tail(&self) -> String {
        let state = self.transcript.lock();
        let last = state.lines.iter().filter(|line| !line.text.trim().is_empty());
        let mut last: Vec<_> = last.rev().take(25).map(|line| line.text.as_str()).collect();
        last.reverse();
        if last.is_empty() {
            return "; it wrote nothing".to_owned();
        }
        format!("; its last lines:\n  {}", last.join("\n  "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Reads a stream to its end.
fn read(mut stream: impl Read, mut writer: Writer, tee: &Mutex<Option<Tee>>, started: Instant) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let chunk = buffer.get(..count).unwrap_or_default();
        writer.write(chunk, started.elapsed());
        if let Some(tee) = tee.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            tee(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("the shell", command, None).unwrap()
    }

    #[test]
    fn an_unfinished_line_is_found() {
        let mut process = shell("printf 'name: '; read name; echo \"hello $name\"");
        let prompt = process.wait_for("name: ", SOON).unwrap();
        assert!(!prompt.complete);
        drop(process.take_stdin());
        assert!(process.wait(SOON).unwrap().success());
        assert_eq!(process.text(), "name: hello \n");
    }

    #[test]
    fn a_failure_shows_the_last_lines() {
        let mut process = shell("echo one; echo two >&2; exit 3");
        let error = process.wait_for("three", SOON).unwrap_err().to_string();
        assert!(error.starts_with("the shell ended without \"three\""), "{error}");
        assert!(error.contains("\n  one") && error.contains("\n  two"), "{error}");
    }

    #[test]
    fn all_that_it_wrote_is_there_at_its_end() {
        let mut process = shell("seq 100000");
        process.wait(SOON).unwrap();
        assert!(process.text().ends_with("\n100000\n"));
    }

    #[test]
    fn what_it_started_ends_with_it() {
        // The child keeps the output open: only its end closes it.
        let mut process = shell("sleep 1000 & echo started");
        process.wait_for("started", SOON).unwrap();
        process.wait(SOON).unwrap();
        assert!(process.wait_for("more", SOON).unwrap_err().to_string().contains("ended without"));
    }
}
