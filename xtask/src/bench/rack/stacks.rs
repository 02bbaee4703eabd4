//! The boot servers that a rack is played against, each on a host of its own at the end of a cable,
//! set up for speed as its manual says.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::json;

use super::super::servers::{self, ADDRESS, NETWORK};
use super::super::{http, tftp_servers};
use crate::lab::process::Process;
use crate::lab::server::Server;
use crate::lab::{Host, Lab};
use crate::load::cpu;
use crate::load::meter::Meter;
use crate::load::rack::files::{BOOT_FILES, FIRMWARE, SCRIPT};
use crate::load::rack::{Network, Plan};
use crate::load::tftp::Load;

/// What all of them serve by HTTP is below this URL.
pub const SITE: &str = "http://10.77.0.1:8080";

/// A complete boot server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// talos-pxe.
    TalosPxe,
    /// dnsmasq for DHCP and TFTP, and nginx.
    Dnsmasq,
    /// Kea, tftpd-hpa and nginx.
    Kea,
}

impl Kind {
    /// Its name in tables and in the chart.
    pub fn name(self) -> &'static str {
        match self {
            Kind::TalosPxe => "talos-pxe",
            Kind::Dnsmasq => "dnsmasq + nginx",
            Kind::Kea => "Kea + tftpd-hpa + nginx",
        }
    }
}

/// A running one, and the network of its machines.
#[derive(Debug)]
pub struct Stack {
    /// Where the machines are.
    pub network: Network,
    meter: Meter,
    server: Option<Server>,
    peers: Vec<Process>,
    _host: Host,
    _far: Host,
}

/// What a server has used.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// CPU seconds of all its processes since it was ready.
    pub cpu: f64,
    /// The most memory that its processes have held, in octets, without those that tftpd-hpa
    /// starts for every transfer.
    pub memory: u64,
}

impl Stack {
    /// Starts it; talos-pxe sends `limit` images at a time.
    ///
    /// # Errors
    /// When one of its programs does not start.
    pub fn start(
        lab: &Lab,
        kind: Kind,
        daemon: &Path,
        limit: &str,
        root: &Path,
        plan: &Plan,
    ) -> Result<Stack> {
        let [host, far] = lab.wide_cable(["server", "rack"])?;
        host.add_sender(NETWORK)?;
        let state = tempfile::tempdir_in(lab.dir())?.keep();
        let (mut server, mut peers) = (None, Vec::new());
        match kind {
            Kind::TalosPxe => {
                let flags = ["--xdp", "generic", "--max-transfers", limit];
                server = Some(servers::ours(&host, daemon, root, &state, &flags)?);
            }
            Kind::Dnsmasq => {
                let arguments = dnsmasq();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                peers.push(servers::dnsmasq(&host, &state, &arguments)?);
                peers.extend(http::nginx(&host, root, &state)?);
            }
            Kind::Kea => {
                peers.push(servers::kea(&host, &state, Some(kea_classes()))?);
                peers.push(tftpd(&host, plan)?);
                peers.extend(http::nginx(&host, root, &state)?);
            }
        }
        let network = Network::open(&host, &far, Ipv4Addr::from(ADDRESS))?;
        let ours = server.iter_mut().map(|server| server.process().id());
        let processes: Vec<u32> = ours.chain(peers.iter().map(Process::id)).collect();
        let meter = Meter::start(&processes)?;
        Ok(Stack { network, meter, server, peers, _host: host, _far: far })
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// With its last lines, when one of its programs has ended.
    pub fn used(&mut self) -> Result<Used> {
        let all = self.server.iter_mut().map(Server::process).chain(&mut self.peers);
        let mut processes = Vec::new();
        for process in all {
            process.check()?;
            processes.push(process.id());
        }
        let memory = processes.iter().map(|process| cpu::peak_memory_of(*process));
        Ok(Used { cpu: self.meter.seconds()?, memory: memory.sum::<Result<u64>>()? })
    }
}

fn dnsmasq() -> Vec<String> {
    let [uefi, bios] = BOOT_FILES;
    vec![
        "--enable-tftp".to_owned(),
        format!("--tftp-root={FIRMWARE}"),
        "--tftp-max=10000".to_owned(),
        "--quiet-tftp".to_owned(),
        "--dhcp-match=set:ipxe,175".to_owned(),
        "--dhcp-match=set:uefi,option:client-arch,7".to_owned(),
        format!("--dhcp-boot=tag:ipxe,{SITE}/{SCRIPT}"),
        format!("--dhcp-boot=tag:!ipxe,tag:uefi,{uefi}"),
        format!("--dhcp-boot=tag:!ipxe,tag:!uefi,{bios}"),
    ]
}

fn kea_classes() -> serde_json::Value {
    let [uefi, bios] = BOOT_FILES;
    json!([
        {
            "name": "ipxe",
            "test": "option[77].hex == 'iPXE'",
            "boot-file-name": format!("{SITE}/{SCRIPT}"),
        },
        {
            "name": "uefi",
            "test": "not member('ipxe') and option[93].hex == 0x0007",
            "boot-file-name": uefi,
        },
        {
            "name": "bios",
            "test": "not member('ipxe') and option[93].hex == 0x0000",
            "boot-file-name": bios,
        },
    ])
}

fn tftpd(host: &Host, plan: &Plan) -> Result<Process> {
    let (file, content) = plan.boot_files.iter().next().context("no boot files")?;
    let server = SocketAddr::from((ADDRESS, 69));
    let probe = Load { server, file, content, block_size: 1468, clients: 1, window: 1, loss: 0.0 };
    let arguments = ["--foreground", "--secure", "--user", "root", FIRMWARE];
    tftp_servers::run(host, Path::new("in.tftpd"), &arguments, host, &probe)
}
