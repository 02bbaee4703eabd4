//! The oldest kernel that the XDP program is for, Debian 12's 6.1, in a virtual machine: its
//! verifier accepts the program, its virtio driver runs it, and the program answers there.

#[path = "../support/exchange.rs"]
mod exchange;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use exchange::{exchange, octets};
use xtask::exec;
use xtask::lab::accel::Accel;
use xtask::lab::guest::Guest;
use xtask::lab::process::Process;
use xtask::lab::qemu::{Firmware, Spec};
use xtask::lab::{Lab, server};
use xtask::load::frame::{Ask, Client, Sender, Target};
use xtask::load::packets::Packets;
use xtask::load::reply::{ACK, OFFER};

const INIT: &str = include_str!("init.sh");
const BOOT: Duration = Duration::from_secs(120);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

#[test]
#[ignore = "lab: cargo xtask test"]
fn xdp_answers_on_debian_12() -> Result<()> {
    let lab = Lab::new()?;
    let guest = Guest::make()?;
    let initramfs = with_daemon(&guest, lab.dir())?;
    let client = lab.host("client")?;
    let arguments = "console=ttyS0 rdinit=/serve".to_owned();
    let firmware = Firmware::Kernel { kernel: guest.kernel, initramfs, arguments };
    let mut machine = lab.power_on(Spec::new("server", firmware, Accel::Tcg))?;

    // By then the lines before it are whole.
    machine.wait_for("lab: serving", BOOT)?;
    let kernel = machine.wait_for("lab: kernel", BOOT)?.text;
    eprintln!("{kernel}");
    let debian_12 = fs::read_to_string("/etc/os-release")?.contains("bookworm");
    ensure!(!debian_12 || kernel.contains("kernel 6.1."), "not the kernel wanted: {kernel}");
    machine.wait_for("XDP program attached mode=native", BOOT)?;
    machine.wait_for(server::READY, BOOT)?;

    let target = Target { address: SERVER, mac: octets(machine.mac())? };
    let sender = Sender { mac: MAC, client: Client::Pxe, relay: None, target };
    let mut packets = Packets::open(&client)?;
    let offer = exchange(&mut packets, &mut machine, sender, Ask::Discover, BOOT)?;
    ensure!(offer.kind == OFFER, "{offer:?}");
    let address = offer.address;
    let select = Ask::Select { address, server: SERVER };
    let ack = exchange(&mut packets, &mut machine, sender, select, BOOT)?;
    ensure!((ack.kind, ack.address) == (ACK, address), "{ack:?}");
    // The daemon gave the lease. Once that is stored, the program renews it and offers it again.
    for (again, expected) in [(Ask::Renew(address), "Ack"), (Ask::Discover, "Offer")] {
        let deadline = Instant::now() + BOOT;
        while !answered_by_xdp(machine.serial(), expected) {
            ensure!(Instant::now() < deadline, "XDP never sent {expected}");
            let reply = exchange(&mut packets, &mut machine, sender, again, BOOT)?;
            ensure!((reply.address, reply.server) == (address, SERVER), "{reply:?}");
        }
    }
    Ok(())
}

/// Whether the daemon has heard that the program sent such an answer.
fn answered_by_xdp(log: &Process, answer: &str) -> bool {
    log.lines_from(0)
        .iter()
        .any(|line| line.text.contains("answered by XDP") && line.text.contains(answer))
}

/// The guest's initial RAM file system, with the daemon and its libraries in front.
fn with_daemon(guest: &Guest, lab: &Path) -> Result<PathBuf> {
    let (daemon, tree) = (server::build()?, lab.join("tree"));
    let put = |from: &Path, to: &Path| -> Result<()> {
        let to = tree.join(to.strip_prefix("/").unwrap_or(to));
        fs::create_dir_all(to.parent().context("no folder")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    };
    put(&daemon, Path::new("/talos-pxe"))?;
    let libraries = exec::output(Command::new("ldd").arg(&daemon))?;
    for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        put(Path::new(path), Path::new(path))?;
    }
    for file in
        ["assets/vmlinuz-amd64", "assets/initramfs-amd64.xz", "snponly.efi", "undionly.kpxe"]
    {
        let file = tree.join("srv").join(file);
        fs::create_dir_all(file.parent().context("no folder")?)?;
        fs::write(file, "never fetched")?;
    }
    fs::write(tree.join("serve"), INIT)?;
    fs::set_permissions(tree.join("serve"), fs::Permissions::from_mode(0o755))?;
    let archive = lab.join("initramfs");
    let pack = "set -o pipefail; { find . | cpio --quiet -o -H newc && cat \"$1\"; } >\"$0\"";
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(pack).arg(&archive).arg(&guest.initramfs).current_dir(&tree);
    exec::output(&mut bash)?;
    Ok(archive)
}
