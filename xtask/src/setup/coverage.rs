//! LLVM's coverage tools, of the same LLVM as the compiler's.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{apt, run};

/// Where LLVM's coverage tools are.
pub struct CoverageTools {
    folder: PathBuf,
}

impl CoverageTools {
    /// Finds the tools for the compiler that cargo uses here, or installs them: rustup's come
    /// first, the distribution's next.
    ///
    /// # Errors
    /// When there are none to be had.
    pub fn ensure() -> Result<Self> {
        let rustc = Compiler::ask()?;
        if let Some(found) = rustc.tools() {
            return Ok(found);
        }
        println!("Adding LLVM's coverage tools to the rustup toolchain");
        if run(Command::new("rustup").args(["component", "add", "llvm-tools"])).is_err() {
            apt::install(apt::llvm(rustc.llvm).into_iter())?;
        }
        rustc.tools().with_context(|| {
            format!("no llvm-profdata and llvm-cov for LLVM {}: install them", rustc.llvm)
        })
    }

    /// A call of `llvm-profdata`.
    pub fn profdata(&self) -> Command {
        Command::new(self.folder.join("llvm-profdata"))
    }

    /// A call of `llvm-cov`.
    pub fn cov(&self) -> Command {
        Command::new(self.folder.join("llvm-cov"))
    }
}

struct Compiler {
    /// Its own folder for tools.
    tools: PathBuf,
    /// LLVM's major version.
    llvm: u32,
}

impl Compiler {
    fn ask() -> Result<Self> {
        let rustc = |argument: &[&str]| -> Result<String> {
            let output = Command::new("rustc").args(argument).output();
            let output = output.context("cannot start rustc")?;
            ensure!(output.status.success(), "rustc {argument:?} failed");
            Ok(String::from_utf8(output.stdout)?)
        };
        let version = rustc(&["-vV"])?;
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
        let host = field("host: ").context("rustc names no host")?;
        let llvm = field("LLVM version: ")
            .and_then(|version| version.split('.').next()?.parse().ok())
            .context("rustc names no LLVM version")?;
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
        Ok(Self { tools: sysroot.join("lib/rustlib").join(host).join("bin"), llvm })
    }

    fn tools(&self) -> Option<CoverageTools> {
        let distribution = PathBuf::from(format!("/usr/lib/llvm-{}/bin", self.llvm));
        [self.tools.clone(), distribution]
            .into_iter()
            .find(|folder| {
                folder.join("llvm-profdata").exists() && folder.join("llvm-cov").exists()
            })
            .map(|folder| CoverageTools { folder })
    }
}
