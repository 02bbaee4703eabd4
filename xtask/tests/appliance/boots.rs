//! Machines of each firmware boot at once: where we are the DHCP server, and beside another one.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::UdpFrame;
use talos_pxe::wire::icmp6::no_router_advertisement;
use xtask::lab::Lab;
use xtask::lab::capture::frames;
use xtask::lab::dnsmasq::Dnsmasq;
use xtask::lab::qemu::{Firmware, Machine};
use xtask::lab::root::Role;

use crate::{Appliance, power_on};

const ROLE: Role = Role::Worker;

#[test]
#[ignore = "lab: cargo xtask test"]
fn bios_uefi_and_uefi_http_boot_with_our_dhcp() -> Result<()> {
    let lab = Lab::new()?;
    let mut appliance = Appliance::start(&lab, Some(ROLE), &[])?;
    boot_each(&lab, &mut appliance).map(drop)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn bios_uefi_and_uefi_http_boot_beside_another_dhcp_server() -> Result<()> {
    let lab = Lab::new()?;
    let dnsmasq = Dnsmasq::start(&lab)?;
    let pcap = lab.dir().join("boots.pcap");
    let capture = lab.capture(&pcap)?;
    let mut appliance = Appliance::start(&lab, Some(ROLE), &[])?;
    let machines = boot_each(&lab, &mut appliance)?;
    capture.stop()?;
    we_lease_nothing(&pcap, &appliance, &dnsmasq, &machines)?;
    ensure!(!advertises(&pcap, &appliance)?, "another's network has an advertisement of ours");
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn boots_beside_another_dhcp_server_with_router_advertisements() -> Result<()> {
    let lab = Lab::new()?;
    let dnsmasq = Dnsmasq::start(&lab)?;
    let pcap = lab.dir().join("boots.pcap");
    let capture = lab.capture(&pcap)?;
    let mut appliance = Appliance::start(&lab, Some(ROLE), &["--ra", "on"])?;
    let mut machine = power_on(&lab, "bios", Firmware::Bios)?;
    appliance.booted(&mut machine, ROLE)?;
    capture.stop()?;
    we_lease_nothing(&pcap, &appliance, &dnsmasq, &[machine])?;
    ensure!(advertises(&pcap, &appliance)?, "no router advertisement was sent");
    Ok(())
}

/// Boots a machine of each firmware, all at once.
fn boot_each(lab: &Lab, appliance: &mut Appliance) -> Result<Vec<Machine>> {
    let firmware =
        [("bios", Firmware::Bios), ("uefi", Firmware::Uefi), ("uefi-http", Firmware::UefiHttp)];
    let machines = firmware.map(|(name, firmware)| power_on(lab, name, firmware));
    let mut machines = machines.into_iter().collect::<Result<Vec<_>>>()?;
    for machine in &mut machines {
        appliance.booted(machine, ROLE)?;
    }
    Ok(machines)
}

/// Checks in a capture that the addresses came from dnsmasq alone, and the boot files from us.
fn we_lease_nothing(
    pcap: &Path,
    appliance: &Appliance,
    dnsmasq: &Dnsmasq,
    machines: &[Machine],
) -> Result<()> {
    let ours = replies(pcap, appliance.host.mac())?;
    let theirs = replies(pcap, dnsmasq.host().mac())?;
    for reply in &ours {
        let timers = [OptionCode::AddressLeaseTime, OptionCode::Renewal, OptionCode::Rebinding];
        let leases = !reply.yiaddr.is_unspecified()
            || timers.iter().any(|timer| reply.options.get(*timer).is_some());
        ensure!(!leases, "we lease an address: {reply:?}");
    }
    for machine in machines {
        let mac: MacAddr = machine.mac().parse()?;
        let to = |replies: &[Message], wanted: fn(&Message) -> bool| {
            replies.iter().any(|reply| reply.chaddr == mac && wanted(reply))
        };
        let name = machine.name();
        ensure!(to(&ours, |reply| !reply.file.is_empty()), "{name} got no boot file from us");
        ensure!(to(&theirs, leases), "{name} got no address from dnsmasq");
    }
    Ok(())
}

fn leases(reply: &Message) -> bool {
    let subnet = Ipv4Addr::new(10, 77, 0, 0).octets();
    reply.kind == MessageType::Ack
        && reply.yiaddr.octets().get(..3) == subnet.get(..3)
        && reply.options.seconds(OptionCode::AddressLeaseTime).is_some()
}

/// What the DHCP or boot server with this MAC address sent.
fn replies(pcap: &Path, from: &str) -> Result<Vec<Message>> {
    let from: MacAddr = from.parse()?;
    let mut replies = Vec::new();
    for frame in frames(pcap)? {
        let Ok(frame) = UdpFrame::parse(&frame) else { continue };
        if frame.source_mac == from && [67, 4011].contains(&frame.source.port()) {
            let message = Message::parse(frame.payload).context("a malformed reply")?;
            ensure!(message.op == Opcode::BootReply, "{message:?}");
            replies.push(message);
        }
    }
    Ok(replies)
}

/// Whether our router advertisement, which has no lifetime and no prefix, is in the capture.
fn advertises(pcap: &Path, appliance: &Appliance) -> Result<bool> {
    let mac: MacAddr = appliance.host.mac().parse()?;
    let advertisement = no_router_advertisement(mac);
    // Behind the checksum, which the kernel filled in.
    let wanted = advertisement.get(4..).context("no advertisement")?;
    Ok(frames(pcap)?.iter().any(|frame| {
        // Ethernet 14, IPv6 40, ICMPv6 type, code and checksum 4.
        frame.get(6..12) == Some(&mac.0[..])
            && frame.get(54) == advertisement.first()
            && frame.get(58..) == Some(wanted)
    }))
}
