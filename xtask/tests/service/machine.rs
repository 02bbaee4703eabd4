//! A machine that systemd runs, in namespaces of this one: the real unit in its real sandbox.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::lab::process::Process;
use xtask::lab::{Host, Lab};

use crate::SOON;

/// Ends with all that runs on it.
pub struct Machine {
    process: Option<Process>,
    folder: PathBuf,
    group: String,
}

impl Machine {
    /// Starts it with the network of `host`. It installs `package`, starts the service with the
    /// files of the lab's folder `root`, and says what it finds.
    pub fn start(lab: &Lab, host: &Host, package: &Path) -> Result<Machine> {
        let folder = lab.dir().to_owned();
        for (name, script) in
            [("machine.sh", include_str!("machine.sh")), ("probe.sh", include_str!("probe.sh"))]
        {
            fs::write(folder.join(name), script)?;
        }
        let group = format!("talos-pxe-test-{}", std::process::id());
        let mut command = host.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "sh"]);
        command.arg(folder.join("machine.sh")).args([&folder, package]).arg(&group);
        let process = Some(host.start(command)?);
        Ok(Machine { process, folder, group })
    }

    /// Waits until it says this, and returns the line.
    pub fn says(&mut self, text: &str) -> Result<String> {
        Ok(self.process()?.wait_for(text, SOON)?.text)
    }

    /// Checks that it has said this.
    pub fn said(&mut self, text: &str) -> Result<()> {
        let process = self.process()?;
        let log = process.text();
        process.find(text).with_context(|| format!("no {text:?} in:\n{log}")).map(drop)
    }

    /// Lets it stop the service.
    pub fn go_on(&mut self) -> Result<()> {
        let mut input = self.process()?.take_stdin().context("its input was taken")?;
        Ok(input.write_all(b"\n")?)
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("it has ended")
    }
}

impl Drop for Machine {
    /// Its processes end with the first; the control groups are then empty, and stay.
    fn drop(&mut self) {
        self.process = None;
        let mut tidy = Command::new("unshare");
        tidy.args(["--mount", "sh", "-c"]);
        tidy.arg(
            "mount -t cgroup2 none \"$0\" && cd \"$0/$1\" && echo 1 >cgroup.kill
             for _ in 1 2 3 4 5 6 7 8 9 10; do
                 find \"$0/$1\" -depth -type d -exec rmdir {} + && break
                 sleep 0.1
             done",
        );
        let _ = tidy.arg(self.folder.join("cgroup")).arg(&self.group).output();
    }
}
