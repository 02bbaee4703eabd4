//! `cargo xtask run`: talos-pxe in the lab, or on a real interface.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::console::{self, Console};
use crate::interrupt;
use crate::lab::Lab;
use crate::lab::accel::AccelChoice;
use crate::lab::dnsmasq::Dnsmasq;
use crate::lab::process::Process;
use crate::lab::qemu::{Firmware, Machine, Spec};
use crate::lab::root::{self, Role, System};
use crate::lab::server::{self, Server};
use crate::setup::{self, Group};

/// Boots virtual machines over a private network from talos-pxe, or serves a real network.
///
/// The lab: a switch, talos-pxe, and machines with their serial console on the terminal. They boot
/// Talos when assets/ holds vmlinuz-amd64 and initramfs-amd64.xz, else a small Linux that says
/// what it got and powers off. Needs root.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// What the machines boot with.
    #[arg(long, value_enum, default_value = "bios")]
    firmware: FirmwareChoice,

    /// Who leases addresses.
    #[arg(long, value_enum, default_value = "ours")]
    dhcp: Dhcp,

    /// The machines' role; without it they show the menu.
    #[arg(long, value_enum)]
    role: Option<Role>,

    /// How many machines to power on, all at once.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    machines: u8,

    /// Capture all packets into a file.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,

    /// Give up after this time since power-on; the default leaves an interactive menu alone.
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,

    /// How QEMU runs the machines.
    #[arg(long, value_enum, default_value = "auto")]
    accel: AccelChoice,

    /// Go on when the machines have booted, until they power off or Ctrl-C.
    #[arg(long)]
    keep_going: bool,

    /// Serve this interface of the machine, without a lab.
    #[arg(long = "if", value_name = "NAME")]
    interface: Option<OsString>,

    /// Flags for talos-pxe.
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask run
      Show a BIOS machine's menu; w makes it a worker.
  cargo xtask run --firmware uefi --dhcp existing --role worker --pcap boot.pcap
      Boot a UEFI machine beside another DHCP server, and keep the packets.
  cargo xtask run --role worker -- --mode server --ra off -v
      Boot with flags for talos-pxe.
  cargo xtask run --if eth1 --root /srv/talos
      Serve a real network.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FirmwareChoice {
    /// SeaBIOS with iPXE's ROM.
    Bios,
    /// OVMF with its own PXE client.
    Uefi,
    /// OVMF with its HTTP boot client.
    UefiHttp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dhcp {
    /// talos-pxe.
    Ours,
    /// dnsmasq, which was there before.
    Existing,
}

/// How long machines without a user may take, emulated on a slow computer.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Does it.
pub fn main(run: Run) -> Result<()> {
    match &run.interface {
        Some(interface) => serve(interface, &run.flags),
        None => boot(&run),
    }
}

/// Becomes the daemon.
fn serve(interface: &OsString, flags: &[OsString]) -> Result<()> {
    setup::ensure(&[Group::Bpf])?;
    let mut command = Command::new(server::build()?);
    command.args(["serve", "--if"]).arg(interface).args(flags);
    Err(command.exec()).context("cannot start talos-pxe")
}

fn boot(run: &Run) -> Result<()> {
    let interactive = run.machines == 1 && console::is_interactive();
    let role = run.role.or_else(|| {
        let nobody = !io::stdin().is_terminal();
        if nobody {
            eprintln!("Nobody is there to use the menu: booting with --role worker");
        }
        nobody.then_some(Role::Worker)
    });

    setup::ensure(&[Group::Bpf, Group::Lab])?;
    // Early: it says at once when there is no right to have one.
    let lab = Lab::new()?;
    let system = System::choose()?;
    let accel = run.accel.resolve()?;
    let program = server::build()?;
    let folder = lab.dir().join("root");
    root::make(&folder, &system, role)?;
    let capture = run.pcap.as_ref().map(|path| lab.capture(path)).transpose()?;
    let _dnsmasq = match run.dhcp {
        Dhcp::Ours => None,
        Dhcp::Existing => Some(Dnsmasq::start(&lab)?),
    };
    let host = lab.host("talos-pxe")?;
    let mut flags = vec!["--root".into(), folder.into_os_string()];
    flags.extend(run.flags.iter().cloned());
    eprintln!("Starting talos-pxe ...");
    let mut server = Server::start(&program, &host, flags)?;

    let mut machines = Vec::new();
    for number in 1..=run.machines {
        let firmware = match run.firmware {
            FirmwareChoice::Bios => Firmware::Bios,
            FirmwareChoice::Uefi => Firmware::Uefi,
            FirmwareChoice::UefiHttp => Firmware::UefiHttp,
        };
        let mut spec = Spec::new(&format!("m{number}"), firmware, accel);
        spec.memory = system.memory();
        spec.tee = interactive.then(console::tee);
        machines.push(lab.power_on(spec)?);
    }
    let console = match machines.first_mut().and_then(Machine::take_input) {
        Some(input) if interactive => Some(Console::attach(input)?),
        _ => None,
    };

    let timeout = match run.timeout {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => (!(interactive && role.is_none())).then_some(TIMEOUT),
    };
    let mut watch = Watch { shown: vec![0; machines.len() + 1], show: !interactive };
    let booted = watch.until_booted(&mut server, &mut machines, &system, timeout);
    if run.keep_going && booted.is_ok() {
        watch.until_off(&mut server, &mut machines)?;
    }
    drop(console);
    booted?;
    if let Some(capture) = capture {
        capture.stop()?;
    }
    let mut as_expected = true;
    for machine in &mut machines {
        as_expected &= report(machine, &system, role);
    }
    if !as_expected {
        bail!("a machine got another config than its role's");
    }
    Ok(())
}

/// What of the machines and the daemon was shown.
struct Watch {
    /// Lines shown: of the daemon, then of each machine.
    shown: Vec<usize>,
    show: bool,
}

impl Watch {
    /// Returns when every machine runs its system.
    fn until_booted(
        &mut self,
        server: &mut Server,
        machines: &mut [Machine],
        system: &System,
        timeout: Option<Duration>,
    ) -> Result<()> {
        loop {
            self.look(server, machines)?;
            let mut pending = false;
            for machine in &mut *machines {
                let name = machine.name().to_owned();
                let serial = machine.serial();
                // In this order: the last lines may come between the two.
                let on = serial.check();
                if serial.find(system.booted()).is_some() {
                    continue;
                }
                on?;
                pending = true;
                if timeout.is_some_and(|timeout| serial.age() > timeout) {
                    let log = server.process().text();
                    bail!("machine {name} did not boot in {timeout:?}; talos-pxe's log:\n{log}");
                }
            }
            if !pending {
                return Ok(());
            }
        }
    }

    /// Returns when every machine is off.
    fn until_off(&mut self, server: &mut Server, machines: &mut [Machine]) -> Result<()> {
        while machines.iter_mut().any(|machine| machine.serial().check().is_ok()) {
            self.look(server, machines)?;
        }
        Ok(())
    }

    /// Shows what is new, after a moment.
    fn look(&mut self, server: &mut Server, machines: &mut [Machine]) -> Result<()> {
        thread::sleep(Duration::from_millis(50));
        interrupt::check()?;
        server.process().check()?;
        if !self.show {
            return Ok(());
        }
        let many = machines.len() > 1;
        let mut shown = self.shown.iter_mut();
        show(server.process(), shown.next(), "talos-pxe: ");
        for machine in machines {
            let prefix = if many { format!("{}: ", machine.name()) } else { String::new() };
            show(machine.serial(), shown.next(), &prefix);
        }
        Ok(())
    }
}

/// Shows the lines of `process` from number `shown`.
fn show(process: &Process, shown: Option<&mut usize>, prefix: &str) {
    let Some(shown) = shown else { return };
    let lines = process.lines_from(*shown);
    *shown += lines.len();
    for line in lines.iter().filter(|line| !line.text.trim().is_empty()) {
        println!("{prefix}{}", line.text);
    }
}

/// Says how a machine booted, and whether it got its role's config.
fn report(machine: &mut Machine, system: &System, role: Option<Role>) -> bool {
    let name = machine.name().to_owned();
    let serial = machine.serial();
    let seconds = |text| serial.find(text).map_or(0.0, |line| line.at.as_secs_f64());
    let after = |text| {
        let line = serial.find(text)?;
        line.text.split_once(text).map(|(_, rest)| rest.to_owned())
    };
    let (booted, kernel) = (seconds(system.booted()), seconds("Linux version"));
    let mut summary = format!("{name}: booted in {booted:.1} s (kernel after {kernel:.1} s)");
    if let Some(address) = after("lab: address ") {
        summary.push_str(&format!(", address {address}"));
    }
    let config = after("lab: config sha256 ");
    let sha256 = config.as_deref().and_then(|config| config.split(' ').next());
    summary.push_str(&format!(", config sha256 {}", sha256.unwrap_or("unknown")));
    // What a user chose in the menu is not known here; Talos does not say what it got.
    let expected = match (system, role) {
        (System::Guest(_), Some(role)) => Some(role.config_sha256()),
        _ => None,
    };
    let right = expected.as_deref().is_none_or(|expected| sha256 == Some(expected));
    if let Some(expected) = expected {
        summary.push_str(&format!(" (expected {expected})"));
    }
    println!("{summary}");
    right
}
