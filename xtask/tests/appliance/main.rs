//! The whole appliance: real firmware, kernels and clients against the daemon as users start it.

mod boots;
mod cluster;
mod configs;
mod inventory;
mod legacy;
mod menu;
mod records;
mod refusals;
mod rights;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::lab::accel::AccelChoice;
use xtask::lab::qemu::{Firmware, Machine, Spec};
use xtask::lab::root::{self, Role, System};
use xtask::lab::server::{self, Server};
use xtask::lab::{Host, Lab, guest::Guest};

/// For what takes a machine's whole boot, several of them emulated on a slow computer.
const BOOT: Duration = Duration::from_secs(300);
/// For what takes seconds.
const SOON: Duration = Duration::from_secs(60);

/// Spares the 10 s in which the daemon asks for a DHCP server where there is none.
const SERVER: &[&str] = &["--mode", "server"];

/// The daemon in a lab.
struct Appliance {
    server: Server,
    host: Host,
}

impl Appliance {
    /// Starts it with files that give every machine `role`, or show the menu without one.
    fn start(lab: &Lab, role: Option<Role>, flags: &[&str]) -> Result<Appliance> {
        let folder = lab.dir().join("root");
        // Not Talos, even where its files are: only the lab's guest says what it got.
        root::make(&folder, &System::Guest(Guest::make()?), role)?;
        Appliance::serve(lab, &folder, flags)
    }

    /// Starts it with the files of `folder`.
    fn serve(lab: &Lab, folder: &Path, flags: &[&str]) -> Result<Appliance> {
        let host = lab.host("talos-pxe")?;
        let root = folder.to_str().context("a folder's name is no text")?;
        let flags = ["--root", root].into_iter().chain(flags.iter().copied());
        Ok(Appliance { server: Server::start(&server::build()?, &host, flags)?, host })
    }

    /// Waits until a machine has booted, and checks that it got the config of `role`.
    fn booted(&mut self, machine: &mut Machine, role: Role) -> Result<()> {
        let name = machine.name().to_owned();
        let log = |appliance: &mut Appliance| {
            format!("{name} did not boot; talos-pxe's log:\n{}", appliance.server.process().text())
        };
        let booted = machine.wait_for("lab: booted", BOOT).with_context(|| log(self))?;
        let config = machine.serial().find("lab: config").context("it says nothing of a config")?;
        let wanted = format!("lab: config sha256 {} ", role.config_sha256());
        ensure!(config.text.contains(&wanted), "{name} got {:?}, not {wanted:?}", config.text);
        eprintln!("{name} booted in {:.1?}", booted.at);
        Ok(())
    }
}

/// Powers a machine on, run by KVM where that works.
fn power_on(lab: &Lab, name: &str, firmware: Firmware) -> Result<Machine> {
    lab.power_on(Spec::new(name, firmware, AccelChoice::Auto.resolve()?))
}
