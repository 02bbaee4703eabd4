//! Compiles the XDP program and embeds it into the daemon, and compiles the messages of Talos's
//! API.
//!
//! Without a BPF toolchain the daemon is built without its fast path, and a warning says so.
//! `TALOS_PXE_BPF=require` makes that an error, `TALOS_PXE_BPF=skip` leaves the program out
//! without a word.

#![expect(clippy::print_stdout, reason = "cargo reads a build script's standard output")]

mod proto;
#[allow(dead_code, reason = "xtask uses the rest")]
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};

use toolchain::Toolchain;

fn main() -> ExitCode {
    match messages().and_then(|()| embed()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn messages() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    proto::compile(&folder("CARGO_MANIFEST_DIR")?.join("proto"))
}

fn embed() -> Result<()> {
    let workspace = folder("CARGO_MANIFEST_DIR")?
        .parent()
        .context("the daemon's crate is not in a workspace")?
        .to_owned();
    let tools = workspace.join("target/tools");
    // Cargo compares times: a folder that is missing would count as changed in every build.
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;

    println!("cargo:rerun-if-env-changed=TALOS_PXE_BPF");
    println!("cargo:rerun-if-changed=build");
    for input in ["Cargo.lock", "talos-pxe-ebpf/Cargo.toml", "talos-pxe-ebpf/src", "target/tools"] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }

    let out = folder("OUT_DIR")?;
    let wish = env::var("TALOS_PXE_BPF").unwrap_or_default();
    match (wish.as_str(), toolchain::find(&tools)) {
        ("skip", _) => embed_nothing(&out),
        ("" | "require", Ok(toolchain)) => {
            let compiled = compile(&toolchain, &workspace)?;
            for (program, object) in PROGRAMS {
                let program = compiled.join(program);
                fs::copy(&program, out.join(object))
                    .with_context(|| format!("cannot copy {}", program.display()))?;
            }
            Ok(())
        }
        ("", Err(missing)) => {
            println!(
                "cargo:warning=building without the XDP fast path: {missing}; run `cargo xtask setup`"
            );
            embed_nothing(&out)
        }
        ("require", Err(missing)) => {
            bail!("cannot compile the XDP program: {missing}; run `cargo xtask setup`")
        }
        _ => bail!("TALOS_PXE_BPF={wish}: expected `require`, `skip` or nothing"),
    }
}

/// The programs, and the object files that are made of them: the second writes a log, the third
/// is only for measuring.
const PROGRAMS: [(&str, &str); 3] = [
    ("talos-pxe-ebpf", "xdp.o"),
    ("talos-pxe-log", "xdp-log.o"),
    ("talos-pxe-bench", "xdp-bench.o"),
];

/// An empty object tells the daemon that it has no XDP program.
fn embed_nothing(out: &Path) -> Result<()> {
    for (_, object) in PROGRAMS {
        let object = out.join(object);
        fs::write(&object, []).with_context(|| format!("cannot write {}", object.display()))?;
    }
    Ok(())
}

/// Compiles the programs and returns the folder of the object files.
fn compile(toolchain: &Toolchain, workspace: &Path) -> Result<PathBuf> {
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("cargo names no target")?;
    // aya takes map and program types from BTF, which bpf-linker makes from debug information.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Cstrip=none".to_owned(),
        // Packet fields are where the protocols put them; the kernel reads them whole.
        "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ]
    .join("\x1f");
    // A target folder of its own: the outer cargo holds the lock of the usual one.
    let target_folder = workspace.join("target/bpf");

    let mut cargo = Command::new(folder("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--locked", "--package=talos-pxe-ebpf"])
        .args(["--bins", "-Zbuild-std=core", "--target", target, "--target-dir"])
        .arg(&target_folder)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    if let Some(library) = &toolchain.llvm_library {
        cargo.env("LD_LIBRARY_PATH", library);
    }
    let output = cargo.output().with_context(|| format!("cannot run {cargo:?}"))?;
    ensure!(
        output.status.success(),
        "the XDP program does not compile:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(target_folder.join(target).join("release"))
}

fn folder(variable: &str) -> Result<PathBuf> {
    env::var_os(variable).map(PathBuf::from).with_context(|| format!("cargo sets no {variable}"))
}
