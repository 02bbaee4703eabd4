//! It boots by BIOS, machines boot from it where it is the DHCP server, and what it promised before
//! the plug was pulled counts afterwards.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use talos_pxe::edges::bootstrap::PORT;
use xtask::lab::qemu::{By, Firmware};
use xtask::lab::{Host, Lab};
use xtask::load::frame::{Ask, Client, Mac, Sender, Target};
use xtask::load::packets::Packets;
use xtask::load::reply::{ACK, OFFER, Reply};

use crate::SOON;
use crate::exchange::{exchange, octets};
use crate::stick::{self, Stick};
use crate::talos::Talos;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
const ADDRESS: &str = "192.168.123.1";
/// How many machines ask for a lease when the plug is pulled, and how many have it by then.
const MACHINES: u8 = 24;
const LEASED: usize = 8;

#[test]
#[ignore = "lab: cargo xtask test"]
fn by_bios_it_is_the_dhcp_server_and_remembers_what_it_was_when_the_plug_is_pulled() -> Result<()> {
    let lab = Lab::new()?;
    let mut stick = Stick::plug(&lab, By::Bios, "192.168.123.254/24")?;
    let status = stick.serves_at(ADDRESS)?;
    ensure!(status["mode"] == "server", "{status}");

    stick.boots("client", Firmware::Bios)?;
    let before = stick.answered_by_xdp()?;
    stick.boots("client", Firmware::Bios)?;
    ensure!(stick.answered_by_xdp()? > before, "XDP answered nothing at the second boot");

    let (_control_plane, talos) = bootstrapped(&lab, &stick)?;
    let roles = machines(&stick)?;
    let host = lab.host("rack")?;
    let mut packets = Packets::open(&host)?;
    let promised = leases_until_the_plug_is_pulled(&mut packets, &mut stick)?;

    stick.serves_at(ADDRESS)?;
    let now = machines(&stick)?;
    let kept = roles.iter().all(|(mac, role)| now.get(mac) == Some(role));
    ensure!(kept, "the machines were\n{roles:#?}\nand are\n{now:#?}");
    for (mac, address) in promised {
        let sender = sender(mac, &stick)?;
        let machine = &mut stick.machine;
        let reply = exchange(&mut packets, machine, sender, Ask::Reboot(address), SOON)?;
        ensure!((reply.kind, reply.address) == (ACK, address), "{address} became {reply:?}");
    }
    let seen = talos.seen();
    ensure!((seen.told, seen.accepted) == (1, 1), "{seen:?}");
    Ok(())
}

/// A machine with the role `init`, and the Talos on it, once that was told to begin its cluster.
fn bootstrapped(lab: &Lab, stick: &Stick) -> Result<(Host, Talos)> {
    let machine = lab.host("m1")?;
    stick.ask(&["machines", "assign", machine.mac(), "init"])?;
    let mut udhcpc = machine.command("udhcpc");
    udhcpc.args(["-f", "-q", "-i", "eth0", "-s", "/bin/true"]);
    let mut udhcpc = machine.start(udhcpc)?;
    let line = udhcpc.wait_for(" obtained", SOON)?.text;
    let mut words = line.split_whitespace();
    let address = words.find_map(|word| word.parse::<Ipv4Addr>().ok());
    let address = address.with_context(|| format!("no address in {line:?}"))?;
    machine.add_address(&format!("{address}/24"))?;
    let listener = machine.netns().inside(|| Ok(TcpListener::bind((address, PORT))?))?;
    let talos = Talos::start(stick::cluster()?, listener, &[])?;
    talos.wait_until(|seen| seen.accepted == 1)?;
    Ok((machine, talos))
}

/// The roles of the machines that it knows.
fn machines(stick: &Stick) -> Result<BTreeMap<String, Value>> {
    let machines: Vec<Value> = serde_json::from_str(&stick.ask(&["machines", "--json"])?)?;
    let role = |machine: &Value| {
        let mac = machine["mac"].as_str().context("a machine without a MAC address")?;
        Ok((mac.to_owned(), machine["role"].clone()))
    };
    machines.iter().map(role).collect()
}

/// Many machines ask at once. When some of them have their lease, and the others do not, the power
/// goes off and on. Returns what was promised.
fn leases_until_the_plug_is_pulled(
    packets: &mut Packets,
    stick: &mut Stick,
) -> Result<Vec<(Mac, Ipv4Addr)>> {
    let mut leased = Vec::new();
    let deadline = Instant::now() + SOON;
    while leased.len() < LEASED {
        ensure!(Instant::now() < deadline, "only {} leases", leased.len());
        for number in 0..MACHINES {
            packets
                .send(&[sender([2, 0, 0, 0, 9, number], stick)?.ask(Ask::Discover).with_xid(1)])?;
        }
        let round = Instant::now() + Duration::from_secs(2);
        while leased.len() < LEASED && Instant::now() < round {
            packets.wait(50);
            while let Some(reply) = packets.receive(Reply::parse) {
                let Some(Reply { mac, kind, address, .. }) = reply else { continue };
                if kind == OFFER {
                    let select = Ask::Select { address, server: SERVER };
                    packets.send(&[sender(mac, stick)?.ask(select).with_xid(2)])?;
                } else if kind == ACK {
                    leased.push((mac, address));
                }
            }
        }
    }
    stick.pull_the_plug()?;
    ensure!(leased.len() < usize::from(MACHINES), "all had their leases: pull it sooner");
    Ok(leased)
}

fn sender(mac: Mac, stick: &Stick) -> Result<Sender> {
    let target = Target { address: SERVER, mac: octets(stick.machine.mac())? };
    Ok(Sender { mac, client: Client::Pxe, relay: None, target })
}
