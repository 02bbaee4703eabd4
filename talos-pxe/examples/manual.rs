//! Writes the manual pages, the shell completions and a config file to a folder, from the command
//! line itself.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use talos_pxe::cli::{Cli, config};

fn main() -> Result<()> {
    let folder: PathBuf = env::args_os().nth(1).context("name a folder")?.into();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let command = <Cli as CommandFactory>::command();
    clap_mangen::generate_to(command.clone(), &folder)?;
    fs::write(folder.join("talos-pxe.toml"), config::template())?;
    completions(command, &folder)
}

fn completions(mut command: clap::Command, folder: &Path) -> Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "talos-pxe", folder)?;
    }
    Ok(())
}
