//! Captures the request frames of real DHCP clients in the lab, for the golden tests:
//! `cargo run -p xtask --example frames -- talos-pxe/tests/frames`, as root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::UdpFrame;
use xtask::interrupt;
use xtask::lab::accel::{Accel, AccelChoice};
use xtask::lab::dnsmasq::Dnsmasq;
use xtask::lab::qemu::{Firmware, Machine, Spec};
use xtask::lab::root::{self, System};
use xtask::lab::server::{self, Server};
use xtask::lab::{Host, Lab, capture};

/// How long firmware may take until it asks, emulated on a slow computer.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("say into which folder the frames go")?;
    interrupt::catch()?;
    let session = Session {
        program: server::build()?,
        system: System::choose()?,
        accel: AccelChoice::Auto.resolve()?,
        folder: folder.into(),
    };
    session.with_our_leases()?;
    session.beside_another_server()
}

struct Session {
    program: PathBuf,
    system: System,
    accel: Accel,
    folder: PathBuf,
}

impl Session {
    fn with_our_leases(&self) -> Result<()> {
        let lab = Lab::new()?;
        let pcap = lab.dir().join("requests.pcap");
        let _capture = lab.capture(&pcap)?;
        let host = lab.host("talos-pxe")?;
        let _server = self.serve(&lab, &host, &["--mode", "server"])?;
        let wait = |names: &[&str]| self.write_frames(&pcap, names);

        let client = lab.host("udhcpc")?;
        let mut udhcpc = client.command("udhcpc");
        udhcpc.args(["-f", "-q", "-i", "eth0", "-s", "/bin/true"]);
        let _udhcpc = client.start(udhcpc)?;
        wait(&["udhcpc-discover", "udhcpc-request"])?;

        let client = lab.host("dhclient")?;
        let mut dhclient = client.command("dhclient");
        dhclient.args(["-d", "-1", "-sf", "/bin/true", "-lf", "/dev/null", "-pf", "/dev/null"]);
        let _dhclient = client.start(with(dhclient, "eth0"))?;
        wait(&["dhclient-discover", "dhclient-request"])?;

        let relay = lab.host("relay")?;
        relay.add_address("192.168.123.250/24")?;
        let mut perfdhcp = relay.command("perfdhcp");
        // Offers come only after the address was checked: it must not end before.
        perfdhcp.args(["-4", "-r", "10", "-R", "2", "-p", "1", "-W", "1000000", "-l", "eth0"]);
        let _perfdhcp = relay.start(with(perfdhcp, "192.168.123.1"))?;
        wait(&["relayed-discover", "relayed-request"])?;

        let mut machine = self.power_on(&lab, "m1", Firmware::UBoot)?;
        machine.wait_for("Hit any key", PATIENCE)?;
        machine.type_text("\n")?;
        machine.wait_for("=> ", PATIENCE)?;
        machine.type_text("dhcp\n")?;
        wait(&["u-boot-discover", "u-boot-request"])?;

        let _machine = self.power_on(&lab, "m2", Firmware::Bios)?;
        wait(&["ipxe-bios-discover", "ipxe-bios-request"])?;
        let _machine = self.power_on(&lab, "m3", Firmware::Uefi)?;
        wait(&["edk2-pxe-discover", "edk2-pxe-request"])?;
        wait(&["ipxe-efi-discover", "ipxe-efi-request"])?;
        let _machine = self.power_on(&lab, "m4", Firmware::UefiHttp)?;
        wait(&["edk2-http-discover", "edk2-http-request"])
    }

    fn beside_another_server(&self) -> Result<()> {
        let lab = Lab::new()?;
        let pcap = lab.dir().join("requests.pcap");
        let _capture = lab.capture(&pcap)?;
        let _dnsmasq = Dnsmasq::start(&lab)?;
        let host = lab.host("talos-pxe")?;
        let _server = self.serve(&lab, &host, &["--mode", "proxy"])?;
        let _machine = self.power_on(&lab, "m1", Firmware::Uefi)?;
        self.write_frames(&pcap, &["edk2-pxe-request-4011"])
    }

    fn serve(&self, lab: &Lab, host: &Host, flags: &[&str]) -> Result<Server> {
        let folder = lab.dir().join("root");
        root::make(&folder, &self.system, None)?;
        let mut arguments = vec!["--root".into(), folder.into_os_string()];
        arguments.extend(flags.iter().map(Into::into));
        Server::start(&self.program, host, arguments)
    }

    fn power_on(&self, lab: &Lab, name: &str, firmware: Firmware) -> Result<Machine> {
        lab.power_on(Spec::new(name, firmware, self.accel))
    }

    /// Waits until the frames of these names are in the capture, and writes them.
    fn write_frames(&self, pcap: &Path, names: &[&str]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frames = requests(pcap)?;
            let missing = names.iter().find(|name| !frames.contains_key(**name));
            let Some(missing) = missing else {
                for name in names {
                    let path = self.folder.join(name).with_extension("bin");
                    fs::write(&path, frames.get(*name).map_or(&[][..], Vec::as_slice))?;
                    eprintln!("{}", path.display());
                }
                return Ok(());
            };
            if Instant::now() >= deadline {
                bail!("no {missing} in {PATIENCE:?}, only {:?}", frames.keys());
            }
            std::thread::sleep(Duration::from_millis(200));
            interrupt::check()?;
        }
    }
}

fn with(mut command: Command, argument: &str) -> Command {
    command.arg(argument);
    command
}

/// The first request of each name in a capture.
fn requests(pcap: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut requests = BTreeMap::new();
    for frame in capture::frames(pcap)? {
        if let Some(name) = name(&frame) {
            requests.entry(name).or_insert(frame);
        }
    }
    Ok(requests)
}

/// Who asks, and what.
fn name(frame: &[u8]) -> Option<String> {
    let udp = UdpFrame::parse(frame).ok()?;
    let request = Message::parse(udp.payload).ok()?;
    let text = |code| String::from_utf8_lossy(request.options.get(code).unwrap_or_default());
    let (class, user_class) = (text(OptionCode::ClassIdentifier), text(OptionCode::UserClass));
    let client = match (&*class, &*user_class) {
        _ if request.op != Opcode::BootRequest => return None,
        _ if !request.giaddr.is_unspecified() => "relayed",
        (class, "iPXE") if class.contains("Arch:00000") => "ipxe-bios",
        (_, "iPXE") => "ipxe-efi",
        (class, _) if class.starts_with("PXEClient") => "edk2-pxe",
        (class, _) if class.starts_with("HTTPClient") => "edk2-http",
        (class, _) if class.starts_with("udhcp") => "udhcpc",
        (class, _) if class.starts_with("U-Boot") => "u-boot",
        _ => "dhclient",
    };
    let kind = match request.kind {
        MessageType::Discover => "discover",
        MessageType::Request => "request",
        _ => return None,
    };
    Some(match udp.destination.port() {
        4011 => format!("{client}-{kind}-4011"),
        _ => format!("{client}-{kind}"),
    })
}
