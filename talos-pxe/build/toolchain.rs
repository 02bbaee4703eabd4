//! Finds what compiles the XDP program: a rustc that has the source of its library, and a
//! bpf-linker made for the same LLVM. Used by the daemon's build script and by
//! `cargo xtask setup`, so it needs nothing but std.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bpf-linker that loads the LLVM a rustup toolchain brings, and the LLVMs it knows.
const LINKER_FOR_RUSTUP: (&str, &[u32]) = ("0.10.4", &[20, 21, 22]);

/// The bpf-linker that links the distribution's LLVM, and the LLVMs it knows.
const LINKER_FOR_DISTRIBUTION: (&str, &[u32]) = ("0.13.0", &[21, 22, 23]);

/// All that compiling for BPF needs.
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// bpf-linker.
    pub linker: PathBuf,
    /// Where the linker finds LLVM's shared library, when that is no system folder.
    pub llvm_library: Option<PathBuf>,
}

/// What a BPF toolchain lacks.
pub enum Missing {
    /// There is no rustc with the source of its library.
    Compiler,
    /// There is one, but the bpf-linker that goes with it is not installed.
    Linker(LinkerRecipe),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => write!(
                f,
                "no rustc of at least {} with its library source (rust-src)",
                env!("CARGO_PKG_RUST_VERSION")
            ),
            Self::Linker(recipe) => {
                write!(f, "no bpf-linker {} for LLVM {}", recipe.version, recipe.llvm)
            }
        }
    }
}

/// How to install the bpf-linker that goes with a compiler.
pub struct LinkerRecipe {
    /// Its release.
    pub version: &'static str,
    /// The cargo feature that chooses the LLVM.
    pub feature: String,
    /// LLVM's major version.
    pub llvm: u32,
    /// `LLVM_PREFIX` for its build, where the distribution's LLVM is used.
    pub llvm_prefix: Option<PathBuf>,
    /// The folder to install to (`cargo install --root`).
    pub root: PathBuf,
}

/// Finds a BPF toolchain: the best that is complete, else the best compiler, for which a linker
/// is to be installed. `tools` is the folder that bpf-linkers are installed under.
pub fn find(tools: &Path) -> Result<Toolchain, Missing> {
    let mut best = None;
    for compiler in rustcs().into_iter().filter_map(Compiler::examine) {
        let recipe = compiler.linker(tools);
        let linker = recipe.root.join("bin/bpf-linker");
        if linker.exists() {
            let Compiler { rustc, llvm_library, .. } = compiler;
            return Ok(Toolchain { rustc, linker, llvm_library });
        }
        best.get_or_insert(recipe);
    }
    Err(best.map_or(Missing::Compiler, Missing::Linker))
}

/// Where to look for compilers, best first: rustup's toolchains, nightly before the others,
/// then what the distribution installed.
fn rustcs() -> Vec<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".rustup")));
    let mut toolchains: Vec<(bool, OsString, PathBuf)> = home
        .and_then(|home| home.join("toolchains").read_dir().ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let name = entry.file_name();
            (!name.to_string_lossy().starts_with("nightly"), name, entry.path())
        })
        .collect();
    toolchains.sort();
    let rustup = toolchains.into_iter().map(|(_, _, path)| path.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    rustup.chain(std::env::split_paths(&path)).map(|folder| folder.join("rustc")).collect()
}

/// A rustc that can compile `core` for BPF.
struct Compiler {
    rustc: PathBuf,
    /// LLVM's major version.
    llvm: u32,
    /// The folder of the LLVM that the toolchain brings; none when it uses the distribution's.
    llvm_library: Option<PathBuf>,
}

impl Compiler {
    /// Says no to a file that is missing, without its library's source, too old, or of an LLVM
    /// that no bpf-linker knows. rustup's proxies have no source beside them and drop out too.
    fn examine(rustc: PathBuf) -> Option<Self> {
        let rustc = rustc.canonicalize().ok()?;
        let sysroot = rustc.parent()?.parent()?;
        if !sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
            return None;
        }
        let output = Command::new(&rustc).arg("-vV").output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        let field = |name| version.lines().find_map(|line| line.strip_prefix(name));
        if release(field("release: ")?)? < release(env!("CARGO_PKG_RUST_VERSION"))? {
            return None;
        }
        let (llvm, _) = release(field("LLVM version: ")?)?;
        let library = sysroot.join("lib");
        let llvm_library = library
            .read_dir()
            .ok()?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libLLVM"))
            .then_some(library);
        let compiler = Self { rustc, llvm, llvm_library };
        compiler.linker_release().1.contains(&llvm).then_some(compiler)
    }

    fn linker_release(&self) -> (&'static str, &'static [u32]) {
        match self.llvm_library {
            Some(_) => LINKER_FOR_RUSTUP,
            None => LINKER_FOR_DISTRIBUTION,
        }
    }

    fn linker(&self, tools: &Path) -> LinkerRecipe {
        let llvm = self.llvm;
        let (version, _) = self.linker_release();
        let (feature, llvm_prefix) = match self.llvm_library {
            Some(_) => (format!("rust-llvm-{llvm}"), None),
            None => (format!("llvm-{llvm}"), Some(format!("/usr/lib/llvm-{llvm}").into())),
        };
        let root = tools.join(format!("bpf-linker-{version}-{feature}"));
        LinkerRecipe { version, feature, llvm, llvm_prefix, root }
    }
}

/// The first two numbers of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
