//! How QEMU runs a machine: by KVM where that works, else by emulation.
//!
//! That `/dev/kvm` is there says little: paravirtual kinds of it break on real firmware and
//! kernels. So a machine of each firmware boots once, and the answer is kept until the host
//! boots anew.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::Lab;
use super::guest::Guest;
use super::qemu::{Firmware, Spec};
use crate::{exec, interrupt, progress, target};

/// How long a machine may take that KVM runs.
const PROBE: Duration = Duration::from_secs(20);

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM where a probe boots.
    Auto,
    /// Emulation.
    Tcg,
    /// The host's CPU, unprobed.
    Kvm,
}

/// How a machine is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Emulation: slow, works everywhere.
    Tcg,
    /// The host's CPU.
    Kvm,
}

impl Accel {
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Accel::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max"],
            Accel::Kvm => &["-accel", "kvm", "-cpu", "host"],
        }
    }
}

impl AccelChoice {
    /// Decides, by a probe when there is no answer from one yet.
    ///
    /// # Errors
    /// When the probe cannot be made; that KVM does not work is none.
    pub fn resolve(self) -> Result<Accel> {
        match self {
            AccelChoice::Tcg => Ok(Accel::Tcg),
            AccelChoice::Kvm => Ok(Accel::Kvm),
            AccelChoice::Auto if !Path::new("/dev/kvm").exists() => Ok(Accel::Tcg),
            AccelChoice::Auto => probed(),
        }
    }
}

fn probed() -> Result<Accel> {
    let answer = target().join("lab/kvm");
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if let Ok(known) = fs::read_to_string(&answer)
        && let Some(works) = known.strip_prefix(&host)
    {
        return Ok(if works == "works" { Accel::Kvm } else { Accel::Tcg });
    }
    let guest = Guest::make()?;
    let works = progress::during("Probing whether KVM works", || probe(&guest))?;
    fs::write(&answer, format!("{host}{}", if works { "works" } else { "fails" }))?;
    if !works {
        eprintln!("KVM does not boot a machine here: emulating instead, which is slower");
    }
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}

/// Boots the guest, by the BIOS and without a boot server.
fn probe(guest: &Guest) -> Result<bool> {
    // A missing QEMU says nothing about KVM.
    exec::output(Command::new("qemu-system-x86_64").arg("--version"))?;
    let lab = Lab::new()?;
    let firmware = Firmware::Kernel {
        kernel: guest.kernel.clone(),
        initramfs: guest.initramfs.clone(),
        arguments: "console=ttyS0 panic=-1 lab.probe".to_owned(),
    };
    let booted = lab
        .power_on(Spec::new("probe", firmware, Accel::Kvm))
        .and_then(|mut machine| machine.wait_for("lab: kernel", PROBE));
    interrupt::check()?;
    Ok(booted.is_ok())
}
