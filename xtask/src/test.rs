//! `cargo xtask test`: all tests, those that match, or those that need neither root nor QEMU.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::setup::{self, CoverageTools, Group};
use crate::{exec, interrupt, repository};

/// Runs the tests.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                 All, as root: network namespaces and virtual machines too.
  cargo xtask test --quick         Those that need neither root nor QEMU.
  cargo xtask test dhcp            Those with \"dhcp\" in their name.
  cargo xtask test --coverage      All, and a report in out/coverage/index.html.")]
pub struct Test {
    /// Only tests with this in their name.
    pattern: Option<String>,

    /// Leave out the tests that need root or QEMU.
    #[arg(long)]
    quick: bool,

    /// Write an HTML report of the lines that the tests ran to out/coverage/.
    #[arg(long)]
    coverage: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When a test fails, or none matches the pattern.
pub fn main(test: &Test) -> Result<()> {
    if !test.quick {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the tests make network namespaces: run them as root, or leave those out with --quick"
        );
        let groups = [Group::Bpf, Group::Lab, Group::Clients, Group::Image];
        setup::ensure(&[&groups[..], &[Group::Container, Group::Deb]].concat())?;
    }
    let coverage = test.coverage.then(Coverage::start).transpose()?;

    let mut tally = Tally::default();
    let mut passed = true;
    for harness in harnesses(test) {
        let mut cargo = cargo();
        cargo.args(["test", "--no-fail-fast"]).args(harness);
        if let Some(coverage) = &coverage {
            coverage.instrument(&mut cargo);
        }
        passed &= relay(&mut cargo, &mut tally)?;
    }
    if let Some(coverage) = coverage {
        coverage.report()?;
    }
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    ensure!(passed, "not all tests passed");
    if let Some(pattern) = &test.pattern {
        ensure!(tally.passed > 0, "no test has \"{pattern}\" in its name");
    }
    Ok(())
}

/// The arguments of each `cargo test`. The lab's tests run one at a time: each starts virtual
/// machines that take a core or more.
fn harnesses(test: &Test) -> Vec<Vec<OsString>> {
    let run = |packages: &[&str], options: &[&str]| {
        let pattern = test.pattern.iter().map(String::as_str);
        packages
            .iter()
            .copied()
            .chain(["--"])
            .chain(pattern)
            .chain(options.iter().copied())
            .map(OsString::from)
            .collect()
    };
    if test.quick {
        return vec![run(&["--workspace"], &[])];
    }
    vec![
        run(&["--workspace", "--exclude=xtask"], &["--include-ignored"]),
        run(&["--package=xtask"], &["--include-ignored", "--test-threads=1"]),
    ]
}

/// What the test harnesses counted.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds a harness's closing line, such as `test result: ok. 3 passed; 0 failed; ...`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| {
            counts
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
    }
}

/// Runs `cargo test`, copies its output and counts. Says whether it succeeded.
fn relay(cargo: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut output = BufReader::new(child.stdout.take().context("cargo has no output")?);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        io::stdout().write_all(&line)?;
        tally.add(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    let status = child.wait()?;
    interrupt::check()?;
    Ok(status.success())
}

fn cargo() -> Command {
    let mut cargo = exec::cargo();
    cargo.current_dir(repository());
    cargo
}

/// A run of tests that notes which lines it ran.
struct Coverage {
    tools: CoverageTools,
    /// A target folder of its own: instrumented code is built apart from the usual one.
    target: PathBuf,
    profiles: PathBuf,
}

impl Coverage {
    fn start() -> Result<Self> {
        let target = repository().join("target/coverage");
        let profiles = target.join("profiles");
        if profiles.exists() {
            fs::remove_dir_all(&profiles).context("cannot remove the profiles of the last run")?;
        }
        Ok(Self { tools: CoverageTools::ensure()?, target, profiles })
    }

    fn instrument(&self, cargo: &mut Command) {
        cargo
            .env("RUSTFLAGS", "-Cinstrument-coverage")
            .env("CARGO_TARGET_DIR", &self.target)
            .env("LLVM_PROFILE_FILE", self.profiles.join("%p-%m.profraw"));
    }

    /// Writes the report to `out/coverage/`.
    fn report(&self) -> Result<()> {
        let merged = self.target.join("merged.profdata");
        let mut merge = self.tools.profdata();
        merge.args(["merge", "--sparse"]).args(files(&self.profiles)?).arg("-o").arg(&merged);
        succeed(&mut merge)?;

        let out = repository().join("out/coverage");
        let mut show = self.tools.cov();
        show.args(["show", "--format=html", "--ignore-filename-regex=/\\.cargo/|/rustc/|/tests/"])
            .arg(format!("--instr-profile={}", merged.display()))
            .arg(format!("--output-dir={}", out.display()));
        for program in self.programs()? {
            show.arg("--object").arg(program);
        }
        succeed(&mut show)?;
        println!("\nCoverage report: {}", out.join("index.html").display());
        Ok(())
    }

    /// The instrumented test programs, and the daemon.
    fn programs(&self) -> Result<Vec<PathBuf>> {
        let mut cargo = cargo();
        self.instrument(&mut cargo);
        cargo.args(["test", "--workspace", "--no-run", "--message-format=json"]);
        let output = cargo.stderr(Stdio::null()).output().context("cannot start cargo")?;
        ensure!(output.status.success(), "cannot list the test programs");
        let messages = String::from_utf8(output.stdout)?;
        Ok(messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
            .collect())
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).context("the tests left no profiles")?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let program = command.get_program().display();
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_closing_lines() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; \
             finished in 0.58s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in 1.03s",
        ] {
            tally.add(line);
        }
        assert_eq!((tally.passed, tally.failed), (5, 1));
    }
}
