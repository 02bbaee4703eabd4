//! The distribution's packages that the project uses, and their installation.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::services::{self, NoServices};
use super::{program, run};

/// A package of Debian and Ubuntu.
#[derive(Clone, Copy)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// A program, or the full path of a file, that is there when the package is installed.
    pub proof: &'static str,
    /// What we use it for.
    pub why: &'static str,
    /// The service that it brings, and that must not start.
    pub service: Option<&'static str>,
}

/// A row of a table of packages.
pub const fn package(name: &'static str, proof: &'static str, why: &'static str) -> Package {
    Package { name, proof, why, service: None }
}

/// As [`package`], for one that brings a service.
const fn server(
    name: &'static str,
    proof: &'static str,
    service: &'static str,
    why: &'static str,
) -> Package {
    Package { name, proof, why, service: Some(service) }
}

/// What network-boots virtual machines.
pub const LAB: &[Package] = &[
    package("qemu-system-x86", "qemu-system-x86_64", "runs the virtual machines"),
    package("seabios", "/usr/share/seabios/bios-256k.bin", "their BIOS firmware"),
    package("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd", "their UEFI firmware"),
    package("ipxe-qemu", "/usr/lib/ipxe/qemu/pxe-virtio.rom", "their network cards' boot ROM"),
    package("ipxe", "/usr/lib/ipxe/undionly.kpxe", "the iPXE binaries that talos-pxe serves"),
    package("u-boot-qemu", "/usr/lib/u-boot/qemu-x86/u-boot.rom", "an independent boot client"),
    package("dnsmasq-base", "dnsmasq", "the DHCP server of networks that have one"),
    package("iproute2", "ip", "network namespaces, bridges and cables"),
    package("ethtool", "ethtool", "cables that receive as network cards do"),
    package("tcpdump", "tcpdump", "captures of the lab's network"),
    package(
        "busybox-static",
        "/usr/share/doc/busybox-static",
        "the programs of the test initramfs",
    ),
    package("kmod", "depmod", "the modules of the test initramfs"),
    package("cpio", "cpio", "packs the test initramfs"),
    package("xz-utils", "xz", "unpacks compressed modules"),
];

/// The clients and tools that talos-pxe is tested with. None of them starts a service.
pub const CLIENTS: &[Package] = &[
    package("udhcpc", "udhcpc", "busybox's DHCP client"),
    package("isc-dhcp-client", "dhclient", "ISC's DHCP client"),
    package("kea-admin", "perfdhcp", "Kea's DHCP load generator"),
    package("tftp-hpa", "tftp", "a TFTP client"),
    package("atftp", "atftp", "a TFTP client that knows windowsize"),
    package("netbase", "/etc/services", "the number of the port that atftp knows as \"tftp\""),
    package("curl", "curl", "an HTTP client"),
    package("bind9-dnsutils", "dig", "a DNS client"),
    package("procps", "sysctl", "switches IPv6 off in a test"),
    package("libcap2-bin", "setcap", "gives the daemon its rights without root"),
    package("crun", "crun", "runs the container with the rights that linux.yml lists"),
    package("systemd", "systemd-analyze", "judges the service's unit, and runs it"),
    package("mandoc", "mandoc", "checks the manual pages"),
];

/// What talos-pxe is compared with, and the network to do it on.
pub const BENCH: &[Package] = &[
    server("kea-dhcp4-server", "kea-dhcp4", "kea-dhcp4-server", "ISC's DHCP server"),
    server("nginx", "nginx", "nginx", "an HTTP server"),
    server("tftpd-hpa", "in.tftpd", "tftpd-hpa", "a TFTP server"),
    package("dnsmasq-base", "dnsmasq", "a small DHCP and TFTP server"),
    package("iproute2", "ip", "network namespaces and cables"),
];

/// What makes the image of a stick. What goes onto the stick is not installed, but unpacked.
pub const IMAGE: &[Package] = &[
    package("mtools", "mcopy", "copies files to a FAT file system in an image"),
    package("dosfstools", "mkfs.vfat", "makes the stick's FAT file system"),
    package("e2fsprogs", "mke2fs", "makes the stick's file system for state"),
    package("fdisk", "sfdisk", "partitions the image"),
    package("syslinux", "syslinux", "makes it boot by BIOS"),
    package("kmod", "depmod", "finds out which modules need which"),
    package("xz-utils", "xz", "unpacks compressed modules"),
    package("zstd", "zstd", "packs the initramfs"),
    package("binutils", "strip", "makes the daemon smaller"),
];

/// The boot files that images carry.
pub const FIRMWARE: &[Package] =
    &[package("ipxe", "/usr/lib/ipxe/undionly.kpxe", "the iPXE binaries that talos-pxe serves")];

/// What builds container images.
pub const CONTAINER: &[Package] =
    &[package("buildah", "buildah", "builds the container image, without a registry")];

/// What builds packages.
pub const DEB: &[Package] = &[
    package("dpkg-dev", "dpkg-shlibdeps", "finds the libraries that the package depends on"),
    package("xz-utils", "xz", "compresses the package"),
];

/// The LLVMs that a bpf-linker can be linked with.
const LLVM: &[(u32, Package)] = &[
    (21, package("llvm-21-dev", "/usr/lib/llvm-21/bin/llvm-config", "LLVM, for bpf-linker")),
    (22, package("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config", "LLVM, for bpf-linker")),
    (23, package("llvm-23-dev", "/usr/lib/llvm-23/bin/llvm-config", "LLVM, for bpf-linker")),
];

/// The package with LLVM of this major version.
pub fn llvm(major: u32) -> Option<&'static Package> {
    LLVM.iter().find(|(version, _)| *version == major).map(|(_, package)| package)
}

impl Package {
    /// Whether it, or another source of the same file, is there.
    pub fn installed(&self) -> bool {
        match self.proof.starts_with('/') {
            true => Path::new(self.proof).exists(),
            false => program(self.proof).is_some(),
        }
    }
}

/// Installs `packages` with apt-get as root; otherwise fails with the command to run.
pub fn install<'a>(packages: impl Iterator<Item = &'a Package>) -> Result<()> {
    let packages: Vec<&Package> = packages.collect();
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let list = names.join(" ");
    if program("apt-get").is_none() {
        bail!("install what Debian packages as {list}, then run `cargo xtask setup` again");
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "packages are missing; run `sudo apt-get update && \
             sudo apt-get install --no-install-recommends {list}`, then `cargo xtask setup` again"
        );
    }

    println!("Installing with apt-get:");
    for package in &packages {
        println!("  {:<18} {}", package.name, package.why);
    }
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt_get().arg("update"))?;
    let _no_services = NoServices::begin()?;
    // What is installed stays: a package that conflicts with it is for the user to judge.
    run(apt_get()
        .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
        .args(names))?;
    for package in packages {
        if let Some(service) = package.service {
            services::disable(service)?;
        }
        ensure!(
            package.installed(),
            "package {} is installed but brought no {}; is PATH complete?",
            package.name,
            package.proof
        );
    }
    Ok(())
}
