//! Old BIOS clients that are not the ROM of our other machines: U-Boot, which knows nothing but
//! the fields of BOOTP, and an iPXE that does not say that it is one.

use std::fs;

use anyhow::{Context, Result};
use xtask::lab::Lab;
use xtask::lab::qemu::Firmware;
use xtask::lab::root::Role;

use crate::{Appliance, BOOT, SERVER, SOON, power_on};

const LOADER: &str = "/usr/lib/ipxe/undionly.kpxe";

#[test]
#[ignore = "lab: cargo xtask test"]
fn uboot_loads_the_boot_file_by_its_bootp_field() -> Result<()> {
    let lab = Lab::new()?;
    let mut appliance = Appliance::start(&lab, Some(Role::Worker), SERVER)?;
    let mut machine = power_on(&lab, "uboot", Firmware::UBoot)?;
    machine.wait_for("Hit any key to stop autoboot", SOON)?;
    machine.type_text("\n")?;
    machine.wait_for("=> ", SOON)?;
    // It asks for an address, then loads what the answer's `file` field names.
    machine.type_text("dhcp\n")?;
    let log = |appliance: &mut Appliance| appliance.server.process().text();
    let bound = machine.wait_for("DHCP client bound to address 192.168.123.", SOON);
    bound.with_context(|| log(&mut appliance))?;
    machine.wait_for("Filename 'undionly.kpxe'", SOON)?;
    machine.wait_for("Bytes transferred", SOON).with_context(|| log(&mut appliance))?;
    // The sum of what it now has in memory, as it prints it.
    machine.type_text("crc32 ${fileaddr} ${filesize}\n")?;
    machine.wait_for(&format!(" ==> {:08x}", crc32(&fs::read(LOADER)?)), SOON)?;
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_foreign_ipxe_chains_ours_to_the_kernel() -> Result<()> {
    let lab = Lab::new()?;
    let mut appliance = Appliance::start(&lab, Some(Role::Worker), SERVER)?;
    let script = lab.dir().join("foreign.ipxe");
    fs::write(
        &script,
        "#!ipxe\n\
         set user-class foreign\n\
         dhcp\n\
         echo foreign iPXE loads ${filename}\n\
         chain tftp://${next-server}/${filename}\n",
    )?;
    let mut machine = power_on(&lab, "foreign", Firmware::Ipxe { script })?;
    machine.wait_for("foreign iPXE loads undionly.kpxe", BOOT)?;
    appliance.booted(&mut machine, Role::Worker)
}

/// The CRC-32 of Ethernet and zip, which U-Boot prints.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

#[test]
fn crc32_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
