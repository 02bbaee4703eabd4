//! The stick of these tests, plugged into a machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use xtask::exec;
use xtask::image::{self, Image};
use xtask::lab::accel::Accel;
use xtask::lab::guest::Guest;
use xtask::lab::qemu::{By, Firmware, Machine, Spec};
use xtask::lab::root::{self, Role, System};
use xtask::lab::{Host, Lab, server};

use crate::talos::Cluster;
use crate::{BOOT, SOON};

/// What machines that boot from the stick become.
pub const ROLE: Role = Role::Worker;

/// The image, a cluster whose machines it administers, and the folder that was put onto it.
struct Made {
    daemon: PathBuf,
    image: PathBuf,
    cluster: Cluster,
}

/// Made once for all tests.
fn made() -> Result<&'static Made> {
    static MADE: OnceLock<Result<Made>> = OnceLock::new();
    let make = || {
        let root = root();
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        root::make(&root, &System::Guest(Guest::make()?), Some(ROLE))?;
        let cluster = Cluster::new()?;
        fs::write(root.join("assets/talosconfig"), cluster.talosconfig()?)?;
        let daemon = server::build_static(false)?;
        let image = xtask::target().join("lab/stick.img");
        build_with(&daemon, &image)?;
        Ok(Made { daemon, image, cluster })
    };
    MADE.get_or_init(make).as_ref().map_err(|error| anyhow!("{error:#}"))
}

fn root() -> PathBuf {
    xtask::target().join("lab/stick")
}

/// The image with the lab's own guest on it.
pub fn image() -> Result<&'static Path> {
    Ok(&made()?.image)
}

/// The cluster whose talosconfig is on the stick.
pub fn cluster() -> Result<&'static Cluster> {
    Ok(&made()?.cluster)
}

/// Builds such an image once more.
pub fn build(out: &Path) -> Result<()> {
    build_with(&made()?.daemon, out)
}

fn build_with(daemon: &Path, out: &Path) -> Result<()> {
    let image = Image {
        assets: Some(root()),
        out: Some(out.to_owned()),
        // Without a network between the two nobody could ask it from outside.
        flags: vec!["--admin=0.0.0.0:9090".into()],
        ..Image::default()
    };
    let report = image::build(&image, daemon)?;
    eprintln!("{report}");
    Ok(())
}

/// A machine that runs from a stick, and a desk from which it is asked.
pub struct Stick<'a> {
    lab: &'a Lab,
    desk: Host,
    image: PathBuf,
    by: By,
    /// Where its admin API is.
    admin: String,
    /// The machine; powered off on drop.
    pub machine: Machine,
}

impl<'a> Stick<'a> {
    /// Plugs a new stick in and powers the machine on. It is asked from `desk`.
    pub fn plug(lab: &'a Lab, by: By, desk: &str) -> Result<Stick<'a>> {
        let image = lab.dir().join("stick.img");
        let mut copy = Command::new("cp");
        exec::output(copy.arg("--sparse=always").arg(self::image()?).arg(&image))?;
        let host = lab.host("desk")?;
        host.add_address(desk)?;
        let machine = power_on(lab, &image, by)?;
        Ok(Stick { lab, desk: host, image, by, admin: String::new(), machine })
    }

    /// Powers it off, as if the plug were pulled, and on again.
    pub fn pull_the_plug(&mut self) -> Result<()> {
        // The one that is on goes off when it is dropped, which must come first.
        let Stick { machine, .. } = self;
        machine.pull_the_plug()?;
        self.machine = power_on(self.lab, &self.image, self.by)?;
        Ok(())
    }

    /// Waits until it serves at `address`; returns its status.
    pub fn serves_at(&mut self, address: &str) -> Result<Value> {
        self.admin = format!("{address}:9090");
        let deadline = Instant::now() + BOOT;
        loop {
            match self.status() {
                Ok(status) => return Ok(status),
                Err(error) if Instant::now() > deadline => {
                    let log = self.machine.serial().text();
                    return Err(error.context(format!("it does not serve:\n{log}")));
                }
                Err(_) => self.machine.serial().check()?,
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Its status.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(&["status", "--json"])?)?)
    }

    /// What one of the daemon's subcommands says of it.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.desk.command(&made()?.daemon);
        server::without_settings(&mut command);
        exec::output(command.args(arguments).args(["--admin", &self.admin]))
    }

    /// Boots the machine `name` from the network, to the end.
    pub fn boots(&mut self, name: &str, firmware: Firmware) -> Result<Machine> {
        let mut machine = self.lab.power_on(Spec::new(name, firmware, Accel::Tcg))?;
        let booted = machine.wait_for("lab: booted", BOOT);
        let booted = booted.with_context(|| self.machine.serial().text())?;
        eprintln!("{name} booted in {:.1?}", booted.at);
        let config = machine.serial().find("lab: config").context("it says nothing of a config")?;
        let wanted = format!("lab: config sha256 {} ", ROLE.config_sha256());
        ensure!(config.text.contains(&wanted), "{name} got {:?}, not {wanted:?}", config.text);
        ensure!(machine.serial().wait(SOON)?.success(), "{name} did not power off");
        Ok(machine)
    }

    /// How many frames its XDP program has answered.
    pub fn answered_by_xdp(&self) -> Result<u64> {
        let status = self.status()?;
        let Some(answered) = status.pointer("/xdp/answered").and_then(Value::as_u64) else {
            bail!("XDP is not attached: {status}")
        };
        Ok(answered)
    }
}

fn power_on(lab: &Lab, image: &Path, by: By) -> Result<Machine> {
    let firmware = Firmware::Stick { image: image.to_owned(), by };
    lab.power_on(Spec::new("stick", firmware, Accel::Tcg))
}
