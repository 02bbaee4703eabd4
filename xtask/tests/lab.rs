//! The lab itself: machines of each firmware boot from dnsmasq alone, so that a test of talos-pxe
//! that fails speaks of talos-pxe; and a lab leaves nothing behind.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use xtask::lab::Lab;
use xtask::lab::accel::Accel;
use xtask::lab::dnsmasq::Dnsmasq;
use xtask::lab::guest::Guest;
use xtask::lab::process::Process;
use xtask::lab::qemu::{Firmware, Spec};

const BOOT: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);

/// Boots a machine from a folder that dnsmasq serves by TFTP and busybox by HTTP.
fn boot_from_dnsmasq(firmware: Firmware) -> Result<()> {
    let guest = Guest::make()?;
    let lab = Lab::new()?;
    let folder = lab.dir().join("boot");
    fs::create_dir(&folder)?;
    fs::copy(&guest.kernel, folder.join("kernel"))?;
    fs::copy(&guest.initramfs, folder.join("initramfs"))?;
    for file in ["snponly.efi", "undionly.kpxe"] {
        fs::copy(format!("/usr/lib/ipxe/{file}"), folder.join(file))?;
    }
    let script = "#!ipxe\nkernel http://10.77.0.1:8080/kernel initrd=initramfs console=ttyS0\n\
                  initrd http://10.77.0.1:8080/initramfs\nboot\n";
    fs::write(folder.join("script.ipxe"), script)?;

    let arguments = [
        "--enable-tftp",
        &format!("--tftp-root={}", folder.display()),
        "--dhcp-match=set:ipxe,175",
        "--dhcp-match=set:uefi,option:client-arch,7",
        "--dhcp-match=set:http,option:client-arch,16",
        "--dhcp-boot=tag:ipxe,http://10.77.0.1:8080/script.ipxe",
        "--dhcp-boot=tag:!ipxe,tag:uefi,snponly.efi",
        "--dhcp-boot=tag:!ipxe,tag:http,http://10.77.0.1:8080/snponly.efi",
        "--dhcp-boot=tag:!ipxe,tag:!uefi,tag:!http,undionly.kpxe",
        "--dhcp-option-force=tag:http,60,HTTPClient",
    ];
    let dnsmasq = Dnsmasq::start_with(&lab, &arguments)?;
    let mut httpd = dnsmasq.host().command("busybox");
    httpd.args(["httpd", "-f", "-p", "8080", "-h"]).arg(&folder);
    let _httpd = dnsmasq.host().start(httpd)?;

    let mut machine = lab.power_on(Spec::new("m1", firmware, Accel::Tcg))?;
    let kernel = machine.wait_for("Linux version", BOOT)?;
    machine.wait_for("lab: address 10.77.0.", BOOT)?;
    let booted = machine.wait_for("lab: booted", BOOT)?;
    eprintln!("kernel after {:.1?}, booted after {:.1?}", kernel.at, booted.at);
    ensure!(machine.serial().wait(BOOT)?.success());
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn bios_boots_from_dnsmasq() -> Result<()> {
    boot_from_dnsmasq(Firmware::Bios)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn uefi_boots_from_dnsmasq() -> Result<()> {
    boot_from_dnsmasq(Firmware::Uefi)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn uefi_http_boots_from_dnsmasq() -> Result<()> {
    boot_from_dnsmasq(Firmware::UefiHttp)
}

/// Set for the process that [`a_lab_leaves_nothing_behind`] starts: how it is to end.
const ENDING: &str = "XTASK_LAB_ENDING";

/// Not a test of its own: a process that holds a lab with everything in it, so that it can be
/// killed.
#[test]
#[ignore = "started by a_lab_leaves_nothing_behind"]
fn hold_a_lab() -> Result<()> {
    let Ok(ending) = std::env::var(ENDING) else { return Ok(()) };
    let lab = Lab::new()?;
    let dnsmasq = Dnsmasq::start(&lab)?;
    let _capture = lab.capture(&lab.dir().join("lab.pcap"))?;
    let host = lab.host("client")?;
    let mut sleep = host.command("sleep");
    sleep.arg("1000");
    let _sleep = host.start(sleep)?;
    let mut machine = lab.power_on(Spec::new("m1", Firmware::Bios, Accel::Tcg))?;
    machine.wait_for("iPXE", SOON)?;
    for netns in [lab.netns(), dnsmasq.host().netns(), host.netns()] {
        eprintln!("holds net:[{}]", netns.id()?);
    }
    eprintln!("holds {}", lab.dir().display());
    eprintln!("holds all");
    if ending == "kill" {
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

/// What in `/proc` still refers to one of the namespaces: processes, open files and mounts.
fn references(namespaces: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let is_ours = |text: &str| namespaces.iter().any(|namespace| text.contains(namespace));
        let mut links = vec![process.join("ns/net")];
        // A process may end while we look at it.
        if let Ok(files) = fs::read_dir(process.join("fd")) {
            links.extend(files.flatten().map(|file| file.path()));
        }
        for link in links {
            if fs::read_link(&link).is_ok_and(|target| is_ours(&target.to_string_lossy())) {
                found.push(link.display().to_string());
            }
        }
        let mounts = process.join("mountinfo");
        if fs::read_to_string(&mounts).is_ok_and(|mounts| is_ours(&mounts)) {
            found.push(mounts.display().to_string());
        }
    }
    Ok(found)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_lab_leaves_nothing_behind() -> Result<()> {
    for ending in ["return", "kill"] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "hold_a_lab", "--ignored", "--nocapture"]).env(ENDING, ending);
        let mut holder = Process::start("a lab", command, None)?;
        holder.wait_for("holds all", SOON)?;
        let held: Vec<String> = holder
            .text()
            .lines()
            .filter_map(|line| line.split_once("holds ").map(|(_, held)| held.to_owned()))
            .collect();
        let namespaces: Vec<String> =
            held.iter().filter(|held| held.starts_with("net:[")).cloned().collect();
        ensure!(namespaces.len() == 3, "it holds {held:?}");

        if ending == "kill" {
            // To that process alone, not to its group: the rest must go by itself.
            let seen = references(&namespaces)?;
            ensure!(seen.len() > 5, "the check is blind: {seen:?}");
            let holder = Pid::from_raw(i32::try_from(holder.id())?).context("no process")?;
            kill_process(holder, Signal::KILL)?;
        }
        holder.wait(SOON)?;
        let deadline = Instant::now() + SOON;
        loop {
            let left = references(&namespaces)?;
            if left.is_empty() {
                break;
            }
            ensure!(Instant::now() < deadline, "after {ending} there is still {left:?}");
        }
        let links = fs::read_dir("/sys/class/net")?.flatten().map(|link| link.file_name());
        let links: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        for ours in ["br0", "dnsmasq", "client", "m1"] {
            ensure!(!links.iter().any(|link| link == ours), "after {ending}: link {ours}");
        }
        let folder = held.iter().find(|held| held.starts_with('/')).context("no folder")?;
        if ending == "kill" {
            // The one thing that a killed process leaves; see the lab's invariant.
            fs::remove_dir_all(folder)?;
        } else {
            ensure!(!fs::exists(folder)?, "{folder} is still there");
        }
    }
    Ok(())
}
