//! `cargo xtask screenshot`: a picture of the boot menu.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::lab::Lab;
use crate::lab::accel::AccelChoice;
use crate::lab::qemu::{Firmware, Spec};
use crate::lab::root::{self, System};
use crate::lab::server::{self, Server};
use crate::setup::{self, Group};
use crate::{progress, repository};

/// Boots a virtual machine to the menu and writes its screen to a PNG file. Needs root.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask screenshot --output /tmp/menu.png")]
pub struct Screenshot {
    /// The file [default: docs/menu.png of the repository].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How QEMU runs the machine.
    #[arg(long, value_enum, default_value = "auto")]
    accel: AccelChoice,
}

/// The menu's last item: once it is on the screen all are.
const LAST_ITEM: &str = "Exit";

/// How long the menu may take.
const MENU: Duration = Duration::from_secs(120);

/// Does it.
pub fn main(screenshot: Screenshot) -> Result<()> {
    let output = screenshot.output.unwrap_or_else(|| repository().join("docs/menu.png"));
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    setup::ensure(&[Group::Bpf, Group::Lab])?;
    let lab = Lab::new()?;
    let system = System::choose()?;
    let accel = screenshot.accel.resolve()?;
    let program = server::build()?;
    progress::during("Booting to the menu", || {
        let folder = lab.dir().join("root");
        root::make(&folder, &system, None)?;
        let host = lab.host("talos-pxe")?;
        let _server = Server::start(&program, &host, ["--root".into(), folder.into_os_string()])?;
        let mut machine = lab.power_on(Spec::new("m1", Firmware::Bios, accel))?;
        machine.wait_for(LAST_ITEM, MENU)?;
        machine.screenshot(&output)
    })?;
    println!("{}", output.display());
    Ok(())
}
