//! The clients that people have, on a switch with talos-pxe: DHCP clients, a DNS client, a load
//! generator, TFTP and HTTP clients, and U-Boot.

mod dhcp;
mod dns;
mod files;
mod interface;
mod inventory;
mod load;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use talos_pxe::wire::dhcp::{Message, Opcode};
use talos_pxe::wire::frame::UdpFrame;
use xtask::lab::capture::{self, Capture};
use xtask::lab::server::{self, Server};
use xtask::lab::{Host, Lab};

/// How long a client may take for one step on a busy computer; dhclient renews after up to 15 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network with talos-pxe as its DHCP server, and a capture of what passes.
struct Site {
    server: Server,
    host: Host,
    capture: Capture,
    lab: Lab,
}

/// A folder with what talos-pxe needs to start.
fn make_root(lab: &Lab) -> Result<PathBuf> {
    let root = lab.dir().join("root");
    let assets = root.join("assets");
    fs::create_dir_all(&assets)?;
    for name in ["vmlinuz-amd64", "initramfs-amd64.xz"] {
        fs::copy("/usr/lib/ipxe/undionly.kpxe", assets.join(name))?;
    }
    Ok(root)
}

impl Site {
    fn new(flags: &[&str]) -> Result<Site> {
        Site::with(&[], flags)
    }

    /// With these files in the root, too.
    fn with(files: &[(&str, String)], flags: &[&str]) -> Result<Site> {
        let lab = Lab::new()?;
        let root = make_root(&lab)?;
        for (name, text) in files {
            fs::write(root.join(name), text)?;
        }
        let capture = lab.capture(&lab.dir().join("pcap"))?;
        let host = lab.host("talos-pxe")?;
        let mut arguments = vec!["--root".into(), root.into_os_string()];
        arguments.extend(["--mode", "server", "-v"].iter().chain(flags).map(Into::into));
        let server = Server::start(&server::build()?, &host, arguments)?;
        Ok(Site { server, host, capture, lab })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.dir().join(name)
    }

    /// The DHCP messages to and from each of the hosts, such as `OFFER to 192.168.123.2`, without
    /// repetitions.
    fn messages<const N: usize>(self, clients: [&Host; N]) -> Result<[Vec<String>; N]> {
        self.capture.stop()?;
        let mut messages = clients.map(|_| Vec::new());
        for frame in capture::frames(&self.lab.dir().join("pcap"))? {
            let Ok(udp) = UdpFrame::parse(&frame) else { continue };
            let Ok(message) = Message::parse(udp.payload) else { continue };
            let ports = (udp.source.port(), udp.destination.port());
            let expected = if message.op == Opcode::BootRequest { (68, 67) } else { (67, 68) };
            assert_eq!(ports, expected, "{message:?}");
            for (client, messages) in clients.iter().zip(&mut messages) {
                if message.chaddr.to_string() == client.mac() {
                    let kind = format!("{:?}", message.kind).to_uppercase();
                    messages.push(format!("{kind} to {}", udp.destination.ip()));
                }
            }
        }
        messages.iter_mut().for_each(Vec::dedup);
        Ok(messages)
    }
}
