//! perfdhcp of Kea: many relayed clients a second.

use anyhow::{Context, Result};
use xtask::exec;

use super::Site;

/// What perfdhcp says of one half of the exchanges.
#[derive(Debug, PartialEq, Eq)]
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

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_thousand_leases_a_second_are_given_without_a_loss() -> Result<()> {
    let site = Site::new(&["--addr", "10.50.0.1/16"])?;
    let relay = site.lab.host("relay")?;
    relay.add_address("10.50.255.1/16")?;
    let mut perfdhcp = relay.command("perfdhcp");
    // 10,000 clients, each of which is new. The last offers come after their addresses were
    // checked, so it waits for a second when all have asked.
    perfdhcp.args(["-4", "-u", "-r", "1000", "-R", "10000", "-n", "10000", "-W", "1000000"]);
    // An answer after a second is late, not lost: firmware waits for at least 4 s.
    perfdhcp.args(["-d", "4", "-l", "eth0", "10.50.0.1"]);
    let report = exec::output(&mut perfdhcp)?;
    eprintln!("{report}");
    let all = || Figures { sent: 10_000, received: 10_000, lost: 0, double: 0 };
    assert_eq!(Figures::of(&report, "DISCOVER-OFFER")?, all());
    assert_eq!(Figures::of(&report, "REQUEST-ACK")?, all());
    site.server.stop()?;
    Ok(())
}
