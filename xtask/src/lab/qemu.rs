//! Virtual machines on the lab's switch.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Lab;
use super::accel::Accel;
use super::process::{Process, Tee};
use super::qmp::Qmp;
use super::transcript::Line;

/// How long QEMU may take to open its control socket.
const START: Duration = Duration::from_secs(10);

/// What a machine boots with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with the iPXE ROM of package ipxe-qemu.
    Bios,
    /// OVMF with EDK2's own PXE client.
    Uefi,
    /// OVMF with EDK2's HTTP boot client only.
    UefiHttp,
    /// U-Boot of package u-boot-qemu, in the role of an old BIOS client.
    UBoot,
    /// iPXE as a Linux kernel image, `ipxe.lkrn` of package ipxe, with a script.
    Ipxe {
        /// The script that it runs.
        script: PathBuf,
    },
    /// A USB stick is plugged in and boots first. The network card has no ROM.
    Stick {
        /// What is on the stick; it is written to.
        image: PathBuf,
        /// What boots it.
        by: By,
    },
    /// No firmware of its own: QEMU loads a kernel.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// Its initial RAM file system.
        initramfs: PathBuf,
        /// Its command line.
        arguments: String,
    },
}

/// How a machine boots from a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
    /// OVMF with SecureBoot on, and the keys that computers are sold with.
    SecureBoot,
}

/// A machine to be powered on.
pub struct Spec {
    /// Its name, which its tap device has too: at most 15 characters.
    pub name: String,
    /// What it boots with.
    pub firmware: Firmware,
    /// How it is run.
    pub accel: Accel,
    /// Memory in MiB.
    pub memory: u32,
    /// Sees the serial console as it comes.
    pub tee: Option<Tee>,
}

impl Spec {
    /// A machine with enough memory for the lab's own guest.
    pub fn new(name: &str, firmware: Firmware, accel: Accel) -> Spec {
        Spec { name: name.to_owned(), firmware, accel, memory: 1024, tee: None }
    }
}

/// A machine that is on; powered off on drop.
#[derive(Debug)]
pub struct Machine {
    name: String,
    mac: String,
    process: Process,
    serial: Option<ChildStdin>,
    qmp: Qmp,
}

impl Lab {
    /// Powers a machine on. One whose name was used before is the same machine once more: it has
    /// the same MAC address and UUID.
    ///
    /// # Errors
    /// When QEMU or the firmware is missing.
    pub fn power_on(&self, spec: Spec) -> Result<Machine> {
        let (number, known) = self.number(&spec.name);
        let mac = format!("52:54:00:00:00:{number:02x}");
        let socket = self.dir().join(format!("{}.qmp", spec.name));
        if !known {
            self.tap(&spec.name)?;
        }

        let mut command = self.command("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-device", "VGA"]);
        command.args(spec.accel.arguments());
        command.args(["-m", &spec.memory.to_string()]);
        command.args(["-uuid", &format!("00000000-0000-4000-8000-{number:012x}")]);
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        let tap = &spec.name;
        command.args(["-netdev", &format!("tap,id=net,ifname={tap},script=no,downscript=no")]);
        let vars = self.dir().join(format!("{}.vars", spec.name));
        spec.firmware.add_arguments(&mut command, &mac, &vars)?;

        let mut process = Process::start(&format!("machine {}", spec.name), command, spec.tee)?;
        let serial = process.take_stdin();
        let qmp = match Qmp::connect(&socket, START) {
            Ok(qmp) => qmp,
            // QEMU's own words say more about why it is gone.
            Err(error) => return Err(process.check().err().unwrap_or(error)),
        };
        Ok(Machine { name: spec.name, mac, process, serial, qmp })
    }
}

impl Firmware {
    fn add_arguments(&self, command: &mut Command, mac: &str, vars: &Path) -> Result<()> {
        let virtio = format!("virtio-net-pci,netdev=net,mac={mac}");
        match self {
            // With graphics off SeaBIOS mirrors its screen, and so iPXE's, to the serial port.
            Firmware::Bios => {
                command.args(["-machine", "q35,graphics=off", "-boot", "order=n"]);
                command.args(["-device", &format!("{virtio},bootindex=1")]);
            }
            Firmware::Uefi | Firmware::UefiHttp => {
                command.args(["-machine", "q35"]);
                add_ovmf(command, ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"], vars)?;
                // Without the ROM it is EDK2's own network stack that boots, not iPXE.
                command.args(["-device", &format!("{virtio},bootindex=1,romfile=")]);
                let off: &[&str] = match self {
                    Firmware::UefiHttp => &["IPv4PXESupport", "IPv6PXESupport"],
                    _ => &["IPv6PXESupport"],
                };
                for support in off {
                    command.args(["-fw_cfg", &format!("opt/org.tianocore/{support},string=n")]);
                }
            }
            Firmware::UBoot => {
                command.args(["-machine", "pc", "-bios", "/usr/lib/u-boot/qemu-x86/u-boot.rom"]);
                command.args(["-device", &format!("e1000,netdev=net,mac={mac},romfile=")]);
            }
            Firmware::Ipxe { script } => {
                command.args([
                    "-machine",
                    "q35,graphics=off",
                    "-kernel",
                    "/usr/lib/ipxe/ipxe.lkrn",
                ]);
                command.arg("-initrd").arg(script);
                command.args(["-device", &format!("{virtio},romfile=")]);
            }
            Firmware::Stick { image, by } => {
                match by {
                    By::Bios => drop(command.args(["-machine", "q35,graphics=off"])),
                    By::Uefi => {
                        command.args(["-machine", "q35"]);
                        add_ovmf(command, ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"], vars)?;
                    }
                    By::SecureBoot => {
                        command.args(["-machine", "q35,smm=on"]);
                        command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
                        let files = ["OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"];
                        add_ovmf(command, files, vars)?;
                    }
                }
                let image = image.display();
                command.args(["-drive", &format!("if=none,id=stick,format=raw,file={image}")]);
                command.args(["-device", "qemu-xhci"]);
                command.args(["-device", "usb-storage,drive=stick,removable=on,bootindex=1"]);
                command.args(["-device", &format!("{virtio},romfile=")]);
            }
            Firmware::Kernel { kernel, initramfs, arguments } => {
                command.args(["-machine", "q35,graphics=off"]).arg("-kernel").arg(kernel);
                command.arg("-initrd").arg(initramfs).args(["-append", arguments]);
                command.args(["-device", &format!("{virtio},romfile=")]);
            }
        }
        Ok(())
    }
}

/// OVMF: its code, and a copy of the template of its variables at `vars`.
fn add_ovmf(command: &mut Command, [code, template]: [&str; 2], vars: &Path) -> Result<()> {
    let [code, template] = [code, template].map(|file| Path::new("/usr/share/OVMF").join(file));
    if !code.exists() || !template.exists() {
        bail!("no {}; `cargo xtask setup` installs package ovmf", code.display());
    }
    fs::copy(&template, vars).with_context(|| format!("cannot copy {}", template.display()))?;
    for (file, readonly) in [(code.as_path(), "on"), (vars, "off")] {
        let file = file.display();
        command.arg("-drive");
        command.arg(format!("if=pflash,format=raw,readonly={readonly},file={file}"));
    }
    Ok(())
}

impl Machine {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The MAC address of its only NIC.
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// Its serial console, as the output of a process whose age is the time since power-on.
    pub fn serial(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until a line of the serial console contains `text`; see [`Process::wait_for`].
    ///
    /// # Errors
    /// When it powers off first, or `timeout` passes first.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<Line> {
        self.process.wait_for(text, timeout)
    }

    /// Types on the serial console.
    ///
    /// # Errors
    /// When it is off, or the console was taken.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        let serial = self.serial.as_mut().context("the serial console's input is taken")?;
        serial.write_all(text.as_bytes()).context("cannot write to the serial console")
    }

    /// The input of its serial console, for the one who types from now on.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.serial.take()
    }

    /// Presses a key of its keyboard, named as in QEMU's QKeyCode: `w`, `ret`, `down`.
    ///
    /// # Errors
    /// When it is off, or there is no such key.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let keys = json!({ "keys": [{ "type": "qcode", "data": key }] });
        self.qmp.execute("send-key", &keys).map(drop)
    }

    /// Presses its power button.
    ///
    /// # Errors
    /// When it is off.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Powers it off as if its plug were pulled: nothing that runs in it can do anything more.
    ///
    /// # Errors
    /// When QEMU does not end.
    pub fn pull_the_plug(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Writes its screen to the PNG file `path`.
    ///
    /// # Errors
    /// When it is off, or the file cannot be written.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path)?;
        self.qmp.execute("screendump", &json!({ "filename": path, "format": "png" })).map(drop)
    }
}
