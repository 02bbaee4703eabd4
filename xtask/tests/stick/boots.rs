//! It boots by UEFI, and machines boot from it beside another DHCP server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::Lab;
use xtask::lab::dnsmasq::Dnsmasq;
use xtask::lab::qemu::{By, Firmware};

use crate::stick::Stick;
use crate::{BOOT, SOON};

#[test]
#[ignore = "lab: cargo xtask test"]
fn by_uefi_it_serves_beside_another_dhcp_server() -> Result<()> {
    let lab = Lab::new()?;
    let dnsmasq = Dnsmasq::start(&lab)?;
    let mut stick = Stick::plug(&lab, By::Uefi, "10.77.0.250/24")?;
    let address = leased(&mut stick, &dnsmasq)?;
    let status = stick.serves_at(&address)?;
    ensure!(status["mode"] == "proxy", "{status}");
    stick.boots("client", Firmware::Uefi)?;
    let before = stick.answered_by_xdp()?;
    stick.boots("client", Firmware::Uefi)?;
    ensure!(stick.answered_by_xdp()? > before, "XDP answered nothing at the second boot");
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn with_secure_boot_it_serves_until_its_power_button_is_pressed() -> Result<()> {
    let lab = Lab::new()?;
    let mut stick = Stick::plug(&lab, By::SecureBoot, "192.168.123.254/24")?;
    stick.machine.wait_for("SecureBoot is on", BOOT)?;
    let status = stick.serves_at("192.168.123.1")?;
    ensure!(status["xdp"]["mode"] == "native", "{status}");
    stick.machine.press_power_button()?;
    ensure!(stick.machine.serial().wait(SOON)?.success());
    Ok(())
}

/// The address that dnsmasq gives the machine with the stick.
fn leased(stick: &mut Stick, dnsmasq: &Dnsmasq) -> Result<String> {
    let mac = stick.machine.mac().to_owned();
    let deadline = Instant::now() + BOOT;
    loop {
        // Such as `DHCPACK(eth0) 10.77.0.149 52:54:00:00:00:01`.
        let log = dnsmasq.log();
        let to_it = log.lines().find(|line| line.contains("DHCPACK") && line.contains(&mac));
        let address = to_it
            .and_then(|line| line.split_whitespace().find(|word| word.starts_with("10.77.0.")));
        if let Some(address) = address {
            return Ok(address.to_owned());
        }
        let waited = stick.machine.serial().check();
        waited.with_context(|| format!("it asked for no address:\n{log}"))?;
        ensure!(Instant::now() < deadline, "it got no address:\n{log}");
        thread::sleep(Duration::from_millis(100));
    }
}
