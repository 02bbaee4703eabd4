//! Many clients a second.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use xtask::exec;
use xtask::lab::process::Process;
use xtask::lab::{Lab, server};
use xtask::load::fleet;
use xtask::load::frame::{Client, Sender, Target};
use xtask::load::packets::Packets;

use super::{PATIENCE, Site, make_root};

/// What perfdhcp says of one half of the exchanges.
#[derive(Debug)]
struct Figures {
    sent: u32,
    received: u32,
    lost: u32,
    /// Addresses that two clients got.
    double: u32,
}

impl Figures {
    /// Reads the part of a report under the title `exchange`.
    fn of(report: &str, exchange: &str) -> Result<Figures> {
        let (_, part) = report.split_once(exchange).context("no such exchange")?;
        let figure = |name: &str| -> Result<u32> {
            let line =
                part.lines().find_map(|line| line.strip_prefix(name)).context("no figure")?;
            Ok(line.trim().parse()?)
        };
        Ok(Figures {
            sent: figure("sent packets:")?,
            received: figure("received packets:")?,
            lost: figure("drops:")?,
            double: figure("non unique addresses:")?,
        })
    }
}

/// How many datagrams found no room in a socket's buffer, as `/proc/net/snmp` has it: a line of
/// names, then one of numbers.
fn overflowed(snmp: &str) -> Result<u32> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = lines.next().zip(lines.next()).context("no figures of UDP")?;
    let mut figures = names.split(' ').zip(numbers.split(' '));
    let (_, overflowed) = figures.find(|(name, _)| *name == "RcvbufErrors").context("no figure")?;
    Ok(overflowed.parse()?)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_thousand_leases_a_second_are_given_without_a_loss() -> Result<()> {
    let site = Site::new(&["--addr", "10.50.0.1/16"])?;
    let relay = site.lab.host("relay")?;
    relay.add_address("10.50.255.1/16")?;
    let mut perfdhcp = relay.command("perfdhcp");
    // 10,000 exchanges, each by a new client; when perfdhcp was held up it makes a few more. The
    // last offers come after their addresses were checked, so it waits for a second at the end.
    perfdhcp.args(["-4", "-u", "-r", "1000", "-R", "30000", "-n", "10000", "-W", "1000000"]);
    // An answer after a second is late, not lost: firmware waits for at least 4 s.
    perfdhcp.args(["-d", "4", "-l", "eth0", "10.50.0.1"]);
    let mut perfdhcp = relay.start(perfdhcp)?;
    perfdhcp.wait(PATIENCE)?;
    let report = perfdhcp.text();
    eprintln!("{report}");

    let offers = Figures::of(&report, "DISCOVER-OFFER")?;
    let acks = Figures::of(&report, "REQUEST-ACK")?;
    assert!(offers.sent >= 10_000 && acks.sent == offers.received, "{offers:?}, {acks:?}");
    for figures in [&offers, &acks] {
        assert_eq!((figures.received + figures.lost, figures.double), (figures.sent, 0));
    }
    // On a busy computer perfdhcp itself may come too late for what its socket can hold.
    let overflowed = overflowed(&exec::output(relay.command("cat").arg("/proc/net/snmp"))?)?;
    assert_eq!(offers.lost + acks.lost, overflowed, "lost other than at perfdhcp's own socket");
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn nobody_waits_until_the_log_is_read() -> Result<()> {
    let lab = Lab::new()?;
    let (host, rack) = (lab.host("talos-pxe")?, lab.host("rack")?);
    let program = server::build()?;
    let mut command = host.command(&program);
    server::without_settings(&mut command);
    command.args(["serve", "--if", "eth0", "--mode", "server", "--addr", "10.50.0.1/16", "-v"]);
    command.arg("--root").arg(make_root(&lab)?);
    let unread = Arc::new(Mutex::new(()));
    let reading = Arc::clone(&unread);
    let read = move |_: &[u8]| drop(reading.lock());
    let mut talos_pxe = Process::start("talos-pxe", command, Some(Box::new(read)))?;
    talos_pxe.wait_for(server::READY, PATIENCE)?;
    let stuck = unread.lock();

    // Each of them is worth some lines, more than a pipe and the daemon hold in all.
    let target = Target { address: [10, 50, 0, 1].into(), mac: host.mac_bytes()? };
    let machine = Sender { mac: [0; 6], client: Client::Plain, relay: None, target };
    fleet::bind(&mut Packets::open(&rack)?, machine, 10_000, 100)?;
    drop(stuck);
    talos_pxe.wait_for("the log lost lines", PATIENCE)?;
    Ok(())
}
