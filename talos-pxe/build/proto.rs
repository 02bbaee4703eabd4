//! Compiles the messages of Talos's API, without `protoc`.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes the modules `common` and `machine` to cargo's output folder. The server's half is for
/// the tests, which stand in for Talos.
pub fn compile(folder: &Path) -> Result<()> {
    let files = protox::compile(["machine.proto"], [folder])
        .with_context(|| format!("cannot compile the files in {}", folder.display()))?;
    tonic_prost_build::configure()
        .compile_fds(files)
        .context("cannot write the code of Talos's API")
}
