//! A DHCP client that asks the DNS server it is told of, with dig.

use anyhow::Result;
use xtask::exec;

use super::{PATIENCE, Site};

#[test]
#[ignore = "lab: cargo xtask test"]
fn dhcp_clients_are_told_of_a_dns_server_that_knows_all_names() -> Result<()> {
    let site = Site::new(&["--dns", "192.168.123.53"])?;
    let upstream = site.lab.host("upstream")?;
    upstream.add_address("192.168.123.53/24")?;
    let mut dnsmasq = upstream.command("dnsmasq");
    dnsmasq.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--no-resolv"]);
    dnsmasq.args(["--no-hosts", "--address=/example.com/192.0.2.80"]);
    let mut dnsmasq = upstream.start(dnsmasq)?;
    dnsmasq.wait_for("started", PATIENCE)?;

    let client = site.lab.host("client")?;
    site.udhcpc(&client, &[])?.wait_for("192.168.123.2 dns 192.168.123.1", PATIENCE)?;
    for (question, answer) in [
        (["ns.talos", "A"], "192.168.123.1"),
        (["1.123.168.192.in-addr.arpa", "PTR"], "ns.talos."),
        (["www.example.com", "A"], "192.0.2.80"),
    ] {
        let mut dig = client.command("dig");
        dig.args(["@192.168.123.1", "+short", "+tries=1"]).args(question);
        assert_eq!(exec::output(&mut dig)?.trim(), answer, "{question:?}");
    }
    Ok(())
}
