//! What the daemon knows of machines: by its own subcommands, from real boots, and across
//! `kill -9`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::lab::dnsmasq::Dnsmasq;
use xtask::lab::guest::Guest;
use xtask::lab::qemu::Firmware;
use xtask::lab::root::{self, Role, System};
use xtask::lab::server::{self, Server};
use xtask::lab::{Host, Lab};
use xtask::{exec, interrupt};

use crate::{Appliance, SERVER, power_on};

/// Kills of the daemon.
const ROUNDS: usize = 10;
/// Machines that ask for a role in each round; URLs of curl's.
const MACHINES: &str = "[10-99]";

/// Every machine whose script arrived has the role that the script rests on, however soon after
/// that the daemon was killed.
#[test]
#[ignore = "lab: cargo xtask test"]
fn no_role_is_forgotten_by_kill_9() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("talos-pxe")?;
    let far = behind_a_router(&lab)?;
    let folder = lab.dir().join("root");
    root::make(&folder, &System::Guest(Guest::make()?), None)?;
    let program = server::build()?;
    let start = || {
        let root = folder.to_str().context("a folder's name is no text")?;
        Server::start(&program, &host, SERVER.iter().copied().chain(["--root", root]))
    };
    let mut given = Vec::new();
    for round in 0..ROUNDS {
        let server = start()?;
        // The daemon's start sets the interface up anew.
        let route = ["route", "replace", FAR, "via", ROUTER];
        exec::output(host.command("ip").args(route))?;
        expect_workers(&host, &program, &given)?;
        given.extend(ask_until_killed(&lab, &far, round, server)?);
    }
    let _server = start()?;
    expect_workers(&host, &program, &given)?;
    eprintln!("{} roles were given, and none forgotten, in {ROUNDS} kills", given.len());
    Ok(())
}

/// Where machines are whose MAC addresses the daemon cannot see, so that it believes what they say.
const FAR: &str = "10.99.0.1";
/// Their router's address on the daemon's network.
const ROUTER: &str = "192.168.123.200";

fn behind_a_router(lab: &Lab) -> Result<Host> {
    let host = lab.host("far")?;
    host.add_address(&format!("{ROUTER}/24"))?;
    exec::output(host.command("ip").args(["address", "add", FAR, "dev", "lo"]))?;
    exec::output(host.command("ip").args(["link", "set", "lo", "up"]))?;
    // As a router it asks for the daemon by its own address, not by that of whom it forwards for.
    let announce = "echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce";
    exec::output(host.command("sh").args(["-c", announce]))?;
    Ok(host)
}

/// Lets many machines choose a role at once and kills the daemon among them; returns those whose
/// script arrived.
fn ask_until_killed(lab: &Lab, host: &Host, round: usize, server: Server) -> Result<Vec<String>> {
    let folder = lab.dir().join(format!("scripts{round}"));
    fs::create_dir(&folder)?;
    let mut curl = host.command("curl");
    curl.args(["--silent", "--parallel", "--parallel-max", "8", "--interface", FAR, "--output"]);
    curl.arg(folder.join("#1"));
    let mac = format!("02:00:00:00:{round:02}:{MACHINES}");
    curl.arg(format!("http://192.168.123.1:8080/ipxe?mac={mac}&type=worker"));
    let mut curl = host.start(curl)?;
    // Another number in each round, so that it dies at many a moment.
    while scripts(&folder, round)?.len() < 5 * round + 1 {
        interrupt::check()?;
        ensure!(curl.find("curl:").is_none(), "{}", curl.text());
    }
    drop(server);
    curl.wait(Duration::from_secs(30))?;
    let arrived = scripts(&folder, round)?;
    ensure!(arrived.len() < 90, "it was killed too late");
    Ok(arrived)
}

/// The machines whose script is in the folder.
fn scripts(folder: &Path, round: usize) -> Result<Vec<String>> {
    let mut arrived = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // It ends with this line.
        if fs::read_to_string(entry.path())?.ends_with("\nboot\n") {
            let number = entry.file_name().to_string_lossy().into_owned();
            arrived.push(format!("02:00:00:00:{round:02}:{number}"));
        }
    }
    Ok(arrived)
}

fn expect_workers(host: &Host, program: &Path, macs: &[String]) -> Result<()> {
    let machines = machines(host, program)?;
    for mac in macs {
        let machine = machines.iter().find(|machine| machine["mac"] == json!(mac));
        let role = machine.map(|machine| &machine["role"]);
        ensure!(role == Some(&json!("worker")), "{mac} has {role:?}");
    }
    Ok(())
}

/// What `talos-pxe machines` says on the daemon's host.
fn machines(host: &Host, program: &Path) -> Result<Vec<Value>> {
    let text = exec::output(host.command(program).args(["machines", "--json"]))?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_boot_with_our_dhcp_is_on_record() -> Result<()> {
    let lab = Lab::new()?;
    let record = record_of_a_boot(&lab, SERVER)?;
    ensure!(record["address"] == json!("192.168.123.2"), "{record}");
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn a_boot_beside_another_dhcp_server_is_on_record() -> Result<()> {
    let lab = Lab::new()?;
    let _dnsmasq = Dnsmasq::start(&lab)?;
    let record = record_of_a_boot(&lab, &[])?;
    let address = record["address"].as_str().unwrap_or_default();
    ensure!(address.starts_with("10.77.0."), "{record}");
    Ok(())
}

/// Boots a machine whose role was assigned before; returns its record, which says so.
fn record_of_a_boot(lab: &Lab, flags: &[&str]) -> Result<Value> {
    let mut appliance = Appliance::start(lab, None, flags)?;
    let program: PathBuf = server::build()?;
    let mut machine = power_on(lab, "bios", Firmware::Bios)?;
    let mac = machine.mac().to_owned();
    let assign = ["machines", "assign", &mac, "controlplane"];
    exec::output(appliance.host.command(&program).args(assign))?;
    appliance.booted(&mut machine, Role::Controlplane)?;
    let machines = machines(&appliance.host, &program)?;
    let record = machines.into_iter().find(|machine| machine["mac"] == json!(mac));
    let record = record.context("it has no record")?;
    for (field, value) in [
        ("role", json!("controlplane")),
        ("profile", json!("controlplane")),
        ("stage", json!("config")),
        ("present", json!(true)),
    ] {
        ensure!(record.get(field) == Some(&value), "{field} is not {value}: {record}");
    }
    for field in ["first_seen", "last_seen", "architecture", "firmware", "uuid"] {
        ensure!(record.get(field).is_some_and(|value| !value.is_null()), "no {field}: {record}");
    }
    eprintln!("{record}");
    Ok(record)
}
